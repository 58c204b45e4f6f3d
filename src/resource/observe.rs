//! Observation: what the kinds ask, batched into one script, and the answers.
//!
//! One `stat` for all paths, one `sha256sum`, one `dpkg-query`, one `systemctl show`: a probe of a
//! hundred resources costs about as many processes as a probe of ten.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::text::frame::Record;
use crate::text::quote::shell;

/// The largest content that a probe brings back, bytes.
pub(super) const CONTENT_LIMIT: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Type, mode, owner, and for a file its sha256. With `want` and `show`, a file whose sha256
    /// differs comes back with its content, for the diff.
    Path {
        path: String,
        want: Option<String>,
        show: bool,
    },
    /// The content of a small file, always.
    Content(String),
    Package(String),
    Unit(String),
    User(String),
    Group(String),
    Sysctl(String),
    /// A script of the kind's own; `key` is shared by resources that ask the same.
    Script {
        key: String,
        script: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    File,
    Directory,
    Link,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathState {
    pub kind: PathKind,
    pub mode: u32,
    pub owner: String,
    pub group: String,
    /// Of files only.
    pub sha256: Option<String>,
    /// Where a link points.
    pub target: Option<String>,
    /// Last change of the content, nanoseconds since the epoch.
    pub changed: u128,
}

/// `systemctl show` of one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitState {
    /// `loaded`, `not-found`, `masked` …
    pub load: String,
    /// `active`, `inactive`, `failed`, `activating` …
    pub active: String,
    /// `enabled`, `disabled`, `static`, `masked`; empty when there is no unit file.
    pub file: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserState {
    pub uid: u32,
    pub home: String,
    pub shell: String,
    pub groups: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysctlState {
    pub value: String,
    pub writable: bool,
}

/// The answers of one node. What was asked and is not here does not exist.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub paths: HashMap<String, PathState>,
    pub contents: HashMap<String, Vec<u8>>,
    /// Name → version of packages that are installed completely.
    pub packages: HashMap<String, String>,
    pub units: HashMap<String, UnitState>,
    pub users: HashMap<String, UserState>,
    /// Name → gid.
    pub groups: HashMap<String, u32>,
    pub sysctls: HashMap<String, SysctlState>,
    /// Key → exit code and output of a kind's own script.
    pub scripts: HashMap<String, (i32, String)>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ObserveError {
    #[error("the probe did not report its `{0}` part")]
    Missing(&'static str),
    #[error("the probe's `{part}` part cannot be read: `{line}`")]
    Odd { part: &'static str, line: String },
    #[error("the probe's `{part}` part failed with exit code {code}: {output}")]
    Failed { part: &'static str, code: i32, output: String },
}

/// All queries of a node in the order in which the script answers them.
#[derive(Debug, Default)]
struct Batch {
    paths: BTreeMap<String, Option<String>>,
    contents: BTreeSet<String>,
    packages: BTreeSet<String>,
    units: BTreeSet<String>,
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
    sysctls: BTreeSet<String>,
    scripts: BTreeMap<String, String>,
}

impl Batch {
    fn new<'a>(queries: impl IntoIterator<Item = &'a Query>) -> Self {
        let mut b = Self::default();
        for query in queries {
            match query {
                Query::Path { path, want, show } => {
                    let shown = want.clone().filter(|_| *show);
                    let slot = b.paths.entry(path.clone()).or_default();
                    *slot = shown.or_else(|| slot.take());
                }
                Query::Content(path) => drop(b.contents.insert(path.clone())),
                Query::Package(name) => drop(b.packages.insert(name.clone())),
                Query::Unit(name) => drop(b.units.insert(name.clone())),
                Query::User(name) => drop(b.users.insert(name.clone())),
                Query::Group(name) => drop(b.groups.insert(name.clone())),
                Query::Sysctl(key) => drop(b.sysctls.insert(key.clone())),
                Query::Script { key, script } => drop(b.scripts.insert(key.clone(), script.clone())),
            }
        }
        b
    }
}

fn words<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    items.into_iter().map(|i| shell(i)).collect::<Vec<_>>().join(" ")
}

/// The body of the probe script for these queries.
pub fn script<'a>(queries: impl IntoIterator<Item = &'a Query>) -> String {
    let b = Batch::new(queries);
    let mut s = String::new();
    let mut part = |name: &str, body: &str| {
        let _ = writeln!(s, "begin {name}\n{body}\nend {name} $?");
    };
    if !b.paths.is_empty() {
        let all = words(b.paths.keys());
        part("paths", &format!("stat -c '%F|%a|%U|%G|%.9Y|%n' -- {all} 2>/dev/null; true"));
        part(
            "links",
            &format!(
                "for p in {all}; do [ ! -L \"$p\" ] || printf '%s\\n%s\\n' \"$p\" \"$(readlink -- \"$p\")\"; done"
            ),
        );
        let mut sums = format!("S=$(sha256sum -- {all} 2>/dev/null)\nprintf '%s\\n' \"$S\"\n");
        sums.push_str(
            "show() { [ -f \"$1\" ] || return 0; case \"$S\" in *\"$2  $1\"*) return 0;; esac
[ \"$(wc -c <\"$1\")\" -gt 65536 ] || { printf 'content %s ' \"$1\"; base64 -w0 <\"$1\"; echo; }; }\n",
        );
        for (path, want) in &b.paths {
            if let Some(want) = want {
                let _ = writeln!(sums, "show {} {want}", shell(path));
            }
        }
        sums.push_str("true");
        part("sums", &sums);
    }
    if !b.contents.is_empty() {
        part(
            "contents",
            &format!(
                "for p in {}; do [ ! -f \"$p\" ] || {{ printf '%s ' \"$p\"; head -c {CONTENT_LIMIT} -- \"$p\" | base64 -w0; echo; }}; done",
                words(&b.contents)
            ),
        );
    }
    if !b.packages.is_empty() {
        part(
            "packages",
            &format!(
                "command -v dpkg-query >/dev/null || {{ echo 'dpkg-query is not there'; false; }} && {{ dpkg-query -W -f '${{db:Status-Abbrev}}|${{Package}}|${{Version}}\\n' -- {} 2>/dev/null; true; }}",
                words(&b.packages)
            ),
        );
    }
    if !b.units.is_empty() {
        part(
            "units",
            &format!("systemctl show -p LoadState,ActiveState,UnitFileState,Id -- {}", words(&b.units)),
        );
    }
    if !b.users.is_empty() {
        part(
            "users",
            &format!(
                "for u in {}; do e=$(getent passwd \"$u\") && printf '%s|%s\\n' \"$e\" \"$(id -Gn \"$u\")\"; done; true",
                words(&b.users)
            ),
        );
    }
    if !b.groups.is_empty() {
        part("groups", &format!("getent group {}; true", words(&b.groups)));
    }
    if !b.sysctls.is_empty() {
        part(
            "sysctls",
            &format!(
                "for k in {}; do f=/proc/sys/$(echo \"$k\" | tr . /); [ -r \"$f\" ] || continue; w=ro; [ ! -w \"$f\" ] || w=rw; printf '%s|%s|%s\\n' \"$k\" $w \"$(tr '\\t' ' ' <\"$f\")\"; done",
                words(&b.sysctls)
            ),
        );
    }
    for (key, script) in &b.scripts {
        let _ = writeln!(s, "begin {0}\n( {script}\n) 2>&1\nend {0} $?", shell(&format!("script {key}")));
    }
    s
}

impl Observed {
    /// Reads the records that the probe script for `queries` printed.
    pub fn read<'a>(
        queries: impl IntoIterator<Item = &'a Query>,
        records: &[Record],
    ) -> Result<Self, ObserveError> {
        let b = Batch::new(queries);
        let part = |name: &'static str| {
            let r = records.iter().find(|r| r.id == name).ok_or(ObserveError::Missing(name))?;
            if r.code == 0 {
                Ok(r.output.lines())
            } else {
                let output = r.output.trim().to_owned();
                Err(ObserveError::Failed { part: name, code: r.code, output })
            }
        };
        let mut o = Self::default();
        if !b.paths.is_empty() {
            for line in part("paths")? {
                let (path, state) = path_state(line).ok_or_else(|| odd("paths", line))?;
                o.paths.insert(path, state);
            }
            let mut links = part("links")?;
            while let (Some(path), Some(target)) = (links.next(), links.next()) {
                if let Some(state) = o.paths.get_mut(path) {
                    state.target = Some(target.to_owned());
                }
            }
            for line in part("sums")?.filter(|l| !l.is_empty()) {
                if let Some(rest) = line.strip_prefix("content ") {
                    let (path, content) = encoded(rest).ok_or_else(|| odd("sums", line))?;
                    o.contents.insert(path, content);
                } else {
                    let (sum, path) = line.split_once("  ").ok_or_else(|| odd("sums", line))?;
                    if let Some(state) = o.paths.get_mut(path).filter(|s| s.kind == PathKind::File) {
                        state.sha256 = Some(sum.to_owned());
                    }
                }
            }
        }
        if !b.contents.is_empty() {
            for line in part("contents")? {
                let (path, content) = encoded(line).ok_or_else(|| odd("contents", line))?;
                o.contents.insert(path, content);
            }
        }
        if !b.packages.is_empty() {
            for line in part("packages")? {
                let mut f = line.split('|');
                let (Some(status), Some(name), Some(version)) = (f.next(), f.next(), f.next()) else {
                    return Err(odd("packages", line));
                };
                // The second letter is the state: only `i` is installed completely.
                if status.as_bytes().get(1) == Some(&b'i') {
                    o.packages.insert(name.to_owned(), version.to_owned());
                }
            }
        }
        if !b.units.is_empty() {
            let text = part("units")?.collect::<Vec<_>>().join("\n");
            let blocks: Vec<&str> = text.split("\n\n").filter(|b| !b.trim().is_empty()).collect();
            if blocks.len() != b.units.len() {
                return Err(odd("units", &text));
            }
            for (unit, block) in b.units.iter().zip(blocks) {
                let get = |key: &str| {
                    block.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default().to_owned()
                };
                let (load, active, file) = (get("LoadState="), get("ActiveState="), get("UnitFileState="));
                o.units.insert(unit.clone(), UnitState { load, active, file });
            }
        }
        if !b.users.is_empty() {
            for line in part("users")? {
                let (name, state) = user_state(line).ok_or_else(|| odd("users", line))?;
                o.users.insert(name, state);
            }
        }
        if !b.groups.is_empty() {
            for line in part("groups")? {
                let mut f = line.split(':');
                let (Some(name), Some(gid)) = (f.next(), f.nth(1).and_then(|g| g.parse().ok())) else {
                    return Err(odd("groups", line));
                };
                o.groups.insert(name.to_owned(), gid);
            }
        }
        if !b.sysctls.is_empty() {
            for line in part("sysctls")? {
                let mut f = line.splitn(3, '|');
                let (Some(key), Some(access), Some(value)) = (f.next(), f.next(), f.next()) else {
                    return Err(odd("sysctls", line));
                };
                let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
                o.sysctls.insert(key.to_owned(), SysctlState { value, writable: access == "rw" });
            }
        }
        for key in b.scripts.keys() {
            let id = format!("script {key}");
            let record = records.iter().find(|r| r.id == id).ok_or(ObserveError::Missing("script"))?;
            o.scripts.insert(key.clone(), (record.code, record.output.clone()));
        }
        Ok(o)
    }
}

fn odd(part: &'static str, line: &str) -> ObserveError {
    ObserveError::Odd { part, line: line.chars().take(200).collect() }
}

fn path_state(line: &str) -> Option<(String, PathState)> {
    let mut f = line.splitn(6, '|');
    let kind = match f.next()? {
        "regular file" | "regular empty file" => PathKind::File,
        "directory" => PathKind::Directory,
        "symbolic link" => PathKind::Link,
        _ => PathKind::Other,
    };
    let mode = u32::from_str_radix(f.next()?, 8).ok()?;
    let (owner, group) = (f.next()?.to_owned(), f.next()?.to_owned());
    let (seconds, nanos) = f.next()?.split_once('.')?;
    let changed = seconds.parse::<u128>().ok()? * 1_000_000_000 + nanos.parse::<u128>().ok()?;
    Some((f.next()?.to_owned(), PathState { kind, mode, owner, group, sha256: None, target: None, changed }))
}

fn encoded(line: &str) -> Option<(String, Vec<u8>)> {
    let (path, content) = line.rsplit_once(' ')?;
    Some((path.to_owned(), STANDARD.decode(content).ok()?))
}

fn user_state(line: &str) -> Option<(String, UserState)> {
    let (entry, groups) = line.rsplit_once('|')?;
    let f: Vec<&str> = entry.split(':').collect();
    let groups = groups.split_whitespace().map(str::to_owned).collect();
    Some((
        (*f.first()?).to_owned(),
        UserState {
            uid: f.get(2)?.parse().ok()?,
            home: (*f.get(5)?).to_owned(),
            shell: (*f.get(6)?).to_owned(),
            groups,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::frame::{Frame, Reader, script as frame};

    fn observe(queries: &[Query]) -> Observed {
        let script = frame("@m", &script(queries));
        let out = std::process::Command::new("sh").arg("-c").arg(&script).output().unwrap();
        let records: Vec<Record> = Reader::new("@m")
            .push(&out.stdout)
            .into_iter()
            .filter_map(|f| if let Frame::End(r) = f { Some(r) } else { None })
            .collect();
        Observed::read(queries, &records).unwrap()
    }

    #[test]
    fn paths_are_seen_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path().display();
        let spaced = format!("{d}/a 'b' |c");
        std::fs::write(&spaced, "hello\n").unwrap();
        std::fs::write(format!("{d}/empty"), "").unwrap();
        std::os::unix::fs::symlink("there", format!("{d}/link")).unwrap();
        let path = |p: &str, want: Option<&str>| Query::Path {
            path: p.to_owned(),
            want: want.map(str::to_owned),
            show: true,
        };
        let o = observe(&[
            path(&spaced, Some("0000")),
            path(&format!("{d}/empty"), None),
            path(&format!("{d}/link"), None),
            path(&format!("{d}/nothing"), Some("0000")),
            path(&format!("{d}"), None),
            Query::Content(spaced.clone()),
        ]);
        let hello = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(o.paths[&spaced].sha256.as_deref(), Some(hello));
        assert_eq!(o.contents[&spaced], b"hello\n");
        assert_eq!(o.paths[&format!("{d}/empty")].kind, PathKind::File);
        assert_eq!(o.paths[&format!("{d}/link")].target.as_deref(), Some("there"));
        assert_eq!(o.paths[&format!("{d}")].kind, PathKind::Directory);
        assert!(!o.paths.contains_key(&format!("{d}/nothing")));
    }

    #[test]
    fn users_groups_sysctls_and_scripts_are_seen() {
        let o = observe(&[
            Query::User("root".into()),
            Query::User("nobody-here".into()),
            Query::Group("root".into()),
            Query::Sysctl("kernel.pid_max".into()),
            Query::Sysctl("no.such.key".into()),
            Query::Script { key: "a b".into(), script: "echo out; exit 7".into() },
            Query::Package("dpkg".into()),
            Query::Package("no-such-package".into()),
        ]);
        assert_eq!(o.users["root"].uid, 0);
        assert!(o.users["root"].groups.contains("root") && !o.users.contains_key("nobody-here"));
        assert_eq!(o.groups["root"], 0);
        assert!(o.sysctls["kernel.pid_max"].value.parse::<u64>().is_ok());
        assert!(!o.sysctls.contains_key("no.such.key"));
        assert_eq!(o.scripts["a b"], (7, "out\n".to_owned()));
        assert!(o.packages.contains_key("dpkg") && !o.packages.contains_key("no-such-package"));
    }

    #[test]
    fn a_silent_part_is_a_failure_and_not_an_absence() {
        let queries = [Query::Package("dpkg".into())];
        assert_eq!(Observed::read(&queries, &[]).unwrap_err(), ObserveError::Missing("packages"));
    }
}
