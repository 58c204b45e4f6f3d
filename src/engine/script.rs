//! Scripts on nodes and the frames that come back.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use crate::remote::{Exec, RemoteError, Session};
use crate::text::frame::{Frame, Reader, Record, script};

/// A random word for one run: marks its frames and names its files on nodes.
pub fn mark() -> String {
    let word = || RandomState::new().build_hasher().finish();
    format!("pgctl-{:016x}{:016x}", word(), word())
}

#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("the script ended early (exit code {code}){}", said(stderr))]
    Incomplete { code: String, stderr: String },
}

fn said(stderr: &str) -> String {
    let text = stderr.trim();
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// The longest that a look at a node may take: a file system or repository that hangs must not hang us.
const LOOK: Duration = Duration::from_secs(120);

/// Runs a body that only looks, within a deadline.
pub async fn look(session: &Session, mark: &str, body: &str) -> Result<Vec<Record>, ScriptError> {
    run(session, mark, body, Some(LOOK), |_| {}).await
}

/// Runs `body` (see [`crate::text::frame`]) and hands over every frame as it arrives. An answer without
/// its end mark is an error, whatever the exit code says.
pub async fn run(
    session: &Session,
    mark: &str,
    body: &str,
    deadline: Option<Duration>,
    mut on_frame: impl FnMut(&Frame) + Send,
) -> Result<Vec<Record>, ScriptError> {
    let script = script(mark, body);
    let mut reader = Reader::new(mark);
    let mut records = Vec::new();
    let mut done = false;
    let mut sink = |chunk: &[u8]| {
        for frame in reader.push(chunk) {
            on_frame(&frame);
            match frame {
                Frame::End(record) => records.push(record),
                Frame::Done => done = true,
                Frame::Begin(_) => {}
            }
        }
    };
    let mut exec = Exec::new(script.as_bytes());
    exec.deadline = deadline;
    let output = session.exec(exec, &mut sink).await?;
    if done {
        return Ok(records);
    }
    Err(ScriptError::Incomplete {
        code: output.status.map_or_else(|| "none".to_owned(), |c| c.to_string()),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
