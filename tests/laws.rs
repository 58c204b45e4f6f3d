//! The laws of the project (DESIGN, chapter 1), each as something that can fail.
#![allow(clippy::unwrap_used)]

mod blank;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use blank::{Blank, blank, playbook, root, show, yml};
use pgctl::inventory::parameters::{self, Support, Type};
use pgctl::live::Live;
use pgctl::plan::diff;
use pgctl::resource::{KINDS, Observed, make};
use pgctl::template::Assets;
use pgctl::text::diagnostic::Sources;
use pgctl::text::yaml;
use pgctl::topology::load;
use serde_json::{Value, json};

// ------------------------------------------------------------------------------------ the house

/// The Rust files below `src`, by path relative to it, without tests and comments.
fn code() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut open = vec![root().join("src")];
    while let Some(at) = open.pop() {
        if at.is_dir() {
            open.extend(std::fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()));
        } else if at.extension().is_some_and(|e| e == "rs") && at.file_name().unwrap() != "tests.rs" {
            let text = std::fs::read_to_string(&at).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let lines = text.lines().map(|l| if l.trim_start().starts_with("//") { "" } else { l });
            let name = at.strip_prefix(root().join("src")).unwrap().to_str().unwrap().to_owned();
            files.insert(name, lines.collect::<Vec<_>>().join("\n"));
        }
    }
    assert!(files.len() > 50);
    files
}

/// `resource` for `resource/file.rs`.
fn module(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

/// Where each word of `text` that is in `words` stands: `file:line: line`.
fn hits(text: &str, file: &str, words: &[&str]) -> Vec<String> {
    let lines = text.lines().enumerate();
    let found = lines.filter(|(_, l)| words.iter().any(|w| l.contains(w)));
    found.map(|(n, l)| format!("src/{file}:{}: {}", n + 1, l.trim())).collect()
}

/// Module → floor, as the map in `lib.rs` says.
fn floors() -> BTreeMap<String, u32> {
    let map = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rows = map.lines().filter_map(|l| {
        let mut cells = l.strip_prefix("//! | ")?.split(" | ");
        let floor = cells.next()?.parse().ok()?;
        let name = cells.next()?.trim_start_matches("[`").trim_end_matches("`]");
        Some((name.to_owned(), floor))
    });
    rows.collect()
}

/// Module → the modules that it names with `crate::`.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let path = regex::Regex::new(r"\bcrate::(\{[^}]*\}|\w+)").unwrap();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in code() {
        for found in path.captures_iter(&text) {
            let names =
                found[1].trim_matches(['{', '}']).split(',').map(|n| n.trim().split("::").next().unwrap());
            let to = imports.entry(module(&file).to_owned()).or_default();
            to.extend(names.filter(|n| !n.is_empty() && *n != module(&file)).map(str::to_owned));
        }
    }
    imports
}

