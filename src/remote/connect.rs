//! Connecting: dial, shake hands, check the host key, log in; through jump hosts when there are any.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, DisconnectReason, Handle};
use russh::keys::PublicKeyOrCertificate;
use russh::{SshId, cipher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tracing::debug;

use super::auth::{Keys, login};
use super::error::{Problem, RemoteError};
use super::known_hosts::{Cache, HostName, KnownHosts, Verdict, blob, fingerprint};
use super::session::Session;
use super::stream::{Proxy, Tcp, bare};
use super::target::{Hop, HostKeyPolicy, Options, Target};

/// Handshakes at once with one sshd: `MaxStartups 10:30:100` begins to drop at 10, and others log in too.
const STARTS_PER_ADDRESS: usize = 8;
/// Tries of one handshake before a reset is believed to be more than `MaxStartups`.
const ATTEMPTS: u32 = 8;
/// A login may wait for PAM, or for somebody to touch a key.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);

/// Why a connection ended, written by its event loop and read by whoever finds it closed.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending(Arc<Mutex<Option<String>>>);

impl Ending {
    fn set(&self, why: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }

    pub(super) fn words(&self) -> String {
        let why = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        why.unwrap_or_else(|| "the node closed it".into())
    }
}

/// What stops a handshake: russh's error or our verdict on the host key.
#[derive(Debug)]
pub(super) enum Stop {
    Ssh(russh::Error),
    HostKey(Box<Problem>),
}

impl From<russh::Error> for Stop {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

/// Our side of one SSH connection, as russh calls it back.
pub(super) struct Client {
    known: KnownHosts,
    name: HostName,
    policy: HostKeyPolicy,
    learn: Option<std::path::PathBuf>,
    searched: Vec<std::path::PathBuf>,
    cache: Arc<Cache>,
    ending: Ending,
}

impl client::Handler for Client {
    type Error = Stop;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, Stop> {
        let key = offered.public_key();
        let mut verdict = self.known.check(&self.name, offered);
        if let (Verdict::Unknown, HostKeyPolicy::AcceptNew, Some(path)) =
            (&verdict, self.policy, self.learn.clone())
        {
            let (cache, name, key) = (Arc::clone(&self.cache), self.name.clone(), key.clone());
            // It waits for a file lock.
            verdict = tokio::task::spawn_blocking(move || cache.learn(&path, &name, &key))
                .await
                .map_err(|error| Stop::Ssh(russh::Error::IO(io::Error::other(error))))?
                .map_err(|problem| Stop::HostKey(Box::new(problem)))?;
        }
        let algorithm = key.algorithm().as_str().to_owned();
        let print = fingerprint(&blob(&key));
        let problem = match (verdict, self.policy) {
            (Verdict::Revoked { file, line }, _) => {
                Problem::HostKeyRevoked { file, line, algorithm, fingerprint: print }
            }
            (Verdict::Trusted, _)
            | (_, HostKeyPolicy::Off)
            | (Verdict::Unknown, HostKeyPolicy::AcceptNew) => {
                return Ok(true);
            }
            (Verdict::Unknown, HostKeyPolicy::Strict) => Problem::HostKeyUnknown {
                name: self.name.written.clone(),
                algorithm,
                fingerprint: print,
                searched: self.searched.clone(),
            },
            (Verdict::Changed { file, line, recorded }, _) => Problem::HostKeyChanged {
                name: self.name.written.clone(),
                file,
                line,
                recorded,
                offered: format!("{algorithm} {print}"),
            },
            (Verdict::Certificate { file, line, why }, _) => Problem::HostCertificate { file, line, why },
        };
        Err(Stop::HostKey(Box::new(problem)))
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Stop>) -> Result<(), Stop> {
        self.ending.set(match reason {
            DisconnectReason::ReceivedDisconnect(info) if info.message.is_empty() => {
                format!("the node hung up ({:?})", info.reason_code)
            }
            DisconnectReason::ReceivedDisconnect(info) => {
                format!("the node hung up: {}", info.message.trim())
            }
            DisconnectReason::Error(Stop::Ssh(error)) => match error {
                russh::Error::KeepaliveTimeout => "the node stopped answering".into(),
                russh::Error::IO(error) if error.kind() != io::ErrorKind::UnexpectedEof => bare(&error),
                russh::Error::IO(_) | russh::Error::HUP | russh::Error::Disconnect => {
                    "the node closed it".into()
                }
                other => other.to_string().to_lowercase(),
            },
            DisconnectReason::Error(Stop::HostKey(problem)) => problem.to_string(),
        });
        Ok(())
    }
}

/// Opens sessions. One a run: it bounds how many handshakes go on at once and remembers key files and known hosts.
///
/// Cheap to clone; clones share.
#[derive(Clone, Debug)]
pub struct Connector {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Handshakes at once in all (`--forks`). Sessions that are open do not count: nodes wait for each other at
    /// barriers with their sessions open, so holding a place meanwhile would be a deadlock.
    forks: Semaphore,
    starts: Mutex<HashMap<(String, u16), Arc<Semaphore>>>,
    known: Arc<Cache>,
    keys: Keys,
    jitter: RandomState,
}

impl Connector {
    pub fn new(options: &Options) -> Self {
        Self {
            shared: Arc::new(Shared {
                forks: Semaphore::new(options.forks.max(1)),
                starts: Mutex::default(),
                known: Arc::default(),
                keys: Keys::default(),
                jitter: RandomState::new(),
            }),
        }
    }

    /// Connects and logs in. A timeout is not retried, a reset during the handshake is (`MaxStartups`), a few times
    /// with growing, jittered pauses.
    ///
    /// # Errors
    /// [`RemoteError`] with the hop that failed as its place.
    pub async fn connect(&self, target: &Target) -> Result<Session, RemoteError> {
        let place = target.place();
        let _fork = self.shared.forks.acquire().await.map_err(|_| closed(&place))?;
        let mut path: Option<Link> = None;
        let mut held = Vec::new();
        for hop in target.jump.iter().chain([&target.end()]) {
            let link =
                self.hop(hop, path.as_ref(), target).await.map_err(|p| RemoteError::new(hop.place(), p))?;
            held.extend(path.replace(link));
        }
        let Some(link) = path else { return Err(closed(&place)) };
        Ok(Session::new(link, held, target))
    }

    async fn hop(&self, hop: &Hop, through: Option<&Link>, target: &Target) -> Result<Link, Problem> {
        let starts = {
            let mut starts = self.shared.starts.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (hop.host.clone(), hop.port);
            Arc::clone(starts.entry(key).or_insert_with(|| Arc::new(Semaphore::new(STARTS_PER_ADDRESS))))
        };
        let mut attempt = 1;
        loop {
            let start =
                starts.acquire().await.map_err(|_| Problem::Config { why: "shutting down".into() })?;
            let reset = match self.handshake(hop, through, target).await {
                Ok((mut handle, ending)) => {
                    let result = tokio::time::timeout(
                        LOGIN_LIMIT.max(target.connect_timeout),
                        login(&mut handle, hop, &self.shared.keys),
                    )
                    .await
                    .unwrap_or(Err(Problem::Timeout { after: LOGIN_LIMIT.max(target.connect_timeout) }));
                    return result.map(|()| Link { handle: Arc::new(handle), ending });
                }
                Err(Failed::Final(problem)) => return Err(problem),
                Err(Failed::Reset(why)) => why,
            };
            drop(start);
            if attempt == ATTEMPTS {
                return Err(Problem::HandshakeReset { attempts: attempt, why: reset });
            }
            debug!(place = hop.place(), attempt, why = reset, "reset during the handshake");
            tokio::time::sleep(self.pause(hop, attempt)).await;
            attempt += 1;
        }
    }

    /// 0.1 s doubling to 1.6 s, each between half and all of it.
    fn pause(&self, hop: &Hop, attempt: u32) -> Duration {
        let full = Duration::from_millis(100 << attempt.min(5).saturating_sub(1));
        let mut hasher = self.shared.jitter.build_hasher();
        hasher.write(hop.place().as_bytes());
        hasher.write_u128(std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos()));
        let part = u32::try_from(hasher.finish() % 1000).unwrap_or(0);
        full / 2 + full / 2 * part / 1000
    }

    async fn handshake(
        &self,
        hop: &Hop,
        through: Option<&Link>,
        target: &Target,
    ) -> Result<(Handle<Client>, Ending), Failed> {
        let known = self.shared.known.files(&hop.known_hosts)?;
        let name = HostName::new(&hop.host, hop.port, hop.host_key_alias.as_deref());
        let config = Arc::new(config(&known, &name));
        let ending = Ending::default();
        let client = Client {
            known,
            name,
            policy: hop.host_key_policy,
            learn: hop.learn.clone(),
            searched: hop.known_hosts.clone(),
            cache: Arc::clone(&self.shared.known),
            ending: ending.clone(),
        };
        let limit = target.connect_timeout;
        let shake = async {
            match (through, &target.proxy_command) {
                (Some(link), _) => {
                    let stream = link.tunnel(&hop.host, hop.port).await.map_err(through_jump)?;
                    shake(config, stream, client).await
                }
                (None, Some(command)) => shake(config, Proxy::spawn(command)?, client).await,
                (None, None) => shake(config, Tcp::dial(&hop.host, hop.port).await?, client).await,
            }
        };
        let handle = tokio::time::timeout(limit, shake)
            .await
            .unwrap_or(Err(Failed::Final(Problem::Timeout { after: limit })))?;
        Ok((handle, ending))
    }
}

fn closed(place: &str) -> RemoteError {
    RemoteError::new(place, Problem::Config { why: "shutting down".into() })
}

/// Why one try of a handshake failed.
enum Failed {
    /// Dropped by the other side before the key exchange was over: worth another try.
    Reset(String),
    Final(Problem),
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self::Final(problem)
    }
}

