//! `user` and `group`: accounts of the operating system. Memberships are added, never removed.

use serde::Deserialize;

use super::{Change, Diff, Kind, Query, Seen, Verdict};
use crate::text::quote::shell;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    #[serde(deserialize_with = "super::name")]
    pub name: String,
    #[serde(default)]
    pub gid: Option<u32>,
    #[serde(default = "super::yes")]
    pub system: bool,
}

impl Kind for Group {
    fn id(&self) -> String {
        format!("group {}", self.name)
    }

    fn queries(&self) -> Vec<Query> {
        vec![Query::Group(self.name.clone())]
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        match (seen.observed.groups.get(&self.name), self.gid) {
            (Some(have), Some(want)) if *have != want => Diff::Note(format!(
                "group `{}` has gid {have}, not {want}; left alone, because files belong to it",
                self.name
            )),
            (Some(_), _) => Diff::Same,
            (None, gid) => {
                let system = if self.system { " --system" } else { "" };
                let gid = gid.map_or_else(String::new, |g| format!(" --gid {g}"));
                let action = format!("groupadd{system}{gid} -- {}", shell(&self.name));
                Diff::Change(Change::new(Verdict::Create, "missing", action))
            }
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    #[serde(deserialize_with = "super::name")]
    pub name: String,
    #[serde(default)]
    pub uid: Option<u32>,
    /// Primary group; the user's own name when not given.
    #[serde(default)]
    pub group: Option<String>,
    #[serde(default, deserialize_with = "super::names")]
    pub groups: Vec<String>,
    #[serde(deserialize_with = "super::path")]
    pub home: String,
    #[serde(default = "usual_shell", deserialize_with = "super::path")]
    pub shell: String,
    #[serde(default = "super::yes")]
    pub system: bool,
}

fn usual_shell() -> String {
    "/bin/bash".to_owned()
}

impl Kind for User {
    fn id(&self) -> String {
        format!("user {}", self.name)
    }

    fn queries(&self) -> Vec<Query> {
        vec![Query::User(self.name.clone())]
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        let name = shell(&self.name);
        let Some(have) = seen.observed.users.get(&self.name) else {
            let mut options =
                vec![format!("--home-dir {} --shell {}", shell(&self.home), shell(&self.shell))];
            options.push("--create-home".to_owned());
            if self.system {
                options.push("--system".to_owned());
            }
            if let Some(uid) = self.uid {
                options.push(format!("--uid {uid}"));
            }
            match &self.group {
                Some(group) => options.push(format!("--gid {}", shell(group))),
                None => options.push("--user-group".to_owned()),
            }
            if !self.groups.is_empty() {
                options.push(format!("--groups {}", shell(&self.groups.join(","))));
            }
            let action = format!("useradd {} -- {name}", options.join(" "));
            return Diff::Change(Change::new(Verdict::Create, "missing", action));
        };
        if self.uid.is_some_and(|want| want != have.uid) {
            return Diff::Note(format!(
                "user `{}` has uid {}; left alone, because files belong to it",
                self.name, have.uid
            ));
        }
        let mut reasons = Vec::new();
        let mut options = Vec::new();
        let lacking: Vec<&String> = self.groups.iter().filter(|g| !have.groups.contains(*g)).collect();
        if !lacking.is_empty() {
            let list = lacking.into_iter().cloned().collect::<Vec<_>>().join(",");
            reasons.push(format!("not in {list}"));
            options.push(format!("--append --groups {}", shell(&list)));
        }
        if have.shell != self.shell {
            reasons.push(format!("shell is {}", have.shell));
            options.push(format!("--shell {}", shell(&self.shell)));
        }
        // The home directory of a user that exists is left alone: data may live there.
        if reasons.is_empty() {
            return Diff::Same;
        }
        let action = format!("usermod {} -- {name}", options.join(" "));
        Diff::Change(Change::new(Verdict::Update, reasons.join(", "), action))
    }
}