#[test]
fn imports_only_go_down() {
    let floors = floors();
    for (file, _) in code() {
        let module = module(&file);
        let fine = floors.contains_key(module) || ["lib", "main", "sandbox"].contains(&module);
        assert!(fine, "src/{file} is not on the map in lib.rs");
    }
    let imports = imports();
    let mut wrong = Vec::new();
    for (from, to) in &imports {
        for to in to {
            match (from.as_str(), to.as_str()) {
                // The lab is used by the commands alone, and needs only words.
                ("cli", "sandbox") | ("sandbox", "text") => {}
                (_, "sandbox") | ("sandbox", _) => wrong.push(format!("{from} → {to}")),
                _ if floors[from] < floors[to] => wrong.push(format!("{from} → {to} goes up")),
                // Beside each other, never both ways.
                _ if imports.get(to).is_some_and(|back| back.contains(from)) => {
                    wrong.push(format!("{from} ↔ {to}"));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_floor_keeps_to_its_work() {
    let mut wrong = Vec::new();
    for (file, text) in code() {
        let module = module(&file);
        let mut ban = |allowed: &[&str], words: &[&str]| {
            if !allowed.contains(&module) {
                wrong.extend(hits(&text, &file, words));
            }
        };
        // The report alone prints.
        ban(&["report"], &["println!", "eprintln!", "print!(", "eprint!(", "io::stdout", "io::stderr"]);
        // One door to nodes.
        ban(&["remote"], &["russh"]);
        ban(&["remote", "engine", "sandbox", "cli"], &["std::net::Tcp", "tokio::net", "TcpStream"]);
        ban(&["remote", "sandbox"], &["process::Command"]);
        ban(&[], &[".unwrap()", "todo!", "unimplemented!", "unsafe ", "dbg!", "TODO", "FIXME", "XXX "]);
        // No error is hidden.
        ban(&[], &["|| true", "|| :"]);
        // What is planned and rendered looks at no clock and at no chance.
        ban(
            &["cli", "report", "operation", "engine", "remote", "sandbox"],
            &["SystemTime", "Instant", "Timestamp::now", "Zoned::now", "RandomState", "rand::", "env::var"],
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

// ---------------------------------------------------------------------------- nothing is ignored

#[test]
fn a_parameter_that_is_used_is_said_to_be_supported_and_the_other_way_round() {
    let mut shown = String::new();
    for folder in ["templates", "playbooks"] {
        let mut open = vec![root().join(folder)];
        while let Some(at) = open.pop() {
            if at.is_dir() {
                open.extend(std::fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()));
            } else {
                let text = std::fs::read_to_string(&at).unwrap();
                let lines =
                    text.lines().filter(|l| !l.contains("- stage:") && !l.trim().starts_with("after:"));
                shown.extend(lines.flat_map(|l| [l, "\n"]));
            }
        }
    }
    let code = code();
    let words = |text: &str| -> BTreeSet<String> {
        let word = |c: char| !(c.is_alphanumeric() || c == '_');
        text.split(word).map(str::to_owned).collect()
    };
    let mut used = words(&shown);
    let literals = regex::Regex::new(r#""(\w+)""#).unwrap();
    used.extend(literals.captures_iter(&code["plan/context.rs"]).map(|c| c[1].to_owned()));
    let mut named = used.clone();
    for text in code.iter().filter(|(file, _)| file.as_str() != "inventory/objects.rs").map(|(_, t)| t) {
        named.extend(words(text));
    }
    let mut wrong = Vec::new();
    for p in parameters::iter() {
        match p.support {
            Support::Supported if !named.contains(&p.name) => {
                wrong.push(format!("`{}` is supported, and nothing uses it", p.name));
            }
            Support::Supported => {}
            // Words that templates use for other things.
            _ if ["version", "language"].contains(&p.name.as_str()) => {}
            _ if used.contains(&p.name) => {
                wrong.push(format!("`{}` is used, and setting it says that it has no effect", p.name));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A playbook of one stage with these resources.
fn own(resources: &str) -> Result<pgctl::playbook::Playbook, String> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("playbooks")).unwrap();
    let text =
        format!("format: 1\nname: own\nstages:\n  - stage: a\n    on: all\n    resources:\n{resources}");
    std::fs::write(directory.path().join("playbooks/own.yml"), text).unwrap();
    playbook(&Assets::with_copies(directory.path()), "own.yml")
}

#[test]
fn what_a_playbook_says_wrongly_is_refused_at_its_place() {
    for (resources, words) in [
        ("      - command: { name: a, run: [b] }\n", "a `command` needs `unless` or `creates`"),
        ("      - comand: { name: a, run: [b] }\n", "did you mean `command`?"),
        (
            "      - file: { path: /a, content: b }\n        directory: { path: /b }\n",
            "one resource, one kind",
        ),
        ("      - file: { path: /a, content: b }\n        wehn: true\n", "did you mean `when`?"),
        ("      - when: true\n", "a resource needs a kind"),
        ("      - file\n", "a resource is a mapping"),
        (
            "      - file: { path: /a, content: b }\n        register: x\n",
            "`register` is no kind of resource",
        ),
    ] {
        let said = own(resources).map(|_| ()).expect_err(resources);
        assert!(said.contains(words) && said.contains("--> playbooks/own.yml:"), "{resources}{said}");
    }
    for (kind, args, near) in [
        ("file", json!({"path": "/a", "contnet": "b"}), "content"),
        ("template", json!({"path": "/a", "content": "b", "mdoe": "0644"}), "mode"),
        ("service", json!({"name": "a", "restart-on": ["/b"]}), "restart_on"),
        ("wait", json!({"patroni": "running", "timout": "5s"}), "timeout"),
        ("pg_role", json!({"severs": {}}), "server"),
    ] {
        let said = make(kind, args).map(|_| ()).expect_err(kind);
        assert!(said.contains(&format!("did you mean `{near}`?")), "{said}");
    }
    for (playbook, words) in [
        ("name: x\nstages: []\n", "starts with `format: 1`"),
        ("format: 2\nname: x\nstages: []\n", "starts with `format: 1`"),
        ("format: 1\nstage: []\n", "did you mean `stages`?"),
        ("format: 1\nstages:\n - stage: a\n   on: al\n   resources: []\n", "did you mean `all`?"),
        ("format: 1\nstages:\n - stage: a\n   resources: []\n", "needs `on`"),
        (
            "format: 1\nstages:\n - stage: a\n   on: all\n   order: serail\n   resources: []\n",
            "did you mean `serial`?",
        ),
        (
            "format: 1\nstages:\n - stage: a\n   on: all\n   after: b\n   resources: []\n",
            "names no earlier stage",
        ),
        ("format: 1\nstages:\n - include: own.yml\n", "include each other too deeply"),
        ("format: 1\nstages:\n - include: nowhere.yml\n", "there is no playbook `nowhere.yml`"),
        ("format: 1\nstages:\n - include: node.yml\n   when: x\n", "takes a playbook's name, alone"),
        ("format: 1\nstages:\n - &s { stage: a, on: all, resources: [] }\n - *s\n", "is there twice"),
        ("format: 1\nstages: [\n", "own.yml"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("playbooks")).unwrap();
        std::fs::write(directory.path().join("playbooks/own.yml"), playbook).unwrap();
        let loaded = blank::playbook(&Assets::with_copies(directory.path()), "own.yml");
        let said = loaded.map(|_| ()).expect_err(playbook);
        assert!(said.contains(words), "{playbook}{said}");
    }
}

#[test]
fn every_kind_refuses_what_it_does_not_know_and_never_repeats_a_value() {
    for (kind, _) in KINDS {
        let said = make(kind, json!({"zzzz": "CANARY"})).map(|_| ()).expect_err(kind);
        assert!(said.contains("zzzz") && !said.contains("CANARY"), "{kind}: {said}");
        let said = make(kind, json!("CANARY")).map(|_| ()).expect_err(kind);
        assert!(!said.contains("CANARY"), "{kind}: {said}");
    }
    let said = make("file", json!({"path": "/a", "content": 20_240_101})).map(|_| ()).unwrap_err();
    assert_eq!(said, "needs a string, not integer");
    let role = json!({"server": {"user": "a", "bin": "/a", "socket": "/a", "port": 1}, "cluster": "c",
        "replication_user": "r", "role": {"name": "x", "password": ["CANARY"], "login": "CANARY"}});
    assert!(!make("pg_role", role).map(|_| ()).unwrap_err().contains("CANARY"));
}

// ----------------------------------------------------------------------------------- plan is truth

#[test]
fn a_plan_is_a_function_of_what_was_seen() {
    let made = blank(&root().join("inventories/sandbox.yml")).unwrap();
    let playbook = playbook(&Assets::embedded(), "deploy.yml").unwrap();
    for desired in &made.desired {
        let observed = Observed::default();
        let look = || diff(&playbook, desired, &observed, &Live::default(), None);
        let (one, two) = (look(), look());
        assert_eq!(one.len(), desired.resources.len());
        for (a, b) in one.iter().zip(&two) {
            assert_eq!((a.stage, &a.step), (b.stage, &b.step), "{}", a.resource.id());
        }
    }
}

// ------------------------------------------------------------------------------------------ secrets

const CANARY: &str = "CANARY-7f3a";

/// An inventory with a canary in every place for a secret, and how many there are.
fn with_canaries() -> (String, usize) {
    let mut n = 0;
    let mut next = || {
        n += 1;
        format!("{CANARY}-{n}")
    };
    let mut vars: Vec<String> = parameters::iter()
        .filter(|p| p.kind == Type::Password)
        .map(|p| format!("    {}: {}", p.name, next()))
        .collect();
    vars.push(format!("    pgsodium_key: {}", next()));
    vars.push(format!(
        "    pg_users: [{{ name: app, password: {}, pgbouncer: true, roles: [dbrole_readonly] }}, {{ name: dbuser_dba, password: {} }}]",
        next(),
        next()
    ));
    vars.push("    pgbackrest_method: s3".to_owned());
    vars.push(format!(
        "    pgbackrest_repo: {{ s3: {{ type: s3, path: /backup, s3_endpoint: h, s3_bucket: b, s3_region: r, s3_key: k, s3_key_secret: {}, cipher_type: aes-256-cbc, cipher_pass: {} }} }}",
        next(),
        next()
    ));
    let text = format!(
        "all:
  children:
    etcd: {{ hosts: {{ 127.92.0.1: {{ etcd_seq: 1 }} }}, vars: {{ etcd_cluster: etcd }} }}
    pg-one:
      hosts: {{ 127.92.0.1: {{ pg_seq: 1, pg_role: primary }} }}
      vars: {{ pg_cluster: pg-one, pg_version: 15 }}
  vars:
    ansible_port: 1
    ansible_ssh_private_key_file: /dev/null
{}
",
        vars.join("\n")
    );
    (text, n)
}

fn written(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("i.yml");
    std::fs::write(&path, text).unwrap();
    path
}

#[track_caller]
fn clean(what: &str, text: &str) {
    if let Some(at) = text.find(CANARY) {
        let from = text[..at].rfind('\n').map_or(0, |n| n + 1);
        let line = text[from..].lines().next().unwrap_or_default();
        panic!("a secret in {what}: {line}");
    }
}

/// What a command says, on both streams.
fn spoken(directory: &Path, args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_pgctl"))
        .current_dir(directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", directory)
        .args(args)
        .output()
        .unwrap();
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

#[test]
fn secrets_stay_secret_in_plans_scripts_and_debug_output() {
    let directory = tempfile::tempdir().unwrap();
    let (text, n) = with_canaries();
    assert!(n > 15, "only {n} canaries");
    let made = blank(&written(directory.path(), &text)).unwrap_or_else(|e| panic!("{e}"));
    // They do arrive where they belong: this test is no test otherwise.
    let secret = |path: &str| made.file(path).contains(CANARY);
    assert!(secret("/etc/patroni/patroni.yml") && secret("/etc/pgbackrest/pgbackrest.conf"));
    assert!(secret("/etc/haproxy/haproxy.cfg"));
    clean("the plan", &made.page(0, "pgctl deploy"));
    clean("the plan with -v", &made.page(1, "pgctl deploy"));
    clean("the plan as JSON", &made.json().to_string());
    clean("the warnings", &made.warnings);
    clean("Debug of the plan", &format!("{:?}", made.plan));
    clean("Debug of the resources", &format!("{:?}", made.desired));
    for script in made.scripts() {
        clean("a script, outside of encoded content", &script);
    }
    for desired in &made.desired {
        for (_, resource) in &desired.resources {
            if let Some(file) = resource.file().filter(|f| f.content.contains(CANARY)) {
                assert!(file.secret, "{} holds a secret and may be shown", file.path);
                assert_eq!(file.mode & 0o007, 0, "{} holds a secret and is for everybody", file.path);
            }
        }
    }
}

#[test]
fn secrets_stay_secret_when_a_file_that_holds_them_changes() {
    let directory = tempfile::tempdir().unwrap();
    let (text, _) = with_canaries();
    let made = blank(&written(directory.path(), &text)).unwrap();
    for desired in &made.desired {
        for (_, resource) in &desired.resources {
            let Some(file) = resource.file() else { continue };
            // As if the node had sent everything that it has.
            let mut observed = Observed::default();
            let state = pgctl::resource::PathState {
                kind: pgctl::resource::PathKind::File,
                mode: 0o644,
                owner: "root".into(),
                group: "root".into(),
                sha256: Some("0".into()),
                target: None,
            };
            observed.paths.insert(file.path.clone(), state);
            observed.contents.insert(file.path.clone(), format!("old {CANARY}\n").into_bytes());
            let pending = pgctl::resource::Pending::default();
            let live = Live::default();
            let seen =
                pgctl::resource::Seen { observed: &observed, pending: &pending, live: &live, leader: None };
            if file.secret {
                clean(&file.path, &format!("{:?}", resource.diff(&seen)));
            }
        }
    }
}

#[test]
fn secrets_stay_secret_on_the_screen() {
    let directory = tempfile::tempdir().unwrap();
    let (text, _) = with_canaries();
    written(directory.path(), &text);
    for args in [
        &["check", "--offline", "i.yml"][..],
        &["check", "--offline", "i.yml", "--format", "json"],
        &["list", "i.yml", "-vv"],
        &["render", "--offline", "i.yml", "-o", "out", "-vvv"],
        &["plan", "i.yml", "-vvv"],
        &["plan", "i.yml", "--format", "json"],
        &["deploy", "-y", "i.yml", "-vv"],
        &["check", "i.yml", "-e", &format!("pg_admin_password={CANARY}"), "-e", "pg_prot=1"],
    ] {
        let said = spoken(directory.path(), args);
        assert!(!said.is_empty());
        clean(&format!("{args:?}"), &said);
    }
}

#[test]
fn secrets_stay_secret_in_what_is_said_of_a_broken_inventory() {
    let (text, _) = with_canaries();
    let mut broken: Vec<String> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if !line.contains(CANARY) {
            continue;
        }
        let with = |new: String| {
            let lines =
                text.lines().enumerate().map(|(n, l)| if n == at { new.clone() } else { l.to_owned() });
            lines.collect::<Vec<_>>().join("\n")
        };
        let (key, value) = line.split_once(':').unwrap();
        broken.push(with(format!("{key}: [{}]", value.trim())));
        broken.push(with(format!("{key}: {{ a: {} }}", value.trim())));
        broken.push(with(format!("{key}: {} : x", value.trim())));
        broken.push(with(format!("{key}: \"{}", value.trim())));
        broken.push(with(format!("\t{line}")));
        broken.push(with(format!("{line}\n{line}")));
        broken.push(with(format!("{key}: !vault {}", value.trim())));
    }
    for (what, with) in [
        ("password: ", "password: [x], pasword: "),
        ("password: ", "passwrod: "),
        ("name: app, ", "nmae: app, "),
        ("name: app, ", "name: App, "),
        ("name: app, ", "name: app, state: gone, "),
        ("pg_role: primary", "pg_role: pirmary"),
        ("roles: [dbrole_readonly]", "roles: dbrole_readonly"),
        ("pg_version: 15", "pg_version: x"),
    ] {
        broken.push(text.replacen(what, with, 1));
    }
    // A number is no text, and must not be repeated either.
    broken.push(text.replace(&format!("password: {CANARY}"), "password: 7357 # "));
    assert!(broken.len() > 100);
    for text in broken {
        let directory = tempfile::tempdir().unwrap();
        if let Err(said) = blank(&written(directory.path(), &text)) {
            clean("an error", &said);
            assert!(!said.contains("7357"), "{said}");
        }
    }
}
