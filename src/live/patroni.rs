//! Patroni's REST documents `GET /patroni` and `GET /cluster` (Patroni manual, "Patroni REST API").

use serde::Serialize;
use serde_json::Value;

/// `GET /patroni`: what one Patroni says of its own instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Patroni {
    /// `running`, `starting`, `stopped`, `creating replica`, `start failed` …
    pub state: String,
    /// `primary` (`master` before Patroni 4), `replica`, `standby_leader`.
    pub role: String,
    pub timeline: Option<u64>,
    /// `PostgreSQL` version number, such as 150018.
    pub server_version: Option<u64>,
    pub pending_restart: bool,
    pub paused: bool,
    /// Patroni's own version.
    pub version: String,
}

impl Patroni {
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }

    pub fn is_leader(&self) -> bool {
        matches!(self.role.as_str(), "primary" | "master" | "standby_leader")
    }
}

/// One member in `GET /cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    pub name: String,
    /// `leader`, `replica`, `sync_standby`, `standby_leader`, `quorum_standby`.
    pub role: String,
    /// `running` (leader), `streaming`, `in archive recovery`, `creating replica` …
    pub state: String,
    pub host: String,
    pub timeline: Option<u64>,
    /// Replay lag in bytes behind the leader; `None` when Patroni does not know.
    pub lag_bytes: Option<u64>,
    pub pending_restart: bool,
}

impl Member {
    pub fn is_leader(&self) -> bool {
        matches!(self.role.as_str(), "leader" | "standby_leader")
    }

    /// Patroni before 4 says `running` for a streaming replica too.
    pub fn is_running(&self) -> bool {
        matches!(self.state.as_str(), "running" | "streaming" | "in archive recovery")
    }
}

/// Reads `GET /patroni`. `None` when the body is not such a document.
pub fn parse_patroni(body: &[u8]) -> Option<Patroni> {
    let d: Value = serde_json::from_slice(body).ok()?;
    let word = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    Some(Patroni {
        state: d.get("state")?.as_str()?.to_owned(),
        role: d.get("role").map(word).unwrap_or_default(),
        timeline: d.get("timeline").and_then(Value::as_u64),
        server_version: d.get("server_version").and_then(Value::as_u64),
        pending_restart: d.get("pending_restart").and_then(Value::as_bool).unwrap_or(false),
        paused: d.get("pause").and_then(Value::as_bool).unwrap_or(false),
        version: d.pointer("/patroni/version").map(word).unwrap_or_default(),
    })
}

/// Reads `GET /cluster`. Empty when the body is not such a document.
pub fn parse_cluster(body: &[u8]) -> Vec<Member> {
    let Ok(d) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let members = d.get("members").and_then(Value::as_array).cloned().unwrap_or_default();
    let word = |m: &Value, key: &str| m.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    members
        .iter()
        .map(|m| Member {
            name: word(m, "name"),
            role: word(m, "role"),
            state: word(m, "state"),
            host: word(m, "host"),
            timeline: m.get("timeline").and_then(Value::as_u64),
            lag_bytes: m.get("lag").and_then(Value::as_u64),
            pending_restart: m.get("pending_restart").and_then(Value::as_bool).unwrap_or(false),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patroni_3_and_4_are_read() {
        let old = br#"{"state":"running","role":"master","server_version":150018,"timeline":1,
            "patroni":{"version":"3.0.2","scope":"pg-test"},"dcs_last_seen":1}"#;
        let p = parse_patroni(old).unwrap();
        assert!(p.is_running() && p.is_leader());
        assert_eq!((p.server_version, p.version.as_str()), (Some(150_018), "3.0.2"));
        let new =
            br#"{"state":"running","role":"replica","pending_restart":true,"patroni":{"version":"4.0.6"}}"#;
        let p = parse_patroni(new).unwrap();
        assert!(!p.is_leader() && p.pending_restart);
        assert_eq!(parse_patroni(b"{}"), None);
    }

    #[test]
    fn members_of_a_cluster_are_read() {
        let body = br#"{"members":[
            {"name":"pg-test-1","role":"leader","state":"running","host":"10.10.10.11","port":5432,"timeline":1},
            {"name":"pg-test-2","role":"replica","state":"streaming","host":"10.10.10.12","timeline":1,"lag":0},
            {"name":"pg-test-3","role":"replica","state":"creating replica","host":"10.10.10.13","lag":"unknown"}],
            "scope":"pg-test"}"#;
        let members = parse_cluster(body);
        assert!(members[0].is_leader() && members[0].is_running());
        assert_eq!(members[1].lag_bytes, Some(0));
        assert!(!members[2].is_running() && members[2].lag_bytes.is_none());
        assert_eq!(parse_cluster(b"not found"), vec![]);
    }
}
