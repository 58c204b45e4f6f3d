//! One bridge per /24 with `.1` on it, NAT to the package mirror, and nothing of anyone else's.
//!
//! The bridge carries our mark (`ifalias`), so a bridge that we did not make is never touched; the
//! nft table carries the network's name. The machine itself is `.1`: it reaches its nodes over the
//! bridge, so no packet to a node ever leaves the machine.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::error::{At as _, Error, Result};
use super::host;

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// What stood in `FORWARD` before us. Gone after a reboot, as is the setting itself.
const FORWARD_BEFORE: &str = "/run/pgctl/ip_forward";
const MARK: &str = "pgctl sandbox";

/// The first three octets of a /24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network([u8; 3]);

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c] = self.0;
        write!(f, "{a}.{b}.{c}.0/24")
    }
}

impl Network {
    pub(super) fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, _] = address.octets();
        Self([a, b, c])
    }

    /// `10.10.10`, also the directory's name.
    pub(super) fn prefix(self) -> String {
        let [a, b, c] = self.0;
        format!("{a}.{b}.{c}")
    }

    pub(super) fn parse(prefix: &str) -> Option<Self> {
        format!("{prefix}.0").parse().ok().map(Self::of).filter(|n| n.prefix() == prefix)
    }

    pub(super) fn gateway(self) -> Ipv4Addr {
        let [a, b, c] = self.0;
        Ipv4Addr::new(a, b, c, 1)
    }

    /// At most 14 characters; the kernel takes 15.
    pub(super) fn bridge(self) -> String {
        format!("pg-{}", self.prefix())
    }

    fn table(self) -> String {
        format!("pgctl_{}", self.prefix().replace('.', "_"))
    }

    fn overlaps(self, address: Ipv4Addr, length: u8) -> bool {
        let shared = u32::from(length.min(24));
        let mask = u32::MAX.checked_shl(32 - shared).unwrap_or(0);
        u32::from(self.gateway()) & mask == u32::from(address) & mask
    }

    /// Makes what is missing; changes nothing when all is there. `owner` is the state directory:
    /// two of them on one machine must not share a bridge either.
    pub(super) fn up(self, owner: &Path) -> Result<()> {
        let bridge = self.bridge();
        if !self.bridge_is_ours(owner)? {
            self.free()?;
            let mtu = mtu().to_string();
            host::run("ip", &["link", "add", "name", &bridge, "type", "bridge"])?;
            host::run("ip", &["link", "set", "dev", &bridge, "alias", &mark(owner)])?;
            // Without an MTU of its own a bridge takes the smallest of its ports, from port to port.
            host::run("ip", &["link", "set", "dev", &bridge, "mtu", &mtu])?;
        }
        let address = format!("{}/24", self.gateway());
        host::run("ip", &["address", "replace", &address, "dev", &bridge])?;
        host::run("ip", &["link", "set", "dev", &bridge, "up"])?;
        // A node that boots is asked for its hardware address again after 50 ms, not after 1 s.
        let patience = format!("/proc/sys/net/ipv4/neigh/{bridge}/retrans_time_ms");
        fs::write(&patience, "50").at("write", Path::new(&patience))?;
        self.translate()?;
        self.admit()?;
        forward()
    }

    /// The mark of the link that has our bridge's name, if there is such a link.
    fn mark(self) -> Option<String> {
        let device = Path::new("/sys/class/net").join(self.bridge());
        let read = || fs::read_to_string(device.join("ifalias")).unwrap_or_default().trim().to_owned();
        device.exists().then(read)
    }

    /// Is there a bridge of ours? An error when the name is someone else's.
    fn bridge_is_ours(self, owner: &Path) -> Result<bool> {
        let found = match self.mark() {
            None => return Ok(false),
            Some(ours) if ours == mark(owner) => return Ok(true),
            Some(none) if none.is_empty() => "it has no mark of ours".to_owned(),
            Some(other) => format!("its mark is `{other}`"),
        };
        Err(Error::LinkTaken { link: self.bridge(), found })
    }

    /// Nobody on this machine has an address in the network, nor a route into it.
    fn free(self) -> Result<()> {
        let addresses = host::ip_json(&["-4", "address", "show"])?;
        let routes = host::ip_json(&["-4", "route", "show", "table", "all"])?;
        match self.holder(&addresses, &routes) {
            Some(holder) => Err(Error::NetworkTaken { network: self.to_string(), holder }),
            None => Ok(()),
        }
    }

    fn holder(self, addresses: &Value, routes: &Value) -> Option<String> {
        for link in addresses.as_array()? {
            for info in link["addr_info"].as_array().into_iter().flatten() {
                let (local, length) = (info["local"].as_str()?, info["prefixlen"].as_u64()?);
                if self.overlaps(local.parse().ok()?, u8::try_from(length).ok()?) {
                    return Some(format!("`{}` ({local}/{length})", link["ifname"].as_str().unwrap_or("?")));
                }
            }
        }
        for route in routes.as_array()? {
            let target = route["dst"].as_str().unwrap_or("default");
            let (address, length) = target.split_once('/').unwrap_or((target, "32"));
            let (Ok(address), Ok(length)) = (address.parse(), length.parse()) else { continue };
            // A default route, or the halves of one that a VPN lays over it, holds no network.
            if length >= 8 && self.overlaps(address, length) {
                return Some(format!("the route `{target} dev {}`", route["dev"].as_str().unwrap_or("?")));
            }
        }
        None
    }

    /// Source NAT for what leaves the sandbox; segments that fit where the way out is narrower
    /// than the bridge; nobody outside gets in, for the passwords of a lab are public.
    /// Loaded in one transaction, so it is never half there.
    fn translate(self) -> Result<()> {
        let (table, bridge) = (self.table(), self.bridge());
        nft(&format!(
            "add table ip {table}
delete table ip {table}
table ip {table} {{
  chain forward {{
    type filter hook forward priority mangle; policy accept;
    iifname \"{bridge}\" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
    oifname \"{bridge}\" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
    oifname \"{bridge}\" iifname != \"pg-*\" ct state new drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {self} oifname != \"pg-*\" masquerade
  }}
}}
"
        ))
    }

    /// Docker, for one, sets the policy of iptables' FORWARD to DROP, and then no accept of another
    /// table helps. Two rules of ours, with our comment, let the sandbox pass.
    fn admit(self) -> Result<()> {
        let Ok(rules) = host::run("iptables", &["-w", "-S", "FORWARD"]) else { return Ok(()) };
        if !rules.lines().any(|line| line == "-P FORWARD DROP") {
            return Ok(());
        }
        for rule in self.rules() {
            if !has_rule(&rule) {
                iptables("-I", &rule)?;
            }
        }
        Ok(())
    }

    fn refuse(self) -> Result<()> {
        for rule in self.rules() {
            while has_rule(&rule) {
                iptables("-D", &rule)?;
            }
        }
        Ok(())
    }

    fn rules(self) -> [[String; 6]; 2] {
        let rule =
            |side: &str| [side, &self.bridge(), "-m", "comment", "--comment", MARK].map(ToOwned::to_owned);
        [rule("-i"), rule("-o")]
    }

    /// Removes what `up` made. Fine when it is gone already; what stands in its place is left alone.
    pub(super) fn down(self, owner: &Path) -> Result<()> {
        let found = self.mark();
        let ours = found.as_deref() == Some(&mark(owner));
        if !ours && found.is_some_and(|found| found.starts_with(MARK)) {
            return Ok(()); // the sandbox of another state directory, and the rules are its own
        }
        // `add` before `delete`: no error, and no reading of messages, when there is none.
        let table = self.table();
        nft(&format!("add table ip {table}\ndelete table ip {table}\n"))?;
        self.refuse()?;
        if ours {
            host::run("ip", &["link", "delete", "dev", &self.bridge()])?;
        }
        if !any_bridge_of_ours() {
            restore_forward()?;
        }
        Ok(())
    }

    /// The host's end of a node's cable, while it is plugged in.
    pub(super) fn port(self, machine: &str) -> Option<String> {
        let ports = Path::new("/sys/class/net").join(self.bridge()).join("brif");
        let name = format!("vb-{machine}");
        let found = name.len() < 16 && ports.join(&name).exists();
        found.then_some(name)
    }
}

