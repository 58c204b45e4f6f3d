//! The nodes of an inventory, or of all sandboxes of this machine.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use serde::Serialize;

use super::error::{At as _, Error, Result};
use super::image::Image;
use super::network::Network;
use super::node::{self, Node};
use super::state::{self, State};
use super::{Identity, LabNode, host};

/// What a node's upper directory may take before it is worth a word: a cluster member with data.
const ROOM_PER_NODE_MIB: u64 = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    Running,
    Stopped,
    /// In the inventory, never booted.
    Absent,
}

#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    pub name: String,
    pub address: String,
    pub state: RunState,
    pub ssh: Identity,
    /// The image it stands on.
    pub image: Option<String>,
    /// This machine's end of its cable, to cut it: `ip link set LINK down`.
    pub link: Option<String>,
    /// Its pid 1 as this machine sees it.
    pub pid: Option<u32>,
}

/// A node after `up` or `start`.
#[derive(Debug, Clone, Serialize)]
pub struct Booted {
    pub name: String,
    pub address: String,
    /// From power on to sshd's banner; none when it ran already.
    pub seconds: Option<f64>,
}

/// Hosts with checked addresses, by network.
#[derive(Debug, Clone)]
pub struct Lab {
    networks: BTreeMap<Network, Vec<LabNode>>,
}

impl Lab {
    /// The hosts of an inventory. Names and addresses must be one each, addresses IPv4.
    pub fn new(nodes: Vec<LabNode>) -> Result<Self> {
        let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        let mut networks: BTreeMap<Network, Vec<LabNode>> = BTreeMap::new();
        for node in nodes {
            let address = checked(&node)?;
            if !names.insert(node.name.clone()) {
                return Err(Error::Duplicate { value: node.name });
            }
            if !addresses.insert(address) {
                return Err(Error::Duplicate { value: node.address });
            }
            networks.entry(Network::of(address)).or_default().push(node);
        }
        if networks.is_empty() {
            return Err(Error::NoNodes);
        }
        Ok(Self { networks })
    }

    /// Every sandbox of this machine.
    pub fn all() -> Result<Self> {
        let mut networks = BTreeMap::new();
        for network in State::networks()? {
            // A damaged state still has a network to take down.
            let nodes = State::load(network).ok().flatten().map(|s| s.nodes).unwrap_or_default();
            networks.insert(network, nodes);
        }
        Ok(Self { networks })
    }

    /// The only sandbox of this machine, or none; an error when there are several.
    pub fn only_or_none() -> Result<Self> {
        let lab = Self::all()?;
        if lab.networks.len() > 1 {
            return Err(Error::Several { networks: lab.networks().join(", ") });
        }
        Ok(lab)
    }

    /// `10.10.10.0/24` …
    pub fn networks(&self) -> Vec<String> {
        self.networks.keys().map(ToString::to_string).collect()
    }

