//! Inventories from file to topology: the samples of the field, our own, and every identity rule.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use pgctl::report::diagnostic::render;
use pgctl::text::diagnostic::{Diagnostic, Sources};
use pgctl::topology::{Role, Topology, load};

/// The sample inventories: `$PGCTL_SAMPLES`, else `../shared/inventories` beside the crate.
fn samples() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/inventories");
    let given = std::env::var_os("PGCTL_SAMPLES").map(PathBuf::from);
    let found = given.into_iter().chain([beside]).find(|directory| directory.is_dir());
    found.expect("sample inventories are needed: set PGCTL_SAMPLES or put them in ../shared/inventories")
}

fn yml(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "yml")).collect();
    files.sort();
    assert!(!files.is_empty(), "no .yml in {}", directory.display());
    files
}

fn show(sources: &Sources, list: &[Diagnostic]) -> String {
    list.iter().map(|d| render(sources, d, false)).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_sample_of_the_field_loads_and_warns_by_name() {
    for path in yml(&samples()) {
        let mut sources = Sources::default();
        let loaded = load(&mut sources, &path, &[]);
        let (inventory, topology, warnings) =
            loaded.unwrap_or_else(|errors| panic!("{}", show(&sources, &errors)));
        assert_eq!(inventory.hosts.len(), topology.nodes.len());
        for warning in &warnings {
            assert!(warning.span.is_some() && warning.message.contains('`'), "{warning:?}");
        }
        let unknown: Vec<&str> =
            warnings.iter().map(|w| w.message.as_str()).filter(|m| m.starts_with("unknown")).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());
    }
}

#[test]
fn the_largest_sample_is_read_right() {
    let mut sources = Sources::default();
    let (inventory, topology, _) = load(&mut sources, &samples().join("demo-el.yml"), &[]).unwrap();
    assert_eq!(inventory.members("pg-test"), ["10.10.10.11", "10.10.10.12", "10.10.10.13"]);
    let cluster = topology.cluster("pg-test").unwrap();
    let roles: Vec<Role> = cluster.instances.iter().map(|i| i.role).collect();
    assert_eq!(roles, [Role::Primary, Role::Replica, Role::Replica]);
    assert_eq!(cluster.instances[2].name, "pg-test-3");
    assert!(cluster.instances[2].offline_query);
    let node = topology.node_of(cluster.primary());
    assert_eq!(node.name, "pg-test-1");
    assert_eq!(node.var("node_default_etc_hosts")[0].as_str(), Some("10.10.10.10 i.pigsty"));
}

#[test]
fn our_own_inventories_load_without_a_word() {
    for path in yml(&Path::new(env!("CARGO_MANIFEST_DIR")).join("inventories")) {
        let mut sources = Sources::default();
        match load(&mut sources, &path, &[]) {
            Ok((_, topology, warnings)) => {
                assert!(warnings.is_empty(), "{}", show(&sources, &warnings));
                assert!(!topology.clusters.is_empty());
                let etcd = topology.etcd.unwrap();
                assert_eq!(etcd.members[0].name, "etcd-1");
            }
            Err(errors) => panic!("{}", show(&sources, &errors)),
        }
    }
}

/// Loads `text` as a file and renders what is said about it; the file is called `i.yml`.
fn said(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("i.yml");
    std::fs::write(&path, text).unwrap();
    let mut sources = Sources::default();
    let list = match load(&mut sources, &path, &[]) {
        Ok((_, _, warnings)) => warnings,
        Err(errors) => errors,
    };
    show(&sources, &list).replace(&format!("{}/", directory.path().display()), "")
}

/// An inventory with one etcd member and the lines of `groups` under `all.children`.
fn with_etcd(groups: &str) -> String {
    let groups = groups.replace('\n', "\n    ");
    format!("all:\n  children:\n    etcd: {{ hosts: {{ 10.1.1.1: {{ etcd_seq: 1 }} }} }}\n    {groups}\n")
}

fn topology(text: &str) -> Topology {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("i.yml");
    std::fs::write(&path, text).unwrap();
    let mut sources = Sources::default();
    load(&mut sources, &path, &[]).unwrap_or_else(|errors| panic!("{}", show(&sources, &errors))).1
}

