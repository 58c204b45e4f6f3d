//! SQL on the node's own server, through its socket, as the database superuser.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::text::quote::shell;

/// How to reach the node's own server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The operating system's user and database superuser, by peer authentication.
    #[serde(deserialize_with = "super::name")]
    pub user: String,
    /// Directory of `psql`.
    #[serde(deserialize_with = "super::path")]
    pub bin: String,
    /// Directory of the socket.
    #[serde(deserialize_with = "super::path")]
    pub socket: String,
    pub port: u16,
}

impl Server {
    /// A script that runs `sql`, given on standard input and never as an argument; the first failing
    /// statement ends it with psql's exit code 3. `once`: all in one transaction.
    pub(super) fn run(&self, database: &str, sql: &str, once: bool) -> String {
        // The text is encoded: no value in it can end the here-document.
        format!(
            "base64 -d <<'PGCTL_SQL' | runuser -u {user} -- {bin}/psql -XqAt -v ON_ERROR_STOP=1{once} -d {target} -f -
{sql}
PGCTL_SQL",
            user = shell(&self.user),
            bin = shell(&self.bin),
            once = if once { " -1" } else { "" },
            target = shell(&format!(
                // Not waiting for a synchronous standby, which may not be there yet, nor long for a lock.
                "host={} port={} dbname={} connect_timeout=10 application_name=pgctl options='-c synchronous_commit=local -c lock_timeout=30s'",
                conninfo(&self.socket),
                self.port,
                conninfo(database)
            )),
            sql = STANDARD.encode(sql),
        )
    }
}

/// A value in a connection string (libpq, 34.1.1.1): quoted, so that a name cannot become an option.
fn conninfo(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Reads a query's single JSON document.
pub(super) fn json(result: Option<&(i32, String)>) -> Result<serde_json::Value, String> {
    match result {
        None => Err("it was not asked".to_owned()),
        Some((0, output)) => output
            .lines()
            .rev()
            .find_map(|l| serde_json::from_str(l).ok())
            .ok_or_else(|| format!("psql's answer is no JSON: {}", output.trim())),
        Some((_, output)) => {
            Err(output.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("psql failed").trim().to_owned())
        }
    }
}
