//! Host-based authentication: rules of the inventory → lines of `pg_hba.conf` for Postgres or `PgBouncer`.
//!
//! A rule names users, databases, an address or an alias of addresses, and a method or an alias of methods.
//! Rules of other roles are kept as comments, so that a reader of the file sees what a promotion changes.

use std::net::IpAddr;

use serde_json::Value;

use crate::text::suggest::nearest;

/// Who reads the lines. They differ in what methods, users and databases they know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HbaFor {
    Postgres,
    Pgbouncer,
}

/// What the aliases of a rule stand for on one instance.
#[derive(Clone, Debug)]
pub struct HbaContext {
    /// `pg_role` of the inventory: primary, replica, standby, offline or delayed.
    pub role: String,
    /// `pg_offline_query`.
    pub offline_query: bool,
    /// Addresses of all members of the cluster.
    pub members: Vec<String>,
    /// Addresses of the infra nodes.
    pub infra: Vec<String>,
    /// `admin_ip`.
    pub admin: Option<String>,
    /// `node_firewall_intranet`, CIDRs.
    pub intranet: Vec<String>,
    /// `pg_dbsu`.
    pub dbsu: String,
    /// `pg_replication_username`.
    pub replication: String,
    /// `pg_monitor_username`.
    pub monitor: String,
    /// `pg_admin_username`.
    pub admin_user: String,
    /// `pg_pwd_enc`.
    pub pwd_enc: String,
}

