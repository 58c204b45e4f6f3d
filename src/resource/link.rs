//! `link`: a symbolic link. A file or directory in its place is never removed.

use serde::Deserialize;

use super::{Change, Diff, Kind, PathKind, Query, Seen, Verdict};
use crate::text::quote::shell;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    #[serde(deserialize_with = "super::path")]
    pub path: String,
    #[serde(deserialize_with = "super::path")]
    pub target: String,
}

impl Kind for Link {
    fn id(&self) -> String {
        format!("link {}", self.path)
    }

    fn queries(&self) -> Vec<Query> {
        vec![Query::Path { path: self.path.clone(), want: None, show: false }]
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        let temporary = shell(&format!("{}.pgctl-new", self.path));
        let action = format!(
            "ln -sfn -- {} {temporary} && mv -fT -- {temporary} {}",
            shell(&self.target),
            shell(&self.path)
        );
        match seen.observed.paths.get(&self.path) {
            None => Diff::Change(Change::new(Verdict::Create, "missing", action)),
            Some(state) if state.kind != PathKind::Link => {
                Diff::Failed(format!("`{}` is there and is not a link", self.path))
            }
            Some(state) if state.target.as_deref() == Some(self.target.as_str()) => Diff::Same,
            Some(state) => {
                let old = state.target.as_deref().unwrap_or("?");
                Diff::Change(Change::new(Verdict::Update, format!("points to {old}"), action))
            }
        }
    }
}