fn mark(owner: &Path) -> String {
    format!("{MARK} {}", owner.display())
}

fn nft(script: &str) -> Result<()> {
    let mut command = host::command("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let words = host::words(&command);
    let spawn = |source| Error::Spawn { command: words.clone(), source };
    let mut child = command.spawn().map_err(spawn)?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(script.as_bytes()));
    let out = child.wait_with_output().map_err(spawn)?;
    if out.status.success() && written.is_ok() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&out.stderr).into_owned();
    Err(Error::Command { command: words, status: out.status.to_string(), output })
}

fn iptables(verb: &str, rule: &[String]) -> Result<()> {
    let mut args = vec!["-w", verb, "FORWARD"];
    args.extend(rule.iter().map(String::as_str));
    args.extend(["-j", "ACCEPT"]);
    host::run("iptables", &args).map(drop)
}

/// Also false where there is no iptables: then there is no rule of ours in it.
fn has_rule(rule: &[String]) -> bool {
    iptables("-C", rule).is_ok()
}

/// The MTU of the way out: a node with a larger one would see its downloads hang.
pub(super) fn mtu() -> u32 {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let device = default_device(&routes).unwrap_or_default();
    let mtu = fs::read_to_string(Path::new("/sys/class/net").join(device).join("mtu"));
    mtu.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1500)
}