/// Why a rule cannot be used. `rule` is its title, else its place in the list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HbaError {
    #[error("HBA rule {rule} is not a map")]
    NotAMap { rule: String },
    #[error("HBA rule {rule}: `{key}` must be {expected}")]
    Kind { rule: String, key: &'static str, expected: &'static str },
    #[error("HBA rule {rule} needs `{key}`")]
    Missing { rule: String, key: &'static str },
    #[error("HBA rule {rule}: unknown {what} `{value}`{hint}")]
    Unknown { rule: String, what: &'static str, value: String, hint: String },
    #[error("HBA rule {rule}: method `{method}` does not work for address `{addr}`, {why}")]
    Method { rule: String, method: String, addr: String, why: &'static str },
    #[error("HBA rule {rule}: PgBouncer knows no {what}")]
    Pgbouncer { rule: String, what: &'static str },
    #[error("HBA rule {rule}: `{key}` holds a line break")]
    LineBreak { rule: String, key: &'static str },
    #[error("`{address}` is not an IP address or CIDR ({place})")]
    Address { address: String, place: &'static str },
}

const ROLES: [&str; 7] = ["default", "common", "primary", "replica", "offline", "standby", "delayed"];
const ADDRESSES: [&str; 9] =
    ["local", "localhost", "admin", "infra", "cluster", "intra", "intranet", "world", "all"];
const METHODS: [&str; 14] = [
    "deny",
    "reject",
    "pwd",
    "ssl",
    "ssl-sha",
    "ssl-md5",
    "sha",
    "scram-sha-256",
    "md5",
    "cert",
    "os",
    "ident",
    "peer",
    "trust",
];

/// The lines for one instance: the rules of `defaults` then of `rules`, those with `order` first and sorted by it.
///
/// For Postgres, members whose address lies in none of the intranet's CIDRs get lines of their own, so that
/// replication never depends on how the intranet was described.
///
/// # Errors
/// The first rule that cannot be used.
pub fn expand(
    target: HbaFor,
    defaults: &[Value],
    rules: &[Value],
    context: &HbaContext,
) -> Result<Vec<String>, HbaError> {
    let mut entries = Vec::new();
    for (list, prefix) in [(defaults, "default "), (rules, "")] {
        for (at, entry) in list.iter().enumerate() {
            entries.push(Entry::read(target, entry, &format!("{prefix}#{}", at + 1), context)?);
        }
    }
    entries.sort_by_key(|entry| entry.order.unwrap_or(i64::MAX));
    if target == HbaFor::Postgres {
        entries.extend(outside_members(context)?);
    }
    let widths = widths(&entries);
    let mut lines = Vec::new();
    for entry in &entries {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(format!("# {} [{}]", entry.title, entry.role));
        let active = entry.applies(context);
        for line in &entry.lines {
            let text = line.text(&widths);
            lines.push(if active { text } else { format!("# {text}") });
        }
        if entry.lines.is_empty() {
            lines.push("# nobody: the alias stands for no address here".to_owned());
        }
    }
    Ok(lines)
}

/// One rule, with its aliases resolved.
struct Entry {
    title: String,
    role: String,
    order: Option<i64>,
    lines: Vec<Line>,
}

enum Line {
    /// Type, database, user, address, method.
    Columns([String; 5]),
    Raw(String),
}

impl Entry {
    fn read(target: HbaFor, entry: &Value, place: &str, context: &HbaContext) -> Result<Self, HbaError> {
        let map = entry.as_object().ok_or_else(|| HbaError::NotAMap { rule: place.to_owned() })?;
        let title = map.get("title").and_then(Value::as_str).map(one_line);
        let rule = title.as_ref().map_or_else(|| place.to_owned(), |title| format!("`{title}`"));
        let text = |key: &'static str| match map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.contains(['\n', '\r']) => {
                Err(HbaError::LineBreak { rule: rule.clone(), key })
            }
            Some(Value::String(text)) => Ok(Some(text.trim().to_owned())),
            Some(_) => Err(HbaError::Kind { rule: rule.clone(), key, expected: "a string" }),
        };
        let role = text("role")?.unwrap_or_else(|| "common".to_owned());
        if !ROLES.contains(&role.as_str()) {
            return Err(unknown(&rule, "role", &role, &ROLES));
        }
        let order = match map.get("order") {
            None | Some(Value::Null) => None,
            Some(order) => Some(order.as_i64().ok_or_else(|| HbaError::Kind {
                rule: rule.clone(),
                key: "order",
                expected: "a whole number",
            })?),
        };
        let lines = match map.get("rules") {
            None | Some(Value::Null) => {
                let addr = text("addr")?.ok_or(HbaError::Missing { rule: rule.clone(), key: "addr" })?;
                let auth = text("auth")?.unwrap_or_else(|| "pwd".to_owned());
                let columns = Columns {
                    target,
                    rule: &rule,
                    users: users(target, &rule, &text("user")?.unwrap_or_else(|| "all".to_owned()), context)?,
                    databases: databases(target, &rule, &text("db")?.unwrap_or_else(|| "all".to_owned()))?,
                };
                columns.lines(&addr, &auth, context)?
            }
            Some(raw) => raw_lines(&rule, raw)?,
        };
        let title = title.unwrap_or_else(|| format!("rule {place}"));
        Ok(Self { title, role, order, lines })
    }

    fn applies(&self, context: &HbaContext) -> bool {
        matches!(self.role.as_str(), "default" | "common")
            || self.role == context.role
            || (self.role == "offline" && context.offline_query)
    }
}

/// The part of a rule that is the same on all of its lines.
struct Columns<'a> {
    target: HbaFor,
    rule: &'a str,
    users: String,
    databases: String,
}

impl Columns<'_> {
    fn lines(&self, addr: &str, auth: &str, context: &HbaContext) -> Result<Vec<Line>, HbaError> {
        let mut lines = Vec::new();
        if matches!(addr, "local" | "localhost") {
            lines.push(self.line("local", "", self.method(auth, addr, true, context)?.1));
        }
        let addresses = match addr {
            "local" => Vec::new(),
            // The sort of method that only a socket can have needs no lines for 127.0.0.1.
            "localhost" if matches!(auth, "peer" | "os" | "ident") => Vec::new(),
            "localhost" => vec!["127.0.0.1/32".to_owned(), "::1/128".to_owned()],
            "admin" => context
                .admin
                .iter()
                .map(|address| host_cidr(address, "admin_ip"))
                .collect::<Result<_, _>>()?,
            "infra" => host_cidrs(&context.infra, "infra")?,
            "cluster" => host_cidrs(&context.members, "cluster")?,
            "intra" | "intranet" => context
                .intranet
                .iter()
                .map(|range| host_cidr(range, "node_firewall_intranet"))
                .collect::<Result<_, _>>()?,
            "world" | "all" => vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()],
            other => vec![host_cidr(other, "addr").map_err(|_| {
                let mut error = unknown(self.rule, "address", other, &ADDRESSES);
                if let HbaError::Unknown { hint, .. } = &mut error
                    && hint.is_empty()
                {
                    ", give an IP address, a CIDR or an alias; host names go into `rules`".clone_into(hint);
                }
                error
            })?],
        };
        for address in addresses {
            // On a socket SSL has no meaning, so the two `localhost` kinds of line stay plain.
            let (kind, method) = self.method(auth, addr, addr == "localhost", context)?;
            let kind = if addr == "localhost" { "host" } else { kind };
            lines.push(self.line(kind, &address, method));
        }
        Ok(lines)
    }

    fn line(&self, kind: &str, address: &str, method: &str) -> Line {
        Line::Columns([
            kind.to_owned(),
            self.databases.clone(),
            self.users.clone(),
            address.to_owned(),
            method.to_owned(),
        ])
    }

    /// Type of line and method for an alias. `plain` is for sockets and loopback.
    fn method(
        &self,
        auth: &str,
        addr: &str,
        plain: bool,
        context: &HbaContext,
    ) -> Result<(&'static str, &'static str), HbaError> {
        let password = if context.pwd_enc == "md5" { "md5" } else { "scram-sha-256" };
        let refuse = |why| {
            Err(HbaError::Method {
                rule: self.rule.to_owned(),
                method: auth.to_owned(),
                addr: addr.to_owned(),
                why,
            })
        };
        let (kind, method) = match auth {
            "deny" | "reject" => ("host", "reject"),
            "pwd" => ("host", password),
            "ssl" => ("hostssl", password),
            "ssl-sha" => ("hostssl", "scram-sha-256"),
            "ssl-md5" => ("hostssl", "md5"),
            "sha" | "scram-sha-256" => ("host", "scram-sha-256"),
            "md5" => ("host", "md5"),
            "trust" => ("host", "trust"),
            "cert" if plain => return refuse("it needs SSL"),
            "cert" => ("hostssl", "cert"),
            // On a socket Postgres reads `ident` as `peer`; PgBouncer knows `peer` only.
            "os" | "ident" | "peer" if plain => ("local", "peer"),
            "os" | "ident" if self.target == HbaFor::Postgres => ("host", "ident"),
            "os" | "ident" | "peer" => return refuse("the user of a remote process is not known"),
            other => return Err(unknown(self.rule, "method", other, &METHODS)),
        };
        Ok((if plain { "local" } else { kind }, method))
    }
}

