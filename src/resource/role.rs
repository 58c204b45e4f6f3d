//! `pg_role`: a role of the cluster, on its leader, as `pg_users` and `pg_default_roles` describe it.
//!
//! Passwords never travel in clear: the server is given the SCRAM verifier. What the inventory does
//! not name (other roles, other memberships) is left alone.

use serde::Deserialize;
use serde_json::Value;

use super::sql::{Server, json};
use super::{Change, Diff, Kind, Query, Seen, Verdict};
use crate::text::quote::{sql_ident, sql_literal};
use crate::topology::scram;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    pub server: Server,
    /// Whose cluster: part of the salt.
    pub cluster: String,
    /// The role that Patroni makes itself at bootstrap.
    pub replication_user: String,
    pub role: Spec,
}

impl Role {
    /// What a cluster that was just bootstrapped has of this role: what a plan expects before there is one.
    fn newborn(&self) -> Option<Value> {
        let name = &self.role.name;
        let superuser = *name == self.server.user;
        (superuser || *name == self.replication_user).then(|| {
            serde_json::json!({"login": true, "superuser": superuser, "createdb": superuser, "createrole": superuser,
                "inherit": true, "replication": true, "bypassrls": superuser, "connlimit": -1, "expire": "infinity",
                "password": "", "comment": "", "roles": [], "parameters": []})
        })
    }
}

/// One entry of `pg_users` or `pg_default_roles`.
#[derive(Clone, Deserialize)]
pub struct Spec {
    pub name: String,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    login: Option<bool>,
    #[serde(default)]
    superuser: Option<bool>,
    #[serde(default)]
    createdb: Option<bool>,
    #[serde(default)]
    createrole: Option<bool>,
    #[serde(default)]
    inherit: Option<bool>,
    #[serde(default)]
    replication: Option<bool>,
    #[serde(default)]
    bypassrls: Option<bool>,
    #[serde(default)]
    connlimit: Option<i64>,
    #[serde(default)]
    expire_at: Option<String>,
    #[serde(default)]
    comment: Option<String>,
    #[serde(default)]
    roles: Vec<Value>,
    #[serde(default)]
    parameters: serde_json::Map<String, Value>,
}

impl std::fmt::Debug for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spec").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All roles of the cluster in one document; shared by every `pg_role` of a node.
const ROLES: &str = "SELECT coalesce(json_object_agg(r.rolname, json_build_object(
 'login', r.rolcanlogin, 'superuser', r.rolsuper, 'createdb', r.rolcreatedb, 'createrole', r.rolcreaterole,
 'inherit', r.rolinherit, 'replication', r.rolreplication, 'bypassrls', r.rolbypassrls, 'connlimit', r.rolconnlimit,
 'expire', CASE WHEN r.rolvaliduntil IS NULL OR r.rolvaliduntil = 'infinity' THEN 'infinity'
   ELSE to_char(r.rolvaliduntil AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') END,
 'password', coalesce(r.rolpassword, ''), 'comment', coalesce(shobj_description(r.oid, 'pg_authid'), ''),
 'roles', (SELECT coalesce(json_agg(g.rolname), '[]') FROM pg_auth_members m JOIN pg_authid g ON g.oid = m.roleid WHERE m.member = r.oid),
 'parameters', (SELECT coalesce(json_agg(c), '[]') FROM pg_db_role_setting s, unnest(s.setconfig) c WHERE s.setrole = r.oid AND s.setdatabase = 0)
)), '{}') FROM pg_authid r WHERE r.rolname !~ '^pg_'";

const ROLES_KEY: &str = "pg_roles";

impl Spec {
    fn flags(&self) -> [(&'static str, &'static str, Option<bool>); 7] {
        [
            ("login", "LOGIN", self.login),
            ("superuser", "SUPERUSER", self.superuser),
            ("createdb", "CREATEDB", self.createdb),
            ("createrole", "CREATEROLE", self.createrole),
            ("inherit", "INHERIT", self.inherit),
            ("replication", "REPLICATION", self.replication),
            ("bypassrls", "BYPASSRLS", self.bypassrls),
        ]
    }

    /// What the server should keep for the password.
    fn verifier(&self, cluster: &str) -> Option<String> {
        self.password.as_deref().filter(|p| !p.is_empty()).map(|p| scram::stored(p, cluster, &self.name))
    }

