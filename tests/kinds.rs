//! Kinds as data: what a resource wants and what was observed → verdict, reason, actions.
//!
//! Each file in `tests/kinds/` is a list of cases. What can be executed without services is executed too: the
//! real scripts with the real `sh`, and observed again with the real probe.
#![allow(clippy::unwrap_used, clippy::format_collect, reason = "short texts of a test")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgctl::live::{Live, Member, Patroni};
use pgctl::resource::observe::{SysctlState, UserState, script as probe};
use pgctl::resource::{
    Action, Change, Diff, KINDS, Kind, Observed, PathKind, PathState, Pending, Query, Seen, UnitState,
    Verdict, make,
};
use pgctl::text::diagnostic::Sources;
use pgctl::text::frame::{Frame, Reader, Record, script as frame};
use pgctl::text::yaml;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

// ---------------------------------------------------------------------------------- cases from files

/// One case. Exactly one of `same`, `note`, `failed`, `wait`, `error` and `verdict` says what is expected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    kind: String,
    resource: Value,
    #[serde(default)]
    observed: Seeing,
    #[serde(default)]
    pending: Before,
    #[serde(default)]
    live: Alive,
    #[serde(default)]
    leader: Option<String>,

    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    same: bool,
    /// Part of the words.
    #[serde(default)]
    note: Option<String>,
    #[serde(default)]
    failed: Option<String>,
    #[serde(default)]
    wait: Option<String>,
    /// Part of the message with which the resource is refused.
    #[serde(default)]
    error: Option<String>,

    #[serde(default)]
    verdict: Option<String>,
    /// The whole reason.
    #[serde(default)]
    reason: Option<String>,
    /// Part of the cause: it can only be known later.
    #[serde(default)]
    unknown: Option<String>,
    /// What the scripts hold, encoded parts decoded.
    #[serde(default)]
    actions: Vec<String>,
    /// What they do not hold, plain or decoded.
    #[serde(default)]
    lacks: Vec<String>,
    /// The one script, whole.
    #[serde(default)]
    script: Option<String>,
    /// What the change waits for at its end.
    #[serde(default)]
    waits: Option<String>,
    /// The shown difference, whole; absent means that there must be none.
    #[serde(default)]
    diff: Option<String>,
    #[serde(default)]
    restarts: Option<String>,
    #[serde(default)]
    starts: Vec<String>,
    #[serde(default)]
    installs: Vec<String>,
    #[serde(default)]
    puts: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Seeing {
    paths: BTreeMap<String, SeenPath>,
    /// As the probe brings them back: stamps, files of blocks, and files that differ.
    contents: BTreeMap<String, String>,
    /// The same, for what is no text.
    bytes: BTreeMap<String, Vec<u8>>,
    packages: BTreeMap<String, String>,
    units: BTreeMap<String, SeenUnit>,
    users: BTreeMap<String, SeenUser>,
    groups: BTreeMap<String, u32>,
    sysctls: BTreeMap<String, SeenSysctl>,
    scripts: BTreeMap<String, (i32, String)>,
    stamps: BTreeMap<String, Stamp>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenPath {
    kind: String,
    #[serde(default = "usual_mode")]
    mode: String,
    #[serde(default = "root")]
    owner: String,
    #[serde(default = "root")]
    group: String,
    /// Its sha256 is made from this.
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    target: Option<String>,
    /// When its content changed last; stamps are of moment 10.
    #[serde(default)]
    changed: u128,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenUnit {
    #[serde(default = "loaded")]
    load: String,
    active: String,
    #[serde(default = "enabled")]
    file: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenUser {
    uid: u32,
    home: String,
    shell: String,
    groups: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenSysctl {
    value: String,
    writable: bool,
}

/// What a service had loaded: file → content, package → version.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Stamp {
    restart: Vec<(String, String)>,
    restart_packages: Vec<(String, String)>,
    reload: Vec<(String, String)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Before {
    /// Path → its content afterwards.
    paths: BTreeMap<String, String>,
    packages: HashSet<String>,
    started: HashSet<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Alive {
    /// State and role of the node's own Patroni.
    patroni: Option<(String, String)>,
    /// Name, role, state.
    members: Vec<(String, String, String)>,
    etcd_healthy: Option<bool>,
}

fn usual_mode() -> String {
    "0644".into()
}

fn root() -> String {
    "root".into()
}

fn loaded() -> String {
    "loaded".into()
}

fn enabled() -> String {
    "enabled".into()
}

fn sha(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect()
}

impl Seeing {
    fn observed(&self) -> Observed {
        let mut o = Observed::default();
        for (path, p) in &self.paths {
            let kind = match p.kind.as_str() {
                "file" => PathKind::File,
                "directory" => PathKind::Directory,
                "link" => PathKind::Link,
                "other" => PathKind::Other,
                word => panic!("no kind of path: {word}"),
            };
            let state = PathState {
                kind,
                mode: u32::from_str_radix(&p.mode, 8).unwrap(),
                owner: p.owner.clone(),
                group: p.group.clone(),
                sha256: p.content.as_ref().map(|c| sha(c.as_bytes())),
                target: p.target.clone(),
                changed: p.changed,
            };
            o.paths.insert(path.clone(), state);
        }
        o.contents.extend(self.contents.iter().map(|(k, v)| (k.clone(), v.clone().into_bytes())));
        o.contents.extend(self.bytes.iter().map(|(k, v)| (k.clone(), v.clone())));
        for (unit, stamp) in &self.stamps {
            let path = format!("/var/lib/pgctl/stamps/{unit}");
            o.contents.insert(path.clone(), stamp.text().into_bytes());
            o.paths.insert(path, STAMP.clone());
        }
        o.packages.extend(self.packages.clone());
        for (name, u) in &self.units {
            let unit = UnitState { load: u.load.clone(), active: u.active.clone(), file: u.file.clone() };
            o.units.insert(name.clone(), unit);
        }
        for (name, u) in &self.users {
            let (home, shell) = (u.home.clone(), u.shell.clone());
            o.users.insert(name.clone(), UserState { uid: u.uid, home, shell, groups: u.groups.clone() });
        }
        o.groups.extend(self.groups.clone());
        for (name, s) in &self.sysctls {
            o.sysctls.insert(name.clone(), SysctlState { value: s.value.clone(), writable: s.writable });
        }
        o.scripts.extend(self.scripts.clone());
        o
    }
}

/// A stamp as a file, of moment 10.
static STAMP: std::sync::LazyLock<PathState> = std::sync::LazyLock::new(|| PathState {
    kind: PathKind::File,
    mode: 0o644,
    owner: "root".into(),
    group: "root".into(),
    sha256: None,
    target: None,
    changed: 10,
});

impl Stamp {
    /// As the node writes it: the hash of the lines of `sha256sum`, then of `name version`.
    fn text(&self) -> String {
        let files = |list: &[(String, String)]| -> String {
            list.iter().map(|(path, content)| format!("{}  {path}\n", sha(content.as_bytes()))).collect()
        };
        let packages: String = self.restart_packages.iter().map(|(n, v)| format!("{n} {v}\n")).collect();
        let restart = sha(format!("{}{packages}", files(&self.restart)).as_bytes());
        format!("restart {restart}\nreload {}\n", sha(files(&self.reload).as_bytes()))
    }
}

impl Alive {
    fn live(&self) -> Live {
        Live {
            patroni: self.patroni.as_ref().map(|(state, role)| Patroni {
                state: state.clone(),
                role: role.clone(),
                timeline: Some(1),
                server_version: Some(150_018),
                pending_restart: false,
                paused: false,
                version: "3.0.2".into(),
            }),
            members: self
                .members
                .iter()
                .map(|(name, role, state)| Member {
                    name: name.clone(),
                    role: role.clone(),
                    state: state.clone(),
                    host: "10.10.10.11".into(),
                    timeline: Some(1),
                    lag_bytes: None,
                    pending_restart: false,
                })
                .collect(),
            etcd_healthy: self.etcd_healthy,
        }
    }
}

/// The scripts of a change as one text, with every here-document decoded behind it.
fn readable(change: &Change) -> String {
    let mut text = String::new();
    for action in &change.actions {
        let Action::Shell(script) = action else { continue };
        text.push_str(script);
        text.push('\n');
        let mut rest = script.as_str();
        while let Some((word, from)) = ["PGCTL_CONTENT", "PGCTL_SQL"]
            .iter()
            .filter_map(|w| Some((*w, rest.find(&format!("<<'{w}'"))?)))
            .min_by_key(|(_, at)| *at)
        {
            let body = &rest[from + rest[from..].find('\n').unwrap() + 1..];
            let end = body.find(&format!("\n{word}")).unwrap();
            let encoded: String = body[..end].split_whitespace().collect();
            text.push_str(&String::from_utf8_lossy(&STANDARD.decode(encoded).unwrap()));
            text.push('\n');
            rest = &body[end..];
        }
    }
    text
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Create => "create",
        Verdict::Update => "update",
        Verdict::Restart => "restart",
        Verdict::Run => "run",
    }
}

impl Case {
    /// What is wrong with the outcome, in words.
    fn check(&self) -> Result<(), String> {
        let expected = [
            self.same,
            self.note.is_some(),
            self.failed.is_some(),
            self.wait.is_some(),
            self.error.is_some(),
            self.verdict.is_some(),
        ];
        if expected.iter().filter(|e| **e).count() != 1 {
            return Err("a case expects exactly one outcome".into());
        }
        let kind = match (make(&self.kind, self.resource.clone()), &self.error) {
            (Ok(kind), None) => kind,
            (Err(e), Some(part)) if e.contains(part.as_str()) => return Ok(()),
            (Ok(_), Some(part)) => return Err(format!("made, though `{part}` was expected")),
            (Err(e), _) => return Err(format!("refused: {e}")),
        };
        if let Some(id) = &self.id
            && *id != kind.id()
        {
            return Err(format!("its id is `{}`", kind.id()));
        }
        let (observed, live) = (self.observed.observed(), self.live.live());
        let paths = self.pending.paths.iter().map(|(p, c)| (p.clone(), sha(c.as_bytes())));
        let pending = Pending {
            paths: paths.collect(),
            packages: self.pending.packages.clone(),
            started: self.pending.started.clone(),
        };
        let seen =
            Seen { observed: &observed, pending: &pending, live: &live, leader: self.leader.as_deref() };
        let diff = kind.diff(&seen);
        if diff != kind.diff(&seen) {
            return Err("a second look at the same gives something else".into());
        }
        let part = |said: &str, want: &Option<String>| {
            want.as_ref().is_some_and(|w| said.contains(w.as_str())).then_some(()).ok_or(format!("{diff:?}"))
        };
        match &diff {
            Diff::Same if self.same => Ok(()),
            Diff::Note(said) => part(said, &self.note),
            Diff::Failed(said) => part(said, &self.failed),
            Diff::Wait(wait) => part(&wait.to_string(), &self.wait),
            Diff::Change(change) if self.unknown.is_none() => self.change(change),
            Diff::Unknown { cause, predicted } => {
                part(cause, &self.unknown)?;
                self.change(predicted)
            }
            other => Err(format!("{other:?}")),
        }
    }

    fn change(&self, change: &Change) -> Result<(), String> {
        let text = readable(change);
        let same = |what: &str, have: &str, want: Option<&str>| match want {
            Some(want) if want != have => Err(format!("{what} is `{have}`, not `{want}`")),
            _ => Ok(()),
        };
        same("verdict", word(change.verdict), self.verdict.as_deref())?;
        same("reason", &change.reason, self.reason.as_deref())?;
        if let Some(part) = self.actions.iter().find(|p| !text.contains(p.as_str())) {
            return Err(format!("no `{part}` in\n{text}"));
        }
        if let Some(part) = self.lacks.iter().find(|p| text.contains(p.as_str())) {
            return Err(format!("`{part}` in\n{text}"));
        }
        if let Some(script) = &self.script {
            let want = [Action::Shell(script.clone())];
            if change.actions != want {
                return Err(format!("{:?}, not {want:?}", change.actions));
            }
        }
        let waits = change.actions.iter().rev().find_map(|a| match a {
            Action::Wait(wait) => Some(wait.to_string()),
            Action::Shell(_) => None,
        });
        let puts: Vec<String> = change.puts.iter().map(|(path, _)| path.clone()).collect();
        let mismatch = [
            ("waits", format!("{waits:?}"), format!("{:?}", self.waits)),
            ("diff", format!("{:?}", change.diff), format!("{:?}", self.diff)),
            ("restarts", format!("{:?}", change.restarts), format!("{:?}", self.restarts)),
            ("starts", format!("{:?}", change.starts), format!("{:?}", self.starts)),
            ("installs", format!("{:?}", change.installs), format!("{:?}", self.installs)),
            ("puts", format!("{puts:?}"), format!("{:?}", self.puts)),
        ];
        if let Some((what, have, want)) = mismatch.iter().find(|(_, have, want)| have != want) {
            return Err(format!("{what}: {have}, not {want}"));
        }
        // Whatever is in it, it must be a script.
        for action in &change.actions {
            if let Action::Shell(script) = action {
                syntax(script)?;
            }
        }
        Ok(())
    }
}

fn syntax(script: &str) -> Result<(), String> {
    let out = Command::new("sh").args(["-n", "-c", script]).output().unwrap();
    if out.status.success() {
        Ok(())
    } else {
        Err(format!("{}\n{script}", String::from_utf8_lossy(&out.stderr)))
    }
}

fn cases() -> Vec<(String, Case)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kinds");
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut cases = Vec::new();
    for path in files {
        let mut sources = Sources::default();
        let file = sources.read(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (root, _) = yaml::load(&sources, file).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        for item in root.as_seq().unwrap_or_else(|| panic!("{name} is no list")) {
            let case: Case = serde_json::from_value(item.to_json())
                .unwrap_or_else(|e| panic!("{}: {e}", sources.place(item.span)));
            cases.push((name.clone(), case));
        }
    }
    cases
}

#[test]
fn every_case_has_its_verdict_reason_and_actions() {
    let cases = cases();
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(file, case)| Some(format!("{file}, {}: {}", case.name, case.check().err()?)))
        .collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n\n{}", wrong.len(), cases.len(), wrong.join("\n\n"));
}

#[test]
fn every_kind_has_cases() {
    let covered: HashSet<String> = cases().into_iter().map(|(_, c)| c.kind).collect();
    for (kind, _) in KINDS {
        assert!(covered.contains(*kind) || *kind == "template", "no case of `{kind}` in tests/kinds/");
    }
}

// ------------------------------------------------------------------------ the scripts, really executed

/// A directory of its own for one test, and programs that stand before the real ones.
struct Node {
    directory: tempfile::TempDir,
    owner: String,
    group: String,
}

fn id(option: &str) -> String {
    let out = Command::new("id").arg(option).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

impl Node {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("bin")).unwrap();
        Self { directory, owner: id("-un"), group: id("-gn") }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    /// A program in the node's `bin`.
    fn program(&self, name: &str, body: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path(&format!("bin/{name}"));
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Stamps are below the directory of this node, not in `/var/lib`.
    fn here(&self, script: &str) -> String {
        script.replace("/var/lib/pgctl", &self.path("state"))
    }

    fn observe(&self, kind: &dyn Kind) -> Observed {
        let queries = kind.queries();
        let script = frame("@mark", &self.here(&probe(&queries)));
        let out = Command::new("sh").arg("-c").arg("exec sh").stdin(file_of(&script)).output().unwrap();
        let frames = Reader::new("@mark").push(&out.stdout);
        assert_eq!(frames.last(), Some(&Frame::Done), "{}", String::from_utf8_lossy(&out.stderr));
        let records: Vec<Record> =
            frames.into_iter().filter_map(|f| if let Frame::End(r) = f { Some(r) } else { None }).collect();
        let queries: Vec<Query> = queries
            .into_iter()
            .map(|q| match q {
                Query::Content(path) => Query::Content(self.here(&path)),
                other => other,
            })
            .collect();
        let mut observed = Observed::read(&queries, &records).unwrap();
        let there = self.path("state");
        observed.contents = observed
            .contents
            .into_iter()
            .map(|(path, content)| (path.replace(&there, "/var/lib/pgctl"), content))
            .collect();
        observed
    }

    fn diff(&self, kind: &dyn Kind) -> Diff {
        let observed = self.observe(kind);
        let (pending, live) = (Pending::default(), Live::default());
        kind.diff(&Seen { observed: &observed, pending: &pending, live: &live, leader: None })
    }

    /// Runs what a change says; exit code and output of the first action that fails.
    fn perform(&self, change: &Change) -> (i32, String) {
        for action in &change.actions {
            let Action::Shell(script) = action else { panic!("{action:?}") };
            let body = format!(
                "PATH={}:$PATH\nbegin 0\n( {}\n) </dev/null 2>&1\nend 0 $?",
                self.path("bin"),
                self.here(script)
            );
            let script = frame("@mark", &body);
            let out = Command::new("sh").stdin(file_of(&script)).output().unwrap();
            let frames = Reader::new("@mark").push(&out.stdout);
            let Some(Frame::End(record)) = frames.into_iter().nth(1) else {
                panic!("{}", String::from_utf8_lossy(&out.stderr))
            };
            if record.code != 0 {
                return (record.code, record.output);
            }
        }
        (0, String::new())
    }

    /// Changes what differs and looks again: there must be nothing left.
    fn converge(&self, kind: &dyn Kind) -> Change {
        let change = match self.diff(kind) {
            Diff::Change(change) => change,
            other => panic!("{}: {other:?}", kind.id()),
        };
        assert_eq!(self.perform(&change), (0, String::new()), "{change:?}");
        assert_eq!(self.diff(kind), Diff::Same, "{}, the second time", kind.id());
        change
    }

    fn file(&self, path: &str, content: &str, more: Value) -> Arc<dyn Kind> {
        let args = json!({"path": path, "content": content, "owner": self.owner, "group": self.group});
        make("file", merged(args, more)).unwrap()
    }

    /// Names of what is in a directory, hidden files too.
    fn names(&self, directory: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.path(directory)).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn merged(mut args: Value, more: Value) -> Value {
    if let (Value::Object(args), Value::Object(more)) = (&mut args, more) {
        args.extend(more);
    }
    args
}

/// A script comes over standard input, as on the wire.
fn file_of(script: &str) -> std::process::Stdio {
    use std::io::{Seek as _, Write as _};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(script.as_bytes()).unwrap();
    file.rewind().unwrap();
    file.into()
}

/// Content that breaks what is careless.
fn nasty() -> HashMap<&'static str, String> {
    HashMap::from([
        ("empty", String::new()),
        ("one newline", "\n".to_owned()),
        ("no newline at the end", "a\nb".to_owned()),
        ("quotes", "it's \"quoted\" `id` $(id) ${HOME} $HOME \\n \\\\ !x\n".to_owned()),
        ("here-documents", "PGCTL_CONTENT\nPGCTL_SQL\nEOF\n@mark E 0 0\n@mark DONE\n".to_owned()),
        ("dos", "a\r\nb\r\n\rc\r".to_owned()),
        ("unicode", "äöü 漢字 🦀 \u{feff} \u{202e}x\u{1b}[31m\n".to_owned()),
        ("control characters", "\u{1}\u{7}\u{8}\t\u{b}\u{c}\u{7f}\n".to_owned()),
        ("formats", "%s %d %n \\0 \\x41\n-n -e\n".to_owned()),
        ("templates", "{{ 7*7 }} {% raw %} {# x #}\n".to_owned()),
        ("long", "0123456789abcde\n".repeat(200 * 1024 / 16)),
        ("one long line", "x".repeat(200 * 1024)),
    ])
}

#[test]
fn files_are_written_byte_for_byte_and_then_left_alone() {
    let node = Node::new();
    for (name, content) in nasty() {
        let path = node.path("file");
        let kind = node.file(&path, &content, json!({"mode": "0640"}));
        node.converge(&*kind);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content, "{name}");
    }
    assert_eq!(node.names(""), BTreeSet::from(["bin".into(), "file".into()]));
}

#[test]
fn a_path_is_a_word_whatever_it_holds() {
    let node = Node::new();
    for name in
        ["a b", "it's", "$(touch pwned)", "-rf", "a;b", "a|b", "*", "ä", "\"x\"", "%s", "content a", "#"]
    {
        let path = node.path(name);
        node.converge(&*node.file(&path, "x\n", json!({})));
        node.converge(&*node.file(&path, "y\n", json!({"mode": "0600"})));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "y\n");
        std::fs::remove_file(&path).unwrap();
        let directory = json!({"path": path, "owner": node.owner, "group": node.group, "mode": "0710"});
        node.converge(&*make("directory", directory).unwrap());
        std::fs::remove_dir(&path).unwrap();
        node.converge(&*make("link", json!({"path": path, "target": node.path("there")})).unwrap());
        node.converge(&*make("link", json!({"path": path, "target": node.path("it's there")})).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
    assert_eq!(node.names(""), BTreeSet::from(["bin".into()]));
}

#[test]
fn a_file_takes_its_mode_and_replaces_a_link_without_following_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Node::new();
    let (path, other) = (node.path("file"), node.path("other"));
    std::fs::write(&other, "precious").unwrap();
    std::os::unix::fs::symlink(&other, &path).unwrap();
    node.converge(&*node.file(&path, "new\n", json!({"mode": "0640"})));
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "precious");
    assert!(!std::fs::symlink_metadata(&path).unwrap().is_symlink());
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o640);
    for wanted in ["0600", "0755", "2750", "0400"] {
        node.converge(&*node.file(&path, "new\n", json!({"mode": wanted})));
        assert_eq!(format!("{:04o}", mode()), wanted);
    }
}

#[test]
fn a_difference_is_shown_from_what_is_really_there() {
    let node = Node::new();
    let path = node.path("file");
    std::fs::write(&path, "one\ntwo\n").unwrap();
    let change = node.converge(&*node.file(&path, "one\nthree\n", json!({"mode": "0644"})));
    assert_eq!(change.reason, "content differs (+1 -1)");
    assert!(change.diff.unwrap().contains("-two\n+three\n"));
    let secret = node.file(&path, "password\n", json!({"secret": true}));
    assert!(node.observe(&*secret).contents.is_empty(), "a secret file came back with its content");
    let change = node.converge(&*secret);
    assert_eq!((change.reason.as_str(), change.diff), ("content differs (secret)", None));
}

#[test]
fn what_does_not_validate_leaves_the_old_file_and_nothing_else() {
    let node = Node::new();
    let path = node.path("file");
    node.program(
        "checker",
        "cat -- \"$2\" >\"$(dirname \"$0\")/seen\"; grep -q good -- \"$2\" || { echo no good; exit 3; }",
    );
    let validate = json!({"validate": "checker -f %s"});
    node.converge(&*node.file(&path, "good 1\n", validate.clone()));
    let bad = node.file(&path, "bad\n", validate.clone());
    let Diff::Change(change) = node.diff(&*bad) else { panic!() };
    assert_eq!(node.perform(&change), (3, "no good\n".to_owned()));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "good 1\n");
    assert_eq!(std::fs::read_to_string(node.path("bin/seen")).unwrap(), "bad\n");
    assert_eq!(node.names(""), BTreeSet::from(["bin".into(), "file".into()]));
    node.converge(&*node.file(&path, "good 2\n", validate));
}