/// A tunnel that does not open is a node that cannot be reached.
fn through_jump(problem: Problem) -> Problem {
    match problem {
        Problem::TunnelRefused { host, port } => Problem::Refused { host, port },
        Problem::Forwarding { host, .. } => {
            let why = "the jump host forbids forwarding (`AllowTcpForwarding` in its sshd_config)".into();
            Problem::Unreachable { host, why }
        }
        other => other,
    }
}

async fn shake<S>(config: Arc<client::Config>, stream: S, client: Client) -> Result<Handle<Client>, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    client::connect_stream(config, stream, client).await.map_err(|stop| match stop {
        Stop::HostKey(problem) => Failed::Final(*problem),
        Stop::Ssh(russh::Error::HUP | russh::Error::Disconnect) => Failed::Reset("closed by the node".into()),
        Stop::Ssh(russh::Error::IO(error))
            if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof) =>
        {
            Failed::Reset(bare(&error))
        }
        Stop::Ssh(russh::Error::IO(error)) => Failed::Final(Problem::Handshake { why: bare(&error) }),
        Stop::Ssh(russh::Error::Version) => {
            Failed::Final(Problem::Handshake { why: "what answers on that port does not speak SSH".into() })
        }
        Stop::Ssh(russh::Error::NoCommonAlgo { kind, theirs, .. }) => Failed::Final(Problem::Handshake {
            why: format!(
                "no {} algorithm in common; the node offers {}",
                format!("{kind:?}").to_lowercase(),
                theirs.join(", ")
            ),
        }),
        Stop::Ssh(other) => Failed::Final(Problem::Handshake { why: other.to_string().to_lowercase() }),
    })
}

fn config(known: &KnownHosts, name: &HostName) -> client::Config {
    let (key, certificates) = known.algorithms(name);
    let mut preferred = russh::Preferred::DEFAULT;
    // AES first: the CPUs of servers do it in hardware (measured in crates.md, 1.3).
    preferred.cipher = Cow::Borrowed(&[
        cipher::AES_256_GCM,
        cipher::AES_128_GCM,
        cipher::CHACHA20_POLY1305,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ]);
    if certificates {
        preferred.host_key_certificates = Cow::Owned(key.clone());
    }
    preferred.key = Cow::Owned(key);
    client::Config {
        client_id: SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-pgctl_", env!("CARGO_PKG_VERSION")))),
        preferred,
        keepalive_interval: Some(Duration::from_secs(15)),
        keepalive_max: 3,
        nodelay: true,
        ..client::Config::default()
    }
}

/// One live SSH connection.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) handle: Arc<Handle<Client>>,
    pub(super) ending: Ending,
}
