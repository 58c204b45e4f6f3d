//! `service`: a unit that is enabled, runs, and runs with what its files say.
//!
//! What a service last loaded is stamped on the node: a hash of its watched files and packages, made
//! on the node at the moment of loading. A run that dies between writing a file and reloading is
//! healed by the next one, because the stamp still tells the truth. A watched file that is younger than the
//! stamp counts as not loaded too, whatever it holds: somebody may have loaded another content meanwhile.

use serde::Deserialize;

use super::file::sha256;
use super::{Change, Diff, Kind, Query, Seen, Verdict};
use crate::text::quote::shell;

/// Where stamps live on a node.
const STAMPS: &str = "/var/lib/pgctl/stamps";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The unit's name without `.service`.
    #[serde(deserialize_with = "super::name")]
    pub name: String,
    #[serde(default = "super::yes")]
    pub enabled: bool,
    #[serde(default = "running")]
    pub state: State,
    /// Files that it reads again at a reload.
    #[serde(default)]
    pub reload_on: Vec<String>,
    /// Files that only a restart makes it read.
    #[serde(default)]
    pub restart_on: Vec<String>,
    /// Only starts it; a later stage restarts it, one node at a time.
    #[serde(default)]
    pub start_only: bool,
    /// Packages whose upgrade asks for a restart.
    #[serde(default, deserialize_with = "super::names")]
    pub restart_on_packages: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Running,
    Stopped,
}

fn running() -> State {
    State::Running
}

impl Service {
    fn stamp_path(&self) -> String {
        format!("{STAMPS}/{}", self.name)
    }

    /// The line that the node's own `sha256sum` would give for what it will have on disk.
    /// `None` when a watched file is not there.
    fn expected(seen: &Seen<'_>, files: &[String], packages: &[String]) -> Option<String> {
        let mut text = String::new();
        for path in files {
            let sum = match seen.pending.paths.get(path) {
                Some(sum) => sum.clone(),
                None => seen.observed.paths.get(path)?.sha256.clone()?,
            };
            text.push_str(&format!("{sum}  {path}\n"));
        }
        for name in packages {
            if seen.pending.packages.contains(name) {
                return None;
            }
            text.push_str(&format!("{name} {}\n", seen.observed.packages.get(name)?));
        }
        Some(sha256(text.as_bytes()))
    }

    /// Whether any of `files` was written after the service last loaded, or will be by this plan.
    fn younger(&self, seen: &Seen<'_>, files: &[String]) -> bool {
        let loaded = seen.observed.paths.get(&self.stamp_path()).map_or(0, |s| s.changed);
        files.iter().any(|path| {
            seen.pending.paths.contains_key(path)
                || seen.observed.paths.get(path).is_some_and(|s| s.changed > loaded)
        })
    }

    /// Shell that prints what [`Self::expected`] computes, from what is on disk now.
    fn measure(files: &[String], packages: &[String]) -> String {
        let mut parts = vec![":".to_owned()];
        if !files.is_empty() {
            let files = files.iter().map(|f| shell(f)).collect::<Vec<_>>().join(" ");
            parts.push(format!("sha256sum -- {files}"));
        }
        for name in packages {
            parts.push(format!("dpkg-query -W -f '${{Package}} ${{Version}}\\n' -- {}", shell(name)));
        }
        format!("{{ {}; }} | sha256sum | cut -d' ' -f1", parts.join("; "))
    }

