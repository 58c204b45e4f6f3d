//! The only door to a node: one SSH connection, scripts over stdin, tunnels to its HTTP APIs.
//!
//! [`Target::resolve`] says where a node is and who logs in (inventory variables, `~/.ssh/config`);
//! [`Connector::connect`] opens a [`Session`]; [`Session::exec`] runs a script, [`Session::exec_held`] one that lives
//! as long as we do, [`Session::http`] asks Patroni or etcd. Every failure is a [`RemoteError`]
//! with its place, its words and the next command to type.
//!
//! SSH is russh, which moves fast: nothing of it is visible outside this module.

mod auth;
mod connect;
mod error;
mod exec;
mod known_hosts;
mod secret;
mod session;
mod ssh_config;
mod stream;
mod sudo;
mod target;
mod tunnel;

pub use connect::Connector;
pub use error::{Kind, Problem, RemoteError, SudoProblem};
pub use exec::{Exec, ExecOutput, Held};
pub use secret::Secret;
pub use session::Session;
pub use ssh_config::SshConfig;
pub use target::{Become, Hop, HostKeyPolicy, Identity, Options, Request, Target};
pub use tunnel::{Http, HttpReply};
