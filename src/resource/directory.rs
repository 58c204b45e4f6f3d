//! `directory`: a directory with this owner and mode. Missing parents are made, owned by root.

use serde::Deserialize;

use super::file::owner_and_mode;
use super::{Change, Diff, Kind, PathKind, Query, Seen, Verdict};
use crate::text::quote::shell;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    #[serde(deserialize_with = "super::path")]
    pub path: String,
    #[serde(default = "super::root", deserialize_with = "super::name")]
    pub owner: String,
    #[serde(default = "super::root", deserialize_with = "super::name")]
    pub group: String,
    #[serde(default = "usual_mode", deserialize_with = "super::mode")]
    pub mode: u32,
}

fn usual_mode() -> u32 {
    0o755
}

impl Kind for Directory {
    fn id(&self) -> String {
        format!("directory {}", self.path)
    }

    fn queries(&self) -> Vec<Query> {
        vec![Query::Path { path: self.path.clone(), want: None, show: false }]
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        match seen.observed.paths.get(&self.path) {
            None => Diff::Change(Change::new(
                Verdict::Create,
                "missing",
                format!(
                    "umask 022; mkdir -p -- {0} && chown {1}:{2} -- {0} && chmod {3:04o} -- {0}",
                    shell(&self.path),
                    shell(&self.owner),
                    shell(&self.group),
                    self.mode
                ),
            )),
            Some(state) if state.kind == PathKind::Directory => {
                owner_and_mode(&self.path, state, &self.owner, &self.group, self.mode)
            }
            Some(_) => Diff::Failed(format!("`{}` is there and is not a directory", self.path)),
        }
    }
}
