//! A node is its cgroup. The kernel keeps the list of a node's processes, so nothing here trusts a
//! recorded pid: who is in the cgroup is the node's, who is not is not, whatever pids were reused.
//!
//! `systemd-nspawn --keep-unit` makes `payload` and `supervisor` below the cgroup that it is
//! started in. Two nodes started in the same cgroup would share them, and the systemd of one would
//! see (and kill) the services of the other: hence one cgroup a node, in every hierarchy that
//! systemd uses, on hybrid machines the v1 `name=systemd` one too.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::{At as _, Error, Result};

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Cgroup {
    name: String,
    /// Where `cgroup.kill` and `cgroup.events` are.
    unified: PathBuf,
    /// On hybrid machines.
    systemd: Option<PathBuf>,
}

impl Cgroup {
    /// `name`: unique on the machine, a path component.
    pub(super) fn of(name: &str) -> Result<Self> {
        let file = Path::new("/proc/self/mounts");
        let mounts = std::fs::read_to_string(file).at("read", file)?;
        let (unified, systemd) = hierarchies(&mounts).ok_or(Error::NoCgroup)?;
        let below = |root: PathBuf| root.join("pgctl").join(name);
        Ok(Self { name: name.to_owned(), unified: below(unified), systemd: systemd.map(below) })
    }

    fn dirs(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.unified).chain(&self.systemd)
    }

    /// Makes it and returns the files that a process writes its pid into to join it.
    pub(super) fn make(&self) -> Result<Vec<PathBuf>> {
        for dir in self.dirs() {
            std::fs::create_dir_all(dir).at("create", dir)?;
        }
        Ok(self.dirs().map(|dir| dir.join("cgroup.procs")).collect())
    }

    /// Any live process, the supervisor included.
    pub(super) fn populated(&self) -> bool {
        let events = std::fs::read_to_string(self.unified.join("cgroup.events")).unwrap_or_default();
        events.lines().any(|line| line == "populated 1")
    }

    /// The node's pid 1 as the machine sees it, if both it and its supervisor live. A node whose
    /// supervisor was killed may go on half alive; it counts as stopped, and is killed before a start.
    pub(super) fn init(&self) -> Option<u32> {
        let (mut init, mut supervised) = (None, false);
        for pid in pids(&self.unified) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            match role(&status) {
                Role::Supervisor => supervised = true,
                Role::Init => init = Some(pid),
                Role::Other => {}
            }
        }
        init.filter(|_| supervised)
    }

    /// SIGKILL to every process at once (`cgroup.kill`, Linux 5.14), then waits until they are gone.
    pub(super) fn kill(&self) -> Result<()> {
        if self.unified.is_dir() {
            let file = self.unified.join("cgroup.kill");
            std::fs::write(&file, "1").at("write", &file)?;
        }
        let start = Instant::now();
        while self.populated() {
            if start.elapsed() > PATIENCE {
                return Err(Error::Unkillable { name: self.name.clone(), seconds: PATIENCE.as_secs() });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Removes the empty cgroup, and the common parent with the last node.
    pub(super) fn remove(&self) -> Result<()> {
        for dir in self.dirs() {
            remove_tree(dir).at("remove", dir)?;
            // Fails while other nodes live: that is the check.
            let _ = dir.parent().map(std::fs::remove_dir);
        }
        Ok(())
    }
}

/// The roots of the cgroup2 hierarchy and of the v1 `name=systemd` one.
fn hierarchies(mounts: &str) -> Option<(PathBuf, Option<PathBuf>)> {
    let (mut unified, mut systemd) = (None, None);
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        match fields.as_slice() {
            [_, at, "cgroup2", ..] => unified = unified.or(Some(PathBuf::from(at))),
            [_, at, "cgroup", options, ..] if options.split(',').any(|o| o == "name=systemd") => {
                systemd = systemd.or(Some(PathBuf::from(at)));
            }
            _ => {}
        }
    }
    unified.map(|root| (root, systemd))
}

#[derive(Debug, PartialEq)]
enum Role {
    Supervisor,
    Init,
    Other,
}

/// By `/proc/PID/status`: the init is pid 1 exactly one pid namespace below ours (`NSpid: N 1`).
fn role(status: &str) -> Role {
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("").trim();
    let pids: Vec<&str> = field("NSpid:").split_whitespace().collect();
    match pids.as_slice() {
        [_] if field("Name:") == "systemd-nspawn" => Role::Supervisor,
        [_, "1"] => Role::Init,
        _ => Role::Other,
    }
}

fn pids(dir: &Path) -> Vec<u32> {
    let procs = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<u32> = procs.lines().filter_map(|line| line.parse().ok()).collect();
    for child in children(dir) {
        found.extend(pids(&child));
    }
    found
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn remove_tree(dir: &Path) -> std::io::Result<()> {
    children(dir).iter().try_for_each(|child| remove_tree(child))?;
    let start = Instant::now();
    loop {
        match std::fs::remove_dir(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            // A cgroup stays busy for a moment after its last process was reaped.
            Err(e) if e.kind() == std::io::ErrorKind::ResourceBusy && start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_and_unified_machines() {
        let hybrid = "\
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,xattr,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
";
        let expected = (PathBuf::from("/sys/fs/cgroup/unified"), Some("/sys/fs/cgroup/systemd".into()));
        assert_eq!(hierarchies(hybrid), Some(expected));
        let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev 0 0\n";
        assert_eq!(hierarchies(unified), Some((PathBuf::from("/sys/fs/cgroup"), None)));
        assert_eq!(hierarchies("cgroup /c/cpu cgroup rw,cpu 0 0\n"), None);
    }

    #[test]
    fn roles_by_namespace_depth() {
        let status = |name: &str, pids: &str| role(&format!("Name:\t{name}\nNSpid:\t{pids}\nSigQ:\t0\n"));
        assert_eq!(status("systemd-nspawn", "812"), Role::Supervisor);
        assert_eq!(status("systemd", "813\t1"), Role::Init);
        assert_eq!(status("systemd", "900\t77\t1"), Role::Other); // a container inside the node
        assert_eq!(status("sshd", "901\t78"), Role::Other);
        assert_eq!(role(""), Role::Other); // gone meanwhile
    }
}
