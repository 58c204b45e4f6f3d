//! The laws of the project (DESIGN, chapter 1), each as something that can fail.
#![allow(clippy::unwrap_used, clippy::format_push_string, reason = "short texts of a test")]

mod blank;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use blank::{Blank, blank, playbook, root};
use pgctl::inventory::parameters::{self, Support, Type};
use pgctl::live::Live;
use pgctl::plan::diff;
use pgctl::resource::{KINDS, Observed, make};
use pgctl::template::Assets;
use pgctl::text::diagnostic::Sources;
use pgctl::text::yaml;
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
                changed: 0,
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

// -------------------------------------------------------------------------------- data is never code

/// Places for text in an inventory: `@` stands for the value, as a quoted scalar.
const PLACES: &[&str] = &[
    "pg_users: [{ name: @ }]",
    "pg_users: [{ name: app, password: @, pgbouncer: true }]",
    "pg_users: [{ name: app, comment: @ }]",
    "pg_users: [{ name: app, roles: [@] }]",
    "pg_users: [{ name: app, expire_at: @ }]",
    "pg_users: [{ name: app, pgbouncer: true, pool_mode: @ }]",
    "pg_users: [{ name: app, parameters: { work_mem: @ } }]",
    "pg_users: [{ name: app, parameters: { @: x } }]",
    "pg_users: [{ name: app, parameters: { search_path: @ } }]",
    "pg_databases: [{ name: @ }]",
    "pg_databases: [{ name: app, owner: @ }]",
    "pg_databases: [{ name: app, comment: @ }]",
    "pg_databases: [{ name: app, tablespace: @, encoding: @, locale: @, template: @ }]",
    "pg_databases: [{ name: app, parameters: { @: @ } }]",
    "pg_databases: [{ name: app, pool_auth_user: @, pool_mode: @ }]",
    "pg_parameters: { log_line_prefix: @ }",
    "pg_parameters: { @: 1 }",
    "pg_admin_password: @",
    "pg_replication_password: @",
    "pg_monitor_password: @",
    "pg_dbsu_password: @",
    "patroni_password: @",
    "patroni_username: @",
    "haproxy_admin_password: @",
    "haproxy_admin_username: @",
    "haproxy_client_timeout: @",
    "pg_admin_username: @",
    "pg_monitor_username: @",
    "pg_replication_username: @",
    "pg_dbsu: @",
    "pg_dbsu_home: @",
    "pg_data: @",
    "pg_log_dir: @",
    "pg_localhost: @",
    "pg_listen: @",
    "pg_namespace: @",
    "pg_encoding: @",
    "pg_locale: @",
    "pg_libs: @",
    "pg_primary_db: @",
    "pg_cluster: @",
    "pg_delay: @",
    "pgbouncer_poolmode: @",
    "pgbouncer_ignore_param: [@]",
    "pgbackrest_log_dir: @",
    "pgbackrest_method: @",
    "pgbackrest_repo: { local: { path: @ } }",
    "pgbackrest_repo: { local: { path: /b, @: x } }",
    "pgbackrest_repo: { local: { path: /b, cipher_pass: @ } }",
    "node_etc_hosts: [@]",
    "node_packages: [@]",
    "node_data: @",
    "nodename: @",
    "node_sysctl_params: { vm.swappiness: @ }",
    "node_sysctl_params: { @: 1 }",
    "pg_hba_rules: [{ title: @, user: all, db: all, addr: world, auth: ssl }]",
    "pg_hba_rules: [{ user: @, db: all, addr: world, auth: ssl }]",
    "pg_hba_rules: [{ user: all, db: @, addr: world, auth: ssl }]",
    "pg_hba_rules: [{ user: all, db: all, addr: @, auth: ssl }]",
    "pg_hba_rules: [{ user: all, db: all, addr: world, auth: @ }]",
    "pg_hba_rules: [{ title: t, rules: [@] }]",
    "pgb_hba_rules: [{ user: @, db: @, addr: world, auth: ssl }]",
    "pg_services: [{ name: @, port: 5440, selector: '[]' }]",
    "pg_services: [{ name: s, port: 5440, ip: @, selector: '[]' }]",
    "pg_services: [{ name: s, port: 5440, selector: @ }]",
    "pg_services: [{ name: s, port: 5440, check: @, selector: '[]' }]",
    "pg_services: [{ name: s, port: 5440, balance: @, selector: '[]' }]",
    "pg_services: [{ name: s, port: 5440, options: @, selector: '[]' }]",
    "admin_ip: @",
    "etcd_data: @",
    "etcd_init: @",
];

const HOSTILE: &[&str] = &[
    "'; touch /tmp/pwned; '",
    "\"; touch /tmp/pwned; \"",
    "$(touch /tmp/pwned)",
    "a\ntouch /tmp/pwned\n",
    "x\nPGCTL_CONTENT\ntouch /tmp/pwned\n",
    "%s%n%d",
    "{{ 7*7 }}",
    "a: b # c",
    "\\'; DROP TABLE x; --",
    "$$; DROP TABLE x; $$",
    "\u{1b}[31m",
    "../../etc/shadow",
    "é漢🦀",
];