    /// `verb` (start, reload, restart) between a measurement and the stamp that keeps it. The
    /// measurement comes first: a file that changes meanwhile must not count as loaded.
    fn load(&self, verb: &str) -> String {
        let unit = shell(&self.name);
        let enable = if self.enabled {
            format!("systemctl is-enabled -q {unit} || systemctl enable -q {unit} || exit\n")
        } else {
            String::new()
        };
        format!(
            r#"R=$({restart}); L=$({reload})
# Masked by `package`, so that it could not start before now.
[ "$(readlink {file})" != /dev/null ] || systemctl unmask -q {unit} || exit
# Quick to ask, slow to do; a unit that systemd does not know yet is read at its start anyway.
[ "$(systemctl show -p NeedDaemonReload --value {unit})" = no ] || systemctl daemon-reload || exit
{enable}systemctl reset-failed -q {unit} 2>/dev/null
if ! systemctl {verb} {unit} || ! systemctl -q is-active {unit}; then
  systemctl --no-pager -n 0 status {unit}
  echo "--- the journal of {name}:"; journalctl -q --no-pager -o cat -n 25 -u {unit}
  exit 1
fi
mkdir -p {STAMPS} && printf 'restart %s\nreload %s\n' "$R" "$L" >{stamp}.new && mv -f {stamp}.new {stamp}"#,
            restart = Self::measure(&self.restart_on, &self.restart_on_packages),
            reload = Self::measure(&self.reload_on, &[]),
            name = self.name,
            file = shell(&format!("/etc/systemd/system/{}.service", self.name)),
            stamp = shell(&self.stamp_path()),
        )
    }

    fn stopped(&self, active: &str, file: &str) -> Diff {
        let unit = shell(&self.name);
        let enabled = file == "enabled";
        if matches!(active, "inactive" | "failed") && (self.enabled || !enabled) {
            return Diff::Same;
        }
        let action = if self.enabled {
            format!("systemctl stop {unit}")
        } else {
            format!("systemctl disable -q --now {unit}")
        };
        let reason = if matches!(active, "inactive" | "failed") { "is enabled" } else { "runs" };
        Diff::Change(Change::new(Verdict::Update, reason, action))
    }
}

impl Kind for Service {
    fn id(&self) -> String {
        format!("service {}", self.name)
    }

    fn queries(&self) -> Vec<Query> {
        let mut queries =
            vec![Query::Unit(format!("{}.service", self.name)), Query::Content(self.stamp_path())];
        let stamp = self.stamp_path();
        for path in self.reload_on.iter().chain(&self.restart_on).chain([&stamp]) {
            queries.push(Query::Path { path: path.clone(), want: None, show: false });
        }
        queries.extend(self.restart_on_packages.iter().cloned().map(Query::Package));
        queries
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        let unit = seen.observed.units.get(&format!("{}.service", self.name)).cloned().unwrap_or_default();
        if self.state == State::Stopped {
            return self.stopped(&unit.active, &unit.file);
        }
        if seen.pending.started.contains(&self.name) {
            return Diff::Same;
        }
        let stamp = seen.observed.contents.get(&self.stamp_path());
        let stamp = stamp.map(|s| String::from_utf8_lossy(s).into_owned()).unwrap_or_default();
        let stamped = |key: &str| stamp.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '));
        if unit.active != "active" && unit.active != "reloading" {
            let reason = match unit.active.as_str() {
                "failed" => "not running: failed",
                "activating" => "not running yet",
                _ => "not running",
            };
            // A service that is on its way up is started again: that waits for the same job.
            let mut change = Change::new(Verdict::Run, format!("start: {reason}"), self.load("start"));
            change.starts.push(self.name.clone());
            return Diff::Change(change);
        }
        if self.start_only {
            return Diff::Same;
        }
        let expected = Self::expected(seen, &self.restart_on, &self.restart_on_packages);
        let younger = self.younger(seen, &self.restart_on);
        if younger || expected.is_none() || expected.as_deref() != stamped("restart") {
            let mut change = Change::new(
                Verdict::Restart,
                "restart: files or packages are newer than what it runs",
                self.load("restart"),
            );
            change.restarts = Some(self.name.clone());
            return Diff::Change(change);
        }
        let expected = Self::expected(seen, &self.reload_on, &[]);
        let younger = self.younger(seen, &self.reload_on);
        if younger || expected.is_none() || expected.as_deref() != stamped("reload") {
            return Diff::Change(Change::new(
                Verdict::Update,
                "reload: config is newer than what it runs",
                self.load("reload"),
            ));
        }
        if self.enabled && unit.file != "enabled" && unit.file != "static" {
            let action = format!("systemctl enable -q {}", shell(&self.name));
            return Diff::Change(Change::new(Verdict::Update, "not enabled at boot", action));
        }
        Diff::Same
    }
}