    /// Boots what does not run. `image`: a name of [`super::IMAGES`]. Twice is quick and changes nothing.
    /// `progress` hears of work that takes long, before it starts.
    pub fn up(&self, image: &str, progress: &dyn Fn(&str)) -> Result<Vec<Booted>> {
        host::ready()?;
        super::image::known(image)?;
        let root = state::directory();
        check_directory(&root)?;
        let mut new = false;
        for &network in self.networks.keys() {
            match State::load(network)? {
                Some(state) => same_image(&state, image)?,
                None => new = true,
            }
        }
        // Before the lock: a build takes long, and other sandboxes need not wait for it.
        let fresh = if new { Some(Image::ensure(image, images_in_use, progress)?.id) } else { None };
        let _lock = state::lock()?;
        if new {
            let count = self.networks.values().map(|nodes| nodes.len() as u64).sum::<u64>();
            host::room(&root, ROOM_PER_NODE_MIB * count, "PGCTL_SANDBOX_DIR")?;
        }
        let (mut booted, mut failure) = (Vec::new(), None);
        for (&network, nodes) in &self.networks {
            // One network that is taken, or one node that dies, does not keep the others down.
            match one_up(network, nodes, image, fresh.as_deref()) {
                Ok(nodes) => booted.extend(nodes),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(booted), Err)
    }

    /// Boots nodes that were stopped; with no names, all of the lab.
    pub fn start(&self, names: &[String]) -> Result<Vec<Booted>> {
        host::ready()?;
        let _lock = state::lock()?;
        let mut booted = Vec::new();
        for (state, nodes) in self.chosen(names)? {
            state.network.up(&state::directory())?;
            booted.extend(boot(&state, &nodes)?);
        }
        Ok(booted)
    }

    /// Cuts the power of nodes; with no names, of all of the lab. Their disks stay.
    pub fn stop(&self, names: &[String]) -> Result<Vec<LabNode>> {
        host::ready()?;
        let _lock = state::lock()?;
        let mut stopped = Vec::new();
        for (state, nodes) in self.chosen(names)? {
            for node in nodes {
                open(&state, &node)?.stop()?;
                stopped.push(node);
            }
        }
        Ok(stopped)
    }

    /// Removes nodes, disks, mounts, bridge, NAT and keys. Fine when there is nothing left to remove.
    /// Goes on after a failure, so that one stuck node does not keep the rest; the first error is returned.
    pub fn down(&self) -> Result<Vec<String>> {
        host::ready()?;
        let _lock = state::lock()?;
        let root = state::directory();
        let (mut removed, mut failure) = (Vec::new(), None);
        for &network in self.networks.keys() {
            if !state::dir(network).exists() {
                continue;
            }
            match remove(network, &root) {
                Ok(()) => removed.push(network.to_string()),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(removed), Err)
    }

    /// Removes images that no sandbox stands on; their ids.
    pub fn remove_images() -> Result<Vec<String>> {
        host::ready()?;
        let _lock = state::lock()?;
        super::image::remove_unused(&images_in_use()?)
    }

    /// What runs, by the kernel's word, not by what was written down.
    pub fn list(&self) -> Result<Vec<NodeStatus>> {
        let mut list = Vec::new();
        for (&network, wanted) in &self.networks {
            let state = State::load(network)?;
            let known = state.as_ref().map(|s| s.nodes.clone()).unwrap_or_default();
            let absent = wanted.iter().filter(|node| !known.iter().any(|k| k.address == node.address));
            for node in known.iter().chain(absent) {
                list.push(status(network, state.as_ref(), node)?);
            }
        }
        list.sort_by_key(|node| node.address.parse::<Ipv4Addr>().ok());
        Ok(list)
    }

    /// Runs `words` inside the node with this name or address; its exit code.
    pub fn exec(&self, name: &str, words: &[String]) -> Result<u8> {
        host::ready()?;
        let chosen = self.chosen(std::slice::from_ref(&name.to_owned()))?;
        let Some((state, node)) = chosen.iter().find_map(|(s, nodes)| Some((s, nodes.first()?))) else {
            return Err(Error::NotUp);
        };
        open(state, node)?.exec(words)
    }

    /// The nodes named, by name or address, with the state of their sandbox.
    fn chosen(&self, names: &[String]) -> Result<Vec<(State, Vec<LabNode>)>> {
        let mut states = Vec::new();
        for &network in self.networks.keys() {
            states.extend(State::load(network)?);
        }
        if states.is_empty() {
            return Err(Error::NotUp);
        }
        let known: Vec<&LabNode> = states.iter().flat_map(|s| &s.nodes).collect();
        for name in names {
            let found: Vec<&str> =
                known.iter().filter(|n| called(n, name)).map(|n| n.address.as_str()).collect();
            match found.len() {
                0 => {
                    let names = known.iter().map(|n| format!("`{}`", n.name)).collect::<Vec<_>>();
                    return Err(Error::UnknownNode { name: name.clone(), known: names.join(", ") });
                }
                1 => {}
                _ => return Err(Error::Ambiguous { name: name.clone(), addresses: found.join(", ") }),
            }
        }
        let pick = |state: State| {
            let wanted = |n: &&LabNode| names.is_empty() || names.iter().any(|name| called(n, name));
            let nodes: Vec<LabNode> = state.nodes.iter().filter(wanted).cloned().collect();
            (state, nodes)
        };
        Ok(states.into_iter().map(pick).filter(|(_, nodes)| !nodes.is_empty()).collect())
    }
}

fn called(node: &LabNode, name: &str) -> bool {
    node.name == name || node.address == name
}

fn checked(node: &LabNode) -> Result<Ipv4Addr> {
    let not = || Error::NotIpv4 { name: node.name.clone(), address: node.address.clone() };
    let address: Ipv4Addr = node.address.parse().map_err(|_| not())?;
    let why = match address.octets() {
        _ if address.is_loopback() => "it is the machine's own loopback",
        _ if address.is_multicast() || address.is_broadcast() || address.is_unspecified() => {
            "it is no host's address"
        }
        [_, _, _, 0 | 255] => "it is the network's or the broadcast address of its /24",
        [_, _, _, 1] => "`.1` is this machine's own address on the sandbox's bridge",
        _ => return Ok(address),
    };
    Err(Error::BadAddress { address: node.address.clone(), why })
}

/// The overlay's options separate paths by `:` and `,`.
fn check_directory(dir: &std::path::Path) -> Result<()> {
    for path in [dir.to_owned(), super::image::directory()] {
        let text = path.to_string_lossy();
        let why = if !path.is_absolute() {
            "it must be an absolute path"
        } else if text.contains([':', ',', '\\', ' ', '\n']) {
            "overlay mounts take no path with `:`, `,`, `\\` or a space"
        } else {
            continue;
        };
        return Err(Error::BadDirectory { path, why });
    }
    Ok(())
}

/// The sandbox stands on an image of this name, whatever the recipe's fingerprint was then.
fn same_image(state: &State, want: &str) -> Result<()> {
    let have = state.image.rsplit_once('-').map_or(state.image.as_str(), |(name, _)| name);
    if have != want {
        let network = state.network.to_string();
        return Err(Error::OtherImage { network, have: have.to_owned(), want: want.to_owned() });
    }
    if !Image::root(&state.image).is_dir() {
        return Err(Error::LostImage { network: state.network.to_string(), image: state.image.clone() });
    }
    Ok(())
}

fn images_in_use() -> Result<Vec<String>> {
    let networks = State::networks()?;
    networks.into_iter().filter_map(|n| State::load(n).transpose()).map(|s| s.map(|s| s.image)).collect()
}

fn open<'a>(state: &State, node: &'a LabNode) -> Result<Node<'a>> {
    Node::new(&node.name, checked(node)?, &state.image)
}

