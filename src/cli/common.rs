//! What the commands share: options, and the way from a file name to a topology.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::engine::survey::SurveyError;
use crate::plan;
use crate::playbook::Playbook;
use crate::remote::{Identity, Options};
use crate::report::{Exit, Failure, Style, diagnostic, err};
use crate::resource::KINDS;
use crate::sandbox;
use crate::template::{Assets, Templates};
use crate::text::diagnostic::{Diagnostic, Severity, Sources};
use crate::text::quote;
use crate::topology::{self, Topology};

/// How to speak.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Output {
    /// Say it for people or for machines
    #[arg(long, global = true, default_value = "plain", value_parser = ["plain", "json"])]
    format: String,
    /// When to use colour
    #[arg(long, global = true, default_value = "auto", value_parser = ["auto", "always", "never"])]
    color: String,
    /// Say results and errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more: differences line by line; twice: what goes over the wire
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

impl Output {
    pub(super) fn style(&self) -> Style {
        Style::new(self.format == "json", &self.color, self.quiet, self.verbose)
    }
}

/// Which inventory.
#[derive(Debug, Args)]
#[command(next_help_heading = "Inventory")]
pub(super) struct Source {
    /// The inventory, a Pigsty-style YAML file [default: what PGCTL_INVENTORY names, else pgctl.yml,
    /// inventory.yml or pigsty.yml here]
    #[arg(value_name = "INVENTORY")]
    positional: Option<PathBuf>,
    /// The same, as an option
    #[arg(short, long, value_name = "FILE", conflicts_with = "positional")]
    inventory: Option<PathBuf>,
    /// Set a variable above all levels of the inventory: NAME=VALUE, VALUE as JSON or text (can be repeated)
    #[arg(short = 'e', long = "extra", value_name = "NAME=VALUE")]
    extra: Vec<String>,
}

/// Which nodes, which stages.
#[derive(Debug, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct Selection {
    /// Only these nodes: a cluster, group, node, address or glob; `a,b` adds, `!x` takes away, `&x` keeps
    ///
    /// Examples: `-l pg-test`, `-l pg-test-1,10.10.10.12`, `-l 'pg-*,!pg-test-3'`, `-l 'etcd,&pg-test'`
    #[arg(short, long, value_name = "PATTERN")]
    pub(super) limit: Option<String>,
}

impl Selection {
    /// The words that select the same again, for a hint to paste; empty when everything is selected.
    pub(super) fn words(&self, stages: &[String]) -> String {
        let limit = self.limit.as_ref().map(|l| format!(" -l {}", quote::shell(l)));
        let stages = stages.iter().map(|s| format!(" --stage {}", quote::shell(s)));
        limit.into_iter().chain(stages).collect()
    }
}

/// How to reach nodes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// Connect to this many nodes at the same time
    #[arg(short, long, value_name = "N", default_value_t = 50)]
    forks: usize,
    /// Give a node this long to answer a connection, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    connect_timeout: u64,
}

impl Connection {
    pub(super) fn options(&self, topology: &Topology) -> Options {
        let identities = topology.nodes.iter().filter_map(|node| {
            let i = sandbox::identity(&node.address)?;
            let identity = Identity { user: i.user.to_owned(), key: i.key, known_hosts: i.known_hosts };
            Some((node.address.clone(), identity))
        });
        Options {
            forks: self.forks.max(1),
            connect_timeout: Duration::from_secs(self.connect_timeout.max(1)),
            identities: identities.collect(),
            ..Options::default()
        }
    }
}

/// An inventory that holds together.
pub(super) struct Loaded {
    pub(super) path: PathBuf,
    pub(super) topology: Arc<Topology>,
}

impl Source {
    /// The file that was named, that of `PGCTL_INVENTORY`, or the first usual one of the working directory.
    pub(super) fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = self.positional.as_ref().or(self.inventory.as_ref()) {
            return Ok(path.clone());
        }
        usual_inventory()
    }

    /// Loads and resolves the inventory; warnings are said, errors end it.
    pub(super) fn load(&self, style: Style) -> Result<Loaded, Failure> {
        let path = self.path()?;
        let extra = self.extra.iter().map(|e| extra(e)).collect::<Result<Vec<_>, _>>()?;
        let mut sources = Sources::default();
        match topology::load(&mut sources, &path, &extra) {
            Ok((_, topology, warnings)) => {
                if !style.quiet {
                    say(&sources, &warnings, style);
                }
                Ok(Loaded { path, topology: Arc::new(topology) })
            }
            Err(diagnostics) => {
                say(&sources, &diagnostics, style);
                let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
                let message = format!(
                    "{}: {}; nothing was touched",
                    path.display(),
                    crate::report::count(errors, "error")
                );
                Err(Failure::new(Exit::Wrong, message))
            }
        }
    }
}

