//! What runs now: who leads, who streams, whether etcd has quorum. Parsing is pure; the engine
//! fetches the documents.

pub mod backup;
mod patroni;

pub use patroni::{Member, Patroni, parse_cluster, parse_patroni};

use serde::Serialize;

/// What one node says about itself and its cluster right now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Live {
    /// Patroni's own state on this node, when its REST API answers.
    pub patroni: Option<Patroni>,
    /// The members of the node's cluster as this Patroni sees them.
    pub members: Vec<Member>,
    /// Whether an etcd endpoint that this node can reach has quorum; `None` when the node has no
    /// business with etcd or nothing answers.
    pub etcd_healthy: Option<bool>,
}

impl Live {
    /// The name of the member that leads, as this node's Patroni sees it, in whatever state: one that is starting
    /// holds the lock too.
    pub fn leader(&self) -> Option<&str> {
        self.members.iter().find(|m| m.is_leader()).map(|m| m.name.as_str())
    }
}

/// Reads etcd's `/health`: `{"health":"true"}` (3.4) or `{"health":"true","reason":""}` (3.5).
pub fn parse_etcd_health(body: &[u8]) -> Option<bool> {
    let document: serde_json::Value = serde_json::from_slice(body).ok()?;
    match document.get("health")? {
        serde_json::Value::String(word) => Some(word == "true"),
        serde_json::Value::Bool(healthy) => Some(*healthy),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_health_is_read_from_both_dialects() {
        assert_eq!(parse_etcd_health(br#"{"health":"true"}"#), Some(true));
        assert_eq!(parse_etcd_health(br#"{"health":"false","reason":"RAFT NO LEADER"}"#), Some(false));
        assert_eq!(parse_etcd_health(b"<html>"), None);
    }
}
