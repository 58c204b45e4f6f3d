//! What templates and playbooks see of one node: its parameters by name, and the computed values of
//! `topology` (tuning, HBA, services …). Templates lay these out; they compute nothing.

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::facts::Facts;
use crate::topology::hba::{self, HbaContext, HbaFor};
use crate::topology::rto::Rto;
use crate::topology::scram;
use crate::topology::service::{self, Destinations, ServiceMember};
use crate::topology::tuning::{Policy, Profile, Tuning, TuningInput};
use crate::topology::{Cluster, EtcdCluster, EtcdMember, InstanceRef, Node, Topology};

/// One node with its facts.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    pub topology: &'a Topology,
    /// Index in the topology.
    pub node: usize,
    pub facts: &'a Facts,
    /// The nodes that take part in this run. Only the birth of an etcd cluster looks at it: no file does.
    pub present: &'a [usize],
    /// Those of them that have data of an etcd member; looked at by the same.
    pub etcd_born: &'a [usize],
}

/// The context of one node. Errors are the parameters that cannot be used, in words, all at once.
pub fn context(s: Situation<'_>) -> Result<Value, Vec<String>> {
    let node = &s.topology.nodes[s.node];
    let mut c: Map<String, Value> = node.vars.iter().map(|(k, v)| (k.clone(), v.value.clone())).collect();
    c.insert("node".into(), node_value(node, s.facts));
    c.insert("hosts".into(), hosts(s.topology));
    if let Some(etcd) = &s.topology.etcd {
        etcd_values(s, etcd, node, &mut c);
    }
    if let Some(instance) = node.instance {
        postgres(s, node, instance, &mut c)?;
    }
    Ok(Value::Object(c))
}

/// The store as all see it (`etcd`), and this node's own member (`member`).
fn etcd_values(s: Situation<'_>, etcd: &EtcdCluster, node: &Node, c: &mut Map<String, Value>) {
    let client = |m: &EtcdMember| format!("http://{}:{}", bracket(&m.address), etcd.port);
    let peer = |m: &EtcdMember| format!("http://{}:{}", bracket(&m.address), etcd.peer_port);
    let describe = |m: &EtcdMember| json!({"name": m.name, "address": m.address, "seq": m.seq, "client_url": client(m), "peer_url": peer(m)});
    let own = node.etcd_member;
    let others: Vec<String> =
        etcd.members.iter().enumerate().filter(|(i, _)| Some(*i) != own).map(|(_, m)| client(m)).collect();
    let present: Vec<String> = etcd
        .members
        .iter()
        .filter(|m| s.present.contains(&m.node))
        .map(|m| format!("{}={}", m.name, peer(m)))
        .collect();
    let known: Vec<String> = etcd.members.iter().map(|m| format!("{}={}", m.name, peer(m))).collect();
    let born = etcd.members.iter().filter(|m| s.etcd_born.contains(&m.node));
    let born: Vec<&str> = born.map(|m| m.name.as_str()).collect();
    let hosts: Vec<String> =
        etcd.members.iter().map(|m| format!("{}:{}", bracket(&m.address), etcd.port)).collect();
    let members: Vec<Value> = etcd.members.iter().map(describe).collect();
    c.insert(
        "etcd".into(),
        json!({"name": etcd.name, "members": members, "hosts": hosts, "others": others,
            "present": present, "known": known, "born": born}),
    );
    if let Some(member) = own.and_then(|m| etcd.members.get(m)) {
        c.insert("member".into(), describe(member));
    }
}

