//! What can go wrong between here and a node, in words, with the next command to type.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::text::quote;

/// A failure on the way to a node or on it: where, and what.
#[derive(Clone, Debug, Error)]
#[error("`{place}`: {problem}")]
pub struct RemoteError {
    /// `user@host:port` of the end that failed; a jump host when it was one.
    pub place: String,
    pub problem: Box<Problem>,
}

/// What happened.
#[derive(Clone, Debug, Error)]
pub enum Problem {
    #[error("cannot resolve the name `{host}`: {why}")]
    Resolve { host: String, why: String },
    #[error("connection refused: nothing listens on port {port} of `{host}`")]
    Refused { host: String, port: u16 },
    #[error("no route to `{host}`: {why}")]
    Unreachable { host: String, why: String },
    #[error("no answer within {}", seconds(*after))]
    Timeout { after: Duration },
    #[error("the connection was reset during the handshake, {attempts} times: {why}")]
    HandshakeReset { attempts: u32, why: String },
    #[error("the SSH handshake failed: {why}")]
    Handshake { why: String },
    #[error("the host key is not known: {algorithm} {fingerprint}")]
    HostKeyUnknown {
        /// As `known_hosts` spells it: `host` or `[host]:port`.
        name: String,
        algorithm: String,
        fingerprint: String,
        /// The files that were searched.
        searched: Vec<PathBuf>,
    },
    #[error(
        "the host key has changed: {}:{line} records {recorded}, the node offers {offered}",
        file.display()
    )]
    HostKeyChanged {
        name: String,
        file: PathBuf,
        line: usize,
        /// Algorithm and SHA-256 fingerprint in the file.
        recorded: String,
        /// The same of what the node offers.
        offered: String,
    },
    #[error("the host key {algorithm} {fingerprint} is revoked in {}:{line}", file.display())]
    HostKeyRevoked { file: PathBuf, line: usize, algorithm: String, fingerprint: String },
    #[error("the host certificate is not valid: {why} (authority in {}:{line})", file.display())]
    HostCertificate { file: PathBuf, line: usize, why: String },
    #[error("cannot use the known hosts in {}: {why}", path.display())]
    KnownHosts { path: PathBuf, why: String },
    #[error("login as `{user}` refused; {}", tried_words(tried))]
    AuthRefused {
        user: String,
        /// What was offered, in order: files, agent keys, password.
        tried: Vec<String>,
        /// What the node would take: `publickey`, `password` …; empty when it hung up.
        accepts: Vec<String>,
    },
    #[error("cannot use the key file {}: {why}", path.display())]
    KeyFile { path: PathBuf, why: String },
    #[error("sudo: {0}")]
    Sudo(SudoProblem),
    #[error("the login shell did not start the script (exit code {status}){}", said_words(said))]
    NotStarted { status: String, said: String },
    #[error("the connection was lost: {why}")]
    ConnectionLost { why: String },
    #[error("the node opened no channel: {why}")]
    Channel { why: String },
    #[error("nothing listens at `{host}:{port}` as seen from the node")]
    TunnelRefused { host: String, port: u16 },
    #[error("its sshd forbids forwarding to `{host}:{port}`")]
    Forwarding { host: String, port: u16 },
    #[error("no HTTP answer from `{host}:{port}`: {why}")]
    Http { host: String, port: u16, why: String },
    #[error("still running after {}", seconds(*after))]
    Deadline { after: Duration },
    #[error("{why}")]
    Config { why: String },
}

/// Why `sudo` did not start the script.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SudoProblem {
    #[error("a password is required for `{user}`")]
    NeedsPassword { user: String },
    #[error("`{user}` may not run commands as `{target}`")]
    NotAllowed { user: String, target: String },
    #[error("the password of `{user}` is wrong")]
    WrongPassword { user: String },
    #[error("it is not installed on the node")]
    NotInstalled,
    #[error("it insists on a terminal (`requiretty`)")]
    NeedsTerminal { user: String },
    #[error("the user `{target}` does not exist on the node")]
    UnknownUser { target: String },
    #[error("{said}")]
    Other { said: String },
}

/// The kind of a [`Problem`], for exit codes and decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Resolve,
    Refused,
    Unreachable,
    Timeout,
    HandshakeReset,
    Handshake,
    HostKeyUnknown,
    HostKeyChanged,
    HostKeyRevoked,
    HostCertificate,
    KnownHosts,
    AuthRefused,
    KeyFile,
    Sudo,
    NotStarted,
    ConnectionLost,
    Channel,
    TunnelRefused,
    Forwarding,
    Http,
    Deadline,
    Config,
}