#[test]
fn a_file_that_cannot_be_written_says_so_and_leaves_nothing() {
    let node = Node::new();
    // No such directory.
    let lost = node.file(&node.path("no/such/file"), "x", json!({}));
    let Diff::Change(change) = node.diff(&*lost) else { panic!() };
    let (code, output) = node.perform(&change);
    assert!(code != 0 && output.contains("No such file or directory"), "{code} {output}");
    // No such owner: the old file stays.
    let path = node.path("file");
    std::fs::write(&path, "old").unwrap();
    let alien = make("file", json!({"path": path, "content": "new", "owner": "nobody-here"})).unwrap();
    let Diff::Change(change) = node.diff(&*alien) else { panic!() };
    let (code, output) = node.perform(&change);
    assert!(code != 0 && output.contains("nobody-here"), "{code} {output}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(node.names(""), BTreeSet::from(["bin".into(), "file".into()]));
}

#[test]
fn blocks_keep_the_lines_of_others_and_their_place() {
    let node = Node::new();
    let path = node.path("hosts");
    std::fs::write(&path, "127.0.0.1 localhost\n# ünïcode\n'\"$(x)").unwrap();
    let block = |content: &str| make("block", json!({"path": path, "content": content})).unwrap();
    node.converge(&*block("10.0.0.1 a\n"));
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("# behind\n");
    std::fs::write(&path, &text).unwrap();
    for (name, content) in nasty() {
        if content.len() > 60_000 {
            continue; // A probe brings back 64 KiB.
        }
        node.converge(&*block(&content));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("127.0.0.1 localhost\n# ünïcode\n'\"$(x)\n# pgctl begin"), "{name}: {text}");
        assert!(text.contains(&content) && text.ends_with("# pgctl end\n# behind\n"), "{name}: {text}");
    }
}

