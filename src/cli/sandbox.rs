//! `pgctl sandbox`: lab nodes on this machine.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use crate::sandbox::{Booted, DEFAULT_IMAGE, IMAGES, Lab, LabNode, NodeStatus, RunState};

/// Boot real nodes on this machine to try things on
///
/// One systemd node per host of the inventory, at the inventory's addresses, with an ssh key and
/// known hosts of its own: the inventory can be used at once. Needs root on Linux.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Boot a node per host of the inventory; twice changes nothing
    Up {
        inventory: Option<PathBuf>,
        /// Operating system of the nodes [default: the inventory's `sandbox_image`, else debian-12]
        #[arg(long, value_parser = PossibleValuesParser::new(IMAGES))]
        image: Option<String>,
    },
    /// Remove the nodes and their disks
    ///
    /// Without an inventory: the only sandbox of this machine.
    Down {
        inventory: Option<PathBuf>,
        /// Every sandbox of this machine
        #[arg(long, conflicts_with = "inventory")]
        all: bool,
        /// Remove images too that no sandbox stands on any more
        #[arg(long)]
        images: bool,
    },
    /// Show nodes, whether they run, and how ssh enters them
    ///
    /// Without an inventory: all sandboxes of this machine.
    List { inventory: Option<PathBuf> },
    /// Run a command inside a node, even when its network is cut
    Exec {
        #[command(flatten)]
        of: Of,
        /// Name or address
        node: String,
        /// Command and arguments; a shell if there are none
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Cut the power of nodes; their disks stay
    Stop {
        #[command(flatten)]
        of: Of,
        /// Names or addresses
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Boot nodes that were stopped, with the disks that they had
    Start {
        #[command(flatten)]
        of: Of,
        /// Names or addresses [default: all]
        nodes: Vec<String>,
    },
}

/// Whose nodes the names are.
#[derive(Debug, clap::Args)]
pub struct Of {
    /// Nodes of this inventory only [default: of all sandboxes of this machine]
    #[arg(short, long, value_name = "FILE", env = "PGCTL_INVENTORY")]
    inventory: Option<PathBuf>,
}

/// What the inventory says about the lab.
#[derive(Debug, Clone)]
pub struct Hosts {
    pub nodes: Vec<LabNode>,
    /// The variable `sandbox_image`.
    pub image: Option<String>,
}

impl Args {
    /// The inventory that was named.
    pub fn inventory(&self) -> Option<&Path> {
        let named = match &self.verb {
            Verb::Up { inventory, .. } | Verb::Down { inventory, .. } | Verb::List { inventory } => inventory,
            Verb::Exec { of, .. } | Verb::Stop { of, .. } | Verb::Start { of, .. } => &of.inventory,
        };
        named.as_deref()
    }

    /// Without one, `up` cannot know what to boot. The other verbs look at what is up.
    pub fn needs_inventory(&self) -> bool {
        matches!(self.verb, Verb::Up { .. })
    }
}

/// `hosts`: of the inventory, if one was named. `progress` hears of work that takes long.
pub fn run(args: &Args, hosts: Option<Hosts>, progress: &dyn Fn(&str)) -> anyhow::Result<Report> {
    let named = hosts.clone().map(|hosts| Lab::new(hosts.nodes)).transpose()?;
    Ok(match &args.verb {
        Verb::Up { image, .. } => {
            let lab = named.context("`sandbox up` needs an inventory")?;
            let wanted = image.clone().or_else(|| hosts.and_then(|hosts| hosts.image));
            Report::Up { nodes: lab.up(wanted.as_deref().unwrap_or(DEFAULT_IMAGE), progress)? }
        }
        Verb::Down { all, images, .. } => {
            let lab = match named {
                Some(lab) => lab,
                None if *all => Lab::all()?,
                None => Lab::only_or_none()?,
            };
            let networks = lab.down()?;
            let images = if *images { Lab::remove_images()? } else { Vec::new() };
            Report::Down { networks, images }
        }
        Verb::List { .. } => Report::List { nodes: lab(named)?.list()? },
        Verb::Exec { node, command, .. } => {
            let shell = ["bash".to_owned(), "--login".to_owned()];
            let command = if command.is_empty() { &shell } else { command.as_slice() };
            Report::Exec { code: lab(named)?.exec(node, command)? }
        }
        Verb::Stop { nodes, .. } => Report::Stop { nodes: lab(named)?.stop(nodes)? },
        Verb::Start { nodes, .. } => Report::Up { nodes: lab(named)?.start(nodes)? },
    })
}

fn lab(named: Option<Lab>) -> anyhow::Result<Lab> {
    Ok(named.map_or_else(Lab::all, Ok)?)
}

/// What was done. `Display` is for people; in JSON each is one object with a `format`, below.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Report {
    Up { nodes: Vec<Booted> },
    Down { networks: Vec<String>, images: Vec<String> },
    List { nodes: Vec<NodeStatus> },
    Exec { code: u8 },
    Stop { nodes: Vec<LabNode> },
}

