//! `sysctl`: a kernel setting, now; keeping it over a reboot is a `template` in `/etc/sysctl.d`.
//!
//! In containers the kernel's settings are often read-only: that is said, and is no failure.

use serde::Deserialize;
use serde_json::Value;

use super::{Change, Diff, Kind, Query, Seen, Verdict};
use crate::text::quote::shell;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sysctl {
    #[serde(deserialize_with = "super::name")]
    pub name: String,
    #[serde(deserialize_with = "value")]
    pub value: String,
}

fn value<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(s) => Ok(s.split_whitespace().collect::<Vec<_>>().join(" ")),
        Value::Number(n) => Ok(n.to_string()),
        other => Err(serde::de::Error::custom(format!("{other} is not a kernel setting's value"))),
    }
}

impl Kind for Sysctl {
    fn id(&self) -> String {
        format!("sysctl {}", self.name)
    }

    fn queries(&self) -> Vec<Query> {
        vec![Query::Sysctl(self.name.clone())]
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        let Some(state) = seen.observed.sysctls.get(&self.name) else {
            return Diff::Note(format!("this kernel has no `{}`", self.name));
        };
        if state.value == self.value {
            return Diff::Same;
        }
        if !state.writable {
            return Diff::Note(format!(
                "`{}` is {} and should be {}, but is read-only here (a container?)",
                self.name, state.value, self.value
            ));
        }
        Diff::Change(Change::new(
            Verdict::Update,
            format!("{} should be {}", state.value, self.value),
            format!("sysctl -q -w {}", shell(&format!("{}={}", self.name, self.value))),
        ))
    }
}
