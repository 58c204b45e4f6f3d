//! `status`: what every selected cluster is like right now, from one look at each node.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::engine::Gathered;
use crate::engine::script::{self, ScriptError};
use crate::live::backup::{self, Backups};
use crate::live::{Live, Member};
use crate::text::quote::shell;
use crate::topology::{Cluster, Instance, Topology};

/// What a node's script says beside its facts.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Unit → `active`, `inactive`, `failed` …
    pub units: BTreeMap<String, String>,
    pub backups: Option<Backups>,
    /// Free share of the data directory's file system, percent.
    pub disk_free_percent: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct InstanceStatus {
    pub name: String,
    pub address: String,
    /// `leader`, `replica` …; empty when unknown.
    pub role: String,
    pub state: String,
    pub timeline: Option<u64>,
    pub lag_bytes: Option<u64>,
    pub pending_restart: bool,
    pub units: BTreeMap<String, String>,
    pub disk_free_percent: Option<u64>,
    /// Why the node could not be looked at.
    pub unreachable: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ClusterStatus {
    pub name: String,
    pub healthy: bool,
    /// Why it is not; empty when it is.
    pub reasons: Vec<String>,
    pub paused: bool,
    pub leader: Option<String>,
    pub instances: Vec<InstanceStatus>,
    /// Whether the DCS has quorum; `None` when nobody could say.
    pub etcd_healthy: Option<bool>,
    /// Of the leader's repository: how many full backups, and when the last backup ended (epoch seconds).
    pub full_backups: Option<usize>,
    pub last_backup_seconds: Option<i64>,
    /// What to type to try it: (service, command).
    pub connect: Vec<(String, String)>,
}

/// The units that a node's instance needs.
fn units(topology: &Topology, node: usize) -> Vec<&'static str> {
    let node = &topology.nodes[node];
    let on = |name: &str| node.bool_var(name).unwrap_or(true);
    let mut units = Vec::new();
    if node.etcd_member.is_some() {
        units.push("etcd");
    }
    if node.instance.is_some() {
        units.push("patroni");
        if on("pgbouncer_enabled") {
            units.push("pgbouncer");
        }
        if on("haproxy_enabled") {
            units.push("haproxy");
        }
    }
    units
}

/// Looks at one gathered node: its units and its backups.
pub async fn look(topology: &Topology, node: &Gathered, mark: &str) -> Result<Look, ScriptError> {
    let units = units(topology, node.node);
    let list = units.iter().map(|u| shell(&format!("{u}.service"))).collect::<Vec<_>>().join(" ");
    let mut body = String::new();
    if !units.is_empty() {
        body.push_str(&format!("begin units\nsystemctl is-active {list}; true\nend units $?\n"));
    }
    let instance = topology.nodes[node.node].instance;
    let stanza = instance.map(|i| topology.clusters[i.cluster].name.clone());
    if let Some(stanza) = &stanza {
        let user = topology.nodes[node.node].str_var("pg_dbsu").unwrap_or("postgres");
        body.push_str(&format!(
            "begin backups\nif command -v pgbackrest >/dev/null 2>&1; then runuser -u {} -- pgbackrest --stanza={} --output=json --log-level-console=off info; fi\nend backups $?\n",
            shell(user),
            shell(stanza)
        ));
    }
    let records = script::look(&node.session, mark, &body).await?;
    let output = |id: &str| records.iter().find(|r| r.id == id).map(|r| r.output.clone()).unwrap_or_default();
    let states = output("units");
    Ok(Look {
        units: units.iter().map(|u| (*u).to_owned()).zip(states.lines().map(str::to_owned)).collect(),
        backups: stanza.and_then(|s| backup::parse(&output("backups"), &s)),
        disk_free_percent: node.facts.disk_free_bytes * 100 / node.facts.disk_bytes.max(1),
    })
}

/// What was seen of one node: its live state with the look, or why it could not be looked at.
pub type Seen<'a> = Result<(&'a Live, &'a Look), &'a str>;

