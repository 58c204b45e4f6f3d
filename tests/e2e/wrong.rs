//! Wrong things fail clearly, and change nothing.

use std::os::unix::fs::PermissionsExt as _;

use crate::lab::{Lab, pgctl};

/// Everything on a node that a deploy would touch first.
fn untouched(lab: &Lab, node: u8) {
    let state = "cat /etc/hostname /etc/hosts; ls /etc/sysctl.d/60-pgctl.conf /pg /etc/patroni 2>/dev/null; getent passwd postgres; true";
    let said = lab.on(node, &["sh", "-c", state]).ended(0).out;
    assert!(!said.contains("pgctl") && !said.contains("postgres"), "{said}");
}

#[test]
fn wrong_things_fail_clearly_and_change_nothing() {
    let lab = Lab::up("debian-12", "10.10.25");
    let key = lab.variant("key.yml", "admin_ip:", "ansible_ssh_private_key_file: KEY\n    admin_ip:");
    let text = std::fs::read_to_string(&key).unwrap();
    let other = tempfile::tempdir().unwrap();
    let other_key = other.path().join("id");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&other_key)
        .status()
        .unwrap();
    assert!(made.success());
    std::fs::write(&key, text.replace("KEY", &other_key.display().to_string())).unwrap();
    let said = pgctl(&["deploy", "-y", &key]).ended(4);
    said.says("pg-test-1").says("refused").says("hint:");

    // A changed host key: file and line of the record, and how to accept the new one.
    let list = pgctl(&["sandbox", "list", &lab.path(), "--format", "json"]).ended(0);
    let list: serde_json::Value = serde_json::from_str(&list.out).unwrap();
    let known = list["nodes"][0]["ssh"]["known_hosts"].as_str().unwrap();
    let record = std::fs::read_to_string(known).unwrap();
    let strange = std::fs::read_to_string(other.path().join("id.pub")).unwrap();
    let words: Vec<&str> = strange.split_whitespace().collect();
    let forged: String = record
        .lines()
        .map(|l| {
            let host = l.split_whitespace().next().unwrap();
            if host.contains(&lab.address(2)) {
                format!("{host} {} {}\n", words[0], words[1])
            } else {
                format!("{l}\n")
            }
        })
        .collect();
    assert_ne!(record, forged);
    std::fs::write(known, &forged).unwrap();
    let said = lab.pgctl(&["plan", "-l", "pg-test-2"]).ended(4);
    said.says("host key has changed").says(known);
    std::fs::write(known, &record).unwrap();

    // An ordinary user who may not sudo.
    for n in 1..=3 {
        lab.on(n, &["useradd", "-m", "-s", "/bin/bash", "ordinary"]).ended(0);
        lab.on(n, &["sh", "-c", "install -d -m 700 -o ordinary /home/ordinary/.ssh && install -m 600 -o ordinary /root/.ssh/authorized_keys /home/ordinary/.ssh/"]).ended(0);
    }
    let private = list["nodes"][0]["ssh"]["key"].as_str().unwrap();
    assert_eq!(std::fs::metadata(private).unwrap().permissions().mode() & 0o077, 0);
    let connect = format!(
        "ansible_user: ordinary\n    ansible_ssh_private_key_file: {private}\n    ansible_ssh_common_args: -o UserKnownHostsFile={known}\n    admin_ip:"
    );
    let user = lab.variant("user.yml", "admin_ip:", &connect);
    let said = pgctl(&["deploy", "-y", &user]).ended(4);
    said.says("sudo").says("ordinary").says("hint:");

    // The same user with the right to: everything works as root does.
    lab.on(1, &["sh", "-c", "echo 'ordinary ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ordinary"]).ended(0);
    pgctl(&["check", "-l", "pg-test-1", &user]).ended(0);
    lab.on(1, &["rm", "/etc/sudoers.d/ordinary"]).ended(0);

    // No space left where the data is to live: said before anything is changed.
    lab.on(3, &["sh", "-c", "mkdir /pg && mount -t tmpfs -o size=20m tmpfs /pg"]).ended(0);
    let said = lab.pgctl(&["deploy", "-y"]).ended(5);
    said.says("pg-test-3").says("no space left").says("nothing was touched");
    lab.on(3, &["sh", "-c", "umount /pg && rmdir /pg"]).ended(0);

    // A version that the distribution does not have.
    let version = lab.variant("version.yml", "pg_version: 15", "pg_version: 16");
    pgctl(&["deploy", "-y", &version]).ended(5).says("`pg_version` is 16").says("nothing was touched");

    // A node that is off, looked at alone.
    lab.power("stop", 2);
    let said = lab.pgctl(&["plan", "-l", "pg-test-2", "--connect-timeout", "3"]).ended(4);
    said.says("pg-test-2");
    lab.power("start", 2);

    for n in 1..=3 {
        untouched(&lab, n);
    }
}
