//! `file` and `template`: a file with exactly this content, owner and mode.
//!
//! Compared by sha256 without transfer. Written to a temporary file beside the target, checked with
//! `validate`, synced, given mode and owner, and renamed: a reader never sees a half-written file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Change, Diff, Kind, PathKind, PathState, Query, Seen, Verdict};
use crate::text::quote::shell;

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(deserialize_with = "super::path")]
    pub path: String,
    pub content: String,
    #[serde(default = "super::root", deserialize_with = "super::name")]
    pub owner: String,
    #[serde(default = "super::root", deserialize_with = "super::name")]
    pub group: String,
    #[serde(default = "usual_mode", deserialize_with = "super::mode")]
    pub mode: u32,
    /// Never shown: no diff, no content in the probe.
    #[serde(default)]
    pub secret: bool,
    /// A command that must accept the new file before it is installed; `%s` is its path.
    #[serde(default)]
    pub validate: Option<String>,
}

impl std::fmt::Debug for File {
    /// Without the content: a panic or a log must not hold a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path)
            .field("bytes", &self.content.len())
            .finish_non_exhaustive()
    }
}

fn usual_mode() -> u32 {
    0o644
}

/// Lower-case hex sha256.
pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect()
}

impl Kind for File {
    fn id(&self) -> String {
        format!("file {}", self.path)
    }

    fn queries(&self) -> Vec<Query> {
        let want = Some(sha256(self.content.as_bytes()));
        vec![Query::Path { path: self.path.clone(), want, show: !self.secret }]
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        let want = sha256(self.content.as_bytes());
        let Some(state) = seen.observed.paths.get(&self.path) else {
            return Diff::Change(self.put(Verdict::Create, "missing".into(), want));
        };
        match state.kind {
            PathKind::File => {}
            PathKind::Link => {
                return Diff::Change(self.put(Verdict::Update, "is a link".into(), want));
            }
            PathKind::Directory | PathKind::Other => {
                return Diff::Failed(format!("`{}` is there and is not a file", self.path));
            }
        }
        if state.sha256.as_deref() != Some(want.as_str()) {
            let mut change = self.put(Verdict::Update, "content differs".into(), want);
            if self.secret {
                change.reason = "content differs (secret)".into();
            } else if let Some(old) = seen.observed.contents.get(&self.path) {
                let (diff, plus, minus) = unified(&String::from_utf8_lossy(old), &self.content);
                change.reason = format!("content differs (+{plus} -{minus})");
                change.diff = Some(diff);
            }
            return Diff::Change(change);
        }
        owner_and_mode(&self.path, state, &self.owner, &self.group, self.mode)
    }

    fn file(&self) -> Option<&File> {
        Some(self)
    }
}

impl File {
    fn put(&self, verdict: Verdict, reason: String, sha: String) -> Change {
        let mut change = Change::new(
            verdict,
            reason,
            put(&self.path, &self.content, &self.owner, &self.group, self.mode, self.validate.as_deref()),
        );
        change.puts.push((self.path.clone(), sha));
        change
    }
}

/// The script that installs `content` at `path` atomically.
pub(super) fn put(
    path: &str,
    content: &str,
    owner: &str,
    group: &str,
    mode: u32,
    validate: Option<&str>,
) -> String {
    let (directory, base) = path.rsplit_once('/').unwrap_or(("", path));
    let directory = if directory.is_empty() { "/" } else { directory };
    let template = shell(&format!("{directory}/.{base}.pgctl.XXXXXX"));
    let check = validate.map_or_else(String::new, |v| {
        let command = v.split_whitespace().map(|w| if w == "%s" { "\"$t\"".into() } else { shell(w) });
        format!("{} || exit\n", command.collect::<Vec<_>>().join(" "))
    });
    // `exit` without a number keeps the failing command's code; the trap removes the temporary file.
    format!(
        "umask 077
t=$(mktemp {template}) || exit
trap 'rm -f -- \"$t\"' EXIT
base64 -d >\"$t\" <<'PGCTL_CONTENT' || exit
{content}
PGCTL_CONTENT
chown {owner}:{group} -- \"$t\" && chmod {mode:04o} -- \"$t\" || exit
{check}sync -- \"$t\" && mv -fT -- \"$t\" {path} && sync -- {directory} || exit
trap - EXIT",
        content = lines_of_base64(content),
        owner = shell(owner),
        group = shell(group),
        path = shell(path),
        directory = shell(directory),
    )
}

fn lines_of_base64(content: &str) -> String {
    let encoded = STANDARD.encode(content);
    let lines: Vec<&str> =
        encoded.as_bytes().chunks(76).map(|c| std::str::from_utf8(c).unwrap_or_default()).collect();
    lines.join("\n")
}

/// The diff of owner, group and mode of something that is there.
pub(super) fn owner_and_mode(path: &str, state: &PathState, owner: &str, group: &str, mode: u32) -> Diff {
    let quoted = shell(path);
    let mut reasons = Vec::new();
    let mut script = Vec::new();
    if state.owner != owner || state.group != group {
        reasons.push(format!("owner {}:{} should be {owner}:{group}", state.owner, state.group));
        script.push(format!("chown -h {}:{} -- {quoted}", shell(owner), shell(group)));
    }
    if state.mode != mode {
        reasons.push(format!("mode {:04o} should be {mode:04o}", state.mode));
    }
    if reasons.is_empty() {
        return Diff::Same;
    }
    // Always: chown clears set-id bits.
    script.push(format!("chmod {mode:04o} -- {quoted}"));
    Diff::Change(Change::new(Verdict::Update, reasons.join(", "), script.join(" && ")))
}

/// A unified diff, and how many lines it adds and removes.
pub(super) fn unified(old: &str, new: &str) -> (String, usize, usize) {
    let diff = similar::TextDiff::from_lines(old, new);
    let text = diff.unified_diff().context_radius(2).to_string();
    let count = |tag| diff.iter_all_changes().filter(|c| c.tag() == tag).count();
    (text, count(similar::ChangeTag::Insert), count(similar::ChangeTag::Delete))
}
