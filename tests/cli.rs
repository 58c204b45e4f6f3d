//! The binary as a person uses it: words, files, exit codes. It never dials anything but closed ports of loopback.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// What a command said and how it ended.
struct Said {
    code: i32,
    out: String,
    err: String,
}

fn pgctl(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgctl"));
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", directory)
        .env("COLUMNS", "100");
    command
}

fn run(directory: &Path, args: &[&str]) -> Said {
    said(pgctl(directory).args(args))
}

fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// A directory with the inventory `i.yml`.
fn with(inventory: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("i.yml"), inventory).unwrap();
    directory
}

/// Two clusters whose addresses lead nowhere: ports of loopback on which nobody listens.
const NOWHERE: &str = "\
all:
  children:
    etcd:
      hosts: { 127.91.0.1: { etcd_seq: 1 } }
      vars: { etcd_cluster: etcd }
    pg-one:
      hosts:
        127.91.0.1: { pg_seq: 1, pg_role: primary }
        127.91.0.2: { pg_seq: 2, pg_role: replica }
      vars: { pg_cluster: pg-one, pg_version: 15 }
    pg-two:
      hosts: { 127.91.0.3: { pg_seq: 1, pg_role: primary } }
      vars: { pg_cluster: pg-two, pg_version: 15, pg_databases: [{ name: app }] }
  vars: { ansible_port: 1, ansible_ssh_private_key_file: /dev/null, pg_conf: tiny.yml }
";

/// The same with one piece of text replaced.
fn nowhere(old: &str, new: &str) -> TempDir {
    assert!(NOWHERE.contains(old));
    with(&NOWHERE.replacen(old, new, 1))
}

fn ours(name: &str) -> String {
    format!("{}/inventories/{name}", env!("CARGO_MANIFEST_DIR"))
}

// ------------------------------------------------------------------------------------------- help

