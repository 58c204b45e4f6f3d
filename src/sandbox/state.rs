//! What a sandbox remembers: `lab.json`, its keys, its nodes' disks. All else is asked of the kernel.
//!
//! ```text
//! /var/lib/pgctl/sandbox/10.10.10/   one directory a /24
//!     lab.json                       image, nodes
//!     id_ed25519 known_hosts         for ssh
//!     nodes/10.10.10.11/             upper work root log
//! ```

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{At as _, Error, Result};
use super::network::Network;
use super::{Identity, LabNode};

/// Machine-wide, not per state directory: bridges and nft tables are the machine's too.
const LOCK: &str = "/run/pgctl/sandbox.lock";

/// `PGCTL_SANDBOX_DIR`, else `/var/lib/pgctl/sandbox`.
pub(super) fn directory() -> PathBuf {
    std::env::var_os("PGCTL_SANDBOX_DIR").map_or_else(|| "/var/lib/pgctl/sandbox".into(), PathBuf::from)
}

/// Held while a command changes something; waits for another one to finish. Dropped with the file,
/// so a killed command holds nothing.
pub(super) fn lock() -> Result<File> {
    let path = Path::new(LOCK);
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).at("create", dir)?;
    let file = File::create(path).at("create", path)?;
    file.lock().at("lock", path)?;
    Ok(file)
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File1 {
    format: u8,
    image: String,
    nodes: Vec<LabNode>,
}

/// The sandbox of one /24.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) network: Network,
    /// The image's id, for the life of the disks that stand on it.
    pub(super) image: String,
    pub(super) nodes: Vec<LabNode>,
}

impl State {
    pub(super) fn new(network: Network, image: String) -> Self {
        Self { network, image, nodes: Vec::new() }
    }

    pub(super) fn load(network: Network) -> Result<Option<Self>> {
        let path = dir(network).join("lab.json");
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.at("read", &path)?,
        };
        let file: File1 = serde_json::from_str(&text).map_err(|source| Error::State { path, source })?;
        Ok(Some(Self { network, image: file.image, nodes: file.nodes }))
    }

    /// Networks that have a directory, whole or damaged.
    pub(super) fn networks() -> Result<Vec<Network>> {
        let root = directory();
        let entries = match fs::read_dir(&root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.at("read", &root)?,
        };
        let names = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
        let mut networks: Vec<Network> = names.filter_map(|name| Network::parse(&name)).collect();
        networks.sort();
        Ok(networks)
    }

    pub(super) fn save(&self) -> Result<()> {
        let dir = dir(self.network);
        fs::create_dir_all(&dir).at("create", &dir)?;
        let file = File1 { format: 1, image: self.image.clone(), nodes: self.nodes.clone() };
        let path = dir.join("lab.json");
        let text = serde_json::to_string_pretty(&file)
            .map_err(|source| Error::State { path: path.clone(), source })?;
        write_atomic(&path, &(text + "\n"))
    }

    pub(super) fn identity(&self) -> Identity {
        let dir = dir(self.network);
        Identity { user: "root", key: dir.join("id_ed25519"), known_hosts: dir.join("known_hosts") }
    }
}

/// Where the sandbox of `network` keeps everything.
pub(super) fn dir(network: Network) -> PathBuf {
    directory().join(network.prefix())
}

pub(super) fn node_dir(address: Ipv4Addr) -> PathBuf {
    dir(Network::of(address)).join("nodes").join(address.to_string())
}

/// Readers see the old file or the new one, never half of one.
pub(super) fn write_atomic(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text).at("write", &new)?;
    fs::rename(&new, path).at("rename", &new)
}