    /// Memberships: (role, whether it should be granted).
    fn memberships(&self) -> Result<Vec<(String, bool)>, String> {
        self.roles
            .iter()
            .map(|entry| match entry {
                Value::String(name) => Ok((name.clone(), true)),
                Value::Object(map) => {
                    let name = map.get("name").and_then(Value::as_str);
                    let state = map.get("state").and_then(Value::as_str).unwrap_or("grant");
                    name.map(|n| (n.to_owned(), state == "grant"))
                        .ok_or_else(|| format!("role `{}`: an entry of `roles` has no name", self.name))
                }
                other => Err(format!("role `{}`: `{other}` is no role", self.name)),
            })
            .collect()
    }

    /// The statements that are needed and why, given what the server says of the role.
    fn statements(&self, have: Option<&Value>, cluster: &str) -> Result<(Vec<String>, Vec<String>), String> {
        let ident = sql_ident(&self.name);
        let (mut sql, mut reasons) = (Vec::new(), Vec::new());
        let mut options = Vec::new();
        let usual = Value::Null;
        let seen = |key: &str| have.map_or(&usual, |h| h.get(key).unwrap_or(&usual));
        if have.is_none() {
            let login = if self.login == Some(false) { "NOLOGIN" } else { "LOGIN" };
            sql.push(format!("CREATE ROLE {ident} {login};"));
            reasons.push("missing".to_owned());
        }
        for (key, word, want) in self.flags() {
            let known = have.is_some() || key != "login";
            if let Some(want) = want.filter(|w| known && seen(key).as_bool() != Some(*w)) {
                options.push(format!("{}{word}", if want { "" } else { "NO" }));
                reasons.push(format!("{key} should be {want}"));
            }
        }
        if let Some(limit) = self.connlimit.filter(|l| seen("connlimit").as_i64() != Some(*l)) {
            options.push(format!("CONNECTION LIMIT {limit}"));
            reasons.push(format!("connlimit should be {limit}"));
        }
        if let Some(expire) = &self.expire_at {
            let want = if expire == "infinity" { expire.clone() } else { utc(expire)? };
            if seen("expire").as_str() != Some(want.as_str()) {
                let zone = if want == "infinity" { "" } else { "+00" };
                options.push(format!("VALID UNTIL {}", sql_literal(&format!("{want}{zone}"))));
                reasons.push(format!("expires {want}"));
            }
        }
        if let Some(verifier) = self.verifier(cluster)
            && seen("password").as_str() != Some(verifier.as_str())
        {
            options.push(format!("PASSWORD {}", sql_literal(&verifier)));
            reasons.push("password differs".to_owned());
        }
        if !options.is_empty() {
            sql.push(format!("ALTER ROLE {ident} WITH {};", options.join(" ")));
        }
        let granted =
            |name: &str| seen("roles").as_array().is_some_and(|r| r.iter().any(|g| g.as_str() == Some(name)));
        for (role, want) in self.memberships()? {
            if want && !granted(&role) {
                sql.push(format!("GRANT {} TO {ident};", sql_ident(&role)));
                reasons.push(format!("not in {role}"));
            } else if !want && granted(&role) {
                sql.push(format!("REVOKE {} FROM {ident};", sql_ident(&role)));
                reasons.push(format!("in {role}"));
            }
        }
        for (key, value) in &self.parameters {
            let (statement, same) = setting("ROLE", &ident, key, value, seen("parameters"));
            if !same {
                sql.push(statement);
                reasons.push(format!("{key} differs"));
            }
        }
        if let Some(comment) = self.comment.as_ref().filter(|c| seen("comment").as_str() != Some(c.as_str()))
        {
            sql.push(format!("COMMENT ON ROLE {ident} IS {};", sql_literal(comment)));
            reasons.push("comment differs".to_owned());
        }
        if have.is_none() {
            reasons.truncate(1);
        }
        Ok((sql, reasons))
    }
}

