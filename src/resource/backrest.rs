//! `pgbackrest_stanza` and `pgbackrest_backup`: a repository that can take WAL, and a first backup.

use serde::Deserialize;

use super::{Change, Diff, Kind, Query, Seen, Verdict};
use crate::live::backup::{Backups, parse};
use crate::text::quote::shell;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stanza {
    #[serde(deserialize_with = "super::name")]
    pub stanza: String,
    #[serde(deserialize_with = "super::name")]
    pub user: String,
    /// With the running primary, checked with a WAL segment that goes all the way; else from the
    /// data directory alone, as on a replica with a repository of its own.
    #[serde(default = "super::yes")]
    pub online: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    #[serde(deserialize_with = "super::name")]
    pub stanza: String,
    #[serde(deserialize_with = "super::name")]
    pub user: String,
    #[serde(rename = "type", default = "full")]
    pub kind: Type,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    Full,
}

fn full() -> Type {
    Type::Full
}

fn key(stanza: &str) -> String {
    format!("pgbackrest {stanza}")
}

fn pgbackrest(user: &str, stanza: &str, words: &str) -> String {
    format!("runuser -u {} -- pgbackrest --stanza={} {words}", shell(user), shell(stanza))
}

fn info(user: &str, stanza: &str) -> Query {
    Query::Script {
        key: key(stanza),
        script: pgbackrest(user, stanza, "--output=json --log-level-console=off info"),
    }
}

fn backups(seen: &Seen<'_>, stanza: &str) -> Result<Backups, String> {
    match seen.observed.scripts.get(&key(stanza)) {
        Some((0, output)) => {
            parse(output, stanza).ok_or_else(|| format!("pgbackrest info cannot be read: {}", output.trim()))
        }
        Some((_, output)) => Err(output.lines().last().unwrap_or("pgbackrest info failed").to_owned()),
        None => Err("it was not asked".to_owned()),
    }
}

impl Kind for Stanza {
    fn id(&self) -> String {
        format!("pgbackrest_stanza {}", self.stanza)
    }

    fn queries(&self) -> Vec<Query> {
        vec![info(&self.user, &self.stanza)]
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        let create = if self.online {
            format!(
                "{} && {}",
                pgbackrest(&self.user, &self.stanza, "--log-level-console=warn stanza-create"),
                pgbackrest(&self.user, &self.stanza, "--log-level-console=warn check")
            )
        } else {
            pgbackrest(&self.user, &self.stanza, "--log-level-console=warn --no-online stanza-create")
        };
        let change = Change::new(Verdict::Create, "missing", create);
        match backups(seen, &self.stanza) {
            Ok(b) if b.has_stanza() => Diff::Same,
            Ok(_) => Diff::Change(change),
            Err(cause) => Diff::Unknown { cause, predicted: change },
        }
    }
}

impl Kind for Backup {
    fn id(&self) -> String {
        format!("pgbackrest_backup {}", self.stanza)
    }

    fn queries(&self) -> Vec<Query> {
        vec![info(&self.user, &self.stanza)]
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        let Type::Full = self.kind;
        let action = pgbackrest(&self.user, &self.stanza, "--log-level-console=warn --type=full backup");
        let change = Change::new(Verdict::Run, "no full backup yet", action);
        match backups(seen, &self.stanza) {
            Ok(b) if b.fulls() > 0 => Diff::Same,
            Ok(_) => Diff::Change(change),
            Err(cause) => Diff::Unknown { cause, predicted: change },
        }
    }
}
