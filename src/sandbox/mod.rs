//! Real nodes on one machine: a systemd per host of the inventory, at the inventory's addresses,
//! booted in about a second. For newcomers without machines to spare, and for end-to-end tests.
//!
//! | module | what |
//! |---|---|
//! | `error` | what can go wrong, and what to do then |
//! | `host` | the machine: commands, mounts, room |
//! | `state` | what is remembered between commands |
//! | `image` | a Debian root file system, made once |
//! | `network` | bridge, NAT, forwarding |
//! | `cgroup` | who belongs to a node, and how all of them die at once |
//! | `node` | one node: disk, boot, banner, exec |
//! | `lab` | the nodes of an inventory: up, down, list, exec, stop, start |

mod cgroup;
mod error;
mod host;
mod image;
mod lab;
mod network;
mod node;
mod state;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use error::Error;
pub use image::IMAGES;
pub use lab::{Booted, Lab, NodeStatus, RunState};

/// The image of an inventory that names none.
pub const DEFAULT_IMAGE: &str = IMAGES[0];

/// A host of the inventory that is to be a node of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabNode {
    pub name: String,
    /// IPv4.
    pub address: String,
}

/// How ssh enters a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    pub user: &'static str,
    pub key: PathBuf,
    pub known_hosts: PathBuf,
}

/// How to enter `address`, if it is a node of a sandbox on this machine. By the state directory
/// alone, so any inventory that was given to `sandbox up` can be used at once without editing it.
pub fn identity(address: &str) -> Option<Identity> {
    let address: Ipv4Addr = address.parse().ok()?;
    let state = state::State::load(network::Network::of(address)).ok()??;
    let known = state.nodes.iter().any(|node| node.address.parse() == Ok(address));
    known.then(|| state.identity())
}
