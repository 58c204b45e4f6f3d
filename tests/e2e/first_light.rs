//! From blank nodes to a cluster that serves; a second run changes nothing.

use std::time::Instant;

use serde_json::Value;

use crate::lab::{Lab, changes, events};

const USER: (&str, &str) = ("dbuser_test", "DBUser.Test");
const ADMIN: (&str, &str) = ("dbuser_dba", "DBUser.DBA");

/// What every cluster must be able to do, through every node.
pub(crate) fn serves(lab: &Lab, nodes: &[u8]) {
    let (user, password) = USER;
    for &n in nodes {
        let table = format!("written_through_{n}");
        let write = format!(
            "CREATE TABLE IF NOT EXISTS {table} (v int); INSERT INTO {table} VALUES ({n}); SELECT pg_current_wal_lsn()"
        );
        eventually(&format!("a write through port 5433 of node {n}"), || {
            lab.sql(n, 5433, user, password, &write)
        });
        let read = format!("SELECT pg_is_in_recovery() || ' ' || max(v) FROM {table}");
        let want = format!("true {n}");
        eventually(&format!("the row on a replica through port 5434 of node {n}"), || {
            let got = lab.sql(n, 5434, user, password, &read)?;
            if got == want { Ok(()) } else { Err(got) }
        });
        let (admin, password) = ADMIN;
        // HAProxy lets a server in after three good checks.
        for (port, want) in [(5436, "f"), (5438, "t")] {
            eventually(&format!("port {port} of node {n}"), || {
                let got = lab.sql(n, port, admin, password, "SELECT pg_is_in_recovery()")?;
                if got == want { Ok(()) } else { Err(got) }
            });
        }
        assert!(lab.sql(n, 5433, user, "wrong", "SELECT 1").is_err(), "a wrong password is let in");
    }
}

/// Replication and `HAProxy`'s checks take a moment; a minute is not a moment.
#[track_caller]
fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) if begun.elapsed().as_secs() > 60 => panic!("{what}: {error}"),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(200)),
        }
    }
}

/// The second run: silent, whichever way it is asked.
pub(crate) fn is_silent(lab: &Lab) {
    lab.pgctl(&["deploy", "-y"]).ended(0).says("No changes");
    lab.pgctl(&["plan", "--exit-code"]).ended(0).says("No changes");
    let plan = lab.plan();
    assert_eq!(plan["changes"], Value::Array(Vec::new()));
    let summary = &plan["summary"];
    for key in ["create", "update", "restart", "run", "unreachable", "failed"] {
        assert_eq!(summary[key], 0, "{key}");
    }
    assert_eq!(summary["nodes"], 3);
}

