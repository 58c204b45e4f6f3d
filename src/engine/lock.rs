//! The lock on a node, which keeps two operators apart.
//!
//! A `flock` that a process on the node holds for as long as the run's connection lives: a run that
//! is killed or loses its link gives it back by itself, and nothing has to be declared stale. A step
//! that such a run left behind holds a second lock until it ends; the next run waits for it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::script::ScriptError;
use crate::remote::{Held, Session};
use crate::text::frame::{Frame, Reader, Record, script};
use crate::text::quote::shell;

/// Where locks live on a node.
pub const DIRECTORY: &str = "/run/pgctl";

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub user: String,
    pub host: String,
    pub operation: String,
    pub since: Timestamp,
    pub pid: u32,
}

impl Holder {
    /// This process, doing `operation`.
    pub fn this(operation: &str) -> Self {
        let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
        Self {
            user: user.unwrap_or_else(|_| format!("uid {}", rustix::process::getuid().as_raw())),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            operation: operation.to_owned(),
            since: Timestamp::now(),
            pid: std::process::id(),
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.since.strftime("%Y-%m-%d %H:%M:%S UTC");
        write!(f, "{}@{} (pid {}), `{}` since {since}", self.user, self.host, self.pid, self.operation)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("locked by {0}")]
    Held(String),
    #[error("a step of an earlier run still runs after 15 minutes")]
    Orphan,
    #[error("the lock cannot be taken: {0}")]
    Broken(String),
}

/// Runs `body` and takes the node's lock in the same exec. The lock lives as long as the returned
/// [`Held`]. `waiting` is called when an earlier run's step has to be waited for.
pub async fn take(
    session: &Session,
    mark: &str,
    body: &str,
    holder: &Holder,
    mut waiting: impl FnMut() + Send,
) -> Result<(Vec<Record>, Held), crate::engine::gather::GatherError> {
    let info = serde_json::to_string(holder).unwrap_or_default();
    let body = format!(
        r"{body}
begin lock
mkdir -p {DIRECTORY} && chmod 0700 {DIRECTORY} && exec 9>>{DIRECTORY}/lock
if [ $? -ne 0 ]; then r=2
elif flock -w 1 9; then printf '%s\n' {info} >{DIRECTORY}/holder; r=0
else cat {DIRECTORY}/holder; r=1
fi
end lock $r
if [ $r = 0 ]; then
  exec 8>>{DIRECTORY}/step
  flock -n 8 || {{ begin orphan; end orphan 0; flock -w 900 8; }}
  begin step; end step $?
  exec 8>&-
  rm -rf {DIRECTORY}/run.* {DIRECTORY}/stop.*
fi",
        info = shell(&info),
    );
    // The process that holds the lock waits for the end of its input: the end of the connection.
    let script = format!("{}[ \"$r\" != 0 ] || exec cat >/dev/null\n", script(mark, &body));
    let mut held = session.exec_held(script.as_bytes());
    let mut reader = Reader::new(mark);
    let mut records = Vec::new();
    'reading: while let Some(mut line) = held.next_line().await {
        line.push(b'\n');
        for frame in reader.push(&line) {
            match frame {
                Frame::Begin(id) if id == "orphan" => waiting(),
                Frame::End(record) => records.push(record),
                Frame::Done => break 'reading,
                Frame::Begin(_) => {}
            }
        }
    }
    let code = |id: &str| records.iter().find(|r| r.id == id).map(|r| (r.code, r.output.trim().to_owned()));
    match (code("lock"), code("step")) {
        (Some((0, _)), Some((0, _))) => Ok((records, held)),
        (Some((0, _)), Some(_)) => Err(LockError::Orphan.into()),
        (Some((1, info)), _) => {
            let holder = serde_json::from_str::<Holder>(&info).map_or(info, |h| h.to_string());
            Err(LockError::Held(holder).into())
        }
        (Some((_, why)), _) => Err(LockError::Broken(why).into()),
        _ => {
            // It ended before its last word: how it ended says why.
            let output = held.release().await?;
            let code = output.status.map_or_else(|| "none".to_owned(), |c| c.to_string());
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(ScriptError::Incomplete { code, stderr }.into())
        }
    }
}

/// A script body that says who holds the lock: record `lock`, code 0 free, 1 held.
pub fn status_body() -> String {
    format!(
        "begin lock\nr=0\nif [ -e {DIRECTORY}/lock ]; then exec 9>>{DIRECTORY}/lock; flock -n 9 || {{ cat {DIRECTORY}/holder; r=1; }}; exec 9>&-; fi\nend lock $r"
    )
}