/// The status of one cluster; `seen` gives what is known of a node by its index. Pure.
pub fn cluster<'a>(
    topology: &Topology,
    cluster: &Cluster,
    seen: impl Fn(usize) -> Option<Seen<'a>>,
) -> ClusterStatus {
    let mut reasons = Vec::new();
    let lives: Vec<(&Instance, &Live)> =
        cluster.instances.iter().filter_map(|i| Some((i, seen(i.node)?.ok()?.0))).collect();
    // The leader's own view of the members is the freshest; else anybody's.
    let own_leaders: Vec<&str> = lives
        .iter()
        .filter(|(_, l)| l.patroni.as_ref().is_some_and(|p| p.is_leader() && p.is_running()))
        .map(|(i, _)| i.name.as_str())
        .collect();
    let view = lives
        .iter()
        .find(|(i, l)| own_leaders.contains(&i.name.as_str()) && !l.members.is_empty())
        .or_else(|| lives.iter().find(|(_, l)| !l.members.is_empty()));
    let members: &[Member] = view.map_or(&[], |(_, l)| l.members.as_slice());
    let leader = view.and_then(|(_, l)| l.leader()).map(str::to_owned);
    if own_leaders.len() > 1 {
        reasons.push(format!("{} say that they lead: two primaries", own_leaders.join(" and ")));
    }
    if leader.is_none() {
        reasons.push("no leader".to_owned());
    }
    let paused = lives.iter().any(|(_, l)| l.patroni.as_ref().is_some_and(|p| p.paused));
    if paused {
        reasons.push("Patroni is paused: no failover happens".to_owned());
    }
    let etcd: Vec<bool> = lives.iter().filter_map(|(_, l)| l.etcd_healthy).collect();
    let etcd_healthy = (!etcd.is_empty()).then(|| etcd.iter().any(|h| *h));
    match etcd_healthy {
        Some(true) => {}
        Some(false) => reasons.push("etcd has no quorum".to_owned()),
        None => reasons.push("etcd does not answer".to_owned()),
    }
    let mut instances = Vec::new();
    for instance in &cluster.instances {
        let member = members.iter().find(|m| m.name == instance.name);
        let looked = seen(instance.node);
        let (unreachable, look) = match looked {
            Some(Ok((_, look))) => (None, Some(look)),
            Some(Err(why)) => (Some(why.to_owned()), None),
            None => (None, None),
        };
        let state = member.map_or_else(|| "absent".to_owned(), |m| m.state.clone());
        if unreachable.is_some() {
            reasons.push(format!("{} cannot be reached", instance.name));
        }
        match member {
            None => reasons.push(format!("{} is not a member", instance.name)),
            Some(m) if !m.is_running() => reasons.push(format!("{} is {}", instance.name, m.state)),
            // A replica that Patroni knows no position of does not follow.
            Some(m) if !m.is_leader() && m.lag_bytes.is_none() => {
                reasons.push(format!("{} does not stream", instance.name));
            }
            Some(_) => {}
        }
        for (unit, active) in look.map(|l| &l.units).into_iter().flatten() {
            if active != "active" {
                reasons.push(format!("{}: {unit} is {active}", instance.name));
            }
        }
        if let Some(look) = look.filter(|l| l.disk_free_percent < 5) {
            let free = look.disk_free_percent;
            reasons.push(format!("{}: {free} % of the disk is free", instance.name));
        }
        instances.push(InstanceStatus {
            name: instance.name.clone(),
            address: instance.address.clone(),
            role: member.map(|m| m.role.clone()).unwrap_or_default(),
            state,
            timeline: member.and_then(|m| m.timeline),
            lag_bytes: member.and_then(|m| m.lag_bytes),
            pending_restart: member.is_some_and(|m| m.pending_restart),
            units: look.map(|l| l.units.clone()).unwrap_or_default(),
            disk_free_percent: look.map(|l| l.disk_free_percent),
            unreachable,
        });
    }
    let backups = cluster
        .instances
        .iter()
        .find(|i| Some(&i.name) == leader.as_ref())
        .and_then(|i| seen(i.node)?.ok()?.1.backups.clone());
    if let Some(backups) = backups.as_ref().filter(|b| b.fulls() == 0) {
        let why = if backups.has_stanza() { "no full backup" } else { "no backup repository" };
        reasons.push(format!("{why} on the leader"));
    }
    ClusterStatus {
        name: cluster.name.clone(),
        healthy: reasons.is_empty(),
        reasons,
        paused,
        leader: leader.clone(),
        instances,
        etcd_healthy,
        full_backups: backups.as_ref().map(Backups::fulls),
        last_backup_seconds: backups.and_then(|b| b.last_stop_seconds),
        connect: connect(topology, cluster, leader.as_deref()),
    }
}

/// Commands that connect through the services, by the admin and by the first user of a database.
fn connect(topology: &Topology, cluster: &Cluster, leader: Option<&str>) -> Vec<(String, String)> {
    let Some(instance) =
        cluster.instances.iter().find(|i| Some(i.name.as_str()) == leader).or(cluster.instances.first())
    else {
        return Vec::new();
    };
    let node = &topology.nodes[instance.node];
    let database = node.var("pg_databases").as_array().and_then(|d| d.first());
    let word = |v: &serde_json::Value, key: &str| v.get(key).and_then(|v| v.as_str()).map(str::to_owned);
    let name = database.and_then(|d| word(d, "name")).unwrap_or_else(|| "postgres".to_owned());
    let admin = node.str_var("pg_admin_username").unwrap_or("dbuser_dba").to_owned();
    let user = database.and_then(|d| word(d, "owner")).unwrap_or_else(|| admin.clone());
    let services = node.var("pg_default_services").as_array().cloned().unwrap_or_default();
    services
        .iter()
        .chain(node.var("pg_services").as_array().into_iter().flatten())
        .filter_map(|s| {
            let service = word(s, "name")?;
            let port = s.get("port")?.as_u64()?;
            // The services that go past the pooler are the administrator's.
            let user = if matches!(service.as_str(), "primary" | "replica") { &user } else { &admin };
            Some((service, format!("psql 'host={} port={port} user={user} dbname={name}'", instance.address)))
        })
        .collect()
}
