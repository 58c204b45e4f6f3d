//! What `pgctl deploy` would do to nodes on which there is nothing yet, worked out without any node.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};

use pgctl::facts::Facts;
use pgctl::live::Live;
use pgctl::plan::{Desired, NodePlan, Plan, Situation, StageInfo, build, context, diff};
use pgctl::playbook::Playbook;
use pgctl::report::{Style, diagnostic};
use pgctl::resource::observe::SysctlState;
use pgctl::resource::{Action, KINDS, Observed, Query};
use pgctl::template::{Assets, Templates};
use pgctl::text::diagnostic::{Diagnostic, Sources};
use pgctl::topology::{Topology, load};
use serde_json::Value;

pub const PLAIN: Style = Style { json: false, color: false, quiet: false, verbose: 0, live: false };

/// The desired state of every node, and the plan that makes it from nothing.
pub struct Blank {
    pub topology: Topology,
    pub warnings: String,
    pub desired: Vec<Desired>,
    pub plan: Plan,
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sample inventories of the field: `$PGCTL_SAMPLES`, else `../shared/inventories` beside the crate.
pub fn samples() -> Vec<PathBuf> {
    let given = std::env::var_os("PGCTL_SAMPLES").map(PathBuf::from);
    let found = given.into_iter().chain([root().join("../shared/inventories")]).find(|d| d.is_dir());
    yml(&found
        .expect("sample inventories are needed: set PGCTL_SAMPLES or put them in ../shared/inventories"))
}

/// The `.yml` files of a directory, sorted.
pub fn yml(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "yml")).collect();
    files.sort();
    assert!(!files.is_empty(), "no .yml in {}", directory.display());
    files
}

pub fn show(sources: &Sources, list: &[Diagnostic]) -> String {
    list.iter().map(|d| diagnostic::render(sources, d, false)).collect::<Vec<_>>().join("\n")
}

pub fn playbook(assets: &Assets, name: &str) -> Result<Playbook, String> {
    let mut sources = Sources::default();
    let kinds: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
    Playbook::load(&mut sources, assets, name, &kinds).map_err(|e| show(&sources, &e))
}

/// The plan of the embedded playbook `deploy.yml` for all nodes, or everything that is wrong, as it is said.
pub fn blank(inventory: &Path) -> Result<Blank, String> {
    let mut sources = Sources::default();
    let (_, topology, warnings) =
        load(&mut sources, inventory, &[]).map_err(|errors| show(&sources, &errors))?;
    let warnings = show(&sources, &warnings);
    let playbook = playbook(&Assets::embedded(), "deploy.yml")?;
    let templates = Templates::load(&Assets::embedded()).map_err(|e| e.to_string())?;
    let stages: Vec<usize> = (0..playbook.stages.len()).collect();
    let (mut desired, mut nodes, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    let present: Vec<usize> = (0..topology.nodes.len()).collect();
    for (index, node) in topology.nodes.iter().enumerate() {
        let newer = node.str_var("sandbox_image") == Some("debian-13");
        let facts = Facts::assumed(&node.name, if newer { "13" } else { "12" });
        let context = match context(Situation {
            topology: &topology,
            node: index,
            facts: &facts,
            present: &present,
            etcd_born: &[],
        }) {
            Ok(context) => context,
            Err(problems) => {
                wrong.extend(problems.iter().map(|p| format!("{}: {p}", node.name)));
                continue;
            }
        };
        let primary = node.instance.map(|i| topology.clusters[i.cluster].primary().name.clone());
        match build(&topology, index, &playbook, &stages, &templates, &context, primary.as_deref()) {
            Ok(made) => {
                let observed = nothing(&made);
                let items = diff(&playbook, &made, &observed, &Live::default(), None);
                nodes.push(NodePlan {
                    node: index,
                    name: node.name.clone(),
                    cohort: node.name.clone(),
                    leader: None,
                    items,
                });
                desired.push(made);
            }
            Err(errors) => wrong.extend(errors.iter().map(ToString::to_string)),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    let info = playbook.stages.iter().map(|s| StageInfo { name: s.name.clone(), on: s.on, order: s.order });
    let plan = Plan { stages: info.collect(), nodes, unreachable: Vec::new() };
    Ok(Blank { topology, warnings, desired, plan })
}

/// What a node shows on which there is nothing: no files, no packages, a kernel with other settings.
fn nothing(desired: &Desired) -> Observed {
    let mut observed = Observed::default();
    for query in desired.resources.iter().flat_map(|(_, r)| r.queries()) {
        if let Query::Sysctl(name) = query {
            observed.sysctls.insert(name, SysctlState { value: "-1".into(), writable: true });
        }
    }
    observed
}

impl Blank {
    /// Node, path and content of every file.
    pub fn files(&self) -> Vec<(String, String, String)> {
        let mut files = Vec::new();
        for desired in &self.desired {
            for file in desired.resources.iter().filter_map(|(_, r)| r.file()) {
                let node = self.topology.nodes[desired.node].name.clone();
                files.push((node, file.path.clone(), file.content.clone()));
            }
        }
        files
    }

    /// The content of a file of the first node that has it.
    pub fn file(&self, path: &str) -> String {
        let found = self.files().into_iter().find(|(_, p, _)| p == path);
        found.unwrap_or_else(|| panic!("no file {path}")).2
    }

    /// Every script that would run on a node: of probes and of changes.
    pub fn scripts(&self) -> Vec<String> {
        let mut scripts = Vec::new();
        for desired in &self.desired {
            let queries: Vec<Query> = desired.resources.iter().flat_map(|(_, r)| r.queries()).collect();
            scripts.push(pgctl::resource::observe::script(&queries));
        }
        for change in self.plan.nodes.iter().flat_map(|n| &n.items).filter_map(|i| i.step.change()) {
            for action in &change.actions {
                if let Action::Shell(script) = action {
                    scripts.push(script.clone());
                }
            }
        }
        scripts
    }

    pub fn json(&self) -> Value {
        pgctl::report::json::plan(&self.plan)
    }

    /// The page that people see.
    pub fn page(&self, verbose: u8, next: &str) -> String {
        pgctl::report::plan::page(&self.plan, Style { verbose, ..PLAIN }, next)
    }
}
