//! `command`: a guarded command. Words, never a shell line; `unless` or `creates` is a must.

use serde::Deserialize;

use super::{Change, Diff, Kind, Query, Seen, Verdict};
use crate::text::quote::shell;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// What a plan calls it.
    pub name: String,
    pub run: Vec<String>,
    /// A command that succeeds when nothing needs to be done.
    #[serde(default)]
    pub unless: Option<Vec<String>>,
    /// A path whose existence says that nothing needs to be done.
    #[serde(default, deserialize_with = "super::optional_path")]
    pub creates: Option<String>,
    /// Who runs it, and the guard.
    #[serde(default = "super::root", deserialize_with = "super::name")]
    pub user: String,
}

impl Command {
    fn line(&self, words: &[String]) -> String {
        let line = words.iter().map(|w| shell(w)).collect::<Vec<_>>().join(" ");
        if self.user == "root" { line } else { format!("runuser -u {} -- {line}", shell(&self.user)) }
    }
}

impl Kind for Command {
    fn id(&self) -> String {
        format!("command {}", self.name)
    }

    fn queries(&self) -> Vec<Query> {
        let mut queries = Vec::new();
        if let Some(guard) = &self.unless {
            queries.push(Query::Script { key: self.id(), script: self.line(guard) });
        }
        if let Some(path) = &self.creates {
            queries.push(Query::Path { path: path.clone(), want: None, show: false });
        }
        queries
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        let done = self.creates.as_ref().is_some_and(|p| seen.observed.paths.contains_key(p))
            || seen.observed.scripts.get(&self.id()).is_some_and(|(code, _)| *code == 0);
        if done {
            return Diff::Same;
        }
        let reason = match (&self.creates, &self.unless) {
            (Some(path), _) => format!("{path} is missing"),
            (None, Some(guard)) => format!("`{}` says no", guard.join(" ")),
            (None, None) => return Diff::Failed("a command needs `unless` or `creates`".to_owned()),
        };
        Diff::Change(Change::new(Verdict::Run, reason, self.line(&self.run)))
    }
}