impl Line {
    fn text(&self, widths: &[usize; 4]) -> String {
        match self {
            Self::Raw(text) => text.clone(),
            Self::Columns([kind, database, user, address, method]) => format!(
                "{kind:<0$} {database:<1$} {user:<2$} {address:<3$} {method}",
                widths[0], widths[1], widths[2], widths[3]
            ),
        }
    }
}

fn widths(entries: &[Entry]) -> [usize; 4] {
    let mut widths = [0; 4];
    for line in entries.iter().flat_map(|entry| &entry.lines) {
        if let Line::Columns(columns) = line {
            for (width, column) in widths.iter_mut().zip(columns) {
                *width = (*width).max(column.chars().count());
            }
        }
    }
    widths
}

/// A rule for members whom the intranet does not cover: they must be able to replicate, rewind and, for
/// synchronised slots, look at database `postgres`.
fn outside_members(context: &HbaContext) -> Result<Option<Entry>, HbaError> {
    let mut covered = Vec::new();
    for range in &context.intranet {
        covered.push(Cidr::parse(range, "node_firewall_intranet")?);
    }
    let password = if context.pwd_enc == "md5" { "md5" } else { "scram-sha-256" };
    let mut lines = Vec::new();
    for member in &context.members {
        let cidr = Cidr::parse(member, "cluster")?;
        if covered.iter().any(|range| range.contains(&cidr)) {
            continue;
        }
        for database in ["replication", "postgres"] {
            lines.push(Line::Columns([
                "host".to_owned(),
                database.to_owned(),
                word(&context.replication),
                cidr.to_string(),
                password.to_owned(),
            ]));
        }
    }
    Ok((!lines.is_empty()).then(|| Entry {
        title: "members outside node_firewall_intranet replicate".to_owned(),
        role: "common".to_owned(),
        order: None,
        lines,
    }))
}

