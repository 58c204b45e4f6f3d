//! One node: a disk (overlay over the image), a cgroup, and `systemd-nspawn` that boots it.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::cgroup::Cgroup;
use super::error::{At as _, Error, Result};
use super::image::Image;
use super::network::{self, Network};
use super::{host, state};

/// Long: several nodes boot at once on a machine that may be busy compiling.
const BANNER: Duration = Duration::from_secs(60);

pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) address: Ipv4Addr,
    image: PathBuf,
    dir: PathBuf,
    cgroup: Cgroup,
}

impl<'a> Node<'a> {
    /// `image`: the id that the sandbox stands on.
    pub(super) fn new(name: &'a str, address: Ipv4Addr, image: &str) -> Result<Self> {
        let (image, dir) = (Image::root(image), state::node_dir(address));
        Ok(Self { name, address, image, dir, cgroup: Cgroup::of(&address.to_string())? })
    }

    /// The node's pid 1 as this machine sees it; none when stopped.
    pub(super) fn init(&self) -> Option<u32> {
        self.cgroup.init()
    }

    fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Boots the node; makes its disk first if there is none. The caller waits for the banner.
    pub(super) fn start(&self, authorized: &str) -> Result<()> {
        self.stop()?;
        self.unplug()?;
        let fresh = self.fresh()?;
        self.mount()?;
        if fresh {
            self.prepare(authorized)?;
            let marker = self.dir.join("ready");
            fs::write(&marker, "").at("write", &marker)?;
        }
        self.spawn()
    }

    /// A power cut: every process at once, no shutdown. The disk stays.
    pub(super) fn stop(&self) -> Result<()> {
        self.cgroup.kill()?;
        self.cgroup.remove()?;
        // While the bridge still says whose cable it is.
        self.unplug()?;
        host::unmount_under(&self.root())
    }

    /// Stops it and removes its disk.
    pub(super) fn remove(&self) -> Result<()> {
        self.stop()?;
        host::remove_dir(&self.dir)
    }

    /// The cable of a node that was just killed goes away with its network namespace, which the
    /// kernel dismantles later. A new one of the same name would collide with it.
    fn unplug(&self) -> Result<()> {
        if let Some(port) = Network::of(self.address).port(&self.machine())
            && let Err(error) = host::run("ip", &["link", "delete", "dev", &port])
            && Network::of(self.address).port(&self.machine()).is_some()
        {
            return Err(error);
        }
        Ok(())
    }

    /// The machine's name for nspawn, short enough for a link `vb-…` of 15 characters.
    pub(super) fn machine(&self) -> String {
        machine(self.address)
    }

