//! An open login on a node: channels for scripts, tunnels for HTTP. Everything on one connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::client::Msg;
use russh::{Channel, ChannelOpenFailure, ChannelStream, Disconnect};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connect::Link;
use super::error::{Problem, RemoteError};
use super::target::{Become, Target};

/// Channels at once on one connection. sshd's `MaxSessions` is 10, but it frees a place late: refusals were seen from 6
/// on (crates.md, 1.5).
const CHANNELS: usize = 4;
/// How long refusals are put down to our own channels: with a small `MaxSessions` one of them has to end first.
const OPENING: Duration = Duration::from_secs(15);

/// A login on a node. Cheap to clone; the connection ends with the last clone, or with [`Session::close`].
#[derive(Clone)]
pub struct Session {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    link: Link,
    /// Connections to jump hosts, which carry this one.
    _through: Vec<Link>,
    channels: Arc<Semaphore>,
    pub(super) place: String,
    pub(super) user: String,
    pub(super) r#become: Become,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("place", &self.inner.place).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(link: Link, through: Vec<Link>, target: &Target) -> Self {
        Self {
            inner: Arc::new(Inner {
                link,
                _through: through,
                channels: Arc::new(Semaphore::new(CHANNELS)),
                place: target.place(),
                user: target.user.clone(),
                r#become: target.r#become.clone(),
            }),
        }
    }

    /// `user@host:port`.
    pub fn place(&self) -> &str {
        &self.inner.place
    }

    /// The connection is gone.
    pub fn is_closed(&self) -> bool {
        self.inner.link.handle.is_closed()
    }

    /// Says goodbye. What still runs on the connection gets [`Problem::ConnectionLost`].
    pub async fn close(&self) {
        // An error means that it is closed already.
        let _ = self.inner.link.handle.disconnect(Disconnect::ByApplication, "", "").await;
    }

    pub(super) fn error(&self, problem: Problem) -> RemoteError {
        RemoteError::new(&self.inner.place, problem)
    }

    pub(super) fn lost(&self) -> Problem {
        Problem::ConnectionLost { why: self.inner.link.ending.words() }
    }

    /// A channel for a command; it keeps its place among the [`CHANNELS`] until the permit is dropped.
    pub(super) async fn channel(&self) -> Result<(Channel<Msg>, OwnedSemaphorePermit), Problem> {
        let permit = Arc::clone(&self.inner.channels).acquire_owned().await.map_err(|_| self.lost())?;
        let start = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            match self.inner.link.handle.channel_open_session().await {
                Ok(channel) => return Ok((channel, permit)),
                // "Connect failed" is how sshd says that `MaxSessions` is reached; places come free late.
                Err(russh::Error::ChannelOpenFailure(
                    ChannelOpenFailure::ConnectFailed | ChannelOpenFailure::ResourceShortage,
                )) if start.elapsed() < OPENING => {
                    tokio::time::sleep(pause).await;
                    // Steady from here on: who waits longer must not lose to who comes later.
                    pause = (pause * 2).min(Duration::from_millis(160));
                }
                Err(russh::Error::ChannelOpenFailure(why)) => {
                    return Err(Problem::Channel { why: why.description().to_lowercase() });
                }
                Err(_) => return Err(self.lost()),
            }
        }
    }

    pub(super) async fn tunnel(&self, host: &str, port: u16) -> Result<ChannelStream<Msg>, Problem> {
        self.inner.link.tunnel(host, port).await
    }
}

impl Link {
    /// A TCP connection that the node at the other end opens to `host:port` (RFC 4254, 7.2).
    pub(super) async fn tunnel(&self, host: &str, port: u16) -> Result<ChannelStream<Msg>, Problem> {
        let opened = self.handle.channel_open_direct_tcpip(host, u32::from(port), "127.0.0.1", 0).await;
        match opened {
            Ok(channel) => Ok(channel.into_stream()),
            Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed)) => {
                Err(Problem::TunnelRefused { host: host.to_owned(), port })
            }
            Err(russh::Error::ChannelOpenFailure(
                ChannelOpenFailure::AdministrativelyProhibited | ChannelOpenFailure::UnknownChannelType,
            )) => Err(Problem::Forwarding { host: host.to_owned(), port }),
            Err(russh::Error::ChannelOpenFailure(why)) => {
                Err(Problem::Channel { why: why.description().to_lowercase() })
            }
            Err(_) => Err(Problem::ConnectionLost { why: self.ending.words() }),
        }
    }
}
