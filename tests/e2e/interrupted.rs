//! Killed at random moments of a first deploy, the next deploy finishes the job, every time.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use crate::first_light::{is_silent, serves};
use crate::lab::Lab;

/// Rounds; `make soak` asks for more.
fn rounds() -> u64 {
    std::env::var("PGCTL_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

#[test]
fn killed_at_random_moments_the_next_deploy_finishes_the_job() {
    let lab = Lab::up("debian-12", "10.10.24");
    let rounds = rounds();
    for round in 0..rounds {
        if round > 0 {
            lab.again();
        }
        let mut run = lab.deploying();
        let dice = RandomState::new().build_hasher().finish();
        // By the clock in one round, by the number of changes in the next: the clock finds the long steps, the count
        // finds the short ones. Each round has its own slice of the whole.
        let moment = if round % 2 == 0 {
            let slice = 36_000 / rounds;
            let wait = Duration::from_millis(round * slice + dice % slice);
            std::thread::sleep(wait);
            format!("after {:.1} s", wait.as_secs_f64())
        } else {
            let slice = 250 / rounds;
            let count = usize::try_from(round * slice + dice % slice).unwrap();
            let lines = BufReader::new(run.stdout.take().unwrap()).lines();
            let seen = lines.take(count).count();
            format!("after {seen} events")
        };
        run.kill().unwrap();
        let ended = run.wait().unwrap();
        println!("round {round}: killed {moment} ({ended})");
        lab.pgctl(&["deploy", "-y"]).ended(0);
        is_silent(&lab);
        lab.pgctl(&["status"]).ended(0).says("healthy");
        serves(&lab, &[u8::try_from(round % 3).unwrap() + 1]);
    }
}

#[test]
fn ctrl_c_finishes_what_runs_and_the_next_deploy_the_rest() {
    let lab = Lab::up("debian-12", "10.10.29");
    let mut run = lab.deploying();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines().map(Result::unwrap);
    // In the middle of the longest step, and before anything that waits.
    let install = lines.find(|l| l.contains("\"started\"") && l.contains("package "));
    assert!(install.is_some(), "no package was installed");
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    let said = |words: &str| rest.iter().any(|l| l.contains(words));
    assert!(said("\"stopping\"") && said("\"changed\"") && said("interrupted"), "{rest:#?}");
    let begun = rest.iter().filter(|l| l.contains("\"started\"") || l.contains("\"changed\""));
    let later: Vec<&String> = begun.filter(|l| l.contains("node_tune")).collect();
    assert!(later.is_empty(), "something new was begun: {later:#?}");
    // What was begun is whole: the package manager was let finish.
    for n in 1..=3 {
        assert_eq!(lab.on(n, &["dpkg", "--audit"]).ended(0).out, "");
    }
    lab.pgctl(&["deploy", "-y"]).ended(0);
    is_silent(&lab);
}