/// `ALTER ROLE|DATABASE … SET key`, and whether `have` (a list of `key=value`) says it already.
pub(super) fn setting(what: &str, ident: &str, key: &str, value: &Value, have: &Value) -> (String, bool) {
    let value = match value {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    let current = have.as_array().into_iter().flatten().filter_map(Value::as_str).find_map(|c| {
        let (k, v) = c.split_once('=')?;
        (k == key).then(|| v.to_owned())
    });
    let name = key.split('.').map(sql_ident).collect::<Vec<_>>().join(".");
    if value == "DEFAULT" {
        return (format!("ALTER {what} {ident} RESET {name};"), current.is_none());
    }
    // A list setting is a list of words: as one quoted word it would name one schema or library.
    let list = matches!(
        key,
        "search_path" | "temp_tablespaces" | "local_preload_libraries" | "session_preload_libraries"
    );
    let words: Vec<String> = if list {
        value.split(',').map(|w| sql_literal(w.trim().trim_matches('"'))).collect()
    } else {
        vec![sql_literal(&value)]
    };
    let bare =
        |v: &str| v.split(',').map(|w| w.trim().trim_matches('"').to_owned()).collect::<Vec<_>>().join(",");
    let same = current.is_some_and(|c| c == value || (list && bare(&c) == bare(&value)));
    (format!("ALTER {what} {ident} SET {name} TO {};", words.join(", ")), same)
}

/// `2030-01-31` or a date and time, in UTC as the query prints it.
fn utc(date: &str) -> Result<String, String> {
    if let Ok(day) = date.parse::<jiff::civil::Date>() {
        return Ok(format!("{day} 00:00:00"));
    }
    let stamp: jiff::Timestamp = date.parse().map_err(|e| format!("expire_at `{date}`: {e}"))?;
    Ok(stamp.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

impl Kind for Role {
    fn id(&self) -> String {
        format!("pg_role {}", self.role.name)
    }

    fn queries(&self) -> Vec<Query> {
        vec![Query::Script { key: ROLES_KEY.into(), script: self.server.run("postgres", ROLES, false) }]
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        if self.role.state.as_deref().is_some_and(|s| s != "create") {
            return Diff::Note("`state` other than `create` is not done yet: the role is left alone".into());
        }
        let roles = json(seen.observed.scripts.get(ROLES_KEY));
        let newborn = self.newborn();
        let have = match &roles {
            Ok(roles) => roles.get(&self.role.name),
            Err(_) => newborn.as_ref(),
        };
        let (sql, reasons) = match self.role.statements(have, &self.cluster) {
            Ok(needed) => needed,
            Err(why) => return Diff::Failed(why),
        };
        if sql.is_empty() {
            return Diff::Same;
        }
        let verdict = if have.is_some() { Verdict::Update } else { Verdict::Create };
        // A verifier must not reach the server's log, whatever it logs.
        let quiet = "SET LOCAL log_statement = 'none'; SET LOCAL log_min_duration_statement = -1; \
                     SET LOCAL log_min_error_statement = 'panic'; SET LOCAL password_encryption = 'scram-sha-256';";
        let script = self.server.run("postgres", &format!("{quiet}\n{}", sql.join("\n")), true);
        let change = Change::new(verdict, reasons.join(", "), script);
        match roles {
            Ok(_) => Diff::Change(change),
            Err(cause) => Diff::Unknown { cause, predicted: change },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: Value) -> Spec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_missing_role_is_created_with_all_it_needs() {
        let s = spec(
            json!({"name": "o'app\"", "password": "secret", "roles": ["dbrole_readonly"], "comment": "it's"}),
        );
        let (sql, reasons) = s.statements(None, "pg-test").unwrap();
        assert_eq!(reasons, ["missing"]);
        assert_eq!(sql[0], "CREATE ROLE \"o'app\"\"\" LOGIN;");
        assert!(sql[1].contains("PASSWORD 'SCRAM-SHA-256$4096:") && !sql.concat().contains("secret"));
        assert_eq!(sql[2], "GRANT \"dbrole_readonly\" TO \"o'app\"\"\";");
        assert_eq!(sql[3], "COMMENT ON ROLE \"o'app\"\"\" IS 'it''s';");
    }

    #[test]
    fn a_role_as_wanted_needs_nothing() {
        let s = spec(
            json!({"name": "a", "password": "p", "login": true, "roles": ["x", {"name": "y", "state": "revoke"}],
            "parameters": {"search_path": "a, public"}, "expire_at": "2030-01-01"}),
        );
        let have = json!({"login": true, "password": s.verifier("c"), "roles": ["x", "z"], "connlimit": -1,
            "expire": "2030-01-01 00:00:00", "parameters": ["search_path=a, public"]});
        assert_eq!(s.statements(Some(&have), "c").unwrap(), (vec![], vec![]));
        let (sql, _) = s.statements(Some(&have), "other cluster").unwrap();
        assert_eq!(sql.len(), 1);
    }

    #[test]
    fn list_settings_are_lists_and_others_are_one_word() {
        let (sql, same) = setting(
            "ROLE",
            "\"a\"",
            "search_path",
            &json!("app, public"),
            &json!(["search_path=app, public"]),
        );
        assert_eq!((sql.as_str(), same), ("ALTER ROLE \"a\" SET \"search_path\" TO 'app', 'public';", true));
        let (sql, same) = setting("DATABASE", "\"d\"", "x.y", &json!(5), &json!([]));
        assert_eq!((sql.as_str(), same), ("ALTER DATABASE \"d\" SET \"x\".\"y\" TO '5';", false));
    }
}