impl Kind {
    /// The node could not be reached, or not be logged in to: exit code 4. The others happened on a
    /// node that was reached ([`Kind::Deadline`], [`Kind::TunnelRefused`] …) or before it was
    /// dialled ([`Kind::Config`]).
    pub fn is_unreachable(self) -> bool {
        !matches!(self, Self::TunnelRefused | Self::Forwarding | Self::Http | Self::Deadline | Self::Config)
    }
}

impl RemoteError {
    pub fn new(place: impl Into<String>, problem: Problem) -> Self {
        Self { place: place.into(), problem: Box::new(problem) }
    }

    pub fn kind(&self) -> Kind {
        match *self.problem {
            Problem::Resolve { .. } => Kind::Resolve,
            Problem::Refused { .. } => Kind::Refused,
            Problem::Unreachable { .. } => Kind::Unreachable,
            Problem::Timeout { .. } => Kind::Timeout,
            Problem::HandshakeReset { .. } => Kind::HandshakeReset,
            Problem::Handshake { .. } => Kind::Handshake,
            Problem::HostKeyUnknown { .. } => Kind::HostKeyUnknown,
            Problem::HostKeyChanged { .. } => Kind::HostKeyChanged,
            Problem::HostKeyRevoked { .. } => Kind::HostKeyRevoked,
            Problem::HostCertificate { .. } => Kind::HostCertificate,
            Problem::KnownHosts { .. } => Kind::KnownHosts,
            Problem::AuthRefused { .. } => Kind::AuthRefused,
            Problem::KeyFile { .. } => Kind::KeyFile,
            Problem::Sudo(_) => Kind::Sudo,
            Problem::NotStarted { .. } => Kind::NotStarted,
            Problem::ConnectionLost { .. } => Kind::ConnectionLost,
            Problem::Channel { .. } => Kind::Channel,
            Problem::TunnelRefused { .. } => Kind::TunnelRefused,
            Problem::Forwarding { .. } => Kind::Forwarding,
            Problem::Http { .. } => Kind::Http,
            Problem::Deadline { .. } => Kind::Deadline,
            Problem::Config { .. } => Kind::Config,
        }
    }

    /// The next thing to type or to look at, where there is one.
    pub fn hint(&self) -> Option<String> {
        let (login, port) = self.login();
        let dash_p = if port == "22" { String::new() } else { format!(" -p {port}") };
        Some(match &*self.problem {
            Problem::Resolve { host, .. } => {
                format!("give the node an address: `ansible_host: 10.0.0.1` beside `{host}`")
            }
            Problem::Refused { port, .. } => {
                format!(
                    "is sshd running there, and on port {port}? `ansible_port` in the inventory sets another"
                )
            }
            Problem::Unreachable { host, .. } => format!("`ip route get {}` shows the way", quote::shell(host)),
            Problem::Timeout { .. } => {
                "the node is down, or a firewall drops the packets; nodes behind a bastion need \
                 `ansible_ssh_common_args: '-J user@bastion'`"
                    .to_owned()
            }
            Problem::HandshakeReset { .. } => {
                "sshd limits logins (`MaxStartups`, `PerSourcePenalties`): try fewer at a time, `-f 5`".to_owned()
            }
            Problem::Handshake { .. } => format!("compare with `ssh -v{dash_p} {login} true`"),
            Problem::HostKeyUnknown { .. } => format!(
                "`ssh{dash_p} {login} true` shows the key and records it; `-o StrictHostKeyChecking=accept-new` \
                 in `ansible_ssh_common_args` lets pgctl record it"
            ),
            Problem::HostKeyChanged { name, file, .. } => format!(
                "if the node was reinstalled, forget the old key: `ssh-keygen -R {} -f {}`; if not, someone \
                 may be listening in",
                quote::shell(name),
                quote::shell(&file.display().to_string())
            ),
            Problem::HostKeyRevoked { .. } => {
                "do not trust this node: give it a new host key, or ask who revoked the old one".to_owned()
            }
            Problem::HostCertificate { .. } => {
                "sign the node's host key again: `ssh-keygen -s CA -h -I NAME -n HOST,ADDRESS ssh_host_ed25519_key.pub`"
                    .to_owned()
            }
            Problem::KnownHosts { path, .. } => {
                format!("`ls -l {}`", quote::shell(&path.display().to_string()))
            }
            Problem::AuthRefused { tried, accepts, .. } => match () {
                () if accepts.is_empty() && tried.len() > 2 => {
                    "the node hung up after too many keys: name the right one with `ansible_ssh_private_key_file`"
                        .to_owned()
                }
                () if tried.is_empty() => {
                    "no key to offer: name one with `ansible_ssh_private_key_file`, or `ssh-add` it to the agent"
                        .to_owned()
                }
                () => format!("`ssh-copy-id{dash_p} {login}` installs your key there"),
            },
            Problem::KeyFile { path, why } => {
                let path = quote::shell(&path.display().to_string());
                if why.contains("encrypted") {
                    format!("add it to the agent: `ssh-add {path}`")
                } else {
                    format!("`ssh-keygen -y -f {path}` says what is wrong with it")
                }
            }
            Problem::Sudo(problem) => return problem.hint(),
            Problem::NotStarted { .. } => format!("compare with `ssh{dash_p} {login} sh -c true`"),
            Problem::ConnectionLost { .. } => {
                "run the same command again: what was done is kept, the rest is done".to_owned()
            }
            Problem::Channel { .. } => "look at `MaxSessions` in the node's sshd_config (default 10)".to_owned(),
            Problem::Forwarding { .. } => {
                "set `AllowTcpForwarding local` (or `yes`) in the node's sshd_config and reload sshd".to_owned()
            }
            Problem::TunnelRefused { .. }
            | Problem::Http { .. }
            | Problem::Deadline { .. }
            | Problem::Config { .. } => return None,
        })
    }

