//! The command line: one file a command.

mod check;
mod common;
mod deploy;
mod list;
mod lock;
mod plan;
mod render;
pub mod sandbox;
mod status;

use std::process::ExitCode;

use clap::error::ContextKind;
use clap::{Parser, Subcommand};

use crate::report::{Exit, Failure, Style};

use self::common::Output;

/// Provision and run PostgreSQL high-availability clusters on plain Linux nodes over SSH
///
/// Reads a Pigsty-style inventory, shows what differs on the nodes, and makes exactly those changes, in
/// ordered stages, safely again and again.
#[derive(Debug, Parser)]
#[command(name = "pgctl", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 converged or done · 1 inventory, playbook or template wrong · 2 usage · \
3 differences found (plan --exit-code) or not healthy (status) · 4 a node is unreachable · 5 a resource or operation \
failed · 6 locked by someone else · 130 interrupted";

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Plan(plan::Args),
    Deploy(deploy::Args),
    Status(status::Args),
    List(list::Args),
    Render(render::Args),
    Lock(lock::Args),
    Sandbox(sandbox::Args),
}

/// Words of neighbouring tools, and ours for them.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("apply", "pgctl deploy"),
    ("up", "pgctl deploy"),
    ("playbook", "pgctl deploy"),
    ("run", "pgctl deploy"),
    ("diff", "pgctl plan -v"),
    ("dry-run", "pgctl plan"),
    ("preview", "pgctl plan"),
    ("validate", "pgctl check --offline"),
    ("inventory", "pgctl list"),
    ("ps", "pgctl status"),
    ("display", "pgctl status"),
    ("--check", "pgctl plan"),
    ("--diff", "pgctl plan -v"),
];

/// Parses the command line, runs the command, and gives its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(error),
    };
    let style = cli.output.style();
    crate::report::log(cli.output.verbose, style);
    let result = match cli.command {
        Command::Check(args) => check::run(&args, style),
        Command::Plan(args) => plan::run(&args, style),
        Command::Deploy(args) => deploy::run(&args, style),
        Command::Status(args) => status::run(&args, style),
        Command::List(args) => list::run(&args, style),
        Command::Render(args) => render::run(&args, style),
        Command::Lock(args) => lock::run(&args, style),
        Command::Sandbox(args) => lab(&args, style),
    };
    match result {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            failure.print(style);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// `sandbox` reads the inventory for its hosts, and says its report.
fn lab(args: &sandbox::Args, style: Style) -> Result<Exit, Failure> {
    let hosts = match args.inventory() {
        Some(path) => Some(common::lab(path, style)?),
        None if args.needs_inventory() => Some(common::lab(&common::usual_inventory()?, style)?),
        None => None,
    };
    let progress = |text: &str| {
        if !style.quiet {
            crate::report::err(&format!("{text}\n"));
        }
    };
    let report =
        sandbox::run(args, hosts, &progress).map_err(|e| Failure::new(Exit::Failed, format!("{e:#}")))?;
    if style.json {
        crate::report::out(&format!("{}\n", report.json()));
    } else if !report.to_string().is_empty() {
        crate::report::out(&format!("{report}\n"));
    }
    match report.exit_code() {
        0 => Ok(Exit::Done),
        // The command's own code, which is no code of ours.
        code => std::process::exit(i32::from(code)),
    }
}

fn usage(mut error: clap::Error) -> ExitCode {
    let style = Style::new(false, "auto", false, 0);
    if !error.use_stderr() {
        crate::report::out(&error.render().to_string());
        return ExitCode::SUCCESS;
    }
    let typed = std::env::args().skip(1).find_map(|a| NEIGHBOURS.iter().find(|(word, _)| *word == a));
    if typed.is_some() {
        // clap's own guess would lead elsewhere.
        for guess in [ContextKind::Suggested, ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg] {
            error.remove(guess);
        }
    }
    crate::report::err(&error.render().to_string());
    if let Some((word, ours)) = typed {
        Failure::new(Exit::Usage, "").hint(format!("`{word}` is `{ours}` here")).print(style);
    }
    ExitCode::from(Exit::Usage as u8)
}
