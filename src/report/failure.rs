//! A command that ends badly: why, hints, and a documented exit code.

use super::{Style, err};

/// Exit codes, public API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Converged or done.
    Done = 0,
    /// Inventory, playbook or template wrong.
    Wrong = 1,
    /// Used wrongly.
    Usage = 2,
    /// Differences found, with `--exit-code`; a cluster that is not healthy, for `status`.
    Differs = 3,
    Unreachable = 4,
    /// A resource or operation failed.
    Failed = 5,
    /// Locked by someone else.
    Locked = 6,
    Interrupted = 130,
}

#[derive(Debug, Clone)]
pub struct Failure {
    pub exit: Exit,
    /// What went wrong, lower case, no full stop. Empty when everything has been said already.
    pub message: String,
    pub hints: Vec<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hints: Vec::new() }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub fn print(&self, style: Style) {
        if style.json {
            if !self.message.is_empty() {
                let document = serde_json::json!({"format": 1, "error": self.message, "exit": self.exit as u8, "hints": self.hints});
                err(&format!("{document}\n"));
            }
            return;
        }
        if !self.message.is_empty() {
            err(&format!("{} {}\n", style.red("error:"), self.message));
        }
        for hint in &self.hints {
            err(&format!("{} {hint}\n", style.bold("hint:")));
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, format!("{error:#}"))
    }
}