fn status(network: Network, state: Option<&State>, node: &LabNode) -> Result<NodeStatus> {
    let known = state.filter(|s| s.nodes.iter().any(|k| k.address == node.address));
    let ssh = State::new(network, String::new()).identity();
    let pid = known.map(|s| open(s, node)).transpose()?.and_then(|node| node.init());
    let state = match (known, pid) {
        (None, _) => RunState::Absent,
        (Some(_), None) => RunState::Stopped,
        (Some(_), Some(_)) => RunState::Running,
    };
    let link = checked(node).ok().and_then(|address| network.port(&node::machine(address)));
    let image = known.map(|s| s.image.clone());
    Ok(NodeStatus { name: node.name.clone(), address: node.address.clone(), state, ssh, image, link, pid })
}

/// `fresh`: the image for a sandbox that does not exist yet.
fn one_up(network: Network, nodes: &[LabNode], image: &str, fresh: Option<&str>) -> Result<Vec<Booted>> {
    // Loaded again: another command may have made or removed it while we waited for the lock.
    let mut state = match (State::load(network)?, fresh) {
        (Some(state), _) => state,
        (None, Some(id)) => State::new(network, id.to_owned()),
        (None, None) => return Err(Error::NotUp),
    };
    same_image(&state, image)?;
    for node in nodes {
        state.nodes.retain(|known| known.address != node.address);
        state.nodes.push(node.clone());
    }
    // Recorded first, whenever this is interrupted: `down` must know of what may be there.
    let new = !state::dir(network).exists();
    state.save()?;
    if let Err(error) = network.up(&state::directory()) {
        if new {
            host::remove_dir(&state::dir(network))?;
        }
        return Err(error);
    }
    boot(&state, nodes)
}