fn bracket(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

fn node_value(node: &Node, facts: &Facts) -> Value {
    json!({
        "name": node.name,
        "address": node.address,
        "os": {"id": facts.os_id, "version": facts.os_version, "codename": facts.os_codename},
        "arch": facts.arch,
        "cpu": facts.cpu,
        "memory_mb": facts.memory_mb,
        "disk_bytes": facts.disk_bytes,
        "nofile": facts.nofile,
    })
}

/// Every node of the inventory: address and names, for `/etc/hosts`.
fn hosts(topology: &Topology) -> Value {
    let hosts = topology.nodes.iter().map(|n| json!({"address": n.address, "name": n.name}));
    Value::Array(hosts.collect())
}

fn postgres(
    s: Situation<'_>,
    node: &Node,
    at: InstanceRef,
    c: &mut Map<String, Value>,
) -> Result<(), Vec<String>> {
    let cluster = &s.topology.clusters[at.cluster];
    let instance = &cluster.instances[at.instance];
    let mut errors: Vec<String> = Vec::new();
    let bin = format!("/usr/lib/postgresql/{}/bin", cluster.version);
    let text = |name: &str| node.str_var(name).unwrap_or_default().to_owned();
    let list = |name: &str| node.var(name).as_array().cloned().unwrap_or_default();
    let describe = |m: &crate::topology::Instance| {
        json!({"name": m.name, "seq": m.seq, "address": m.address, "role": m.role.to_string(),
            "offline_query": m.offline_query})
    };
    let primary = cluster.primary();
    c.insert(
        "cluster".into(),
        json!({"name": cluster.name, "version": cluster.version, "port": cluster.port,
            "members": cluster.instances.iter().map(describe).collect::<Vec<_>>(),
            "primary": {"name": primary.name, "address": primary.address}}),
    );
    c.insert("instance".into(), describe(instance));
    c.insert("pg_bin".into(), json!(bin));
    c.insert(
        "pg_server".into(),
        json!({"user": text("pg_dbsu"), "bin": bin, "socket": text("pg_localhost"), "port": cluster.port}),
    );

    let rto = match Rto::choose(node.var("pg_rto"), node.var("pg_rto_plan")) {
        Ok(rto) => {
            c.insert("rto".into(), json!(rto));
            Some(rto)
        }
        Err(e) => {
            errors.push(e.to_string());
            None
        }
    };
    match Profile::parse(&text("pg_conf")) {
        Ok(profile) => {
            let rpo = node.u64_var("pg_rpo").unwrap_or(1 << 20);
            let checksum = node.bool_var("pg_checksum").unwrap_or(true);
            c.insert(
                "policy".into(),
                json!(Policy::new(profile, rpo, &text("patroni_watchdog_mode"), checksum)),
            );
            match Tuning::compute(&tuning_input(node, cluster, s.facts, profile)) {
                Ok(tuning) => drop(c.insert("tuning".into(), json!(tuning))),
                Err(e) => errors.push(e.to_string()),
            }
        }
        Err(e) => errors.push(e.to_string()),
    }

    let hba = hba_context(s.topology, cluster, instance, node);
    for (key, target, defaults, rules) in [
        ("hba", HbaFor::Postgres, "pg_default_hba_rules", "pg_hba_rules"),
        ("pgb_hba", HbaFor::Pgbouncer, "pgb_default_hba_rules", "pgb_hba_rules"),
    ] {
        match hba::expand(target, &list(defaults), &list(rules), &hba) {
            Ok(lines) => drop(c.insert(key.into(), json!(lines))),
            Err(e) => errors.push(format!("{rules}: {e}")),
        }
    }

    if let Some(rto) = rto {
        let members: Vec<ServiceMember> = cluster
            .instances
            .iter()
            .map(|m| {
                let vars = &s.topology.nodes[m.node].vars;
                ServiceMember {
                    name: m.name.clone(),
                    address: m.address.clone(),
                    weight: s.topology.nodes[m.node]
                        .u64_var("pg_weight")
                        .and_then(|w| u8::try_from(w).ok())
                        .unwrap_or(100),
                    vars: Value::Object(vars.iter().map(|(k, v)| (k.clone(), v.value.clone())).collect()),
                }
            })
            .collect();
        let port =
            |name: &str, usual: u16| node.u64_var(name).and_then(|p| u16::try_from(p).ok()).unwrap_or(usual);
        let destinations = Destinations {
            default: text("pg_default_service_dest"),
            postgres: cluster.port,
            pgbouncer: port("pgbouncer_port", 6432),
        };
        match service::resolve(
            &list("pg_default_services"),
            &list("pg_services"),
            &members,
            &destinations,
            &rto,
        ) {
            Ok(services) => drop(c.insert("services".into(), json!(services))),
            Err(e) => errors.push(format!("pg_services: {e}")),
        }
    }

    let (roles, users) = roles(node, cluster);
    for role in &roles {
        let word = |key: &str| role.get(key).and_then(Value::as_str).unwrap_or_default();
        let password = word("password");
        if password.is_empty() || scram::is_verifier(password) {
            continue;
        }
        if let Err(e) = scram::verifier(password, &[0; 16]) {
            errors.push(format!("user `{}`: {e}", word("name")));
        }
    }
    c.insert("pg_roles".into(), Value::Array(roles));
    c.insert("pgbouncer_users".into(), Value::Array(users));
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn tuning_input(node: &Node, cluster: &Cluster, facts: &Facts, profile: Profile) -> TuningInput {
    let text = |name: &str| node.str_var(name).unwrap_or_default().to_owned();
    let parameters: IndexMap<String, Value> = node
        .var("pg_parameters")
        .as_object()
        .map(|m| m.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
        .unwrap_or_default();
    TuningInput {
        profile,
        pg_version: cluster.version,
        memory_mb: facts.memory_mb,
        cpu: u64::from(facts.cpu),
        disk_bytes: facts.disk_bytes,
        max_conn: node.u64_var("pg_max_conn").and_then(|n| u32::try_from(n).ok()),
        shared_buffer_ratio: node.var("pg_shared_buffer_ratio").as_f64().unwrap_or(0.25),
        storage_ssd: text("pg_storage_type") != "HDD",
        libs: text("pg_libs"),
        pgbouncer_is_default_dest: text("pg_default_service_dest") == "pgbouncer",
        pwd_enc: text("pg_pwd_enc"),
        io_method: text("pg_io_method"),
        log_dir: text("pg_log_dir"),
        primary_db: text("pg_primary_db"),
        backrest_enabled: node.bool_var("pgbackrest_enabled").unwrap_or(true),
        stanza: cluster.name.clone(),
        parameters,
    }
}

fn hba_context(
    topology: &Topology,
    cluster: &Cluster,
    instance: &crate::topology::Instance,
    node: &Node,
) -> HbaContext {
    let text = |name: &str| node.str_var(name).unwrap_or_default().to_owned();
    let intranet = node.var("node_firewall_intranet").as_array().cloned().unwrap_or_default();
    let mut infra: Vec<String> = topology
        .nodes
        .iter()
        .filter(|n| n.groups.iter().any(|g| g == "infra"))
        .map(|n| n.address.clone())
        .collect();
    infra.sort();
    HbaContext {
        role: instance.role.to_string(),
        offline_query: instance.offline_query,
        members: cluster.instances.iter().map(|m| m.address.clone()).collect(),
        infra,
        admin: node.str_var("admin_ip").map(str::to_owned),
        intranet: intranet.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
        dbsu: text("pg_dbsu"),
        replication: text("pg_replication_username"),
        monitor: text("pg_monitor_username"),
        admin_user: text("pg_admin_username"),
        pwd_enc: text("pg_pwd_enc"),
    }
}

/// The cluster's roles in order (system roles with their passwords, then users), and the users that
/// `PgBouncer` knows, with the verifiers that the server keeps.
fn roles(node: &Node, cluster: &Cluster) -> (Vec<Value>, Vec<Value>) {
    let text = |name: &str| node.str_var(name).unwrap_or_default().to_owned();
    let list = |name: &str| node.var(name).as_array().cloned().unwrap_or_default();
    // (parameter of the name, of the password, attributes when pg_default_roles does not list it)
    let system = [
        ("pg_dbsu", "pg_dbsu_password", json!({"superuser": true})),
        ("pg_replication_username", "pg_replication_password", json!({"replication": true})),
        ("pg_admin_username", "pg_admin_password", json!({"superuser": true, "pgbouncer": true})),
        ("pg_monitor_username", "pg_monitor_password", json!({"roles": ["pg_monitor"], "pgbouncer": true})),
    ];
    let named = |list: &[Value], name: &str| {
        list.iter().position(|r| r.get("name").and_then(Value::as_str) == Some(name))
    };
    let mut roles = list("pg_default_roles");
    for (name, password, usual) in system {
        let (name, password) = (text(name), text(password));
        let at = named(&roles, &name).unwrap_or_else(|| {
            roles.push(usual);
            roles.len() - 1
        });
        if let Value::Object(role) = &mut roles[at] {
            role.insert("name".into(), json!(name));
            if !password.is_empty() {
                role.entry("password").or_insert_with(|| json!(password));
            }
        }
    }
    for user in list("pg_users") {
        // A user that redefines a system role speaks for it.
        let name = user.get("name").and_then(Value::as_str).unwrap_or_default();
        match named(&roles, name) {
            Some(at) => {
                if let (Value::Object(role), Value::Object(user)) = (&mut roles[at], user) {
                    role.extend(user);
                }
            }
            None => roles.push(user),
        }
    }
    let dbsu = text("pg_dbsu");
    let word = |r: &Value, key: &str| r.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let users = roles
        .iter()
        .filter(|r| r.get("pgbouncer") == Some(&Value::Bool(true)) || word(r, "name") == dbsu)
        .map(|r| {
            let secret = scram::stored(&word(r, "password"), &cluster.name, &word(r, "name"));
            json!({
                "name": word(r, "name"),
                // Without a password a user comes in as the operating system's user, or not at all.
                "secret": if secret.is_empty() { scram::LOCKED } else { &secret },
                "pool_mode": r.get("pool_mode").cloned().unwrap_or(Value::Null),
                "pool_connlimit": r.get("pool_connlimit").cloned().unwrap_or(Value::Null),
            })
        })
        .collect();
    (roles, users)
}
