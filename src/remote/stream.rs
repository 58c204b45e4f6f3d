//! The byte stream under a connection: TCP, or the stdin and stdout of a proxy command.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;

use super::error::Problem;

/// A TCP stream that acknowledges at once.
///
/// sshd leaves Nagle's algorithm on until a session starts, so a delayed acknowledgement of ours costs 40 ms a login
/// (measured in engines.md, B). The kernel drops `TCP_QUICKACK` again by itself; it is set after every read.
pub(super) struct Tcp(TcpStream);

impl Tcp {
    /// Dials a name or address. Several addresses are tried 250 ms apart, all at once in the end (after RFC 8305, 5),
    /// so that a family without a route costs little. No time limit of its own.
    pub(super) async fn dial(host: &str, port: u16) -> Result<Self, Problem> {
        let mut addresses: Vec<_> = tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| Problem::Resolve { host: host.to_owned(), why: bare(&error) })?
            .collect();
        addresses.dedup();
        if addresses.is_empty() {
            return Err(Problem::Resolve { host: host.to_owned(), why: "it has no address".into() });
        }
        let mut tries = JoinSet::new();
        for (index, address) in addresses.into_iter().enumerate() {
            tries.spawn(async move {
                let wait = u32::try_from(index).unwrap_or(u32::MAX);
                tokio::time::sleep(Duration::from_millis(250).saturating_mul(wait)).await;
                TcpStream::connect(address).await
            });
        }
        let mut worst: Option<io::Error> = None;
        while let Some(tried) = tries.join_next().await {
            match tried.map_err(io::Error::other).flatten() {
                Ok(stream) => {
                    // Failing to set an option on a connected socket loses speed, nothing else.
                    let _ = stream.set_nodelay(true);
                    let stream = Self(stream);
                    stream.acknowledge_at_once();
                    return Ok(stream);
                }
                // "Refused" says more than "no route": the host is there.
                Err(error) if worst.is_none() || error.kind() == io::ErrorKind::ConnectionRefused => {
                    worst = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(match worst {
            Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Problem::Refused { host: host.to_owned(), port }
            }
            // The kernel gave up before our own limit.
            Some(error) if error.kind() == io::ErrorKind::TimedOut => {
                Problem::Unreachable { host: host.to_owned(), why: "the packets got no answer".into() }
            }
            Some(error) => Problem::Unreachable { host: host.to_owned(), why: bare(&error) },
            None => Problem::Unreachable { host: host.to_owned(), why: "no address was tried".into() },
        })
    }

    fn acknowledge_at_once(&self) {
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.0, true);
    }
}

/// The words of an I/O error without `(os error 113)`.
pub(super) fn bare(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.strip_prefix("failed to lookup address information: ").unwrap_or(text).to_lowercase()
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.0).poll_read(cx, buf);
        if polled.is_ready() {
            self.acknowledge_at_once();
        }
        polled
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A proxy command; it is killed when the stream is dropped.
pub(super) struct Proxy {
    stdin: ChildStdin,
    stdout: ChildStdout,
    _child: Child,
}

impl Proxy {
    /// Starts `command` with the user's shell words, as ssh does: `exec` in front, so that the kill reaches it.
    pub(super) fn spawn(command: &str) -> Result<Self, Problem> {
        let failed =
            |why: String| Problem::Config { why: format!("cannot run the proxy command `{command}`: {why}") };
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("exec {command}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What it says belongs to nobody's frame; the error of the handshake follows.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(bare(&error)))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("it has no pipes".into()));
        };
        Ok(Self { stdin, stdout, _child: child })
    }
}

impl AsyncRead for Proxy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(cx, buf)
    }
}

impl AsyncWrite for Proxy {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stdin).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_shutdown(cx)
    }
}