#[test]
fn a_good_cluster_is_silent() {
    let text = with_etcd(
        "pg-a:\n  hosts:\n    10.1.1.2: { pg_seq: 2, pg_role: replica }\n    10.1.1.1: { pg_seq: 1, pg_role: primary }\n  vars: { pg_cluster: pg-a }",
    );
    assert_eq!(said(&text), "");
    let topology = topology(&text);
    let cluster = &topology.clusters[0];
    assert_eq!((cluster.version, cluster.port), (18, 5432));
    let names: Vec<&str> = cluster.instances.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["pg-a-1", "pg-a-2"]);
    let nodes: Vec<&str> = topology.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(nodes, ["pg-a-1", "pg-a-2"]);
    assert_eq!(topology.nodes[0].etcd_member, Some(0));
}

#[test]
fn nodes_are_named_by_what_they_are() {
    let text = with_etcd(
        "infra: { hosts: { 10.1.1.2: { infra_seq: 1 }, 10.1.1.1: { infra_seq: 2 }, 10.1.1.3: {}, fd00::4: { nodename: box } } }",
    );
    let topology = topology(&text);
    let nodes: Vec<&str> = topology.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(nodes, ["etcd-1", "infra-1", "10.1.1.3", "box"]);
}

#[test]
fn a_cluster_name_has_letters_digits_and_dashes() {
    insta::assert_snapshot!(said(&with_etcd(
        "a: { hosts: { 10.1.1.2: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: pg_test } }\n\
         b: { hosts: { 10.1.1.3: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: root } }\n\
         c: { hosts: { 10.1.1.4: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: 12 } }"
    )), @r#"
error: `pg_test` cannot be the name of a cluster
 --> i.yml:4:84
  |
4 |     a: { hosts: { 10.1.1.2: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: pg_test } }
  |                                                                                    ^^^^^^^
  |
  = help: use letters, digits and `-`, as in `pg-test`; it becomes part of host names and paths
error: `pg_cluster` cannot be `root`
 --> i.yml:5:84
  |
5 |     b: { hosts: { 10.1.1.3: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: root } }
  |                                                                                    ^^^^
  |
  = help: etcd has a user of that name
error: `pg_cluster` is not text
 --> i.yml:6:84
  |
6 |     c: { hosts: { 10.1.1.4: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: 12 } }
  |                                                                                    ^^
  |
  = help: quote the name, and use letters, digits and `-`, as in `pg-test`
"#);
}

#[test]
fn an_instance_belongs_to_a_cluster() {
    insta::assert_snapshot!(said(&with_etcd("pg-a: { hosts: { 10.1.1.2: { pg_seq: 1, pg_role: primary } } }")), @r#"
error: `10.1.1.2` has `pg_seq` but no `pg_cluster`
 --> i.yml:4:42
  |
4 |     pg-a: { hosts: { 10.1.1.2: { pg_seq: 1, pg_role: primary } } }
  |                                          ^
  |
  = help: set `pg_cluster` under the `vars:` of its group
"#);
}

#[test]
fn an_instance_has_a_number_and_a_role() {
    insta::assert_snapshot!(said(&with_etcd(
        "pg-a:\n  hosts:\n    10.1.1.2: { pg_role: primary }\n    10.1.1.3: { pg_seq: two, pg_role: replica }\n    10.1.1.4: { pg_seq: 3 }\n  vars: { pg_cluster: pg-a }"
    )), @r#"
error: the instance of `pg-a` on `10.1.1.2` has no `pg_seq`
 --> i.yml:6:9
  |
6 |         10.1.1.2: { pg_role: primary }
  |         ^^^^^^^^ this host
  |
  = help: give it a number that no other member has, as in `{ pg_seq: 1 }`
error: `pg_seq` of `10.1.1.3` is not a whole number from 0
 --> i.yml:7:29
  |
7 |         10.1.1.3: { pg_seq: two, pg_role: replica }
  |                             ^^^
error: the instance of `pg-a` on `10.1.1.4` has no `pg_role`
 --> i.yml:8:9
  |
8 |         10.1.1.4: { pg_seq: 3 }
  |         ^^^^^^^^ this host
  |
  = help: one of primary, replica, standby, offline, delayed
"#);
}

#[test]
fn a_role_is_one_of_five() {
    insta::assert_snapshot!(said(&with_etcd(
        "pg-a:\n  hosts:\n    10.1.1.2: { pg_seq: 1, pg_role: master }\n    10.1.1.3: { pg_seq: 2, pg_role: replicaa }\n  vars: { pg_cluster: pg-a }"
    )), @r#"
error: `master` is not a role
 --> i.yml:6:41
  |
6 |         10.1.1.2: { pg_seq: 1, pg_role: master }
  |                                         ^^^^^^ not a role
  |
  = help: did you mean `primary`? (allowed: primary, replica, standby, offline, delayed)
error: `replicaa` is not a role
 --> i.yml:7:41
  |
7 |         10.1.1.3: { pg_seq: 2, pg_role: replicaa }
  |                                         ^^^^^^^^ not a role
  |
  = help: did you mean `replica`? (allowed: primary, replica, standby, offline, delayed)
"#);
}

#[test]
fn numbers_are_unique_in_a_cluster() {
    insta::assert_snapshot!(said(&with_etcd(
        "pg-a:\n  hosts:\n    10.1.1.2: { pg_seq: 1, pg_role: primary }\n    10.1.1.3: { pg_seq: 1, pg_role: replica }\n  vars: { pg_cluster: pg-a }"
    )), @r#"
error: two instances of `pg-a` have the number 1
 --> i.yml:7:29
  |
6 |         10.1.1.2: { pg_seq: 1, pg_role: primary }
  |                             - on `10.1.1.2`
7 |         10.1.1.3: { pg_seq: 1, pg_role: replica }
  |                             ^ on `10.1.1.3`
  |
  = help: the next free number is 2
"#);
}

#[test]
fn a_cluster_has_one_primary_not_two() {
    insta::assert_snapshot!(said(&with_etcd(
        "pg-a:\n  hosts:\n    10.1.1.2: { pg_seq: 1, pg_role: primary }\n    10.1.1.3: { pg_seq: 2, pg_role: primary }\n  vars: { pg_cluster: pg-a }"
    )), @r#"
error: the cluster `pg-a` has 2 primaries
 --> i.yml:7:41
  |
6 |         10.1.1.2: { pg_seq: 1, pg_role: primary }
  |                                         ------- `10.1.1.2` is a primary
7 |         10.1.1.3: { pg_seq: 2, pg_role: primary }
  |                                         ^^^^^^^ `10.1.1.3` is a primary
  |
  = help: exactly one host of a cluster is the primary; the others are replicas
"#);
}

#[test]
fn a_cluster_has_one_primary_not_none() {
    insta::assert_snapshot!(said(&with_etcd(
        "pg-a:\n  hosts:\n    10.1.1.2: { pg_seq: 1, pg_role: replica }\n  vars: { pg_cluster: pg-a }"
    )), @r#"
error: the cluster `pg-a` has no primary
 --> i.yml:7:27
  |
7 |       vars: { pg_cluster: pg-a }
  |                           ^^^^ this cluster
  |
  = help: give `pg_role: primary` to exactly one of its hosts
"#);
}

#[test]
fn members_share_version_and_port() {
    insta::assert_snapshot!(said(&with_etcd(
        "pg-a:\n  hosts:\n    10.1.1.2: { pg_seq: 1, pg_role: primary }\n    10.1.1.3: { pg_seq: 2, pg_role: replica, pg_version: 16, pg_port: 5439 }\n  vars: { pg_cluster: pg-a, pg_version: 17 }"
    )), @r#"
error: members of the cluster `pg-a` have different values of `pg_version`
 --> i.yml:7:62
  |
7 |         10.1.1.3: { pg_seq: 2, pg_role: replica, pg_version: 16, pg_port: 5439 }
  |                                                              ^^ `10.1.1.3` has 16
8 |       vars: { pg_cluster: pg-a, pg_version: 17 }
  |                                             -- `10.1.1.2` has 17
  |
  = help: set `pg_version` once, under the `vars:` of the group
error: members of the cluster `pg-a` have different values of `pg_port`
 --> i.yml:7:75
  |
6 |         10.1.1.2: { pg_seq: 1, pg_role: primary }
  |         -------- `10.1.1.2` has 5432
7 |         10.1.1.3: { pg_seq: 2, pg_role: replica, pg_version: 16, pg_port: 5439 }
  |                                                                           ^^^^ `10.1.1.3` has 5439
  |
  = help: set `pg_port` once, under the `vars:` of the group
"#);
}

#[test]
fn a_host_is_in_one_cluster() {
    insta::assert_snapshot!(said(&with_etcd(
        "pg-a: { hosts: { 10.1.1.2: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: pg-a } }\n\
         pg-b: { hosts: { 10.1.1.2: { pg_seq: 2, pg_role: primary } }, vars: { pg_cluster: pg-b } }"
    )), @r#"
error: the host `10.1.1.2` is in two PostgreSQL clusters: groups `pg-a` and `pg-b`
 --> i.yml:4:22
  |
4 |     pg-a: { hosts: { 10.1.1.2: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: pg-a } }
  |                      ^^^^^^^^ this host                                               ---- one cluster
5 |     pg-b: { hosts: { 10.1.1.2: { pg_seq: 2, pg_role: primary } }, vars: { pg_cluster: pg-b } }
  |                                                                                       ---- the other cluster
  |
  = help: one node runs one instance; remove the host from one of the groups
error: the host `10.1.1.2` gets two values of `pg_seq`
 --> i.yml:5:42
  |
4 |     pg-a: { hosts: { 10.1.1.2: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: pg-a } }
  |                                          - the first one
5 |     pg-b: { hosts: { 10.1.1.2: { pg_seq: 2, pg_role: primary } }, vars: { pg_cluster: pg-b } }
  |                                          ^ the second one, which wins
  |
  = help: a host has one set of variables, whatever groups name it: set it in one place
"#);
}

#[test]
fn names_of_nodes_are_unique() {
    insta::assert_snapshot!(said(&with_etcd(
        "infra: { hosts: { 10.1.1.2: { nodename: box }, 10.1.1.3: { nodename: box }, 10.1.1.4: { nodename: no_good } } }"
    )), @r#"
error: two nodes are named `box`: 10.1.1.2 and 10.1.1.3
 --> i.yml:4:74
  |
4 |     infra: { hosts: { 10.1.1.2: { nodename: box }, 10.1.1.3: { nodename: box }, 10.1.1.4: { nodename: no_good } } }
  |                                             --- the other one            ^^^
error: `no_good` cannot be the name of a node
 --> i.yml:4:103
  |
4 |     infra: { hosts: { 10.1.1.2: { nodename: box }, 10.1.1.3: { nodename: box }, 10.1.1.4: { nodename: no_good } } }
  |                                                                                                       ^^^^^^^
  |
  = help: letters, digits, `-` and `.`; at most 63 characters between dots
"#);
}

#[test]
fn hosts_are_addresses() {
    insta::assert_snapshot!(said(&with_etcd(
        "infra:\n  hosts:\n    db1.example.com: {}\n    10.1.1.[2:4]: {}\n    10.1.1.256: {}\n    10.1.1.02: {}\n    10.1.1: {}\n    0.0.0.0: {}\n    fd00::1: {}\n    FD00:0::1: {}"
    )), @r#"
error: `db1.example.com` is not an IP address
 --> i.yml:6:9
  |
6 |         db1.example.com: {}
  |         ^^^^^^^^^^^^^^^ hosts are named by IPv4 or IPv6 addresses
  |
  = help: use the address as the key, and `ansible_host` for the name that SSH connects to
error: `10.1.1.[2:4]` is not an IP address
 --> i.yml:7:9
  |
7 |         10.1.1.[2:4]: {}
  |         ^^^^^^^^^^^^ hosts are named by IPv4 or IPv6 addresses
  |
  = help: ranges are not expanded: write one line for each host
error: `10.1.1.256` is not an IP address
 --> i.yml:8:9
  |
8 |         10.1.1.256: {}
  |         ^^^^^^^^^^ hosts are named by IPv4 or IPv6 addresses
  |
  = help: `256` is more than 255
error: `10.1.1.02` is not an IP address
 --> i.yml:9:9
  |
9 |         10.1.1.02: {}
  |         ^^^^^^^^^ hosts are named by IPv4 or IPv6 addresses
  |
  = help: write the four numbers without leading zeros
error: `10.1.1` is not an IP address
  --> i.yml:10:9
   |
10 |         10.1.1: {}
   |         ^^^^^^ hosts are named by IPv4 or IPv6 addresses
   |
   = help: an IPv4 address has four numbers, this has 3
error: `0.0.0.0` cannot be the address of a node: it means any address
  --> i.yml:11:9
   |
11 |         0.0.0.0: {}
   |         ^^^^^^^
error: `FD00:0::1` is the same address as another host
  --> i.yml:13:9
   |
12 |         fd00::1: {}
   |         ------- the other host
13 |         FD00:0::1: {}
   |         ^^^^^^^^^
"#);
}

#[test]
fn patroni_needs_etcd() {
    insta::assert_snapshot!(said(
        "all:\n  children:\n    pg-a: { hosts: { 10.1.1.2: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: pg-a } }\n"
    ), @r#"
error: the cluster `pg-a` has no etcd to agree on a leader
 --> i.yml:3:87
  |
3 |     pg-a: { hosts: { 10.1.1.2: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: pg-a } }
  |                                                                                       ^^^^
  |
  = help: add a group `etcd` with one, three or five hosts, as in `etcd: { hosts: { 10.10.10.10: { etcd_seq: 1 } } }`
"#);
    assert_eq!(
        said(
            "all:\n  children:\n    pg-a: { hosts: { 10.1.1.2: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: pg-a, patroni_enabled: false } }\n"
        ),
        ""
    );
}

#[test]
fn etcd_members_have_numbers_of_their_own() {
    insta::assert_snapshot!(said(
        "all:\n  children:\n    etcd:\n      hosts:\n        10.1.1.1: { etcd_seq: 1 }\n        10.1.1.2: { etcd_seq: 1 }\n        10.1.1.3: {}\n"
    ), @r#"
error: two etcd members have the number 1
 --> i.yml:6:31
  |
5 |         10.1.1.1: { etcd_seq: 1 }
  |                               - on `10.1.1.1`
6 |         10.1.1.2: { etcd_seq: 1 }
  |                               ^ on `10.1.1.2`
error: the etcd member on `10.1.1.3` has no `etcd_seq`
 --> i.yml:7:9
  |
7 |         10.1.1.3: {}
  |         ^^^^^^^^ this host
  |
  = help: give it a number that no other member has, as in `{ etcd_seq: 1 }`
"#);
}

#[test]
fn there_is_one_etcd_cluster_of_an_odd_size() {
    insta::assert_snapshot!(said(
        "all:\n  children:\n    etcd:\n      hosts:\n        10.1.1.1: { etcd_seq: 1 }\n        10.1.1.2: { etcd_seq: 2, etcd_cluster: other, etcd_port: 1 }\n"
    ), @r#"
warning: etcd has 2 members: an even number survives no more failures than one fewer
 --> i.yml:5:9
  |
5 |         10.1.1.1: { etcd_seq: 1 }
  |         ^^^^^^^^
  |
  = help: use 1, 3 or 5
error: two etcd clusters, `etcd` and `other`, in one inventory
 --> i.yml:6:48
  |
5 |         10.1.1.1: { etcd_seq: 1 }
  |         -------- the other one
6 |         10.1.1.2: { etcd_seq: 2, etcd_cluster: other, etcd_port: 1 }
  |                                                ^^^^^
  |
  = help: all PostgreSQL clusters of an inventory share one etcd cluster
error: etcd members have different values of `etcd_port`
 --> i.yml:6:66
  |
5 |         10.1.1.1: { etcd_seq: 1 }
  |         -------- another value
6 |         10.1.1.2: { etcd_seq: 2, etcd_cluster: other, etcd_port: 1 }
  |                                                                  ^
"#);
}

#[test]
fn an_upstream_makes_sense() {
    insta::assert_snapshot!(said(&with_etcd(
        "pg-a:\n  hosts:\n    10.1.1.2: { pg_seq: 1, pg_role: primary, pg_upstream: 10.1.1.3 }\n    10.1.1.3: { pg_seq: 2, pg_role: replica, pg_upstream: 10.1.1.9 }\n    10.1.1.4: { pg_seq: 3, pg_role: replica, pg_upstream: 10.1.1.4 }\n  vars: { pg_cluster: pg-a }"
    )), @r#"
error: the primary of `pg-a` follows a member of its own cluster
 --> i.yml:6:63
  |
6 |         10.1.1.2: { pg_seq: 1, pg_role: primary, pg_upstream: 10.1.1.3 }
  |                                                               ^^^^^^^^
  |
  = help: on a primary `pg_upstream` makes a standby cluster: give an address of another cluster
error: `10.1.1.9` is not a member of the cluster `pg-a`
 --> i.yml:7:63
  |
7 |         10.1.1.3: { pg_seq: 2, pg_role: replica, pg_upstream: 10.1.1.9 }
  |                                                               ^^^^^^^^
  |
  = help: on a replica `pg_upstream` is the address of another member
error: `10.1.1.4` is its own upstream
 --> i.yml:8:63
  |
8 |         10.1.1.4: { pg_seq: 3, pg_role: replica, pg_upstream: 10.1.1.4 }
  |                                                               ^^^^^^^^
"#);
}

#[test]
fn a_group_is_named_as_its_cluster() {
    insta::assert_snapshot!(said(&with_etcd(
        "postgres: { hosts: { 10.1.1.2: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: pg-a } }"
    )), @r#"
warning: the group `postgres` holds the cluster `pg-a`
 --> i.yml:4:91
  |
4 |     postgres: { hosts: { 10.1.1.2: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: pg-a } }
  |     -------- this group                                                                   ^^^^
  |
  = help: name the group as its cluster, so that one word means one thing
"#);
}

#[test]
fn several_clusters_in_one_group_set_their_name_on_the_host() {
    let text = with_etcd(
        "pg-citus:\n  hosts:\n    10.1.1.2: { pg_cluster: pg-c0, pg_seq: 1, pg_role: primary }\n    10.1.1.3: { pg_cluster: pg-c1, pg_seq: 1, pg_role: primary }",
    );
    assert_eq!(said(&text), "");
    assert_eq!(topology(&text).clusters.len(), 2);
}

#[test]
fn everything_wrong_is_said_at_once_in_the_order_of_the_file() {
    insta::assert_snapshot!(said(&with_etcd(
        "pg-a:\n  hosts:\n    10.1.1.2: { pg_seq: 1, pg_role: primry }\n  vars:\n    pg_cluster: pg-a\n    pg_port: many\n    pg_vresion: 17\n    pg_users: [{ name: a, password: c4nary }, oops: 1]\n    pg_admin_password: [c4nary]"
    )), @r#"
error: `primry` is not a role
 --> i.yml:6:41
  |
6 |         10.1.1.2: { pg_seq: 1, pg_role: primry }
  |                                         ^^^^^^ not a role
  |
  = help: did you mean `primary`? (allowed: primary, replica, standby, offline, delayed)
error: `pg_port` expects a port, 1 to 65535, not `many`
 --> i.yml:9:18
  |
9 |         pg_port: many
  |                  ^^^^
warning: unknown parameter `pg_vresion`
  --> i.yml:10:9
   |
10 |         pg_vresion: 17
   |         ^^^^^^^^^^
   |
   = help: did you mean `pg_version`?
warning: a user has no `oops`; it is ignored
  --> i.yml:11:51
   |
11 |         pg_users: [{ name: a, password: ****** }, oops: 1]
   |                                                   ^^^^
   |
   = help: known: name, state, password, login, superuser, createdb, createrole, replication, bypassrls, inherit, pgbouncer, connlimit, expire_in, expire_at, comment, roles, parameters, search_path, pool_mode, pool_connlimit
error: a user of `pg_users` has no `name`
  --> i.yml:11:51
   |
11 |         pg_users: [{ name: a, password: ****** }, oops: 1]
   |                                                   ^^^^^^^
error: `pg_admin_password` expects a password as text, not a list
  --> i.yml:12:28
   |
12 |         pg_admin_password: ********
   |                            ^^^^^^^^
"#);
}

#[test]
fn two_programs_do_not_share_a_port() {
    insta::assert_snapshot!(said(&with_etcd(
        "pg-a:\n  hosts:\n    10.1.1.2: { pg_seq: 1, pg_role: primary }\n    10.1.1.3: { pg_seq: 2, pg_role: replica }\n  vars:\n    pg_cluster: pg-a\n    pg_port: 6432\n    patroni_port: 2379\n    pg_services: [{ name: x, port: 5433 }]"
    )), @r#"
error: `pgbouncer_port` and `pg_port` both listen on port 6432 of `10.1.1.2`
  --> i.yml:10:18
   |
10 |         pg_port: 6432
   |                  ^^^^
   |
   = help: give one of them another port
error: the service `primary` and the service `x` both listen on port 5433 of `10.1.1.2`
  --> i.yml:12:22
   |
12 |         pg_services: [{ name: x, port: 5433 }]
   |                      ^^^^^^^^^^^^^^^^^^^^^^^^^
   |
   = help: give one of them another port
"#);
}
