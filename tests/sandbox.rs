//! Real nodes: boots two on a network of their own and takes them through a life.
//!
//! Needs root and what `make setup` installs; fails without, rather than passing.
//! Own state directory, the machine's image directory: the image is built once for all tests.

#![allow(clippy::unwrap_used)]

use std::io::Read as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use pgctl::sandbox::{Error, Lab, LabNode, NodeStatus, RunState, identity};

const BRIDGE: &str = "pg-10.10.77";

/// Takes the lab down however the test ends.
struct Guard(Lab);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.0.down()
            && !std::thread::panicking()
        {
            panic!("down: {error}");
        }
    }
}

fn node(name: &str, last: u8) -> LabNode {
    LabNode { name: name.to_owned(), address: format!("10.10.77.{last}") }
}

fn words(text: &str) -> Vec<String> {
    ["sh", "-c", text].map(ToOwned::to_owned).to_vec()
}

fn out(tool: &str, args: &[&str]) -> String {
    let out = Command::new(tool).args(args).output().unwrap();
    assert!(out.status.success(), "{tool} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// What of this machine a sandbox changes; equal before and after, whatever else runs here.
fn machine() -> [String; 5] {
    let ours = |text: String| {
        let lines: Vec<&str> =
            text.lines().filter(|l| l.contains("10.10.77") || l.contains("10_10_77")).collect();
        lines.join("\n")
    };
    let forward = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let cgroups = out("find", &["/sys/fs/cgroup", "-type", "d", "-path", "*/pgctl/10.10.77.*"]);
    [
        ours(out("ip", &["-o", "address"])),
        ours(out("nft", &["list", "tables"])),
        ours(std::fs::read_to_string("/proc/self/mountinfo").unwrap()),
        cgroups,
        forward,
    ]
}

/// By the real ssh with the sandbox's own key and known hosts, as any user of the inventory does.
fn ssh(address: &str, script: &str) -> String {
    let id = identity(address).expect("the address is a node of the sandbox");
    let (key, hosts) = (id.key.display(), id.known_hosts.display());
    let hosts = format!("UserKnownHostsFile={hosts}");
    let login = format!("{}@{address}", id.user);
    out(
        "ssh",
        &[
            "-F",
            "none",
            "-i",
            &key.to_string(),
            "-o",
            &hosts,
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "BatchMode=yes",
            &login,
            script,
        ],
    )
}

fn state(lab: &Lab, name: &str) -> NodeStatus {
    lab.list().unwrap().into_iter().find(|n| n.name == name).unwrap()
}

/// The pid of the nspawn above a node's init.
fn supervisor(init: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap().trim().to_owned()
}

fn banner(address: &str) -> bool {
    let socket = format!("{address}:22").parse().unwrap();
    let Ok(mut stream) = std::net::TcpStream::connect_timeout(&socket, Duration::from_millis(300)) else {
        return false;
    };
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.read_exact(&mut [0; 4]).is_ok()
}

fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One test, in order: each step starts from what the one before it left.
#[test]
fn a_life() {
    assert!(rustix::process::geteuid().is_root(), "this test boots nodes: run it as root");
    // The sandbox finds its state by the environment. Setting a variable is unsafe in a process with
    // threads, so the test runs itself again with it.
    let Some(labs) = std::env::var_os("PGCTL_SANDBOX_DIR").map(PathBuf::from) else {
        let home = tempfile::tempdir_in("/var/tmp").unwrap();
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["a_life", "--exact", "--nocapture"]).env("PGCTL_SANDBOX_DIR", home.path().join("labs"));
        assert!(again.status().unwrap().success(), "see above");
        return;
    };
    let quiet = |_: &str| ();
    let before = machine();
    let lab = Lab::new(vec![node("one", 11), node("two", 12)]).unwrap();
    let guard = Guard(lab.clone());

    // Up: at the inventory's addresses, usable by ssh at once, healthy.
    let booted = lab.up("debian-12", &quiet).unwrap();
    assert!(booted.iter().all(|n| n.seconds.is_some_and(|s| s < 30.0)), "{booted:?}");
    assert!(lab.list().unwrap().iter().all(|n| n.state == RunState::Running));
    assert_eq!(ssh("10.10.77.11", "hostname").trim(), "one");
    assert_eq!(ssh("10.10.77.12", "systemctl --failed --plain --no-legend"), "");
    assert!(identity("10.10.77.99").is_none());
    let key = identity("10.10.77.11").unwrap().key;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    // The nodes see each other, and the stack installs without the network.
    assert_eq!(lab.exec("one", &words("ping -c1 -W2 10.10.77.12 >/dev/null")).unwrap(), 0);
    let install = "ip route del default && apt-get install -qq -o Dpkg::Use-Pty=0 pgbouncer >/dev/null 2>&1";
    assert_eq!(lab.exec("two", &words(install)).unwrap(), 0);

    // Exit codes pass; so do those of signals; unknown names are refused.
    assert_eq!(lab.exec("10.10.77.11", &words("exit 7")).unwrap(), 7);
    assert_eq!(lab.exec("one", &words("kill -9 $$")).unwrap(), 137);
    assert!(matches!(lab.exec("three", &words("true")), Err(Error::UnknownNode { .. })));

    // Nothing of this machine's environment gets in.
    assert_eq!(lab.exec("one", &words("test -z \"$PGCTL_SANDBOX_DIR\"")).unwrap(), 0);

    // Twice: nothing changes.
    let pids: Vec<_> = lab.list().unwrap().iter().map(|n| n.pid).collect();
    assert!(lab.up("debian-12", &quiet).unwrap().iter().all(|n| n.seconds.is_none()));
    assert_eq!(lab.list().unwrap().iter().map(|n| n.pid).collect::<Vec<_>>(), pids);
    assert!(matches!(lab.up("debian-13", &quiet), Err(Error::OtherImage { .. })));

    // A power cut: all of its processes at once, the disk stays.
    assert_eq!(lab.exec("one", &words("echo kept >/root/mark; sync")).unwrap(), 0);
    lab.stop(&["one".to_owned()]).unwrap();
    assert_eq!(state(&lab, "one").state, RunState::Stopped);
    assert_eq!(state(&lab, "two").state, RunState::Running);
    assert!(!banner("10.10.77.11"));
    assert!(matches!(lab.exec("one", &words("true")), Err(Error::Stopped { .. })));
    lab.stop(&["one".to_owned()]).unwrap();
    lab.start(&["one".to_owned()]).unwrap();
    assert_eq!(ssh("10.10.77.11", "cat /root/mark").trim(), "kept");

    // Its supervisor dies alone: what it leaves does not keep the address.
    let init = state(&lab, "one").pid.unwrap();
    out("kill", &["-9", &supervisor(init)]);
    eventually("a node without supervisor is stopped", || state(&lab, "one").state == RunState::Stopped);
    let booted = lab.up("debian-12", &quiet).unwrap();
    let count = booted.iter().filter(|n| n.seconds.is_some()).count();
    assert_eq!(count, 1, "up starts the dead node only: {booted:?}");
    assert_ne!(state(&lab, "one").pid.unwrap(), init);
    assert_eq!(ssh("10.10.77.11", "cat /root/mark").trim(), "kept");

    // It powers itself off: stopped, and starts again.
    assert_eq!(lab.exec("one", &words("systemctl poweroff")).unwrap(), 0);
    eventually("a node that powers off is stopped", || state(&lab, "one").state == RunState::Stopped);
    lab.start(&[]).unwrap();
    assert_eq!(state(&lab, "one").state, RunState::Running);

    // As after a reboot of this machine: no process, mount, bridge or rule; the disks are there.
    lab.stop(&[]).unwrap();
    out("ip", &["link", "delete", "dev", BRIDGE]);
    out("nft", &["delete", "table", "ip", "pgctl_10_10_77"]);
    assert!(lab.list().unwrap().iter().all(|n| n.state == RunState::Stopped));
    lab.start(&[]).unwrap();
    assert_eq!(ssh("10.10.77.11", "cat /root/mark").trim(), "kept");

    // A host joins the inventory; it cannot be an address that is there, nor the machine's.
    let more = Lab::new(vec![node("one", 11), node("two", 12), node("three", 13)]).unwrap();
    assert_eq!(state(&more, "three").state, RunState::Absent);
    let booted = more.up("debian-12", &quiet).unwrap();
    assert_eq!(booted.iter().filter(|n| n.seconds.is_some()).count(), 1);
    assert_eq!(ssh("10.10.77.13", "hostname").trim(), "three");

    // A damaged state file does not keep `down` from removing all.
    let file = labs.join("10.10.77/lab.json");
    std::fs::write(&file, "{ half").unwrap();
    assert!(matches!(lab.list(), Err(Error::State { .. })));
    assert_eq!(lab.down().unwrap(), ["10.10.77.0/24"]);
    assert!(lab.down().unwrap().is_empty());
    assert_eq!(machine(), before);
    assert!(!file.exists() && identity("10.10.77.11").is_none());

    // Someone else's bridge, with our name or with our network, is not touched.
    out("ip", &["link", "add", "name", BRIDGE, "type", "bridge"]);
    let taken = lab.up("debian-12", &quiet);
    out("ip", &["link", "delete", "dev", BRIDGE]);
    assert!(matches!(taken, Err(Error::LinkTaken { .. })), "{taken:?}");
    out("ip", &["link", "add", "name", "other77", "type", "bridge"]);
    out("ip", &["address", "add", "10.10.77.200/25", "dev", "other77"]);
    let taken = lab.up("debian-12", &quiet);
    let still = out("ip", &["-o", "address", "show", "dev", "other77"]);
    out("ip", &["link", "delete", "dev", "other77"]);
    let text = taken.unwrap_err().to_string();
    assert!(text.contains("`other77` (10.10.77.200/25)"), "{text}");
    assert!(still.contains("10.10.77.200/25"));
    drop(guard);
    assert_eq!(machine(), before);
}