fn first_light(image: &str, net: &str, version: &str) {
    let lab = Lab::up(image, net);
    lab.pgctl(&["check"]).ended(0).says("no errors");
    lab.pgctl(&["plan", "--exit-code"]).ended(3).says("Nothing was touched");
    let planned = changes(lab.plan()["changes"].as_array().unwrap().iter().cloned());
    assert!(planned.len() > 50, "{planned:?}");

    let begun = Instant::now();
    let deployed = lab.pgctl(&["deploy", "-y", "--format", "json"]).ended(0);
    println!("first deploy on {image}: {:.1} s", begun.elapsed().as_secs_f64());
    let did = events(&deployed.out).into_iter().filter(|e| e["event"] == "changed");
    assert_eq!(changes(did), planned, "deploy did something else than plan said");

    is_silent(&lab);
    let status = lab.pgctl(&["status", "--format", "json"]).ended(0);
    let status: Value = serde_json::from_str(&status.out).unwrap();
    let cluster = &status["clusters"][0];
    assert_eq!(cluster["healthy"], true);
    let roles: Vec<&str> =
        cluster["instances"].as_array().unwrap().iter().map(|i| i["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["leader", "replica", "replica"]);
    assert_eq!(cluster["full_backups"], 1);
    serves(&lab, &[1, 2, 3]);
    let got = lab.sql(1, 5436, ADMIN.0, ADMIN.1, "SHOW server_version").unwrap();
    assert!(got.starts_with(version), "{got}");

    // The real validators on what runs.
    let check = ["runuser", "-u", "postgres", "--", "pgbackrest", "--stanza=pg-test", "check"];
    lab.on(1, &check).ended(0);
    let info = lab.on(1, &["runuser", "-u", "postgres", "--", "pgbackrest", "info"]).ended(0);
    assert_eq!(info.out.matches("full backup:").count(), 1, "{}", info.out);
    for n in 1..=3 {
        lab.on(n, &["haproxy", "-c", "-q", "-f", "/etc/haproxy/haproxy.cfg"]).ended(0);
        // Patroni 3.0 has no way to leave out that its own ports are in use; nothing else may be wrong.
        let validate =
            ["runuser", "-u", "postgres", "--", "patroni", "--validate-config", "/etc/patroni/patroni.yml"];
        let said = lab.on(n, &validate);
        let other = said.err.lines().filter(|l| !l.is_empty() && !l.contains("is already in use"));
        assert_eq!(other.collect::<Vec<_>>(), Vec::<&str>::new(), "{}", said.out);
        lab.on(
            n,
            &[
                "systemd-analyze",
                "verify",
                "/etc/systemd/system/patroni.service",
                "/etc/systemd/system/etcd.service",
            ],
        )
        .ended(0);
    }
    lives(&lab);
}

/// A live cluster: drift, two operators, a dead member, a failover; nothing breaks it.
fn lives(lab: &Lab) {
    // Somebody edits a file: the plan says so, the deploy puts it right and reloads what reads it.
    lab.on(2, &["sh", "-c", "echo '# mine' >> /etc/pgbouncer/pgb_hba.conf"]).ended(0);
    let plan = lab.pgctl(&["plan", "--exit-code", "-v"]).ended(3);
    plan.says("file /etc/pgbouncer/pgb_hba.conf").says("-# mine").says("reload: config is newer");
    let postmaster = ["head", "-1", "/pg/data/postmaster.pid"];
    let before: Vec<String> = (1..=3).map(|n| lab.on(n, &postmaster).ended(0).out).collect();
    lab.pgctl(&["deploy", "-y"]).ended(0).says("2 changes made");
    is_silent(lab);

    // A file written by a run that died before the reload: the next run reloads, because the stamp is old.
    lab.on(3, &["rm", "/var/lib/pgctl/stamps/haproxy"]).ended(0);
    lab.pgctl(&["deploy", "-y"]).ended(0).says("service haproxy");
    is_silent(lab);

    // A second operator waits outside.
    let mut first = lab.on_hold();
    let second = lab.pgctl(&["deploy", "-y"]).ended(6);
    second.says("locked by").says("nothing was touched");
    lab.pgctl(&["lock", "status"]).ended(0).says("held by");
    first.kill().unwrap();
    first.wait().unwrap();
    lab.pgctl(&["deploy", "-y"]).ended(0).says("No changes");

    // The leader loses power: another leads, and a deploy serves the rest and says what is missing.
    lab.power("stop", 1);
    eventually("a failover", || {
        lab.sql(2, 5433, USER.0, USER.1, "CREATE TABLE after_failover (v int)").map(drop)
    });
    let text = std::fs::read_to_string(&lab.inventory).unwrap();
    let changed = text.replace("comment: reads test", "comment: reads only");
    assert_ne!(text, changed);
    std::fs::write(&lab.inventory, changed).unwrap();
    let deploy = lab.pgctl(&["deploy", "-y"]).ended(4);
    deploy.says("pg-test-1").says("could not be reached").says("pg_role dbuser_view").says("bring it back");
    lab.pgctl(&["status"]).ended(4).says("pg-test-1 cannot be reached");
    lab.power("start", 1);
    eventually("the old leader back as a replica", || {
        let said = lab.pgctl(&["status"]);
        if said.code == 0 { Ok(()) } else { Err(said.out) }
    });
    lab.pgctl(&["deploy", "-y"]).ended(0);
    is_silent(lab);
    let after: Vec<String> = (2..=3).map(|n| lab.on(n, &postmaster).ended(0).out).collect();
    assert_eq!(before[1..], after, "a deploy restarted PostgreSQL");
    // The new leader archives into its own repository.
    let leader =
        (1..=3).find(|&n| lab.sql(n, 5432, ADMIN.0, ADMIN.1, "SELECT pg_is_in_recovery()") == Ok("f".into()));
    let check = ["runuser", "-u", "postgres", "--", "pgbackrest", "--stanza=pg-test", "check"];
    lab.on(leader.expect("somebody leads"), &check).ended(0);
}

#[test]
fn debian_12_from_nothing_to_a_cluster_and_through_its_life() {
    first_light("debian-12", "10.10.21", "15.");
}

#[test]
fn debian_13_from_nothing_to_a_cluster_and_through_its_life() {
    first_light("debian-13", "10.10.22", "17.");
}

#[test]
fn a_first_deploy_with_a_node_powered_off_serves_the_others_and_is_completed_later() {
    let lab = Lab::up("debian-12", "10.10.23");
    lab.power("stop", 3);
    let said = lab.pgctl(&["deploy", "-y"]).ended(4);
    said.says("pg-test-3").says("could not be reached").says("bring it back");
    eventually("a write through the two that are there", || {
        lab.sql(
            2,
            5433,
            USER.0,
            USER.1,
            "CREATE TABLE IF NOT EXISTS early (v int); INSERT INTO early VALUES (7)",
        )
    });
    lab.power("start", 3);
    lab.pgctl(&["deploy", "-y"]).ended(0);
    is_silent(&lab);
    lab.pgctl(&["status"]).ended(0).says("healthy");
    serves(&lab, &[1, 2, 3]);
    // Without its primary a new cluster is not begun: the primary may hold the data.
    lab.again();
    lab.power("stop", 1);
    let said = lab.pgctl(&["deploy", "-y"]).ended(4);
    said.says("it is not begun from another node");
    assert_ne!(lab.on(2, &["systemctl", "is-active", "patroni"]).code, 0);
}