    /// Is a disk to be made? What an interrupted making left is removed.
    fn fresh(&self) -> Result<bool> {
        if self.dir.join("ready").exists() {
            return Ok(false);
        }
        host::remove_dir(&self.dir)?;
        for part in ["upper", "work", "root"] {
            let dir = self.dir.join(part);
            fs::create_dir_all(&dir).at("create", &dir)?;
        }
        let upper = self.dir.join("upper");
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).at("set the mode of", &upper)?;
        Ok(true)
    }

    fn mount(&self) -> Result<()> {
        let (upper, work) = (self.dir.join("upper"), self.dir.join("work"));
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            self.image.display(),
            upper.display(),
            work.display()
        );
        let root = self.root();
        host::run("mount", &["-t", "overlay", "-o", &layers, "pgctl", &root.to_string_lossy()]).map(drop)
    }

    /// What differs from node to node. Files are replaced, never written through: a link in the
    /// image would lead to a file of this machine.
    fn prepare(&self, authorized: &str) -> Result<()> {
        let (root, address) = (self.root(), self.address);
        let network = format!(
            "[Match]\nName=host0\n\n[Link]\nMTUBytes={}\nRequiredForOnline=no\n\n[Network]\nAddress={address}/24\nGateway={}\n\
             DHCP=no\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nLLMNR=no\nMulticastDNS=no\n",
            network::mtu(),
            Network::of(address).gateway(),
        );
        let host = hostname(self.name);
        let hosts =
            format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{address} {host}\n");
        let resolver = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        put(&root, "etc/systemd/network/10-sandbox.network", &network, 0o644)?;
        put(&root, "etc/hostname", &format!("{host}\n"), 0o644)?;
        put(&root, "etc/hosts", &hosts, 0o644)?;
        put(&root, "etc/resolv.conf", &reachable(&resolver), 0o644)?;
        put(&root, "etc/machine-id", &format!("{}\n", machine_id()?), 0o444)?;
        put(&root, "root/.ssh/authorized_keys", authorized, 0o600)?;
        let ssh = root.join("root/.ssh");
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700)).at("set the mode of", &ssh)?;
        let key = root.join("etc/ssh/ssh_host_ed25519_key").to_string_lossy().into_owned();
        let comment = format!("root@{host}");
        host::run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", &comment, "-f", &key])?;
        // Beside the disk too: known_hosts is written while the node may be stopped.
        let (from, to) = (format!("{key}.pub"), self.dir.join("host_key.pub"));
        fs::copy(&from, &to).at("copy", Path::new(&from)).map(drop)
    }

    /// `ADDRESS TYPE KEY` for `known_hosts`, once the disk is made.
    pub(super) fn known_host(&self) -> Option<String> {
        let key = fs::read_to_string(self.dir.join("host_key.pub")).ok()?;
        let mut words = key.split_whitespace();
        Some(format!("{} {} {}\n", self.address, words.next()?, words.next()?))
    }

    /// `systemd-nspawn` in a session of its own, so it outlives this process and its terminal. The
    /// shell only joins the node's cgroups and becomes setsid, which becomes nspawn.
    fn spawn(&self) -> Result<()> {
        let procs = self.cgroup.make()?;
        let log = self.log();
        let out = File::create(&log).at("create", &log)?;
        let err = out.try_clone().at("write", &log)?;
        let mut command = host::clean_command("setsid");
        command.args(["sh", "-c", "for f in $1; do echo $$ >\"$f\" || exit; done; shift; exec \"$@\"", "sh"]);
        command.arg(procs.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>().join(" "));
        command.args(["systemd-nspawn", "--boot", "--quiet", "--register=no", "--keep-unit"]);
        command.args(["--console=pipe", "--settings=no", "--resolv-conf=off", "--timezone=off"]);
        command.arg("--link-journal=no");
        command.arg(format!("--network-bridge={}", Network::of(self.address).bridge()));
        command.arg(format!("--machine={}", self.machine()));
        command.arg(format!("--hostname={}", hostname(self.name)));
        command.arg("--directory").arg(self.root());
        command.current_dir("/").stdout(Stdio::from(out)).stderr(Stdio::from(err));
        command.spawn().map_err(|source| Error::Spawn { command: host::words(&command), source })?;
        Ok(())
    }

    /// Waits until sshd answers with its banner. The bridge is ours and up, so what is dialled is
    /// on this machine.
    pub(super) fn wait(&self) -> Result<()> {
        let start = Instant::now();
        let socket = SocketAddr::from((self.address, 22));
        while !banner(socket) {
            // nspawn needs a moment before it shows in its cgroup.
            if start.elapsed() > Duration::from_secs(2) && !self.cgroup.populated() {
                return Err(Error::Died { name: self.name.to_owned(), log: self.tail() });
            }
            if start.elapsed() > BANNER {
                let names = format!("`{}`", self.name);
                return Err(Error::NoBanner { names, seconds: BANNER.as_secs(), log: self.tail() });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The last lines of the boot log, indented.
    fn tail(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(15)..];
        let body = last.iter().fold(String::new(), |text, line| text + "    " + line + "\n");
        format!("{body}    (all of it: `{}`)", self.log().display())
    }

    /// Runs `words` inside, on the caller's terminal; its exit code, 128 + signal if one killed it.
    /// By namespaces, not by ssh: it works when the node's network or sshd does not.
    pub(super) fn exec(&self, words: &[String]) -> Result<u8> {
        let mut command = self.inside(words)?;
        let run = command.stdin(Stdio::inherit()).status();
        let status = run.map_err(|source| Error::Spawn { command: host::words(&command), source })?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let code = status.code().or_else(|| signal.map(|s| 128 + s)).unwrap_or(255);
        Ok(u8::try_from(code).unwrap_or(255))
    }

    fn inside(&self, words: &[String]) -> Result<Command> {
        let Some(init) = self.init() else {
            return Err(Error::Stopped { name: self.name.to_owned() });
        };
        let mut command = host::command("nsenter");
        let term = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
        command.arg(format!("--target={init}"));
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]);
        // The node's own env sets the environment: this machine's must not get in.
        command.args(["--", "/usr/bin/env", "-i", "HOME=/root", "USER=root", "LOGNAME=root", "LANG=C.UTF-8"]);
        command.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.arg(format!("TERM={term}")).args(words);
        Ok(command)
    }
}

