//! A lab of real nodes for one test: the sandbox inventory on a network of its own, removed at the end.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

pub(crate) struct Lab {
    pub(crate) inventory: PathBuf,
    /// The first three numbers of the addresses.
    pub(crate) net: String,
    directory: tempfile::TempDir,
}

/// What a run said, with its exit code.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails with everything that was said unless it ended with `code`.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "--- standard output:\n{}\n--- standard error:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, words: &str) -> &Self {
        let all = format!("{}\n{}", self.out, self.err);
        assert!(all.contains(words), "`{words}` is not in:\n{all}");
        self
    }
}

impl Lab {
    /// Blank nodes of `image` on `net`, from `inventories/sandbox.yml` or its Debian 13 sister.
    pub(crate) fn up(image: &str, net: &str) -> Self {
        assert!(
            rustix::process::getuid().is_root(),
            "this test boots nodes and needs root: run `make test` as root"
        );
        let (file, from) = match image {
            "debian-13" => ("sandbox-13.yml", "10.10.13."),
            _ => ("sandbox.yml", "10.10.10."),
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(root.join("inventories").join(file)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let inventory = directory.path().join("inventory.yml");
        std::fs::write(&inventory, text.replace(from, &format!("{net}."))).unwrap();
        let lab = Self { inventory, net: net.to_owned(), directory };
        lab.again();
        lab
    }

    /// New blank nodes in place of the old ones.
    pub(crate) fn again(&self) {
        let path = self.path();
        pgctl(&["sandbox", "down", &path]).ended(0);
        pgctl(&["sandbox", "up", &path]).ended(0);
    }

    pub(crate) fn path(&self) -> String {
        self.inventory.display().to_string()
    }

    pub(crate) fn address(&self, seq: u8) -> String {
        format!("{}.1{seq}", self.net)
    }

    /// An inventory of the same lab with `from` replaced by `to`.
    pub(crate) fn variant(&self, name: &str, from: &str, to: &str) -> String {
        let text = std::fs::read_to_string(&self.inventory).unwrap();
        assert!(text.contains(from), "`{from}` is not in the inventory");
        let path = self.directory.path().join(name);
        std::fs::write(&path, text.replace(from, to)).unwrap();
        path.display().to_string()
    }

    pub(crate) fn pgctl(&self, words: &[&str]) -> Said {
        pgctl(&[words, &["-i", &self.path()]].concat())
    }

    /// A deploy in the background, its events as JSON lines.
    pub(crate) fn deploying(&self) -> Child {
        Command::new(env!("CARGO_BIN_EXE_pgctl"))
            .args(["deploy", "-y", "--format", "json", "-i", &self.path()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Runs a command inside a node.
    pub(crate) fn on(&self, seq: u8, words: &[&str]) -> Said {
        pgctl(&[&["sandbox", "exec", &self.address(seq), "--"], words].concat())
    }

    pub(crate) fn power(&self, verb: &str, seq: u8) {
        pgctl(&["sandbox", verb, &self.address(seq)]).ended(0);
    }

    /// One query through a port of a node, as a client on the control machine would.
    pub(crate) fn sql(
        &self,
        seq: u8,
        port: u16,
        user: &str,
        password: &str,
        sql: &str,
    ) -> Result<String, String> {
        let target =
            format!("host={} port={port} user={user} dbname=test connect_timeout=5", self.address(seq));
        let output = Command::new("psql")
            .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &target, "-c", sql])
            .env("PGPASSWORD", password)
            .output()
            .expect("psql is needed: `make test` installs postgresql-client");
        let said = Said::of(&output);
        if said.code == 0 { Ok(said.out.trim().to_owned()) } else { Err(said.err) }
    }

    /// The plan as JSON.
    pub(crate) fn plan(&self) -> Value {
        let said = self.pgctl(&["plan", "--format", "json"]);
        serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {}\n{}", said.out, said.err))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let path = self.path();
        let said = pgctl(&["sandbox", "down", &path]);
        if !std::thread::panicking() {
            said.ended(0);
        }
    }
}

/// Host keys that are learned, for this run alone: the nodes of the next one have others at the same addresses.
fn known_hosts() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("known_hosts.{}", std::process::id()))
}

pub(crate) fn pgctl(words: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_pgctl"))
        .args(words)
        .stdin(Stdio::null())
        .env_remove("PGCTL_INVENTORY")
        .env("PGCTL_KNOWN_HOSTS", known_hosts())
        .output()
        .unwrap();
    Said::of(&output)
}

/// The lines of a plan or of a deploy's events, as (stage, node, resource), sorted.
pub(crate) fn changes(list: impl Iterator<Item = Value>) -> Vec<(String, String, String)> {
    let word = |v: &Value, key: &str| v[key].as_str().unwrap_or_default().to_owned();
    let mut lines: Vec<_> =
        list.map(|v| (word(&v, "stage"), word(&v, "node"), word(&v, "resource"))).collect();
    lines.sort();
    lines
}

/// The events of a deploy with `--format json`.
pub(crate) fn events(out: &str) -> Vec<Value> {
    out.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

impl Lab {
    /// A process that holds the nodes' locks until it is killed: a deploy that cannot finish, because a node's first
    /// change has to wait.
    pub(crate) fn on_hold(&self) -> Child {
        use std::io::{BufRead as _, BufReader, Write as _};
        // The script that a deploy sends takes a `flock`; holding the same file from inside a node is the same lock.
        let hold = "echo '{\"user\":\"other\",\"host\":\"elsewhere\",\"operation\":\"deploy\",\"since\":\"2026-01-01T00:00:00Z\",\"pid\":1}' >/run/pgctl/holder; exec 9>>/run/pgctl/lock; flock -n 9 && echo held && exec cat";
        let mut child = Command::new(env!("CARGO_BIN_EXE_pgctl"))
            .args(["sandbox", "exec", &self.address(2), "--", "sh", "-c", hold])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        child.stdin.as_mut().unwrap().flush().unwrap();
        child
    }
}