impl Report {
    /// 0, or what the command inside the node ended with.
    pub fn exit_code(&self) -> u8 {
        if let Self::Exec { code } = self { *code } else { 0 }
    }

    /// `{"format":1, …}`, for `--format json`.
    pub fn json(&self) -> serde_json::Value {
        let mut value = serde_json::json!({ "format": 1 });
        if let (Some(object), Ok(serde_json::Value::Object(fields))) =
            (value.as_object_mut(), serde_json::to_value(self))
        {
            object.extend(fields);
        }
        value
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { nodes } => {
                let said = |node: &Booted| match node.seconds {
                    Some(seconds) => format!("booted in {seconds:.1} s"),
                    None => "runs already".to_owned(),
                };
                let rows = nodes.iter().map(|n| [n.name.clone(), n.address.clone(), said(n)]);
                table(f, &rows.collect::<Vec<_>>())
            }
            Self::Down { networks, images } if networks.is_empty() && images.is_empty() => {
                write!(f, "nothing to remove")
            }
            Self::Down { networks, images } => {
                let lines = networks.iter().map(|n| format!("removed the sandbox on {n}"));
                let lines = lines.chain(images.iter().map(|i| format!("removed the image {i}")));
                write!(f, "{}", lines.collect::<Vec<_>>().join("\n"))
            }
            Self::List { nodes } if nodes.is_empty() => write!(f, "no sandbox is up"),
            Self::List { nodes } => {
                let rows = nodes.iter().map(|n| {
                    let image = n.image.clone().unwrap_or_else(|| "-".to_owned());
                    [n.name.clone(), n.address.clone(), state(n.state).to_owned(), image]
                });
                table(f, &rows.collect::<Vec<_>>())?;
                let mut keys: Vec<String> = nodes.iter().filter_map(ssh).collect();
                keys.dedup();
                keys.iter().try_for_each(|line| write!(f, "\n{line}"))
            }
            Self::Exec { .. } => Ok(()),
            Self::Stop { nodes } => {
                let rows = nodes.iter().map(|n| [n.name.clone(), n.address.clone(), "stopped".to_owned()]);
                table(f, &rows.collect::<Vec<_>>())
            }
        }
    }
}

/// How ssh enters the nodes of one sandbox; the same line for all of them.
fn ssh(node: &NodeStatus) -> Option<String> {
    let network = node.address.rsplit_once('.')?.0;
    let (key, hosts) = (node.ssh.key.display(), node.ssh.known_hosts.display());
    (node.state != RunState::Absent)
        .then(|| format!("{network}.*: ssh -i {key} -o UserKnownHostsFile={hosts} {}@ADDRESS", node.ssh.user))
}

fn state(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Stopped => "stopped",
        RunState::Absent => "absent",
    }
}

/// Columns two spaces apart, the last one ragged; no newline at the end.
fn table<const N: usize>(f: &mut fmt::Formatter<'_>, rows: &[[String; N]]) -> fmt::Result {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for (number, row) in rows.iter().enumerate() {
        if number > 0 {
            writeln!(f)?;
        }
        for (column, cell) in row.iter().enumerate() {
            let last = column + 1 == N;
            let width = if last { 0 } else { widths[column] };
            write!(f, "{cell:<width$}{}", if last { "" } else { "  " })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, String> {
        let all = std::iter::once("sandbox").chain(words.iter().copied());
        Command::try_parse_from(all).map(|c| c.args).map_err(|e| e.to_string())
    }

    #[test]
    fn the_command_line() {
        assert!(parse(&["up", "a.yml", "--image", "debian-13"]).unwrap().needs_inventory());
        assert!(parse(&["up", "--image", "debian-11"]).unwrap_err().contains("debian-12, debian-13"));
        assert_eq!(parse(&["list", "a.yml"]).unwrap().inventory(), Some(Path::new("a.yml")));
        assert_eq!(parse(&["stop", "-i", "a.yml", "n1"]).unwrap().inventory(), Some(Path::new("a.yml")));
        assert!(parse(&["stop"]).is_err());
        assert!(parse(&["down", "a.yml", "--all"]).is_err());
        let Verb::Exec { node, command, .. } =
            parse(&["exec", "n1", "--", "ls", "-l", "--all"]).unwrap().verb
        else {
            panic!("not exec")
        };
        assert_eq!((node.as_str(), command.len()), ("n1", 3));
    }

    #[test]
    fn what_is_said() {
        let up = Report::Up {
            nodes: vec![
                Booted { name: "pg-test-1".into(), address: "10.0.0.11".into(), seconds: Some(0.64) },
                Booted { name: "n2".into(), address: "10.0.0.12".into(), seconds: None },
            ],
        };
        let text = "pg-test-1  10.0.0.11  booted in 0.6 s\nn2         10.0.0.12  runs already";
        assert_eq!(up.to_string(), text);
        assert_eq!(up.json()["format"], 1);
        assert_eq!(up.json()["nodes"][1]["seconds"], serde_json::Value::Null);
        let exec = Report::Exec { code: 7 };
        assert_eq!((exec.exit_code(), exec.to_string().as_str()), (7, ""));
    }
}