fn raw_lines(rule: &str, raw: &Value) -> Result<Vec<Line>, HbaError> {
    let wrong = || HbaError::Kind { rule: rule.to_owned(), key: "rules", expected: "a list of lines" };
    let mut lines = Vec::new();
    for line in raw.as_array().ok_or_else(wrong)? {
        let text = line.as_str().ok_or_else(wrong)?;
        if text.contains(['\n', '\r']) {
            return Err(HbaError::LineBreak { rule: rule.to_owned(), key: "rules" });
        }
        lines.push(Line::Raw(text.trim().to_owned()));
    }
    Ok(lines)
}

fn users(target: HbaFor, rule: &str, list: &str, context: &HbaContext) -> Result<String, HbaError> {
    let mut words = Vec::new();
    for user in list.split(',').map(str::trim).filter(|user| !user.is_empty()) {
        if target == HbaFor::Pgbouncer && user.starts_with('+') {
            return Err(HbaError::Pgbouncer {
                rule: rule.to_owned(),
                what: "members of a role, name the users",
            });
        }
        words.push(match user {
            "${dbsu}" => word(&context.dbsu),
            "${repl}" => word(&context.replication),
            "${monitor}" => word(&context.monitor),
            "${admin}" => word(&context.admin_user),
            other if other.starts_with("${") => {
                return Err(unknown(rule, "user", other, &["${dbsu}", "${repl}", "${monitor}", "${admin}"]));
            }
            other => match other.strip_prefix('+') {
                Some(role) => format!("+{}", word(role)),
                None => keyword_or_word(other, &["all"]),
            },
        });
    }
    if words.is_empty() {
        return Err(HbaError::Missing { rule: rule.to_owned(), key: "user" });
    }
    Ok(words.join(","))
}

fn databases(target: HbaFor, rule: &str, list: &str) -> Result<String, HbaError> {
    let mut words = Vec::new();
    for database in list.split(',').map(str::trim).filter(|database| !database.is_empty()) {
        if target == HbaFor::Pgbouncer && database == "replication" {
            return Err(HbaError::Pgbouncer { rule: rule.to_owned(), what: "database `replication`" });
        }
        words.push(keyword_or_word(database, &["all", "replication", "sameuser", "samerole", "samegroup"]));
    }
    if words.is_empty() {
        return Err(HbaError::Missing { rule: rule.to_owned(), key: "db" });
    }
    Ok(words.join(","))
}

fn keyword_or_word(text: &str, keywords: &[&str]) -> String {
    if keywords.contains(&text) { text.to_owned() } else { word(text) }
}

