//! The only place that prints: terminal, plain lines, JSON; failures with hints; exit codes.

pub mod diagnostic;
mod failure;
pub mod json;
mod log;
pub mod plan;
mod progress;
pub mod status;

pub use failure::{Exit, Failure};
pub use log::log;
pub use progress::Progress;

use std::io::{IsTerminal as _, Write as _};

/// How to speak.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub json: bool,
    pub color: bool,
    /// `-q`: errors and results only.
    pub quiet: bool,
    /// `-v` once or more.
    pub verbose: u8,
    /// Whether standard error is a terminal that can show live progress.
    pub live: bool,
}

impl Style {
    /// `color`: `auto`, `always` or `never`. `NO_COLOR` and a pipe mean no colour when `auto`.
    pub fn new(json: bool, color: &str, quiet: bool, verbose: u8) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let wanted = match color {
            "always" => true,
            "never" => false,
            _ => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        let live = std::io::stderr().is_terminal() && !quiet && !json;
        Self { json, color: wanted, quiet, verbose, live }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// Prints to standard output. A reader that has gone away is no error: `pgctl plan | head` is fine.
pub fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
        tracing::debug!("standard output is closed");
    }
}

/// Prints to standard error.
pub fn err(text: &str) {
    let mut stderr = std::io::stderr().lock();
    if stderr.write_all(text.as_bytes()).is_err() {
        tracing::debug!("standard error is closed");
    }
}

/// Asks on the terminal; anything but yes is no.
pub fn ask(question: &str) -> bool {
    err(&format!("{question} [y/N] "));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}

/// `1 node`, `2 nodes`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}