fn placed(place: &str, value: &str) -> String {
    let line = place.replace('@', &serde_json::to_string(value).unwrap());
    let cluster = if place.starts_with("pg_cluster") { "" } else { ", pg_cluster: pg-one" };
    format!(
        "all:
  children:
    etcd: {{ hosts: {{ 127.93.0.1: {{ etcd_seq: 1 }} }}, vars: {{ etcd_cluster: etcd }} }}
    pg-one:
      hosts: {{ 127.93.0.1: {{ pg_seq: 1, pg_role: primary }} }}
      vars: {{ pg_version: 15{cluster} }}
  vars:
    {line}
"
    )
}

fn spaced(text: &str) -> String {
    text.split(' ').filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Every string in a value, keys too, with one text in place of another.
fn replaced(value: &Value, old: &str, new: &str) -> Value {
    match value {
        // HBA rules are aligned: how many spaces there are means nothing.
        // A name in them is quoted, with quotes doubled (PostgreSQL manual, 20.1).
        Value::String(s) => {
            let quoted = format!("\"{}\"", old.replace('"', "\"\""));
            // A title becomes a comment: its lines are joined.
            let joined = old.split_whitespace().collect::<Vec<_>>().join(" ");
            Value::String(spaced(&s.replace(&quoted, new).replace(old, new).replace(&joined, new)))
        }
        Value::Array(items) => items.iter().map(|i| replaced(i, old, new)).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.replace(old, new), replaced(v, old, new))).collect(),
        other => other.clone(),
    }
}

fn parsed(name: &str, text: &str) -> Result<Value, String> {
    let mut sources = Sources::default();
    let file = sources.add(name, text);
    yaml::load(&sources, file).map(|(root, _)| root.to_json()).map_err(|e| blank::show(&sources, &e))
}

fn difference(old: &Value, new: &Value) -> String {
    let text = |v: &Value| serde_json::to_string_pretty(v).unwrap();
    let (old, new) = (text(old), text(new));
    similar::TextDiff::from_lines(&old, &new).unified_diff().context_radius(1).to_string()
}

/// What the two have in common must not differ: with a hostile value every file keeps its shape.
fn compare(harmless: &Blank, hostile: &Blank, value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let (old, new) = (harmless.files(), hostile.files());
    if old.len() != new.len() {
        wrong.push(format!("{} files, not {}", new.len(), old.len()));
    }
    for ((_, path, old), (_, _, new)) in old.iter().zip(&new) {
        if Path::new(path).extension().is_some_and(|e| e == "yml") {
            match (parsed(path, old), parsed(path, new)) {
                (Ok(old), Ok(new))
                    if replaced(&new, value, "harmless") == replaced(&old, "harmless", "harmless") => {}
                (Ok(old), Ok(new)) => {
                    wrong.push(format!("{path} means something else:\n{}", difference(&old, &new)));
                }
                (_, Err(e)) | (Err(e), _) => wrong.push(format!("{path}: {e}")),
            }
        } else if old.lines().count() != new.lines().count() {
            wrong.push(format!("{path} has more or fewer lines:\n{new}"));
        } else {
            for (old, new) in old.lines().zip(new.lines()) {
                let literal = value == "{{ 7*7 }}" && old.contains("harmless") && !new.contains(value);
                if literal
                    || (spaced(old) != spaced(new) && !old.contains("harmless") && !old.contains("SCRAM"))
                {
                    wrong.push(format!("{path}: `{old}` became `{new}`"));
                }
            }
        }
    }
    wrong
}

/// One `sh -n` for all: each script becomes a function's body in a file of its own.
fn syntax(directory: &Path, scripts: &[String]) -> String {
    let mut check = String::new();
    for (n, script) in scripts.iter().enumerate() {
        std::fs::write(directory.join(format!("{n}.sh")), script).unwrap();
        check.push_str(&format!("sh -n {n}.sh || echo {n}\n"));
    }
    let out = Command::new("sh").arg("-c").arg(check).current_dir(directory).output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

#[test]
fn hostile_values_are_refused_or_stay_values() {
    let directory = tempfile::tempdir().unwrap();
    let (mut wrong, mut refused, mut kept) = (Vec::new(), 0, 0);
    let mut known: BTreeSet<String> = BTreeSet::new();
    for place in PLACES {
        let harmless = blank(&written(directory.path(), &placed(place, "harmless"))).ok();
        let parameter = place.split(':').next().unwrap();
        for value in HOSTILE {
            let mut say = |what: String| wrong.push(format!("{place} with {value:?}: {what}"));
            match blank(&written(directory.path(), &placed(place, value))) {
                Err(said) => {
                    refused += 1;
                    // At its line, by its parameter, or by the stage and template that cannot take it.
                    let word = ["user `", "service `", "HBA rule", "i.yml:", "stage `", parameter];
                    if !word.iter().any(|w| said.contains(w)) {
                        say(format!("refused without a place: {said}"));
                    }
                }
                Ok(made) => {
                    kept += 1;
                    if let Some(harmless) = &harmless {
                        compare(harmless, &made, value).into_iter().for_each(&mut say);
                    }
                    // The same script is looked at once.
                    let new: Vec<String> =
                        made.scripts().into_iter().filter(|s| known.insert(s.clone())).collect();
                    let said = syntax(directory.path(), &new);
                    if !said.is_empty() {
                        say(format!("no script: {said}"));
                    }
                }
            }
        }
    }
    assert!(!Path::new("/tmp/pwned").exists());
    assert!(refused > 100 && kept > 100, "{refused} refused, {kept} kept");
    assert!(
        wrong.is_empty(),
        "{} wrong ({refused} refused, {kept} kept):\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
