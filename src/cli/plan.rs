//! `pgctl plan`.

use tokio::sync::mpsc;

use super::common::{self, Connection, Selection, Source};
use crate::engine::survey::{Question, survey};
use crate::engine::{Event, Sink, script};
use crate::report::{Exit, Failure, Style, json, out, plan as page};

/// Show what differs on the nodes, and what `deploy` would do about it; change nothing
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    selection: Selection,
    /// Only these stages (can be repeated; globs)
    #[arg(long, alias = "tags", value_name = "STAGE", help_heading = "Selection", value_delimiter = ',')]
    stage: Vec<String>,
    #[command(flatten)]
    connection: Connection,
    /// Exit with 3 when there are differences
    #[arg(long, help_heading = "Output")]
    exit_code: bool,
}

pub(super) fn run(args: &Args, style: Style) -> Result<Exit, Failure> {
    let loaded = args.source.load(style)?;
    let (playbook, templates, sources) = common::playbook("deploy.yml", style)?;
    let nodes = common::nodes(&loaded.topology, &args.selection)?;
    let stages =
        crate::plan::stages(&playbook, &args.stage).map_err(|e| Failure::new(Exit::Usage, e.to_string()))?;
    let options = args.connection.options(&loaded.topology);
    let question = Question {
        topology: &loaded.topology,
        playbook: &playbook,
        templates: &templates,
        nodes: &nodes,
        stages: &stages,
        options: &options,
        holder: None,
    };
    let (sender, mut events) = mpsc::unbounded_channel();
    let found = common::runtime()?
        .block_on(survey(question, &script::mark(), &Sink::new(sender)))
        .map_err(|e| common::survey_failure(e, &sources, style))?;
    let plan = found.plan;
    if style.json {
        out(&format!("{}\n", json::plan(&plan)));
    } else {
        out(&page::page(
            &plan,
            style,
            &format!("pgctl deploy{} {}", args.selection.words(&args.stage), loaded.path.display()),
        ));
    }
    let summary = plan.summary();
    if summary.unreachable > 0 {
        let mut failure = Failure::new(Exit::Unreachable, "");
        while let Ok(event) = events.try_recv() {
            if let Event::Unreachable { node, hint: Some(hint), .. } = event {
                failure = failure.hint(format!("{node}: {hint}"));
            }
        }
        return Err(failure);
    }
    if summary.failed > 0 {
        return Err(Failure::new(Exit::Failed, ""));
    }
    Ok(if args.exit_code && summary.changes() > 0 { Exit::Differs } else { Exit::Done })
}
