//! What the engine says while it works. Only `report` prints.

use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;

use crate::resource::Verdict;

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A node cannot be worked on; said once.
    Unreachable {
        node: String,
        error: String,
        hint: Option<String>,
    },
    /// A previous run's step still runs on the node; it is let finish.
    Orphan {
        node: String,
    },
    Started {
        node: String,
        stage: String,
        resource: String,
    },
    Changed {
        node: String,
        stage: String,
        resource: String,
        verdict: Verdict,
        reason: String,
        seconds: f64,
    },
    /// It was expected to change, and when it could be seen it was right already.
    Unchanged {
        node: String,
        stage: String,
        resource: String,
    },
    Waiting {
        node: String,
        stage: String,
        what: String,
        seconds: f64,
        state: String,
    },
    Waited {
        node: String,
        stage: String,
        what: String,
        seconds: f64,
    },
    Failed(Failure),
    /// Left undone because something that it needs failed.
    Blocked {
        node: String,
        stage: String,
        why: String,
    },
    /// Ctrl-C was seen: what runs is finished, nothing new is begun.
    Stopping,
}

/// A resource or wait that failed: everything a person needs at 3 a.m.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub node: String,
    pub stage: String,
    pub resource: String,
    /// The exit code, when a script failed.
    pub code: Option<i32>,
    /// The last lines of what it said, or of the service's journal.
    pub output: String,
    pub hint: Option<String>,
}

/// Where events go. A closed receiver is no reason to stop working.
#[derive(Debug, Clone)]
pub struct Sink(UnboundedSender<Event>);

impl Sink {
    pub fn new(sender: UnboundedSender<Event>) -> Self {
        Self(sender)
    }

    pub fn send(&self, event: Event) {
        if self.0.send(event).is_err() {
            tracing::debug!("nobody listens to events any more");
        }
    }
}
