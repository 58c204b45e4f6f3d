//! Golden plans: what a deploy of each of our inventories does to blank nodes. `UPDATE=1` writes them anew.
#![allow(clippy::unwrap_used)]

mod blank;

use blank::{blank, root, samples, yml};

#[test]
fn every_inventory_of_ours_has_the_plan_that_is_kept() {
    let mut wrong = Vec::new();
    for path in yml(&root().join("inventories")) {
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let made = blank(&path).unwrap_or_else(|e| panic!("{stem}:\n{e}"));
        let page = made.page(1, &format!("pgctl deploy inventories/{stem}.yml"));
        let kept = root().join(format!("tests/plans/{stem}.txt"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&kept, page).unwrap();
            continue;
        }
        let old = std::fs::read_to_string(&kept).unwrap_or_default();
        if old != page {
            let diff = similar::TextDiff::from_lines(&old, &page);
            wrong.push(format!("{}:\n{}", kept.display(), diff.unified_diff()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nif that is right: UPDATE=1 cargo nextest run --test plans",
        wrong.join("\n")
    );
}

#[test]
fn no_plan_is_kept_of_an_inventory_that_is_gone() {
    for entry in std::fs::read_dir(root().join("tests/plans")).unwrap() {
        let kept = entry.unwrap().path();
        let inventory = root().join("inventories").join(kept.file_stem().unwrap()).with_extension("yml");
        assert!(inventory.is_file(), "{} has no inventory", kept.display());
    }
}

#[test]
fn a_blank_node_has_neither_failures_nor_restarts_of_postgresql() {
    for path in yml(&root().join("inventories")) {
        let made = blank(&path).unwrap();
        let summary = made.plan.summary();
        assert_eq!((summary.failed, summary.restart), (0, 0), "{}", made.page(0, ""));
        assert!(summary.create > 0 && summary.run > 0, "{}", made.page(0, ""));
        assert!(made.plan.notes().is_empty(), "{:?}", made.plan.notes());
    }
}

#[test]
fn made_twice_it_is_the_same_to_the_byte() {
    for path in yml(&root().join("inventories")) {
        let (one, two) = (blank(&path).unwrap(), blank(&path).unwrap());
        assert_eq!(one.files(), two.files());
        assert_eq!(one.scripts(), two.scripts());
        assert_eq!(one.page(1, "x"), two.page(1, "x"));
        assert_eq!(one.json().to_string(), two.json().to_string());
    }
}

/// Words of the machinery that mean nothing to the person who wrote the inventory.
const MACHINERY: [&str; 10] = [
    "Some(",
    "None",
    "Ok(",
    "Err(",
    "invalid type",
    "missing field",
    "expected struct",
    "at line 1 column",
    "unwrap",
    "undefined value",
];

#[test]
fn every_sample_of_the_field_builds_or_says_what_is_wrong() {
    let mut built = 0;
    for path in samples() {
        match blank(&path) {
            Ok(made) => {
                built += 1;
                assert_eq!(made.plan.summary().failed, 0, "{}: {}", path.display(), made.page(0, ""));
                assert!(made.plan.nodes.iter().any(|n| !n.items.is_empty()), "{}", path.display());
            }
            Err(said) => {
                let found = MACHINERY.iter().find(|word| said.contains(**word));
                assert!(found.is_none(), "{}: {found:?} in:\n{said}", path.display());
            }
        }
    }
    assert!(built > 0, "no sample builds");
}