    /// `user@host` as a shell word, and the port, from the place.
    fn login(&self) -> (String, &str) {
        let (login, port) = self.place.rsplit_once(':').unwrap_or((&self.place, "22"));
        let bare: String = login.chars().filter(|c| !matches!(c, '[' | ']')).collect();
        (quote::shell(&bare), port)
    }
}

impl SudoProblem {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NeedsPassword { user } => format!(
                "give it with `--ask-become-pass`, or allow it without: \
                 `echo '{user} ALL=(ALL) NOPASSWD: ALL' | sudo tee /etc/sudoers.d/pgctl` on the node"
            ),
            Self::NotAllowed { user, .. } => format!(
                "as root on the node: `echo '{user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/pgctl; \
                 chmod 440 /etc/sudoers.d/pgctl`"
            ),
            Self::WrongPassword { .. } => {
                "check `ansible_become_password`, or type it again with `--ask-become-pass`".to_owned()
            }
            Self::NotInstalled => {
                "install sudo on the node, or log in as root: `ansible_user: root`".to_owned()
            }
            Self::NeedsTerminal { user } => {
                format!(
                    "as root on the node: `echo 'Defaults:{user} !requiretty' > /etc/sudoers.d/pgctl-tty`"
                )
            }
            Self::UnknownUser { .. } => "check `ansible_become_user`".to_owned(),
            Self::Other { .. } => return None,
        })
    }
}

fn seconds(after: Duration) -> String {
    if after.subsec_millis() == 0 {
        format!("{} s", after.as_secs())
    } else {
        format!("{:.1} s", after.as_secs_f64())
    }
}

fn tried_words(tried: &[String]) -> String {
    if tried.is_empty() {
        "there was nothing to offer".to_owned()
    } else {
        format!("tried {}", tried.join(", "))
    }
}

fn said_words(said: &str) -> String {
    let said = said.trim();
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_key_names_file_line_and_the_command() {
        let error = RemoteError::new(
            "root@10.0.0.1:2222",
            Problem::HostKeyChanged {
                name: "[10.0.0.1]:2222".into(),
                file: "/root/.ssh/known_hosts".into(),
                line: 7,
                recorded: "ssh-ed25519 SHA256:aaa".into(),
                offered: "ssh-ed25519 SHA256:bbb".into(),
            },
        );
        assert_eq!(
            error.to_string(),
            "`root@10.0.0.1:2222`: the host key has changed: /root/.ssh/known_hosts:7 records ssh-ed25519 \
             SHA256:aaa, the node offers ssh-ed25519 SHA256:bbb"
        );
        assert!(
            error.hint().unwrap().contains("`ssh-keygen -R '[10.0.0.1]:2222' -f /root/.ssh/known_hosts`")
        );
        assert!(error.kind().is_unreachable());
    }

    #[test]
    fn the_login_of_a_place_drops_brackets() {
        let error = RemoteError::new(
            "me@[::1]:2222",
            Problem::AuthRefused {
                user: "me".into(),
                tried: vec!["a".into()],
                accepts: vec!["publickey".into()],
            },
        );
        assert_eq!(error.hint().unwrap(), "`ssh-copy-id -p 2222 me@::1` installs your key there");
    }
}