#[test]
fn directories_are_made_with_their_parents_and_mended() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Node::new();
    let path = node.path("a/b/c");
    let directory =
        |mode: &str| json!({"path": path, "owner": node.owner, "group": node.group, "mode": mode});
    node.converge(&*make("directory", directory("0700")).unwrap());
    assert_eq!(std::fs::metadata(node.path("a/b")).unwrap().permissions().mode() & 0o777, 0o755);
    std::fs::write(node.path("a/b/c/data"), "x").unwrap();
    node.converge(&*make("directory", directory("2750")).unwrap());
    assert!(std::fs::exists(node.path("a/b/c/data")).unwrap());
}

#[test]
fn a_guarded_command_runs_once() {
    let node = Node::new();
    let (made, log) = (node.path("made $x"), node.path("log"));
    let run = json!(["sh", "-c", "echo ran >>\"$2\"; touch \"$1\"", "-", made, log]);
    let by_path = make("command", json!({"name": "make", "run": run, "creates": made})).unwrap();
    node.converge(&*by_path);
    std::fs::remove_file(&made).unwrap();
    let guarded =
        make("command", json!({"name": "make", "run": run, "unless": ["test", "-e", made]})).unwrap();
    node.converge(&*guarded);
    assert_eq!(std::fs::read_to_string(log).unwrap(), "ran\nran\n");
}

