//! `pg_database`: a database of the cluster, on its leader, as `pg_databases` describes it.
//!
//! Databases are created and adjusted, never dropped. What cannot be changed after creation
//! (encoding, locale, template) is compared by nobody: it is only used when the database is made.

use serde::Deserialize;
use serde_json::Value;

use super::role::setting;
use super::sql::{Server, json};
use super::{Action, Change, Diff, Kind, Query, Seen, Verdict};
use crate::text::quote::{sql_ident, sql_literal};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub server: Server,
    pub database: Spec,
}

/// One entry of `pg_databases`.
#[derive(Debug, Clone, Deserialize)]
pub struct Spec {
    pub name: String,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default)]
    template: Option<String>,
    #[serde(default)]
    encoding: Option<String>,
    #[serde(default)]
    locale: Option<String>,
    #[serde(default)]
    lc_collate: Option<String>,
    #[serde(default)]
    lc_ctype: Option<String>,
    #[serde(default)]
    tablespace: Option<String>,
    #[serde(default)]
    connlimit: Option<i64>,
    #[serde(default)]
    comment: Option<String>,
    #[serde(default)]
    parameters: serde_json::Map<String, Value>,
}

const DATABASES: &str = "SELECT coalesce(json_object_agg(d.datname, json_build_object(
 'owner', pg_get_userbyid(d.datdba), 'connlimit', d.datconnlimit,
 'comment', coalesce(shobj_description(d.oid, 'pg_database'), ''),
 'parameters', (SELECT coalesce(json_agg(c), '[]') FROM pg_db_role_setting s, unnest(s.setconfig) c WHERE s.setdatabase = d.oid AND s.setrole = 0)
)), '{}') FROM pg_database d";

const DATABASES_KEY: &str = "pg_databases";

impl Spec {
    fn create(&self) -> String {
        let mut sql = format!("CREATE DATABASE {}", sql_ident(&self.name));
        if let Some(owner) = &self.owner {
            sql.push_str(&format!(" OWNER {}", sql_ident(owner)));
        }
        if let Some(template) = &self.template {
            sql.push_str(&format!(" TEMPLATE {}", sql_ident(template)));
        } else if self.encoding.is_some()
            || self.locale.is_some()
            || self.lc_collate.is_some()
            || self.lc_ctype.is_some()
        {
            // Only template0 can be copied with another encoding or locale (manual, 23.3).
            sql.push_str(" TEMPLATE template0");
        }
        let literals = [
            ("ENCODING", &self.encoding),
            ("LOCALE", &self.locale),
            ("LC_COLLATE", &self.lc_collate),
            ("LC_CTYPE", &self.lc_ctype),
        ];
        for (word, value) in literals {
            if let Some(value) = value {
                sql.push_str(&format!(" {word} {}", sql_literal(value)));
            }
        }
        if let Some(tablespace) = &self.tablespace {
            sql.push_str(&format!(" TABLESPACE {}", sql_ident(tablespace)));
        }
        sql.push(';');
        sql
    }

    /// What is needed beyond creation, and why.
    fn adjust(&self, have: Option<&Value>) -> (Vec<String>, Vec<String>) {
        let ident = sql_ident(&self.name);
        let (mut sql, mut reasons) = (Vec::new(), Vec::new());
        let usual = Value::Null;
        let seen = |key: &str| have.map_or(&usual, |h| h.get(key).unwrap_or(&usual));
        let owner =
            self.owner.as_ref().filter(|o| have.is_some() && seen("owner").as_str() != Some(o.as_str()));
        if let Some(owner) = owner {
            sql.push(format!("ALTER DATABASE {ident} OWNER TO {};", sql_ident(owner)));
            reasons.push(format!("owner should be {owner}"));
        }
        if let Some(limit) = self.connlimit.filter(|l| seen("connlimit").as_i64() != Some(*l)) {
            sql.push(format!("ALTER DATABASE {ident} CONNECTION LIMIT {limit};"));
            reasons.push(format!("connlimit should be {limit}"));
        }
        for (key, value) in &self.parameters {
            let (statement, same) = setting("DATABASE", &ident, key, value, seen("parameters"));
            if !same {
                sql.push(statement);
                reasons.push(format!("{key} differs"));
            }
        }
        if let Some(comment) = self.comment.as_ref().filter(|c| seen("comment").as_str() != Some(c.as_str()))
        {
            sql.push(format!("COMMENT ON DATABASE {ident} IS {};", sql_literal(comment)));
            reasons.push("comment differs".to_owned());
        }
        (sql, reasons)
    }
}

impl Kind for Database {
    fn id(&self) -> String {
        format!("pg_database {}", self.database.name)
    }

    fn queries(&self) -> Vec<Query> {
        vec![Query::Script {
            key: DATABASES_KEY.into(),
            script: self.server.run("postgres", DATABASES, false),
        }]
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        if self.database.state.as_deref().is_some_and(|s| s != "create") {
            return Diff::Note(
                "`state` other than `create` is not done yet: the database is left alone".into(),
            );
        }
        let databases = json(seen.observed.scripts.get(DATABASES_KEY));
        let have = databases.as_ref().ok().and_then(|d| d.get(&self.database.name));
        let (adjust, mut reasons) = self.database.adjust(have);
        let mut actions = Vec::new();
        let verdict = if have.is_none() {
            // CREATE DATABASE cannot run in a transaction.
            actions.push(Action::Shell(self.server.run("postgres", &self.database.create(), false)));
            reasons = vec!["missing".to_owned()];
            Verdict::Create
        } else {
            Verdict::Update
        };
        if !adjust.is_empty() {
            actions.push(Action::Shell(self.server.run("postgres", &adjust.join("\n"), true)));
        }
        if actions.is_empty() {
            return Diff::Same;
        }
        let mut change = Change::new(verdict, reasons.join(", "), String::new());
        change.actions = actions;
        match databases {
            Ok(_) => Diff::Change(change),
            Err(cause) => Diff::Unknown { cause, predicted: change },
        }
    }
}