fn banner(socket: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&socket, Duration::from_millis(500)) else {
        return false;
    };
    let mut start = [0; 4];
    let patience = stream.set_read_timeout(Some(Duration::from_secs(5)));
    patience.is_ok() && stream.read_exact(&mut start).is_ok() && &start == b"SSH-"
}

/// Replaces a file below `root`, with its directory.
fn put(root: &Path, path: &str, text: &str, mode: u32) -> Result<()> {
    let file = root.join(path);
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).at("create", dir)?;
    }
    match fs::remove_file(&file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).at("remove", &file),
        _ => {}
    }
    fs::write(&file, text).at("write", &file)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).at("set the mode of", &file)
}

/// The whole address where a link `vb-ADDRESS` fits 15 characters, else its hexadecimal digits.
pub(super) fn machine(address: Ipv4Addr) -> String {
    let plain = address.to_string();
    if plain.len() <= 12 { plain } else { format!("{:08x}", u32::from(address)) }
}

/// An inventory names hosts by address; a host name is made of one then.
fn hostname(name: &str) -> String {
    if name.parse::<Ipv4Addr>().is_ok() {
        format!("node-{}", name.replace('.', "-"))
    } else {
        name.to_owned()
    }
}

/// A resolver on this machine's loopback cannot be reached from a node.
fn reachable(resolv: &str) -> String {
    let local = |line: &str| {
        let mut words = line.split_whitespace();
        words.next() == Some("nameserver")
            && words.next().is_some_and(|address| address.starts_with("127.") || address == "::1")
    };
    resolv.lines().filter(|line| !local(line)).fold(String::new(), |text, line| text + line + "\n")
}

fn machine_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    Ok(fs::read_to_string(path).at("read", path)?.trim().replace('-', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cable_has_a_name_that_fits() {
        for address in ["10.10.10.11", "192.168.100.200", "10.10.100.11"] {
            let machine = machine(address.parse().unwrap());
            assert!(format!("vb-{machine}").len() < 16, "{machine}");
        }
        assert_eq!(machine("10.10.10.11".parse().unwrap()), "10.10.10.11");
        assert_eq!(machine("192.168.100.200".parse().unwrap()), "c0a864c8");
    }

    #[test]
    fn a_host_named_by_its_address_gets_a_host_name() {
        assert_eq!(hostname("pg-test-1"), "pg-test-1");
        assert_eq!(hostname("10.10.10.11"), "node-10-10-10-11");
    }

    #[test]
    fn a_loopback_resolver_stays_outside() {
        let host = "search lan\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.255.255.53\n";
        assert_eq!(reachable(host), "search lan\nnameserver 10.255.255.53\n");
    }

    #[test]
    fn a_file_is_replaced_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "the machine's").unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("etc/resolv.conf")).unwrap();
        put(&root, "etc/resolv.conf", "the node's", 0o644).unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "the machine's");
        assert_eq!(fs::read_to_string(root.join("etc/resolv.conf")).unwrap(), "the node's");
    }
}
