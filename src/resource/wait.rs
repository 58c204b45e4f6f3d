//! `wait`: not a change, but something that must hold before the next resource.
//!
//! Whether it holds already is read from what was gathered; if not, the engine polls through the
//! node's own connection.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Diff, Kind, Query, Seen};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PatroniState {
    /// `PostgreSQL` under this Patroni runs, in whatever role.
    Running,
    /// This instance leads.
    Leader,
    /// This instance runs and follows a leader (or leads).
    Streaming,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    Patroni {
        want: PatroniState,
    },
    /// An etcd endpoint answers that it has quorum.
    Etcd,
    /// Something listens on this TCP port of the node.
    Port {
        port: u16,
    },
}

/// What to wait for, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wait {
    pub condition: Condition,
    #[serde(rename = "timeout_seconds", serialize_with = "seconds")]
    pub timeout: Duration,
    /// The unit whose journal explains a wait that runs out.
    pub unit: Option<String>,
}

fn seconds<S: serde::Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(d.as_secs())
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.condition {
            Condition::Patroni { want: PatroniState::Running } => f.write_str("PostgreSQL runs"),
            Condition::Patroni { want: PatroniState::Leader } => f.write_str("PostgreSQL leads"),
            Condition::Patroni { want: PatroniState::Streaming } => f.write_str("PostgreSQL streams"),
            Condition::Etcd => f.write_str("etcd has quorum"),
            Condition::Port { port } => write!(f, "port {port} listens"),
        }
    }
}

/// The resource as a playbook writes it: `wait: { patroni: running, timeout: 120s }`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitFor {
    #[serde(default)]
    patroni: Option<PatroniState>,
    #[serde(default)]
    etcd: Option<EtcdState>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default = "two_minutes", deserialize_with = "duration")]
    timeout: Duration,
    #[serde(default)]
    unit: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EtcdState {
    Healthy,
}

fn two_minutes() -> Duration {
    Duration::from_secs(120)
}

/// `500ms`, `30s`, `5m`, `24h`, or a number of seconds.
pub(super) fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let parsed = match &value {
        serde_json::Value::Number(n) => n.as_u64().map(Duration::from_secs),
        serde_json::Value::String(s) => {
            let digits = s.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            digits.parse::<u64>().ok().and_then(|n| match &s[digits.len()..] {
                "ms" => Some(Duration::from_millis(n)),
                "s" | "" => Some(Duration::from_secs(n)),
                "m" | "min" => Some(Duration::from_secs(n * 60)),
                "h" => Some(Duration::from_secs(n * 3600)),
                _ => None,
            })
        }
        _ => None,
    };
    parsed.ok_or_else(|| serde::de::Error::custom(format!("{value} is not a time such as \"120s\"")))
}

impl WaitFor {
    fn wait(&self) -> Option<Wait> {
        let (condition, unit) = match (self.patroni, self.etcd, self.port) {
            (Some(want), None, None) => (Condition::Patroni { want }, Some("patroni")),
            (None, Some(EtcdState::Healthy), None) => (Condition::Etcd, Some("etcd")),
            (None, None, Some(port)) => (Condition::Port { port }, None),
            _ => return None,
        };
        let unit = self.unit.clone().or_else(|| unit.map(str::to_owned));
        Some(Wait { condition, timeout: self.timeout, unit })
    }
}

impl Kind for WaitFor {
    fn id(&self) -> String {
        self.wait().map_or_else(|| "wait".to_owned(), |w| format!("wait {w}"))
    }

    fn queries(&self) -> Vec<Query> {
        Vec::new()
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        let Some(wait) = self.wait() else {
            return Diff::Failed("a wait needs exactly one of `patroni`, `etcd`, `port`".to_owned());
        };
        let holds = match &wait.condition {
            // What was healthy before a restart says nothing of after it.
            Condition::Etcd => seen.live.etcd_healthy == Some(true) && !seen.pending.started.contains("etcd"),
            Condition::Patroni { want } => patroni_is(*want, seen),
            // A port is only worth a look after its service was started in this run.
            Condition::Port { .. } => seen.pending.started.is_empty(),
        };
        if holds { Diff::Same } else { Diff::Wait(wait) }
    }
}

fn patroni_is(want: PatroniState, seen: &Seen<'_>) -> bool {
    let Some(p) = &seen.live.patroni else { return false };
    match want {
        PatroniState::Running => p.is_running(),
        PatroniState::Leader => p.is_running() && p.is_leader(),
        PatroniState::Streaming => p.is_running() && (p.is_leader() || seen.leader.is_some()),
    }
}