/// By `/proc/net/route`: destination and mask zero, the smallest metric.
fn default_device(routes: &str) -> Option<String> {
    let rows = routes.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let defaults = rows.filter(|f| f.len() > 7 && f[1] == "00000000" && f[7] == "00000000");
    defaults.min_by_key(|f| f[6].parse().unwrap_or(u32::MAX)).map(|f| f[0].to_owned())
}

/// Packets of the nodes may pass; remembers what was set, if it was something else.
fn forward() -> Result<()> {
    let (setting, memory) = (Path::new(FORWARD), Path::new(FORWARD_BEFORE));
    let before = fs::read_to_string(setting).at("read", setting)?;
    if before.trim() == "1" {
        return Ok(());
    }
    fs::write(memory, &before).at("write", memory)?;
    fs::write(setting, "1").at("write", setting)
}

fn restore_forward() -> Result<()> {
    let (setting, memory) = (Path::new(FORWARD), Path::new(FORWARD_BEFORE));
    let Ok(before) = fs::read_to_string(memory) else { return Ok(()) };
    fs::write(setting, before).at("write", setting)?;
    fs::remove_file(memory).at("remove", memory)
}

fn any_bridge_of_ours() -> bool {
    let devices = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut aliases = devices.filter_map(|d| fs::read_to_string(d.path().join("ifalias")).ok());
    aliases.any(|alias| alias.starts_with(MARK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    #[test]
    fn names_fit_the_kernel() {
        let widest = network("192.168.100.200");
        assert_eq!(widest.bridge(), "pg-192.168.100");
        assert!(network("255.255.255.1").bridge().len() < 16);
        assert_eq!(widest.to_string(), "192.168.100.0/24");
        assert_eq!(widest.table(), "pgctl_192_168_100");
        assert_eq!(Network::parse("192.168.100"), Some(widest));
        assert_eq!(Network::parse("192.168.100.0"), None);
        assert_eq!(Network::parse("images"), None);
    }

    #[test]
    fn who_holds_the_network() {
        let addresses = json!([
            {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
            {"ifname": "eth0", "addr_info": [{"local": "192.0.2.2", "prefixlen": 24}]},
            {"ifname": "wide0", "addr_info": [{"local": "172.16.0.1", "prefixlen": 12}]},
            {"ifname": "bare0"},
        ]);
        let routes = json!([
            {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
            {"dst": "0.0.0.0/1", "dev": "tun0"},
            {"dst": "10.10.0.0/16", "dev": "tun1"},
            {"type": "unreachable", "dst": "10.20.30.5", "dev": "lo"},
        ]);
        let holder = |address: &str| network(address).holder(&addresses, &routes);
        assert_eq!(holder("192.0.2.9").as_deref(), Some("`eth0` (192.0.2.2/24)"));
        assert_eq!(holder("172.20.1.9").as_deref(), Some("`wide0` (172.16.0.1/12)"));
        assert_eq!(holder("10.10.10.11").as_deref(), Some("the route `10.10.0.0/16 dev tun1`"));
        assert_eq!(holder("10.20.30.1").as_deref(), Some("the route `10.20.30.5 dev lo`"));
        assert_eq!(holder("10.99.0.1"), None);
        assert_eq!(holder("44.1.1.1"), None); // half a default route
    }

    #[test]
    fn the_way_out_is_the_default_route_of_least_metric() {
        let routes = "\
Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
";
        assert_eq!(default_device(routes).as_deref(), Some("eth0"));
        assert_eq!(default_device("Iface\n"), None);
    }
}
