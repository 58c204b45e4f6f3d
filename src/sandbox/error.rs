//! What can go wrong with a sandbox, in words that say what to do.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// Everything here is the operator's machine, never a managed node.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the sandbox needs root: it makes a bridge, mounts and namespaces; run it with `sudo`")]
    NotRoot,
    #[error("`{tool}` is not installed: `apt-get install {package}`")]
    MissingTool { tool: &'static str, package: &'static str },
    #[error(
        "no cgroup2 file system is mounted on this machine; nodes are started and killed by their cgroup"
    )]
    NoCgroup,
    #[error("`{name}`: `{address}` is not an IPv4 address; sandbox nodes need one each")]
    NotIpv4 { name: String, address: String },
    #[error("`{address}` cannot be a node: {why}")]
    BadAddress { address: String, why: &'static str },
    #[error("`{value}` is used by two nodes of the inventory")]
    Duplicate { value: String },
    #[error("the inventory has no hosts")]
    NoNodes,
    #[error("network {network} is already held by {holder}; change the inventory's addresses, or remove it")]
    NetworkTaken { network: String, holder: String },
    #[error("`{link}` exists and does not belong to this sandbox ({found}); nothing was changed")]
    LinkTaken { link: String, found: String },
    #[error("no image `{name}`; there are {known}")]
    UnknownImage { name: String, known: String },
    #[error(
        "the sandbox on {network} was made from `{have}`, not `{want}`; `pgctl sandbox down` first, its disks will be lost"
    )]
    OtherImage { network: String, have: String, want: String },
    #[error(
        "the image `{image}` of the sandbox on {network} is gone; `pgctl sandbox down` and `up` make it anew"
    )]
    LostImage { network: String, image: String },
    #[error("no node `{name}` in the sandbox; there are {known}")]
    UnknownNode { name: String, known: String },
    #[error("`{name}` is a node of several sandboxes ({addresses}); say its address, or name the inventory")]
    Ambiguous { name: String, addresses: String },
    #[error("no sandbox is up; `pgctl sandbox up INVENTORY` boots one")]
    NotUp,
    #[error("several sandboxes are up ({networks}); name an inventory, or say `--all`")]
    Several { networks: String },
    #[error("node `{name}` is stopped; `pgctl sandbox start {name}` boots it")]
    Stopped { name: String },
    #[error("no ssh banner from {names} within {seconds} s\n{log}")]
    NoBanner { names: String, seconds: u64, log: String },
    #[error("node `{name}` died while booting\n{log}")]
    Died { name: String, log: String },
    #[error("processes of `{name}` survive SIGKILL for {seconds} s; is the disk hanging?")]
    Unkillable { name: String, seconds: u64 },
    #[error(
        "`{path}` has {free} MiB free, {need} MiB are needed; free some, or set `{variable}` to another disk"
    )]
    DiskFull { path: PathBuf, free: u64, need: u64, variable: &'static str },
    #[error("`{path}` cannot hold a sandbox: {why}")]
    BadDirectory { path: PathBuf, why: &'static str },
    #[error("cannot {verb} `{path}`: {source}{}", disk_hint(source))]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot run `{command}`: {source}")]
    Spawn { command: String, source: io::Error },
    #[error("`{command}` failed ({status}){}", indented(output))]
    Command { command: String, status: String, output: String },
    #[error("`{path}` is damaged: {source}; `pgctl sandbox down` removes it")]
    State { path: PathBuf, source: serde_json::Error },
    #[error("cannot read the output of `{command}`: {source}")]
    Output { command: String, source: serde_json::Error },
}

pub(super) type Result<T, E = Error> = std::result::Result<T, E>;

/// `result.at("write", path)`: an I/O error that names what was being done to which path.
pub(super) trait At<T> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { verb, path: path.to_owned(), source })
    }
}

fn disk_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space, or set `PGCTL_SANDBOX_DIR` and `PGCTL_IMAGE_DIR` to another disk"
        }
        _ => "",
    }
}

/// The last lines of a command's output, each on its own indented line.
fn indented(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|l| !l.trim().is_empty()).collect();
    let mut text = String::new();
    for line in &lines[lines.len().saturating_sub(12)..] {
        let _ = write!(text, "\n    {line}");
    }
    text
}
