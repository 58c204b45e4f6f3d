//! Trip 1: what the nodes are and what runs on them; for a deploy, the lock in the same trip.

use std::time::Duration;

use crate::engine::lock::{self, LockError};
use crate::engine::script::{self, ScriptError};
use crate::facts::{self, Facts, FactsError};
use crate::live::{Live, parse_cluster, parse_etcd_health, parse_patroni};
use crate::remote::{Held, Http, RemoteError, Session};
use crate::text::quote::shell;
use crate::topology::Topology;

/// One node that answered.
#[derive(Debug)]
pub struct Gathered {
    /// Index in the topology.
    pub node: usize,
    pub session: Session,
    pub facts: Facts,
    pub live: Live,
    /// How far the node's clock is ahead of ours, seconds, give or take the time of a look.
    pub skew_seconds: i64,
    /// The lock, while this lives.
    pub lock: Option<Held>,
}

#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Script(#[from] ScriptError),
    #[error(transparent)]
    Facts(#[from] FactsError),
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Facts and live state of one node over an open session. `holder` asks for the node's lock.
pub async fn gather(
    topology: &Topology,
    node: usize,
    session: Session,
    mark: &str,
    holder: Option<&lock::Holder>,
    waiting: impl FnMut() + Send,
) -> Result<Gathered, GatherError> {
    let data = topology.nodes[node].str_var("pg_data").unwrap_or("/").to_owned();
    let etcd = topology.nodes[node].str_var("etcd_data").unwrap_or("/").to_owned();
    let facts_body = format!("begin facts\n{}\nend facts $?", facts::script(&shell(&data), &shell(&etcd)));
    let script = async {
        match holder {
            None => {
                let records = script::look(&session, mark, &facts_body).await?;
                Ok::<_, GatherError>((records, None))
            }
            Some(holder) => {
                let (records, held) = lock::take(&session, mark, &facts_body, holder, waiting).await?;
                Ok((records, Some(held)))
            }
        }
    };
    let timed = async { (script.await, jiff::Timestamp::now().as_second()) };
    let ((script, now), live) = tokio::join!(timed, live(topology, node, &session));
    let (records, lock) = script?;
    let output = records.iter().find(|r| r.id == "facts").map(|r| r.output.as_str()).unwrap_or_default();
    let facts = Facts::parse(output)?;
    let skew_seconds = facts.clock_seconds - now;
    Ok(Gathered { node, session, facts, live, skew_seconds, lock })
}

const ANSWER: Duration = Duration::from_secs(5);

/// What runs on a node, asked through its own connection. Silence is an answer: nothing runs.
pub async fn live(topology: &Topology, index: usize, session: &Session) -> Live {
    let node = &topology.nodes[index];
    let patroni = async {
        if node.instance.is_none() {
            return (None, Vec::new());
        }
        let port = node.u64_var("patroni_port").and_then(|p| u16::try_from(p).ok()).unwrap_or(8008);
        let (own, cluster) = tokio::join!(
            get(session, &node.address, port, "/patroni"),
            get(session, &node.address, port, "/cluster")
        );
        (own.and_then(|b| parse_patroni(&b)), cluster.map(|b| parse_cluster(&b)).unwrap_or_default())
    };
    let etcd = async {
        let etcd = topology.etcd.as_ref()?;
        if node.etcd_member.is_none() && node.instance.is_none() {
            return None;
        }
        etcd_health(topology, index, session).await.or_else(|| etcd.members.is_empty().then_some(false))
    };
    let ((patroni, members), etcd_healthy) = tokio::join!(patroni, etcd);
    Live { patroni, members, etcd_healthy }
}

/// Whether etcd has quorum, as seen from this node: its own member's word when it is one, else
/// that of the first member that answers.
pub async fn etcd_health(topology: &Topology, index: usize, session: &Session) -> Option<bool> {
    let etcd = topology.etcd.as_ref()?;
    let own = etcd.members.iter().filter(|m| m.node == index);
    let others = etcd.members.iter().filter(|_| topology.nodes[index].etcd_member.is_none());
    let mut seen = None;
    for member in own.chain(others) {
        if let Some(body) = get(session, &member.address, etcd.port, "/health").await {
            let healthy = parse_etcd_health(&body);
            if healthy == Some(true) {
                return healthy;
            }
            seen = healthy.or(seen);
        }
    }
    seen
}

async fn get(session: &Session, host: &str, port: u16, path: &str) -> Option<Vec<u8>> {
    let request = Http { method: "GET", host, port, path, headers: &[], body: None, timeout: ANSWER };
    match session.http(request).await {
        Ok(reply) => Some(reply.body),
        Err(error) => {
            tracing::debug!(%error, host, port, path, "no answer");
            None
        }
    }
}