/// Starts what does not run, all at once, then waits for all of them.
fn boot(state: &State, nodes: &[LabNode]) -> Result<Vec<Booted>> {
    let authorized = keys(state)?;
    let open: Vec<Node<'_>> = nodes.iter().map(|node| open(state, node)).collect::<Result<_>>()?;
    let results: Vec<Result<Booted>> = std::thread::scope(|scope| {
        let start = |node| {
            let authorized = &authorized;
            scope.spawn(move || boot_one(node, authorized))
        };
        let threads: Vec<_> = open.iter().map(start).collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    // Before an error is looked at: the nodes that did boot are to be used.
    known_hosts(state)?;
    results.into_iter().collect()
}

fn boot_one(node: &Node<'_>, authorized: &str) -> Result<Booted> {
    let clock = Instant::now();
    let running = node.init().is_some();
    if !running {
        node.start(authorized)?;
    }
    node.wait()?;
    let seconds = (!running).then(|| clock.elapsed().as_secs_f64());
    Ok(Booted { name: node.name.to_owned(), address: node.address.to_string(), seconds })
}

/// Makes the sandbox's key once; the line for `authorized_keys`.
fn keys(state: &State) -> Result<String> {
    let key = state.identity().key;
    let public = key.with_extension("pub");
    if !public.exists() {
        let _ = fs::remove_file(&key); // half of a pair, and ssh-keygen would ask
        let comment = format!("pgctl sandbox {}", state.network);
        let file = key.to_string_lossy().into_owned();
        host::run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", &comment, "-f", &file])?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).at("set the mode of", &key)?;
        if let Some((user, group)) = caller() {
            std::os::unix::fs::chown(&key, Some(user), Some(group)).at("change the owner of", &key)?;
        }
    }
    fs::read_to_string(&public).at("read", &public)
}

/// Who typed `sudo`: the key is theirs, so that `deploy` needs no root. Root reads it anyway.
fn caller() -> Option<(u32, u32)> {
    let id = |variable| std::env::var(variable).ok()?.parse::<u32>().ok();
    Some((id("SUDO_UID")?, id("SUDO_GID")?))
}

fn known_hosts(state: &State) -> Result<()> {
    let mut text = String::new();
    for node in &state.nodes {
        text.extend(open(state, node)?.known_host());
    }
    state::write_atomic(&state.identity().known_hosts, &text)
}

/// Nodes by what is on disk as well as by the state file: that may be damaged, or older.
fn remove(network: Network, root: &std::path::Path) -> Result<()> {
    let dir = state::dir(network);
    let on_disk = fs::read_dir(dir.join("nodes")).into_iter().flatten().flatten();
    for entry in on_disk {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            Node::new(&name, address, "")?.remove()?;
        }
    }
    network.down(root)?;
    host::remove_dir(&dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, address: &str) -> LabNode {
        LabNode { name: name.to_owned(), address: address.to_owned() }
    }

    #[test]
    fn hosts_are_grouped_by_network() {
        let nodes = vec![node("a", "10.0.1.11"), node("b", "10.0.2.11"), node("c", "10.0.1.12")];
        let lab = Lab::new(nodes).unwrap();
        assert_eq!(lab.networks(), ["10.0.1.0/24", "10.0.2.0/24"]);
        assert_eq!(lab.networks.values().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn addresses_that_cannot_be_nodes() {
        let error = |nodes: Vec<LabNode>| Lab::new(nodes).unwrap_err().to_string();
        assert_eq!(error(vec![]), "the inventory has no hosts");
        let said = error(vec![node("db", "db.example")]);
        assert_eq!(said, "`db`: `db.example` is not an IPv4 address; sandbox nodes need one each");
        assert!(error(vec![node("a", "10.0.1.1")]).contains("this machine's own address"));
        assert!(error(vec![node("a", "10.0.1.255")]).contains("broadcast"));
        assert!(error(vec![node("a", "127.0.0.5")]).contains("loopback"));
        assert!(error(vec![node("a", "224.0.0.5")]).contains("no host's"));
        let twice = vec![node("a", "10.0.1.11"), node("b", "10.0.1.11")];
        assert_eq!(error(twice), "`10.0.1.11` is used by two nodes of the inventory");
        let twice = vec![node("a", "10.0.1.11"), node("a", "10.0.1.12")];
        assert_eq!(error(twice), "`a` is used by two nodes of the inventory");
    }

    #[test]
    fn a_directory_that_overlay_cannot_take() {
        assert!(check_directory(std::path::Path::new("/var/lib/pgctl/sandbox")).is_ok());
        for bad in ["relative", "/a:b", "/a,b", "/a b"] {
            assert!(check_directory(std::path::Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_image_is_the_same_by_its_name() {
        let network = Network::of("10.0.1.11".parse().unwrap());
        let state = State::new(network, "debian-12-0a1b2c3d".to_owned());
        let error = same_image(&state, "debian-13").unwrap_err().to_string();
        assert!(error.contains("made from `debian-12`, not `debian-13`"), "{error}");
    }
}
