//! Every command block of the README is run, in its order, and says what stands there. A line that is `…` stands for
//! any lines, `…` within a line for any words.

use std::path::Path;
use std::process::{Command, Stdio};

/// The commands of the README's `console` blocks, each with the output that stands below it.
fn commands(readme: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match line.strip_prefix("$ ") {
                Some(command) => found.push((command.to_owned(), Vec::new())),
                None => found.last_mut().expect("a block begins with a command").1.push(line.to_owned()),
            },
        }
    }
    found
}

/// Whether `line` is what `pattern` says: parts between `…` in order; blanks count as one.
fn fits(line: &str, pattern: &str) -> bool {
    let squeeze = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ");
    let (line, pattern) = (squeeze(line), squeeze(pattern));
    let mut rest = line.as_str();
    let parts: Vec<&str> = pattern.split('…').map(str::trim).collect();
    for (i, part) in parts.iter().enumerate() {
        let Some(at) = rest.find(part) else { return false };
        if i == 0 && at != 0 {
            return false;
        }
        rest = &rest[at + part.len()..];
    }
    parts.last().is_some_and(|p| p.is_empty()) || rest.is_empty()
}

/// Whether the output holds the lines that stand in the README, in their order.
fn matches(output: &str, expected: &[String]) -> Result<(), String> {
    let mut lines = output.lines();
    let mut skip = false;
    for pattern in expected {
        if pattern == "…" {
            skip = true;
            continue;
        }
        loop {
            match lines.next() {
                Some(line) if fits(line, pattern) => break,
                Some(_) if skip => {}
                Some(line) => return Err(format!("`{pattern}` is expected, `{line}` is said")),
                None => return Err(format!("`{pattern}` is not said")),
            }
        }
        skip = false;
    }
    match lines.next() {
        Some(line) if !skip => Err(format!("`{line}` is said and does not stand there")),
        _ => Ok(()),
    }
}

#[test]
fn a_pattern_fits_what_it_says() {
    assert!(fits("pg-test-1  10.0.0.1  booted in 0.6 s", "pg-test-1 10.0.0.1 booted in …"));
    assert!(!fits("pg-test-2  10.0.0.1", "pg-test-1 …") && !fits("a b", "a"));
    let expected = ["…".to_owned(), "b".to_owned()];
    assert_eq!(matches("x\ny\nb", &expected), Ok(()));
    assert!(matches("x\nb\nc", &expected).is_err());
}

/// Runs what a newcomer would type, on nodes and images of its own, and expects what the README shows.
#[test]
fn the_readme_is_true() {
    assert!(
        rustix::process::getuid().is_root(),
        "this test boots nodes and needs root: run `make test` as root"
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let home = tempfile::tempdir().unwrap();
    // The state on the same disk as the usual one; on a network of its own, so that a demo of yours is left alone.
    let state = tempfile::tempdir_in("/var/tmp").unwrap();
    let net = |text: &str| text.replace("10.10.10.", "10.10.26.");
    std::fs::create_dir(home.path().join("inventories")).unwrap();
    let inventory = home.path().join("inventories/sandbox.yml");
    std::fs::write(&inventory, net(&std::fs::read_to_string(root.join("inventories/sandbox.yml")).unwrap()))
        .unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_pgctl"));
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let readme = net(&std::fs::read_to_string(root.join("README.md")).unwrap());
    let commands = commands(&readme);
    assert!(commands.len() >= 10, "the README has lost its commands");
    let run = |command: &str, expected: &[String]| {
        let make = command.starts_with("make ");
        let output = Command::new("bash")
            .args(["-c", &format!("{command} 2>&1")])
            .current_dir(if make { root } else { home.path() })
            .env("PATH", &path)
            .env("PGCTL_SANDBOX_DIR", state.path().join("sandbox"))
            .env("PGCTL_IMAGE_DIR", state.path().join("images"))
            .env("INVENTORY", &inventory)
            .env_remove("MAKEFLAGS")
            .env_remove("PGCTL_INVENTORY")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "`{command}` failed:\n{said}");
        if let Err(why) = matches(&said, expected) {
            panic!("`{command}`: {why}\n--- all of it:\n{said}");
        }
    };
    for (command, expected) in &commands {
        if command == "make clean-demo" {
            continue;
        }
        run(command, expected);
        if command == "make demo" {
            // Running it again is quick and changes nothing; then the quickstart begins with blank nodes.
            run("make demo", &["…".into(), "No changes: 3 nodes as the inventory says.".into(), "…".into()]);
            run(&format!("pgctl sandbox down {}", inventory.display()), &["…".into()]);
        }
    }
    run("make clean-demo", &["…".into()]);
    let links = Command::new("ip").args(["-o", "link"]).output().unwrap();
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    assert!(!links.contains("10.10.26"), "a bridge or cable was left behind:\n{links}");
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&state.path().display().to_string()), "a mount was left behind");
    let rules = Command::new("nft").args(["list", "tables"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&rules.stdout).contains("10_10_26"), "a rule was left behind");
    let images = state.path().join("images");
    let left: Vec<_> = std::fs::read_dir(images)
        .map(|d| d.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect())
        .unwrap_or_default();
    assert_eq!(left, Vec::<std::path::PathBuf>::new(), "an image was left behind");
}
