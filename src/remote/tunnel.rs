//! TCP through a node: its own HTTP APIs, and whether a port answers.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;

use super::error::{Problem, RemoteError};
use super::session::Session;

/// Most bytes of an answer; Patroni's and etcd's documents are far smaller.
const MOST: usize = 32 * 1024 * 1024;

/// A request to an HTTP server that the node can reach.
#[derive(Clone, Debug)]
pub struct Http<'a> {
    /// `GET`, `PATCH` …
    pub method: &'a str,
    /// As seen from the node: `127.0.0.1`, or the address the service listens on.
    pub host: &'a str,
    pub port: u16,
    /// With its query.
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Option<Vec<u8>>,
    /// For all of it, from opening the tunnel to the last byte.
    pub timeout: Duration,
}

/// An HTTP answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReply {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Session {
    /// One HTTP/1.1 exchange through a tunnel of its own: no `curl` on the node, works through jump hosts.
    ///
    /// # Errors
    /// [`Problem::TunnelRefused`] when nothing listens there, [`Problem::Forwarding`] when sshd forbids tunnels,
    /// [`Problem::Http`] when what listens gives no answer, [`Problem::Deadline`].
    pub async fn http(&self, http: Http<'_>) -> Result<HttpReply, RemoteError> {
        let after = http.timeout;
        tokio::time::timeout(after, self.exchange(http))
            .await
            .unwrap_or(Err(Problem::Deadline { after }))
            .map_err(|problem| self.error(problem))
    }

    async fn exchange(&self, http: Http<'_>) -> Result<HttpReply, Problem> {
        let Http { method, host, port, path, headers, body, .. } = http;
        let failed = |why: String| Problem::Http { host: host.to_owned(), port, why };
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let body = body.unwrap_or_default();
        let length = body.len();
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|e| failed(e.to_string()))?;
        *request.uri_mut() = path.parse().map_err(|e| failed(format!("`{path}` is not a path: {e}")))?;
        let head = request.headers_mut();
        head.insert(HOST, HeaderValue::from_str(&authority).map_err(|e| failed(e.to_string()))?);
        if length > 0 {
            head.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| failed(e.to_string()))?;
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| failed(format!("the value of header `{name}` cannot be sent")))?;
            // Authorization and the like stay out of hyper's own Debug output.
            value.set_sensitive(true);
            head.insert(name, value);
        }

        let stream = self.tunnel(host, port).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(words(&error)))?;
        let exchange = async {
            let reply = sender.send_request(request).await.map_err(|error| failed(words(&error)))?;
            let status = reply.status().as_u16();
            let body = Limited::new(reply.into_body(), MOST)
                .collect()
                .await
                .map_err(|error| failed(error.to_string()))?;
            Ok(HttpReply { status, body: body.to_bytes().to_vec() })
        };
        // The connection only moves while it is polled, and ends with this future: nothing is left running.
        tokio::pin!(exchange);
        tokio::pin!(connection);
        tokio::select! {
            reply = &mut exchange => reply,
            ended = &mut connection => match ended {
                // What was read before the end may be the whole answer.
                Ok(()) => exchange.await,
                Err(error) => {
                    let reply = exchange.await;
                    reply.map_err(|_| if self.is_closed() { self.lost() } else { failed(words(&error)) })
                }
            }
        }
    }

    /// Whether something accepts TCP connections at `host:port` as seen from the node.
    ///
    /// # Errors
    /// As for [`Session::http`].
    pub async fn probe_port(&self, host: &str, port: u16, timeout: Duration) -> Result<(), RemoteError> {
        tokio::time::timeout(timeout, self.tunnel(host, port))
            .await
            .unwrap_or(Err(Problem::Deadline { after: timeout }))
            .map(drop)
            .map_err(|problem| self.error(problem))
    }
}

/// hyper's words with their cause, which holds the news.
fn words(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