/// A name as one token: quoted unless it is plain, so that a blank, `#`, or a leading `@` (which would include
/// a file) is just a character of the name (manual, 21.1).
fn word(name: &str) -> String {
    let keywords = ["all", "replication", "sameuser", "samerole", "samegroup"];
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
    if !name.is_empty() && name.chars().all(plain) && !keywords.contains(&name) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn unknown(rule: &str, what: &'static str, value: &str, words: &[&str]) -> HbaError {
    let hint = nearest(value, words.iter().copied())
        .map(|near| format!(", did you mean `{near}`?"))
        .unwrap_or_default();
    HbaError::Unknown { rule: rule.to_owned(), what, value: value.to_owned(), hint }
}

fn host_cidrs(addresses: &[String], place: &'static str) -> Result<Vec<String>, HbaError> {
    addresses.iter().map(|address| host_cidr(address, place)).collect()
}

fn host_cidr(text: &str, place: &'static str) -> Result<String, HbaError> {
    Cidr::parse(text, place).map(|cidr| cidr.to_string())
}

struct Cidr {
    address: IpAddr,
    prefix: u32,
}

impl Cidr {
    fn parse(text: &str, place: &'static str) -> Result<Self, HbaError> {
        let wrong = || HbaError::Address { address: text.to_owned(), place };
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) => digits.parse().ok().filter(|p| *p <= longest).ok_or_else(wrong)?,
        };
        Ok(Self { address, prefix })
    }

    fn contains(&self, other: &Self) -> bool {
        let (bits, own, theirs) = match (self.address, other.address) {
            (IpAddr::V4(own), IpAddr::V4(theirs)) => (32, own.to_bits().into(), theirs.to_bits().into()),
            (IpAddr::V6(own), IpAddr::V6(theirs)) => (128, own.to_bits(), theirs.to_bits()),
            _ => return false,
        };
        let head = |address: u128| address.checked_shr(bits - self.prefix).unwrap_or(0);
        other.prefix >= self.prefix && head(own) == head(theirs)
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn context() -> HbaContext {
        HbaContext {
            role: "primary".into(),
            offline_query: false,
            members: vec!["10.10.10.11".into(), "10.10.10.12".into()],
            infra: vec!["10.10.10.10".into()],
            admin: Some("10.10.10.10".into()),
            intranet: vec!["10.0.0.0/8".into(), "192.168.0.0/16".into()],
            dbsu: "postgres".into(),
            replication: "replicator".into(),
            monitor: "dbuser_monitor".into(),
            admin_user: "dbuser_dba".into(),
            pwd_enc: "scram-sha-256".into(),
        }
    }

    fn postgres(rules: &Value) -> Result<Vec<String>, HbaError> {
        expand(HbaFor::Postgres, &[], rules.as_array().unwrap(), &context())
    }

    /// Lines without comments, blanks squeezed.
    fn plain(lines: &[String]) -> Vec<String> {
        lines.iter().filter(|l| !l.is_empty() && !l.starts_with('#')).map(|l| one_line(l)).collect()
    }

    #[test]
    fn aliases_become_addresses_and_methods() {
        let lines = postgres(&json!([
            { "user": "${dbsu}", "db": "all", "addr": "local", "auth": "ident", "title": "dbsu" },
            { "user": "${repl}", "db": "replication", "addr": "localhost", "auth": "pwd" },
            { "user": "${repl}", "db": "replication", "addr": "intra", "auth": "pwd" },
            { "user": "${admin}", "addr": "world", "auth": "ssl" },
            { "user": "+dbrole_readonly", "addr": "cluster" },
            { "user": "a b,c", "db": "all,x", "addr": "fd00::/8", "auth": "cert" },
            { "addr": "admin", "auth": "deny" },
        ]))
        .unwrap();
        assert_eq!(
            plain(&lines),
            [
                "local all postgres peer",
                "local replication replicator scram-sha-256",
                "host replication replicator 127.0.0.1/32 scram-sha-256",
                "host replication replicator ::1/128 scram-sha-256",
                "host replication replicator 10.0.0.0/8 scram-sha-256",
                "host replication replicator 192.168.0.0/16 scram-sha-256",
                "hostssl all dbuser_dba 0.0.0.0/0 scram-sha-256",
                "hostssl all dbuser_dba ::/0 scram-sha-256",
                "host all +dbrole_readonly 10.10.10.11/32 scram-sha-256",
                "host all +dbrole_readonly 10.10.10.12/32 scram-sha-256",
                "hostssl all,x \"a b\",c fd00::/8 cert",
                "host all all 10.10.10.10/32 reject",
            ]
        );
        assert_eq!(lines[0], "# dbsu [common]");
        assert_eq!(lines[1].find("all"), lines[4].find("replication"), "columns are aligned");
    }

    #[test]
    fn order_sorts_stably_and_the_rest_follows() {
        let rule = |user: &str, order: Option<i64>| json!({ "user": user, "addr": "local", "order": order });
        let lines = expand(
            HbaFor::Postgres,
            &[rule("d", Some(100)), rule("e", Some(200))],
            &[rule("a", None), rule("b", Some(0)), rule("c", Some(100))],
            &context(),
        )
        .unwrap();
        let users: Vec<_> = plain(&lines).iter().map(|l| l.split(' ').nth(2).unwrap().to_owned()).collect();
        assert_eq!(users, ["b", "d", "c", "e", "a"]);
    }

    #[test]
    fn rules_of_other_roles_stay_as_comments() {
        let rules = json!([
            { "user": "r", "addr": "world", "role": "replica" },
            { "user": "o", "addr": "world", "role": "offline" },
            { "user": "p", "addr": "world", "role": "primary" },
        ]);
        let users = |context: &HbaContext| {
            let lines = expand(HbaFor::Postgres, &[], rules.as_array().unwrap(), context).unwrap();
            assert_eq!(lines.iter().filter(|l| l.contains("0.0.0.0/0")).count(), 3);
            plain(&lines).iter().map(|l| l.split(' ').nth(2).unwrap().to_owned()).collect::<String>()
        };
        assert_eq!(users(&context()), "pp");
        assert_eq!(users(&HbaContext { role: "replica".into(), offline_query: true, ..context() }), "rroo");
        assert_eq!(users(&HbaContext { role: "offline".into(), ..context() }), "oo");
    }

    #[test]
    fn members_outside_the_intranet_still_replicate() {
        let mut outside = context();
        outside.members.push("203.0.113.7".into());
        outside.members.push("2001:db8::7".into());
        let lines = plain(&expand(HbaFor::Postgres, &[], &[], &outside).unwrap());
        assert_eq!(
            lines,
            [
                "host replication replicator 203.0.113.7/32 scram-sha-256",
                "host postgres replicator 203.0.113.7/32 scram-sha-256",
                "host replication replicator 2001:db8::7/128 scram-sha-256",
                "host postgres replicator 2001:db8::7/128 scram-sha-256",
            ]
        );
        assert!(expand(HbaFor::Pgbouncer, &[], &[], &outside).unwrap().is_empty());
        outside.intranet = vec!["0.0.0.0/0".into(), "::/0".into()];
        assert!(expand(HbaFor::Postgres, &[], &[], &outside).unwrap().is_empty());
    }

    #[test]
    fn pgbouncer_has_its_own_words() {
        let of = |rule: Value| expand(HbaFor::Pgbouncer, &[], &[rule], &context());
        let lines =
            of(json!({ "user": "${dbsu}", "db": "pgbouncer", "addr": "local", "auth": "os" })).unwrap();
        assert_eq!(plain(&lines), ["local pgbouncer postgres peer"]);
        let said = |rule| of(rule).unwrap_err().to_string();
        assert_eq!(
            said(json!({ "db": "replication", "addr": "local" })),
            "HBA rule #1: PgBouncer knows no database `replication`"
        );
        assert!(said(json!({ "user": "+r", "addr": "intra" })).contains("members of a role"));
        assert!(said(json!({ "addr": "intra", "auth": "ident" })).contains("not known"));
    }

    #[test]
    fn names_are_never_syntax() {
        let lines = postgres(&json!([
            { "user": "@/etc/passwd", "addr": "local" },
            { "user": "a\"b", "db": "x #y", "addr": "local", "title": "two\nlines" },
        ]))
        .unwrap();
        assert_eq!(
            plain(&lines),
            ["local all \"@/etc/passwd\" scram-sha-256", "local \"x #y\" \"a\"\"b\" scram-sha-256"]
        );
        assert!(lines.contains(&"# two lines [common]".to_owned()));
    }

    #[test]
    fn raw_rules_pass_and_line_breaks_do_not() {
        let lines = postgres(&json!([{ "title": "gss", "rules": ["host all all samenet gss"] }])).unwrap();
        assert_eq!(lines, ["# gss [common]", "host all all samenet gss"]);
        let said = |rules: Value| postgres(&rules).unwrap_err().to_string();
        assert_eq!(said(json!([{ "rules": ["a\nb"] }])), "HBA rule #1: `rules` holds a line break");
        assert_eq!(
            said(json!([{ "user": "a\nb", "addr": "local" }])),
            "HBA rule #1: `user` holds a line break"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |rule: Value| postgres(&json!([rule])).unwrap_err().to_string();
        assert_eq!(
            said(json!({ "addr": "intr", "title": "t" })),
            "HBA rule `t`: unknown address `intr`, did you mean `intra`?"
        );
        assert!(said(json!({ "addr": "db.example.com" })).contains("host names go into `rules`"));
        assert!(said(json!({ "addr": "10.0.0.0/33" })).contains("unknown address"));
        assert_eq!(
            said(json!({ "addr": "local", "auth": "sham" })),
            "HBA rule #1: unknown method `sham`, did you mean `sha`?"
        );
        assert!(
            said(json!({ "addr": "world", "auth": "peer" })).contains("does not work for address `world`")
        );
        assert!(said(json!({ "addr": "local", "auth": "cert" })).contains("needs SSL"));
        assert!(said(json!({ "addr": "local", "role": "primry" })).contains("did you mean `primary`"));
        assert_eq!(said(json!({ "user": "x" })), "HBA rule #1 needs `addr`");
        assert_eq!(said(json!("x")), "HBA rule #1 is not a map");
        assert!(said(json!({ "addr": "local", "order": "1" })).contains("a whole number"));
        assert!(said(json!({ "addr": "local", "user": "${dba}" })).contains("unknown user"));
    }
}