/// A `systemctl` that remembers what it was told, and fails a unit when asked to.
const SYSTEMCTL: &str = r#"D=$(dirname "$0")/..
echo "$*" >>"$D/calls"
case "$*" in
*is-active*) [ ! -e "$D/broken" ] ;;
*is-enabled*) [ -e "$D/enabled" ] ;;
*enable*) : >"$D/enabled" ;;
*) : ;;
esac"#;

#[test]
fn the_stamp_that_a_node_writes_is_the_one_that_a_plan_expects() {
    let node = Node::new();
    node.program("systemctl", SYSTEMCTL);
    node.program("journalctl", "echo what the unit said");
    let (config, unit) = (node.path("it's config"), node.path("unit"));
    std::fs::write(&config, "a\n").unwrap();
    std::fs::write(&unit, "b\n").unwrap();
    let service =
        make("service", json!({"name": "demo", "reload_on": [config], "restart_on": [unit]})).unwrap();
    // What systemd says is made up, everything else is looked at.
    let diff = |active: &str| {
        let on_disk = node.path("state/stamps/demo");
        let mut observed = files_only(&node, &[&config, &unit, &on_disk]);
        if let Some(state) = observed.paths.remove(&on_disk) {
            observed.paths.insert("/var/lib/pgctl/stamps/demo".to_owned(), state);
        }
        let stamp = std::fs::read(&on_disk).ok();
        observed.contents.extend(stamp.map(|s| ("/var/lib/pgctl/stamps/demo".to_owned(), s)));
        let state = UnitState { load: "loaded".into(), active: active.into(), file: "enabled".into() };
        observed.units.insert("demo.service".into(), state);
        let (pending, live) = (Pending::default(), Live::default());
        service.diff(&Seen { observed: &observed, pending: &pending, live: &live, leader: None })
    };
    let perform = |diff: Diff, reason: &str| {
        let Diff::Change(change) = diff else { panic!("{diff:?}") };
        assert!(change.reason.starts_with(reason), "{}", change.reason);
        node.perform(&change)
    };
    let fine = (0, String::new());
    assert_eq!(perform(diff("inactive"), "start"), fine);
    assert_eq!(diff("active"), Diff::Same);
    std::fs::write(&config, "aa\n").unwrap();
    assert_eq!(perform(diff("active"), "reload"), fine);
    assert_eq!(diff("active"), Diff::Same);
    std::fs::write(&unit, "bb\n").unwrap();
    // A restart that fails leaves the old stamp: the next run tries again.
    std::fs::write(node.path("broken"), "").unwrap();
    let (code, output) = perform(diff("active"), "restart");
    assert!(code == 1 && output.contains("what the unit said"), "{code} {output}");
    std::fs::remove_file(node.path("broken")).unwrap();
    assert_eq!(perform(diff("active"), "restart"), fine);
    assert_eq!(diff("active"), Diff::Same);
    let calls = std::fs::read_to_string(node.path("calls")).unwrap();
    let verbs: Vec<&str> = calls
        .lines()
        .filter_map(|l| l.strip_suffix(" demo"))
        .filter(|verb| matches!(*verb, "start" | "reload" | "restart"))
        .collect();
    assert_eq!(verbs, ["start", "reload", "restart", "restart"]);
}