/// The inventory when none was named: that of `PGCTL_INVENTORY`, or the first usual one of the working
/// directory.
pub(super) fn usual_inventory() -> Result<PathBuf, Failure> {
    if let Some(path) = std::env::var_os("PGCTL_INVENTORY").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let usual = ["pgctl.yml", "inventory.yml", "pigsty.yml"];
    usual.iter().map(PathBuf::from).find(|p| p.is_file()).ok_or_else(|| {
        let message = format!("no inventory: none was named, and there is no {} here", usual.join(", "));
        Failure::new(Exit::Usage, message).hint("name one: `pgctl plan FILE`, or set PGCTL_INVENTORY")
    })
}

/// The hosts of an inventory as lab nodes.
pub(super) fn lab(path: &Path, style: Style) -> Result<super::sandbox::Hosts, Failure> {
    let source = Source { positional: Some(path.to_owned()), inventory: None, extra: Vec::new() };
    let loaded = source.load(style)?;
    let nodes = loaded.topology.nodes.iter();
    let image = loaded.topology.nodes.iter().find_map(|n| n.str_var("sandbox_image").map(str::to_owned));
    Ok(super::sandbox::Hosts {
        nodes: nodes.map(|n| sandbox::LabNode { name: n.name.clone(), address: n.address.clone() }).collect(),
        image,
    })
}

fn extra(text: &str) -> Result<(String, Value), Failure> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(Failure::new(Exit::Usage, format!("`-e {text}` is not NAME=VALUE")));
    };
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.to_owned(), value))
}

/// Prints diagnostics, as text or as JSON lines.
fn say(sources: &Sources, diagnostics: &[Diagnostic], style: Style) {
    for d in diagnostics {
        if style.json {
            let place = d.span.map(|s| sources.place(s));
            let severity = if d.severity == Severity::Error { "error" } else { "warning" };
            let line = serde_json::json!({"diagnostic": severity, "message": d.message, "place": place, "help": d.help});
            err(&format!("{line}\n"));
        } else {
            err(&format!("{}\n", diagnostic::render(sources, d, style.color).trim_end()));
        }
    }
}

/// The playbook and the templates, with copies in the working directory before the embedded ones.
pub(super) fn playbook(name: &str, style: Style) -> Result<(Playbook, Templates, Sources), Failure> {
    let assets = Assets::with_copies(Path::new("."));
    let mut sources = Sources::default();
    let kinds: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
    let playbook = Playbook::load(&mut sources, &assets, name, &kinds).map_err(|errors| {
        say(&sources, &errors, style);
        Failure::new(Exit::Wrong, format!("the playbook `{name}` is wrong; nothing was touched"))
    })?;
    let templates = Templates::load(&assets).map_err(|e| Failure::new(Exit::Wrong, e.to_string()))?;
    Ok((playbook, templates, sources))
}

/// The selected nodes.
pub(super) fn nodes(topology: &Topology, selection: &Selection) -> Result<Vec<usize>, Failure> {
    plan::nodes(topology, selection.limit.as_deref()).map_err(|e| {
        Failure::new(Exit::Usage, e.to_string()).hint("`pgctl list` shows what there is to select")
    })
}

/// A survey that could not be made, in words.
pub(super) fn survey_failure(error: SurveyError, sources: &Sources, style: Style) -> Failure {
    match error {
        SurveyError::Locked(_) => Failure::new(Exit::Locked, format!("{error}; nothing was touched"))
            .hint("wait until they have finished, or look with `pgctl lock status`"),
        SurveyError::Facts(_) => Failure::new(Exit::Failed, error.to_string())
            .hint("nothing was touched; put these right, or leave nodes out with `--limit`"),
        SurveyError::Build(errors) => {
            let mut said: Vec<String> = Vec::new();
            for e in &errors {
                // One mistake in a template is one message, not one per node.
                if said.contains(&e.message) {
                    continue;
                }
                said.push(e.message.clone());
                let d = Diagnostic::error(e.span, e.message.clone())
                    .label(format!("stage `{}`, node {}", e.stage, e.node));
                say(sources, &[d], style);
            }
            Failure::new(Exit::Wrong, "the playbook cannot be rendered; nothing was touched")
        }
    }
}

/// A runtime for the engine.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Exit::Failed, format!("no runtime: {e}")))
}
