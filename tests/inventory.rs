#![allow(clippy::print_stderr)]
use std::path::{Path, PathBuf};

use super::*;
use crate::report::diagnostic::render;

/// The sample inventories: `$PGCTL_SAMPLES`, else `../shared/inventories` beside the crate.
fn samples() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/inventories");
    let given = std::env::var_os("PGCTL_SAMPLES").map(PathBuf::from);
    let found = given.into_iter().chain([beside]).find(|directory| directory.is_dir());
    found.expect("sample inventories are needed: set PGCTL_SAMPLES or put them in ../shared/inventories")
}

fn inventories(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "yml")).collect();
    files.sort();
    assert!(!files.is_empty(), "no .yml in {}", directory.display());
    files
}

#[test]
fn every_sample_of_the_field_loads_and_warns_by_name() {
    for path in inventories(&samples()) {
        let mut sources = Sources::default();
        let loaded = load(&mut sources, &path, &[]);
        let show = |list: &[Diagnostic]| {
            list.iter().map(|d| render(&sources, d, false)).collect::<Vec<_>>().join("\n")
        };
        let (inventory, topology, warnings) = match loaded {
            Ok(loaded) => loaded,
            Err(errors) => panic!("{}", show(&errors)),
        };
        assert_eq!(inventory.hosts.len(), topology.nodes.len());
        for warning in &warnings {
            assert!(warning.span.is_some() && warning.message.contains('`'), "{}", show(&warnings));
        }
        let unknown: Vec<&Diagnostic> =
            warnings.iter().filter(|w| w.message.starts_with("unknown")).collect();
        assert!(unknown.is_empty(), "{}", show(&warnings));
        eprintln!(
            "{}: {}",
            path.display(),
            warnings.iter().map(|w| w.message.as_str()).collect::<Vec<_>>().join("; ")
        );
    }
}