fn files_only(node: &Node, paths: &[&str]) -> Observed {
    let mut observed = Observed::default();
    for path in paths {
        observed.paths.extend(node.observe(&*node.file(path, "", json!({}))).paths);
    }
    observed
}

#[test]
fn an_install_fetches_lists_once_and_starts_nothing() {
    let node = Node::new();
    let calls = node.path("calls");
    node.program("apt-get", &format!("echo \"$*\" >>{calls}; case \"$*\" in *update) : >{calls}.fresh;; *) [ -e {calls}.fresh ] || {{ echo 'E: Unable to locate package a'; exit 100; }};; esac"));
    node.program("dpkg", "exit 0");
    let kind = make("package", json!({"names": ["a", "b"]})).unwrap();
    let Diff::Change(change) = kind.diff(&Seen {
        observed: &Observed::default(),
        pending: &Pending::default(),
        live: &Live::default(),
        leader: None,
    }) else {
        panic!()
    };
    // The policy file is the node's own.
    let policy = node.path("policy-rc.d");
    let Action::Shell(script) = &change.actions[0] else { panic!() };
    let change = Change::new(Verdict::Create, "", script.replace("/usr/sbin/policy-rc.d", &policy));
    assert_eq!(node.perform(&change).0, 0);
    let calls = std::fs::read_to_string(calls).unwrap();
    let words: Vec<&str> = calls.lines().filter_map(|l| l.rsplit(' ').next()).collect();
    assert_eq!(words, ["b", "update", "b"], "{calls}");
    assert!(!std::fs::exists(policy).unwrap(), "the policy file is left behind");
}