#[test]
fn the_help_is_the_map_of_the_commands() {
    let directory = tempfile::tempdir().unwrap();
    let help = run(directory.path(), &["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    for command in ["check", "plan", "deploy", "status", "list", "render", "lock", "sandbox"] {
        let line = help.out.lines().find(|l| l.trim_start().starts_with(command));
        assert!(line.is_some_and(|l| l.trim().len() > command.len() + 20), "{command}: {}", help.out);
    }
    assert!(help.out.contains("Exit codes: 0 converged or done"), "{}", help.out);
    assert_eq!(run(directory.path(), &["--version"]).out, concat!("pgctl ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn every_command_has_help_with_its_options() {
    let directory = tempfile::tempdir().unwrap();
    for (command, words) in [
        (&["check"][..], &["--offline", "--limit", "--connect-timeout"][..]),
        (&["plan"], &["--stage", "--exit-code", "PGCTL_INVENTORY"]),
        (&["deploy"], &["--yes", "--stage", "--forks"]),
        (&["status"], &["--limit"]),
        (&["list"], &["--limit", "--extra"]),
        (&["render"], &["--output", "--offline"]),
        (&["lock"], &["status"]),
        (&["lock", "status"], &["--limit"]),
        (&["sandbox"], &["up", "down"]),
        (&["sandbox", "up"], &[]),
        (&["sandbox", "down"], &["--all"]),
        (&["sandbox", "exec"], &[]),
    ] {
        let help = run(directory.path(), &[command, &["--help"]].concat());
        assert_eq!((help.code, help.err.as_str()), (0, ""), "{command:?}");
        for word in words {
            assert!(help.out.contains(word), "{command:?} has no {word}:\n{}", help.out);
        }
        // The first line says what it does, without a full stop.
        let first = help.out.lines().next().unwrap();
        assert!(first.len() > 15 && !first.ends_with('.'), "{command:?}: {first}");
        for line in help.out.lines() {
            assert!(line.chars().count() <= 100, "{command:?}: {line}");
        }
    }
}

#[test]
fn the_help_of_plan() {
    let directory = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(run(directory.path(), &["plan", "-h"]).out, @r"
    Show what differs on the nodes, and what `deploy` would do about it; change nothing

    Usage: pgctl plan [OPTIONS] [INVENTORY]

    Options:
      -h, --help  Print help (see more with '--help')

    Inventory:
      -i, --inventory <FILE>    The same, as an option
      -e, --extra <NAME=VALUE>  Set a variable above all levels of the inventory: NAME=VALUE, VALUE as
                                JSON or text (can be repeated)
      [INVENTORY]               The inventory, a Pigsty-style YAML file [default: what PGCTL_INVENTORY
                                names, else pgctl.yml, inventory.yml or pigsty.yml here]

    Selection:
      -l, --limit <PATTERN>  Only these nodes: a cluster, group, node, address or glob; `a,b` adds, `!x`
                             takes away, `&x` keeps
          --stage <STAGE>    Only these stages (can be repeated; globs)

    Connection:
      -f, --forks <N>                  Connect to this many nodes at the same time [default: 50]
          --connect-timeout <SECONDS>  Give a node this long to answer a connection, seconds [default:
                                       10]

    Output:
          --format <FORMAT>  Say it for people or for machines [default: plain] [possible values: plain,
                             json]
          --color <COLOR>    When to use colour [default: auto] [possible values: auto, always, never]
      -q, --quiet            Say results and errors only
      -v, --verbose...       Say more: differences line by line; twice: what goes over the wire
          --exit-code        Exit with 3 when there are differences
    ");
}

// ------------------------------------------------------------------------------------- usage: exit 2

#[test]
fn what_cannot_be_understood_is_usage() {
    let directory = with(NOWHERE);
    for (args, words) in [
        (&[][..], &["Usage: pgctl"][..]),
        (&["lsit"], &["unrecognized subcommand 'lsit'", "'list'"]),
        (&["plan", "--limt", "x"], &["--limt", "--limit"]),
        (&["plan", "a.yml", "b.yml"], &["b.yml"]),
        (&["plan", "a.yml", "-i", "b.yml"], &["cannot be used with"]),
        (&["plan", "--format", "xml"], &["xml", "plain, json"]),
        (&["plan", "-f", "many"], &["many"]),
        (&["list", "i.yml", "-e", "pg_version"], &["`-e pg_version` is not NAME=VALUE"]),
    ] {
        let said = run(directory.path(), args);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{args:?}: {}", said.err);
        for word in words {
            assert!(said.err.contains(word), "{args:?}, no {word}: {}", said.err);
        }
    }
}

#[test]
fn words_of_neighbours_are_answered_with_ours() {
    let directory = tempfile::tempdir().unwrap();
    for (typed, ours) in [
        (&["apply"][..], "`apply` is `pgctl deploy` here"),
        (&["up"], "`up` is `pgctl deploy` here"),
        (&["playbook", "pgsql.yml"], "`playbook` is `pgctl deploy` here"),
        (&["diff"], "`diff` is `pgctl plan -v` here"),
        (&["validate"], "`validate` is `pgctl check --offline` here"),
        (&["deploy", "--check"], "`--check` is `pgctl plan` here"),
        (&["deploy", "i.yml", "--diff"], "`--diff` is `pgctl plan -v` here"),
        (&["plan", "--check"], "`--check` is `pgctl plan` here"),
    ] {
        let said = run(directory.path(), typed);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{typed:?}: {}", said.err);
        assert!(said.err.contains(&format!("hint: {ours}")), "{typed:?}: {}", said.err);
        assert!(!said.err.contains("to pass '"), "clap's tip leads away: {}", said.err);
    }
}

#[test]
fn a_selection_that_is_none_is_usage_and_guesses() {
    let directory = with(NOWHERE);
    for (args, words) in [
        (&["list", "i.yml", "-l", "pg-tow"][..], "did you mean `pg-two`?"),
        (&["list", "i.yml", "-l", "pg-one-3"], "did you mean `pg-one-1`?"),
        (&["list", "i.yml", "-l", "10.0.0.1"], "is no cluster, group, node or address"),
        (&["list", "i.yml", "-l", "pg-one,!pg-one"], "leaves no node"),
        (&["list", "i.yml", "-l", "!pg-tow"], "did you mean `pg-two`?"),
        (&["plan", "i.yml", "--stage", "pg_confg"], "did you mean `pg_config`?"),
        (&["plan", "i.yml", "--stage", "zzz"], "it has node_name, node_package"),
        (&["plan", "i.yml", "--tags", "pg_config,pg_obj"], "`--stage pg_obj`"),
    ] {
        let said = run(directory.path(), args);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{args:?}: {}", said.err);
        assert!(said.err.contains(words), "{args:?}, no {words}: {}", said.err);
    }
    // An empty limit is a slip of a script, not everything.
    assert_eq!(run(directory.path(), &["list", "i.yml", "-l", ""]).code, 2);
}

// ---------------------------------------------------------------------------- the inventory: exit 1

#[test]
fn what_is_wrong_with_a_file_is_said_at_its_place() {
    for (inventory, words) in [
        ("all: [\n", &["i.yml:"][..]),
        ("all:\n\tchildren: {}\n", &["i.yml:2:", "indent with spaces"]),
        ("", &["i.yml", "an inventory starts with `all:`"]),
        ("all: 5\n", &["i.yml:1:"]),
        (&NOWHERE.replace("pg_role: replica", "pg_role: primary"), &["i.yml:9:", "i.yml", "primary"]),
        (&NOWHERE.replace("pg_seq: 2", "pg_seq: 1"), &["i.yml:9:", "pg_seq"]),
        (&NOWHERE.replace("pg_seq: 2", "pg_seq: two"), &["i.yml:9:", "pg_seq", "two"]),
        (&NOWHERE.replace("pg_version: 15", "pg_version: fifteen"), &["i.yml:10:", "pg_version", "fifteen"]),
        (&NOWHERE.replace("primary", "pirmary"), &["i.yml:8:", "did you mean `primary`?"]),
        (
            &NOWHERE.replace("{ name: app }", "{ nmae: app }"),
            &["i.yml:13:", "did you mean `name`?", "has no `name`"],
        ),
    ] {
        let directory = with(inventory);
        let said = run(directory.path(), &["check", "--offline", "i.yml"]);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{inventory}: {}", said.err);
        for word in words.iter().chain(&["nothing was touched"]) {
            assert!(said.err.contains(word), "{inventory}\nno {word}:\n{}", said.err);
        }
        // The same words whatever is about to be done, and before anything is dialled.
        let plan = run(directory.path(), &["plan", "i.yml"]);
        assert_eq!((plan.code, plan.err), (1, said.err));
    }
}

#[test]
fn everything_wrong_is_said_at_once_and_counted() {
    let inventory = NOWHERE
        .replace("pg_role: replica", "pg_role: primary")
        .replace("pg_version: 15,", "pg_version: fifteen, pg_conff: x,");
    let directory = with(&inventory);
    let said = run(directory.path(), &["check", "--offline", "i.yml"]);
    assert_eq!(said.code, 1);
    assert!(
        said.err.matches("\nerror: ").count() + usize::from(said.err.starts_with("error: ")) >= 3,
        "{}",
        said.err
    );
    assert!(said.err.contains("warning: unknown parameter `pg_conff`"), "{}", said.err);
    let lines = run(directory.path(), &["check", "--offline", "i.yml", "--format", "json"]);
    let lines: Vec<Value> = lines.err.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let places: Vec<&str> = lines.iter().filter_map(|l| l["place"].as_str()).collect();
    assert!(places.iter().all(|p| p.starts_with("i.yml:")) && places.len() >= 3, "{lines:?}");
    assert_eq!(lines.last().unwrap()["exit"], 1);
}

#[test]
fn a_file_that_is_not_there() {
    let directory = with(NOWHERE);
    let said = run(directory.path(), &["plan", "j.yml"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.starts_with("error: no such file: `j.yml`"), "{}", said.err);
    let empty = tempfile::tempdir().unwrap();
    let said = run(empty.path(), &["plan"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("no inventory") && said.err.contains("PGCTL_INVENTORY"), "{}", said.err);
    // A directory in place of a file.
    let said = run(directory.path(), &["plan", "/"]);
    assert_eq!(said.code, 1, "{}", said.err);
}

#[test]
fn an_unknown_parameter_is_a_warning_with_a_guess() {
    let directory = nowhere("pg_conf: tiny.yml", "pg_conf: tiny.yml, pg_prot: 5433");
    let said = run(directory.path(), &["check", "--offline", "i.yml"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("unknown parameter `pg_prot`"), "{}", said.err);
    assert!(said.err.contains("did you mean `pg_port`?") && said.err.contains("i.yml:14:"), "{}", said.err);
    assert_eq!(said.out, "i.yml: 3 nodes, 2 clusters, 1 etcd member, no errors\n");
    assert_eq!(run(directory.path(), &["check", "--offline", "-q", "i.yml"]).err, "");
}

#[test]
fn a_playbook_or_template_of_ones_own_is_checked_too() {
    let directory = with(NOWHERE);
    std::fs::create_dir(directory.path().join("playbooks")).unwrap();
    let own = directory.path().join("playbooks/node.yml");
    std::fs::write(&own, "format: 1\nstages:\n  - stage: a\n    on: all\n    resources: [{ fiel: {} }]\n")
        .unwrap();
    let said = run(directory.path(), &["check", "--offline", "i.yml"]);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("playbooks/node.yml:5:") && said.err.contains("did you mean `file`?"),
        "{}",
        said.err
    );
    std::fs::remove_file(own).unwrap();
    std::fs::create_dir_all(directory.path().join("templates/patroni")).unwrap();
    std::fs::write(directory.path().join("templates/patroni/patroni.yml.j2"), "a\n{{ nothing }}\n").unwrap();
    let said = run(directory.path(), &["render", "--offline", "i.yml"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("templates/patroni/patroni.yml.j2:2: undefined value"), "{}", said.err);
    assert_eq!(said.err.matches("undefined value").count(), 1, "one mistake is one message: {}", said.err);
}

// -------------------------------------------------------------------------------------- which file

#[test]
fn the_inventory_is_found_where_it_is_named_or_usual() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let name = |cluster: &str| NOWHERE.replace("pg-two", cluster);
    let lists = |command: &mut Command| {
        let said = said(command);
        assert_eq!(said.code, 0, "{}", said.err);
        ["pg-pigsty", "pg-inventory", "pg-pgctl", "pg-env", "pg-given"]
            .into_iter()
            .find(|c| said.out.contains(*c))
            .unwrap_or_else(|| panic!("{}", said.out))
    };
    std::fs::write(at.join("pigsty.yml"), name("pg-pigsty")).unwrap();
    assert_eq!(lists(pgctl(at).arg("list")), "pg-pigsty");
    std::fs::write(at.join("inventory.yml"), name("pg-inventory")).unwrap();
    assert_eq!(lists(pgctl(at).arg("list")), "pg-inventory");
    std::fs::write(at.join("pgctl.yml"), name("pg-pgctl")).unwrap();
    assert_eq!(lists(pgctl(at).arg("list")), "pg-pgctl");
    std::fs::write(at.join("env.yml"), name("pg-env")).unwrap();
    assert_eq!(lists(pgctl(at).arg("list").env("PGCTL_INVENTORY", "env.yml")), "pg-env");
    std::fs::write(at.join("given.yml"), name("pg-given")).unwrap();
    assert_eq!(lists(pgctl(at).args(["list", "given.yml"]).env("PGCTL_INVENTORY", "env.yml")), "pg-given");
    assert_eq!(
        lists(pgctl(at).args(["list", "-i", "given.yml"]).env("PGCTL_INVENTORY", "env.yml")),
        "pg-given"
    );
    assert_eq!(lists(pgctl(at).arg("list").env("PGCTL_INVENTORY", "")), "pg-pgctl");
}

#[test]
fn a_variable_on_the_command_line_is_above_all() {
    let directory = with(NOWHERE);
    let render = |extra: &[&str]| {
        let out = tempfile::tempdir().unwrap();
        let to = out.path().to_str().unwrap();
        let said = run(directory.path(), &[&["render", "--offline", "i.yml", "-o", to], extra].concat());
        assert_eq!(said.code, 0, "{}", said.err);
        std::fs::read_to_string(out.path().join("pg-one-1/etc/pgbouncer/pgbouncer.ini")).unwrap()
    };
    assert!(render(&[]).contains("listen_port = 6432"));
    assert!(render(&["-e", "pgbouncer_port=6500"]).contains("listen_port = 6500"));
    assert!(render(&["-e", "pgbouncer_port=1", "-e", "pgbouncer_port=6501"]).contains("listen_port = 6501"));
    let said = run(directory.path(), &["list", "i.yml", "-e", "pgbouncer_port=door"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("pgbouncer_port") && said.err.contains("door"), "{}", said.err);
}

// ------------------------------------------------------------------------------------ list, render

#[test]
fn list_shows_nodes_as_a_table_or_as_json() {
    let directory = tempfile::tempdir().unwrap();
    let sandbox = ours("sandbox.yml");
    insta::assert_snapshot!(run(directory.path(), &["list", &sandbox]).out, @r"
    node       address      cluster  role     etcd    groups
    pg-test-1  10.10.10.11  pg-test  primary  etcd-1  etcd, pg-test
    pg-test-2  10.10.10.12  pg-test  replica  etcd-2  etcd, pg-test
    pg-test-3  10.10.10.13  pg-test  replica  etcd-3  etcd, pg-test
    ");
    let said = run(directory.path(), &["list", &sandbox, "--format", "json", "-l", "*-2"]);
    let document: Value = serde_json::from_str(&said.out).unwrap();
    insta::assert_json_snapshot!(document, @r#"
    {
      "format": 1,
      "nodes": [
        {
          "name": "pg-test-2",
          "address": "10.10.10.12",
          "cluster": "pg-test",
          "role": "replica",
          "etcd": "etcd-2",
          "groups": [
            "etcd",
            "pg-test"
          ]
        }
      ]
    }
    "#);
}

#[test]
fn limits_pick_as_ansible_does() {
    let directory = with(NOWHERE);
    for (limit, nodes) in [
        ("pg-one", &["pg-one-1", "pg-one-2"][..]),
        ("all", &["pg-one-1", "pg-one-2", "pg-two-1"]),
        ("127.91.0.3", &["pg-two-1"]),
        ("127.91.0.*", &["pg-one-1", "pg-one-2", "pg-two-1"]),
        ("pg-two,pg-one-1", &["pg-one-1", "pg-two-1"]),
        ("pg-one,&etcd", &["pg-one-1"]),
        ("!pg-one-2", &["pg-one-1", "pg-two-1"]),
        ("pg-*,!etcd", &["pg-one-2", "pg-two-1"]),
        ("&etcd", &["pg-one-1"]),
    ] {
        let said = run(directory.path(), &["list", "i.yml", "--format", "json", "-l", limit]);
        let document: Value =
            serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{limit}: {e} {}", said.err));
        let picked: Vec<&str> =
            document["nodes"].as_array().unwrap().iter().map(|n| n["name"].as_str().unwrap()).collect();
        assert_eq!(picked, nodes, "{limit}");
    }
}

#[test]
fn render_writes_for_its_owner_alone_and_twice_the_same() {
    let directory = with(NOWHERE);
    let said = run(directory.path(), &["render", "--offline", "i.yml", "-o", "out"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.out.ends_with("for 3 nodes below out\n"), "{}", said.out);
    let read = |top: &Path| {
        let mut files = Vec::new();
        let mut open = vec![top.to_owned()];
        while let Some(at) = open.pop() {
            let meta = std::fs::symlink_metadata(&at).unwrap();
            let mode = meta.permissions().mode() & 0o777;
            assert_eq!(mode, if meta.is_dir() { 0o700 } else { 0o600 }, "{}", at.display());
            if meta.is_dir() {
                open.extend(std::fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()));
            } else {
                let name = at.strip_prefix(top).unwrap().display().to_string();
                files.push((name, std::fs::read(&at).unwrap()));
            }
        }
        files.sort();
        files
    };
    let first = read(&directory.path().join("out"));
    assert!(first.iter().any(|(name, _)| name == "pg-two-1/etc/patroni/patroni.yml"));
    // Again over what is there, whose modes somebody has opened.
    let patroni = directory.path().join("out/pg-two-1/etc/patroni/patroni.yml");
    std::fs::set_permissions(&patroni, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(run(directory.path(), &["render", "--offline", "i.yml", "-o", "out"]).code, 0);
    assert_eq!(read(&directory.path().join("out")), first);
    // A link in place of a file is not followed.
    std::fs::remove_file(&patroni).unwrap();
    std::fs::write(directory.path().join("precious"), "mine").unwrap();
    std::os::unix::fs::symlink(directory.path().join("precious"), &patroni).unwrap();
    run(directory.path(), &["render", "--offline", "i.yml", "-o", "out"]);
    assert_eq!(std::fs::read_to_string(directory.path().join("precious")).unwrap(), "mine");
    let said = run(directory.path(), &["render", "--offline", "i.yml", "-o", "i.yml"]);
    assert_eq!(said.code, 5, "{}", said.err);
    assert!(said.err.contains("i.yml/"), "{}", said.err);
}

// ---------------------------------------------------------------------------------------- unreachable

#[test]
fn a_node_that_cannot_be_reached_is_named_and_the_others_are_not_blocked() {
    let directory = with(NOWHERE);
    for args in [&["plan", "i.yml"][..], &["deploy", "-y", "i.yml"], &["check", "i.yml"]] {
        let said = run(directory.path(), &[args, &["--connect-timeout", "2"]].concat());
        assert_eq!(said.code, 4, "{args:?}: {}", said.err);
        let all = format!("{}{}", said.out, said.err);
        for node in ["pg-one-1", "pg-one-2", "pg-two-1"] {
            assert!(all.contains(&format!("unreachable: {node}: ")), "{args:?}: {all}");
        }
        assert!(all.contains("refused") && all.contains("127.91.0.3"), "{args:?}: {all}");
        assert!(all.contains("hint: "), "{args:?}: {all}");
    }
    let said = run(directory.path(), &["plan", "i.yml", "-l", "pg-two", "--format", "json"]);
    assert_eq!(said.code, 4, "{}", said.err);
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["unreachable"][0]["node"], "pg-two-1");
    assert_eq!(document["unreachable"].as_array().unwrap().len(), 1);
    assert_eq!(document["summary"]["unreachable"], 1);
    assert_eq!(document["changes"].as_array().unwrap().len(), 0);
    for args in [&["status", "i.yml"][..], &["lock", "status", "i.yml"], &["render", "i.yml"]] {
        let said = run(directory.path(), args);
        assert_ne!(said.code, 0, "{args:?}: {}{}", said.out, said.err);
    }
}

// ------------------------------------------------------------------------------------- good manners

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let directory = with(NOWHERE);
    for args in [
        &["list", "i.yml"][..],
        &["--help"],
        &["check", "--offline", "i.yml"],
        &["list", "--format", "json", "i.yml"],
    ] {
        let mut child =
            pgctl(directory.path()).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn colour_is_for_terminals_or_for_those_who_ask() {
    let directory = with("all: 5\n");
    let colour = |args: &[&str], no: Option<&str>| {
        let mut command = pgctl(directory.path());
        if let Some(value) = no {
            command.env("NO_COLOR", value);
        }
        said(command.args(["check", "--offline", "i.yml"]).args(args)).err.contains('\u{1b}')
    };
    assert!(!colour(&[], None) && !colour(&["--color", "never"], None));
    assert!(colour(&["--color", "always"], None) && colour(&["--color", "always"], Some("1")));
}
