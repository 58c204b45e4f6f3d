//! The door against a real `sshd` on 127.0.0.1: own configuration, own keys, a free port.
//!
//! Most tests log in as whoever runs them. Those that make users need root and fail without it.

// The helpers are tests too, which clippy does not see.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pgctl::remote::{
    Become, Connector, Exec, ExecOutput, Http, Kind, Options, Problem, RemoteError, Secret, Session,
    SudoProblem, Target,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Runs a local command and insists on success.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn need_root() {
    assert!(rustix::process::getuid().is_root(), "this test makes a user: it needs root");
}

fn me() -> String {
    run("id", &["-un"]).trim().to_owned()
}

fn keygen(path: &Path, kind: &str, passphrase: &str) {
    let path = path.to_str().unwrap();
    run("ssh-keygen", &["-q", "-t", kind, "-N", passphrase, "-C", "door", "-f", path]);
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn_sshd(dir: &Path) -> Child {
    Command::new("/usr/sbin/sshd")
        .args(["-D", "-f"])
        .arg(dir.join("sshd_config"))
        .arg("-E")
        .arg(dir.join("log"))
        .stdin(Stdio::null())
        .spawn()
        .expect("sshd is installed")
}

/// One sshd, ended with the test. `dir` holds `host`, `key`, `config` (of the client) and `learned`.
struct Sshd {
    dir: TempDir,
    port: u16,
    child: Child,
    client_config: String,
}

impl Sshd {
    fn start(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        keygen(&path("host"), "ed25519", "");
        keygen(&path("key"), "ed25519", "");
        Self::start_in(dir, extra)
    }

    fn start_in(dir: TempDir, extra: &str) -> Self {
        let path = |name: &str| dir.path().join(name);
        // An ordinary user must be able to read the authorized keys.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(path("key.pub"), path("authorized")).unwrap();
        let _ = std::fs::create_dir_all("/run/sshd");
        let port = free_port();
        let at = dir.path().display();
        let config = format!(
            "{extra}\nListenAddress 127.0.0.1:{port}\nHostKey {at}/host\nAuthorizedKeysFile {at}/authorized\nPidFile none\n\
             StrictModes no\nUsePAM no\nPermitRootLogin yes\nLogLevel VERBOSE\nPrintMotd no\nUseDNS no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        );
        std::fs::write(path("sshd_config"), config).unwrap();
        let child = spawn_sshd(dir.path());
        let client_config = format!(
            "Host *\n IdentityFile {at}/key\n IdentityAgent none\n UserKnownHostsFile {at}/known\n GlobalKnownHostsFile {at}/global\n"
        );
        let host = std::fs::read_to_string(path("host.pub")).unwrap();
        std::fs::write(path("known"), format!("[127.0.0.1]:{port} {host}")).unwrap();
        let sshd = Self { dir, port, child, client_config };
        sshd.wait();
        sshd
    }

    fn wait(&self) {
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "sshd does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// With whatever stands in its directory now.
    fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.child = spawn_sshd(self.dir.path());
        self.wait();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn log(&self) -> String {
        self.text("log")
    }

    fn known(&self, text: &str) {
        std::fs::write(self.path("known"), text).unwrap();
    }

    fn name(&self) -> String {
        format!("[127.0.0.1]:{}", self.port)
    }

    fn options(&self) -> Options {
        std::fs::write(self.path("config"), &self.client_config).unwrap();
        Options {
            ssh_config: Some(self.path("config")),
            known_hosts_file: Some(self.path("state/learned")),
            connect_timeout: Duration::from_secs(20),
            ..Options::default()
        }
    }

    fn target_with(&self, options: &Options, vars: &[(&str, &str)]) -> Target {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        all.insert("ansible_host".into(), "127.0.0.1".into());
        all.insert("ansible_port".into(), self.port.to_string());
        all.insert("ansible_user".into(), me());
        all.insert("ansible_become".into(), "no".into());
        all.extend(vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Target::resolve("node", "127.0.0.1", &all, options).unwrap()
    }

    fn target(&self, vars: &[(&str, &str)]) -> Target {
        self.target_with(&self.options(), vars)
    }

    async fn connect(&self, vars: &[(&str, &str)]) -> Result<Session, RemoteError> {
        Connector::new(&self.options()).connect(&self.target(vars)).await
    }

    /// What the real `ssh` says to the same configuration.
    fn real_ssh(&self, extra: &[&str]) -> bool {
        std::fs::write(self.path("config"), &self.client_config).unwrap();
        let port = self.port.to_string();
        let config = self.path("config");
        Command::new("ssh")
            .args(["-F", config.to_str().unwrap(), "-o", "BatchMode=yes", "-p", &port])
            .args(extra)
            .args(["127.0.0.1", "true"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An ordinary user for one test.
struct User {
    name: String,
}

impl User {
    fn make(shell: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        need_root();
        let name = format!("door{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // Several tests do this at once, and useradd locks.
        for _ in 0..100 {
            // `*`: no password, and not locked, which sshd would refuse.
            let made = Command::new("useradd")
                .args(["-m", "-s", shell, "-p", "*", &name])
                .stderr(Stdio::null())
                .status()
                .unwrap();
            if made.success() {
                return Self { name };
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("useradd fails");
    }

    fn home(&self) -> PathBuf {
        PathBuf::from(format!("/home/{}", self.name))
    }

    fn password(&self, password: &str) {
        let mut child = Command::new("chpasswd").stdin(Stdio::piped()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{}:{password}", self.name).unwrap();
        assert!(child.wait().unwrap().success());
    }

    fn sudoers(&self, rule: &str) {
        let path = self.sudoers_path();
        std::fs::write(&path, format!("{} {rule}\n", self.name)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
    }

    fn sudoers_path(&self) -> PathBuf {
        PathBuf::from(format!("/etc/sudoers.d/{}", self.name))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.sudoers_path());
        for _ in 0..100 {
            let gone = Command::new("userdel").args(["-r", "-f", &self.name]).stderr(Stdio::null()).status();
            if gone.is_ok_and(|status| status.success()) || !self.home().exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

async fn exec(session: &Session, script: &str) -> (Result<ExecOutput, RemoteError>, Vec<u8>) {
    let mut out = Vec::new();
    let result = session.exec(Exec::new(script.as_bytes()), &mut |chunk| out.extend_from_slice(chunk)).await;
    (result, out)
}

async fn says(session: &Session, script: &str) -> String {
    let (result, out) = exec(session, script).await;
    let output = result.unwrap();
    assert!(output.success(), "{output:?}");
    String::from_utf8(out).unwrap()
}

fn kind<T>(result: Result<T, RemoteError>) -> Kind {
    result.map(|_| "it worked").unwrap_err().kind()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_and_scripts_run() {
    let sshd = Sshd::start("");
    let session = sshd.connect(&[]).await.unwrap();
    assert_eq!(says(&session, "echo hello; echo $LC_ALL").await, "hello\nC\n");
    let (result, out) = exec(&session, "echo out; echo err >&2; exit 7").await;
    let output = result.unwrap();
    assert_eq!((output.status, output.signal, out), (Some(7), None, b"out\n".to_vec()));
    assert_eq!(output.stderr, b"err\n");
    let (result, _) = exec(&session, "kill -KILL $$").await;
    assert_eq!(result.unwrap().signal.as_deref(), Some("KILL"));
    session.close().await;
    let (result, _) = exec(&session, "true").await;
    assert_eq!(kind(result), Kind::ConnectionLost);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_key_opens() {
    let sshd = Sshd::start("");
    for (kind, pem) in [("rsa", false), ("ecdsa", false), ("rsa", true), ("ecdsa", true)] {
        let path = sshd.path(&format!("{kind}{pem}"));
        let name = path.to_str().unwrap();
        if pem {
            run("ssh-keygen", &["-q", "-t", kind, "-m", "PEM", "-N", "", "-f", name]);
        } else {
            keygen(&path, kind, "");
        }
        std::fs::copy(path.with_extension("pub"), sshd.path("authorized")).unwrap();
        let session = sshd.connect(&[("ansible_ssh_private_key_file", name)]).await.unwrap();
        assert_eq!(says(&session, "echo in").await, "in\n", "{kind} {pem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_certificate_opens() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for name in ["host", "key", "ca"] {
        keygen(&dir.path().join(name), "ed25519", "");
    }
    run("ssh-keygen", &["-q", "-s", &path("ca"), "-I", "door", "-n", &me(), &path("key.pub")]);
    let extra = format!("TrustedUserCAKeys {}", path("ca.pub"));
    let sshd = Sshd::start_in(dir, &extra);
    std::fs::write(sshd.path("authorized"), "").unwrap();
    sshd.connect(&[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_says_what_was_tried() {
    let sshd = Sshd::start("");
    std::fs::write(sshd.path("authorized"), "").unwrap();
    let error = sshd.connect(&[]).await.unwrap_err();
    let Problem::AuthRefused { user, tried, accepts } = &*error.problem else { panic!("{error}") };
    assert_eq!((user, tried), (&me(), &vec![sshd.path("key").display().to_string()]));
    assert_eq!(accepts, &["publickey"]);
    assert!(error.hint().unwrap().contains(&format!("ssh-copy-id -p {}", sshd.port)), "{:?}", error.hint());

    let error = sshd.connect(&[("ansible_ssh_private_key_file", "/nowhere/key")]).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/key: it does not exist"), "{error}");
    assert_eq!(error.kind(), Kind::KeyFile);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_keys_are_not_offered() {
    let mut sshd = Sshd::start("MaxAuthTries 3");
    std::fs::write(sshd.path("authorized"), "").unwrap();
    let mut config = String::from("Host *\n IdentityAgent none\n");
    for n in 0..5 {
        let path = sshd.path(&format!("k{n}"));
        keygen(&path, "ed25519", "");
        config = format!("{config} IdentityFile {}\n", path.display());
    }
    sshd.client_config = format!("{config} UserKnownHostsFile {}\n", sshd.path("known").display());
    let error = sshd.connect(&[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::AuthRefused);
    assert!(error.hint().unwrap().contains("too many keys"), "{error}: {:?}", error.hint());
}

/// ssh-agent, ended with the test.
struct Agent(Child, PathBuf);

impl Agent {
    fn start(dir: &Path) -> Self {
        let socket = dir.join("agent.sock");
        let child =
            Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let agent = Self(child, socket);
        let start = Instant::now();
        while !agent.1.exists() {
            assert!(start.elapsed() < Duration::from_secs(5), "ssh-agent does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        agent
    }

    fn add(&self, key: &Path, passphrase: &str) {
        let ask = self.1.with_file_name("askpass");
        std::fs::write(&ask, format!("#!/bin/sh\necho {passphrase}\n")).unwrap();
        std::fs::set_permissions(&ask, std::fs::Permissions::from_mode(0o700)).unwrap();
        let output = Command::new("ssh-add")
            .arg(key)
            .env("SSH_AUTH_SOCK", &self.1)
            .env("SSH_ASKPASS", &ask)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_opens_and_an_encrypted_key_needs_it() {
    let mut sshd = Sshd::start("");
    let key = sshd.path("locked");
    keygen(&key, "ed25519", "secret");
    std::fs::copy(sshd.path("locked.pub"), sshd.path("authorized")).unwrap();
    let named = [("ansible_ssh_private_key_file", key.to_str().unwrap())];

    let error = sshd.connect(&named).await.unwrap_err();
    assert_eq!(error.kind(), Kind::KeyFile);
    assert!(error.to_string().contains("it is encrypted and not in the agent"), "{error}");
    assert_eq!(error.hint().unwrap(), format!("add it to the agent: `ssh-add {}`", key.display()));

    let agent = Agent::start(sshd.dir.path());
    agent.add(&key, "secret");
    sshd.client_config =
        sshd.client_config.replace("IdentityAgent none", &format!("IdentityAgent {}", agent.1.display()));
    sshd.connect(&named).await.unwrap();
    // Any key of the agent will do when no file does.
    sshd.connect(&[]).await.unwrap();
    // An RSA key signs through the agent too.
    keygen(&sshd.path("rsa"), "rsa", "");
    agent.add(&sshd.path("rsa"), "");
    std::fs::copy(sshd.path("rsa.pub"), sshd.path("authorized")).unwrap();
    sshd.connect(&[("ansible_ssh_private_key_file", sshd.path("rsa.pub").to_str().unwrap())]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_key_is_refused_or_learned() {
    let mut sshd = Sshd::start("");
    sshd.known("");
    let strict = [("ansible_ssh_common_args", "-o StrictHostKeyChecking=yes")];
    let error = sshd.connect(&strict).await.unwrap_err();
    assert_eq!(error.kind(), Kind::HostKeyUnknown);
    let print = run("ssh-keygen", &["-lf", sshd.path("host.pub").to_str().unwrap()]);
    assert!(error.to_string().contains(print.split(' ').nth(1).unwrap()), "{error} {print}");

    sshd.connect(&[]).await.unwrap();
    let learned = sshd.text("state/learned");
    let host = sshd.text("host.pub");
    let host: Vec<&str> = host.split(' ').take(2).collect();
    assert_eq!(learned, format!("{} {}\n", sshd.name(), host.join(" ")));
    assert_eq!(std::fs::metadata(sshd.path("state/learned")).unwrap().permissions().mode() & 0o777, 0o600);
    // What was learned counts under strict too, and is written once.
    sshd.connect(&strict).await.unwrap();
    sshd.connect(&[]).await.unwrap();
    assert_eq!(sshd.text("state/learned"), learned);

    // The learned key is refused when it changes.
    std::fs::remove_file(sshd.path("host")).unwrap();
    std::fs::remove_file(sshd.path("host.pub")).unwrap();
    keygen(&sshd.path("host"), "ed25519", "");
    sshd.restart();
    let error = sshd.connect(&[]).await.unwrap_err();
    let Problem::HostKeyChanged { file, line, .. } = &*error.problem else { panic!("{error}") };
    assert_eq!((file, *line), (&sshd.path("state/learned"), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_host_key_names_file_and_line() {
    let sshd = Sshd::start("");
    keygen(&sshd.path("other"), "ed25519", "");
    sshd.known(&format!("# a comment\n\n{} {}", sshd.name(), sshd.text("other.pub")));
    let error = sshd.connect(&[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::HostKeyChanged);
    let place = format!("{}:3", sshd.path("known").display());
    assert!(error.to_string().contains(&place), "{error}");
    let hint = error.hint().unwrap();
    let command = hint.split('`').nth(1).unwrap().to_owned();
    // The hint is a command that works.
    run("sh", &["-c", &command]);
    sshd.connect(&[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_host_key_is_refused_even_when_checking_is_off() {
    let sshd = Sshd::start("");
    let host = sshd.text("host.pub");
    sshd.known(&format!("{} {host}@revoked * {host}", sshd.name()));
    for args in ["-o StrictHostKeyChecking=yes", "-o StrictHostKeyChecking=no", "-v"] {
        let error = sshd.connect(&[("ansible_ssh_common_args", args)]).await.unwrap_err();
        assert_eq!(error.kind(), Kind::HostKeyRevoked, "{error}");
        assert!(error.to_string().contains("known:2"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_known_by_its_rsa_key_is_asked_for_it() {
    let dir = tempfile::tempdir().unwrap();
    keygen(&dir.path().join("host"), "ed25519", "");
    keygen(&dir.path().join("key"), "ed25519", "");
    keygen(&dir.path().join("host_rsa"), "rsa", "");
    let extra = format!("HostKey {}", dir.path().join("host_rsa").display());
    let sshd = Sshd::start_in(dir, &extra);
    sshd.known(&format!("{} {}", sshd.name(), sshd.text("host_rsa.pub")));
    sshd.connect(&[("ansible_ssh_common_args", "-o StrictHostKeyChecking=yes")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_on_host_keys_are_those_of_ssh() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for name in ["host", "key", "ca", "ca2", "other"] {
        keygen(&dir.path().join(name), "ed25519", "");
    }
    run(
        "ssh-keygen",
        &["-q", "-s", &path("ca"), "-h", "-I", "door", "-n", "127.0.0.1,*.example", &path("host.pub")],
    );
    let extra = format!("HostCertificate {}", path("host-cert.pub"));
    let sshd = Sshd::start_in(dir, &extra);
    let (host, other) = (sshd.text("host.pub"), sshd.text("other.pub"));
    let (ca, ca2) = (sshd.text("ca.pub"), sshd.text("ca2.pub"));
    let name = sshd.name();
    // A hashed name, made by the real tool.
    sshd.known(&format!("{name} {host}"));
    run("ssh-keygen", &["-q", "-H", "-f", sshd.path("known").to_str().unwrap()]);
    let hashed = sshd.text("known");
    assert!(hashed.starts_with("|1|"), "{hashed}");

    let cases = [
        (String::new(), "", false),
        (format!("{name} {host}"), "", true),
        (hashed, "", true),
        (format!("{name} {other}"), "", false),
        (format!("{name} {other}{name} {host}"), "", true),
        (format!("127.0.0.1 {host}"), "", true),
        (format!("127.0.0.1 {other}"), "", false),
        (format!("[127.0.0.*]:* {host}"), "", true),
        (format!("[127.0.0.?]:{} {host}", sshd.port), "", true),
        (format!("!127.0.0.1,* {host}"), "", true),
        (format!("!{name},* {host}"), "", true),
        (format!("!127.0.0.1,!{name},* {host}"), "", false),
        (format!("@cert-authority {name} {ca}"), "", true),
        (format!("@cert-authority * {ca}"), "", true),
        (format!("@cert-authority * {ca2}"), "", false),
        (format!("@cert-authority other {ca}"), "", false),
        (format!("@cert-authority * {ca}@revoked * {ca}"), "", false),
        (format!("@cert-authority * {ca}@revoked * {host}"), "", false),
        (format!("{name} {host}@revoked * {host}"), "", false),
        (format!("{name} {other}@revoked * {other}"), "", false),
        (format!("@cert-authority * {ca}{name} {other}"), "", true),
        (format!("@cert-authority * {ca2}{name} {host}"), "", true),
        (format!("* {ca}"), "", false),
        (format!("alias {host}"), "alias", true),
        (format!("{name} {host}"), "alias", false),
        (format!("@cert-authority * {ca}"), "alias", false),
        (format!("@cert-authority * {ca}"), "db.example", false),
    ];
    for (known, alias, expected) in cases {
        sshd.known(&known);
        let mut args = "-o StrictHostKeyChecking=yes".to_owned();
        let mut real = vec!["-o", "StrictHostKeyChecking=yes"];
        let option = format!("HostKeyAlias={alias}");
        if !alias.is_empty() {
            args = format!("{args} -o {option}");
            real.extend(["-o", &option]);
        }
        let ours = sshd.connect(&[("ansible_ssh_common_args", &args)]).await;
        assert_eq!(ours.is_ok(), expected, "pgctl on {alias}:\n{known}\n{ours:?}");
        assert_eq!(sshd.real_ssh(&real), expected, "ssh on {alias}:\n{known}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_certificate_must_be_for_the_host_and_in_time() {
    for (extra, word) in [
        (&["-n", "other"][..], "it is for `other`, not for `127.0.0.1`"),
        (&["-n", "127.0.0.1", "-V", "20200101:20200102"], "it has expired"),
        (&["-n", "127.0.0.1", "-V", "21000101:21000102"], "it is not valid yet"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        for name in ["host", "key", "ca"] {
            keygen(&dir.path().join(name), "ed25519", "");
        }
        let (ca, host) = (path("ca"), path("host.pub"));
        let mut args = vec!["-q", "-s", &ca, "-h", "-I", "door"];
        args.extend(extra);
        args.push(&host);
        run("ssh-keygen", &args);
        let config = format!("HostCertificate {}", path("host-cert.pub"));
        let sshd = Sshd::start_in(dir, &config);
        sshd.known(&format!("@cert-authority * {}", sshd.text("ca.pub")));
        let error = sshd.connect(&[]).await.unwrap_err();
        assert_eq!(error.kind(), Kind::HostCertificate, "{error}");
        assert!(error.to_string().contains(word), "{error}");
        assert!(!sshd.real_ssh(&["-o", "StrictHostKeyChecking=yes"]), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jump_hosts_and_proxy_commands_lead_there() {
    let (outer, middle, inner) = (Sshd::start(""), Sshd::start(""), Sshd::start(""));
    let me = me();
    // Everybody's door opens with the key of the innermost.
    for sshd in [&outer, &middle] {
        std::fs::copy(inner.path("key.pub"), sshd.path("authorized")).unwrap();
    }
    inner.known(&format!("{}{}{}", outer.text("known"), middle.text("known"), inner.text("known")));
    let jump = format!("-J {me}@127.0.0.1:{},{me}@127.0.0.1:{}", outer.port, middle.port);
    let session = inner.connect(&[("ansible_ssh_common_args", &jump)]).await.unwrap();
    assert_eq!(
        says(&session, "echo $SSH_CONNECTION").await.split(' ').nth(3).map(str::trim),
        Some(&*inner.port.to_string())
    );
    assert!(middle.log().contains("Accepted publickey") && outer.log().contains("Accepted publickey"));
    let size = says(&session, "head -c 3000000 /dev/zero | tr '\\0' x").await.len();
    assert_eq!(size, 3_000_000);

    // The hop that fails is the one that is named.
    std::fs::write(middle.path("authorized"), "").unwrap();
    let error = inner.connect(&[("ansible_ssh_common_args", &jump)]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.place.as_str()),
        (Kind::AuthRefused, &*format!("{me}@127.0.0.1:{}", middle.port))
    );
    let closed = format!("-J {me}@127.0.0.1:{}", outer.port);
    let port = free_port().to_string();
    let error =
        inner.connect(&[("ansible_ssh_common_args", &closed), ("ansible_port", &port)]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");

    let config = inner.path("config");
    let command =
        format!("-o ProxyCommand='ssh -F {} -p {} -W %h:%p {me}@127.0.0.1'", config.display(), outer.port);
    let session = inner.connect(&[("ansible_ssh_common_args", &command)]).await.unwrap();
    assert_eq!(says(&session, "echo through").await, "through\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_connection_is_lost_not_done() {
    let sshd = Sshd::start("");
    let session = sshd.connect(&[]).await.unwrap();
    let mut out = Vec::new();
    let mut killed = false;
    let start = Instant::now();
    let script = b"echo $PPID; sleep 30; echo never";
    let error = session
        .exec(Exec::new(script), &mut |chunk| {
            out.extend_from_slice(chunk);
            if !killed && out.ends_with(b"\n") {
                killed = true;
                kill_sshd(String::from_utf8_lossy(&out).trim());
            }
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::ConnectionLost, "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(session.is_closed());
}

/// Ends the sshd process of one connection, after making sure that it is one.
fn kill_sshd(pid: &str) {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert!(name.starts_with("sshd"), "{name}");
    run("kill", &["-KILL", pid]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stdin_that_nobody_reads_does_not_hang() {
    let sshd = Sshd::start("");
    let session = sshd.connect(&[]).await.unwrap();
    for size in [1 << 20, 16 << 20] {
        let mut script = b"exec true\n".to_vec();
        script.resize(size, b'#');
        let start = Instant::now();
        let output = session.exec(Exec::new(&script), &mut |_| {}).await.unwrap();
        assert_eq!(output.status, Some(0));
        assert!(start.elapsed() < Duration::from_secs(10), "{size}: {:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn much_output_arrives_whole() {
    let sshd = Sshd::start("");
    let session = sshd.connect(&[]).await.unwrap();
    let (result, out) = exec(&session, "head -c 10000000 /dev/zero | tr '\\0' x; echo; seq 200000 >&2").await;
    let output = result.unwrap();
    assert_eq!(out.len(), 10_000_001);
    assert!(output.stderr.len() >= 64 * 1024 && output.stderr.len() <= 128 * 1024);
    assert!(output.stderr.ends_with(b"199999\n200000\n"));
    // The script itself is large, and read to its end.
    let mut script = vec![b'#'; 5_000_000];
    script.extend_from_slice(b"\necho end\n");
    assert_eq!(says(&session, std::str::from_utf8(&script).unwrap()).await, "end\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_keeps_stdout_does_not_hold_us() {
    let sshd = Sshd::start("");
    let session = sshd.connect(&[]).await.unwrap();
    let start = Instant::now();
    assert_eq!(says(&session, "sleep 20 & echo done").await, "done\n");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_remote_process() {
    let sshd = Sshd::start("");
    let session = sshd.connect(&[]).await.unwrap();
    let file = sshd.path("alive");
    let script =
        format!("trap 'rm -f {0}; exit' TERM; touch {0}; while :; do sleep 0.1; done", file.display());
    let start = Instant::now();
    let exec = Exec::new(script.as_bytes()).deadline(Duration::from_secs(1));
    let error = session.exec(exec, &mut |_| {}).await.unwrap_err();
    assert_eq!((error.kind(), start.elapsed().as_secs()), (Kind::Deadline, 1));
    while file.exists() {
        assert!(start.elapsed() < Duration::from_secs(5), "it still runs");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(says(&session, "echo next").await, "next\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_reaches_what_runs_under_sudo() {
    let user = User::make("/bin/bash");
    user.sudoers("ALL=(ALL) NOPASSWD: ALL");
    let sshd = Sshd::start("");
    let session = sshd.connect(&[("ansible_user", &user.name), ("ansible_become", "yes")]).await.unwrap();
    let script = b"main() { echo $$; sleep 77 </dev/null; }\nmain\n";
    let mut out = Vec::new();
    let exec = Exec::new(script).deadline(Duration::from_secs(1));
    assert_eq!(kind(session.exec(exec, &mut |chunk| out.extend_from_slice(chunk)).await), Kind::Deadline);
    let process = PathBuf::from(format!("/proc/{}", String::from_utf8(out).unwrap().trim()));
    let start = Instant::now();
    while process.exists() {
        assert!(start.elapsed() < Duration::from_secs(5), "it still runs");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_scripts_share_a_connection() {
    let sshd = Sshd::start("MaxSessions 2");
    let session = sshd.connect(&[]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..30 {
        let session = session.clone();
        tasks
            .spawn(async move { says(&session, &format!("echo {n}; sleep 0.01")).await == format!("{n}\n") });
    }
    while let Some(right) = tasks.join_next().await {
        assert!(right.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_noisy_profile_is_kept_apart() {
    let user = User::make("/bin/bash");
    let sshd = Sshd::start("");
    let noise = "echo welcome; echo careful >&2; printf 'no newline' >&2\n";
    std::fs::write(user.home().join(".bashrc"), noise).unwrap();
    let session = sshd.connect(&[("ansible_user", &user.name)]).await.unwrap();
    let (result, out) = exec(&session, "echo mine; echo error >&2; exit 3").await;
    let output = result.unwrap();
    assert_eq!((output.status, &output.stderr[..]), (Some(3), &b"error\n"[..]));
    assert!(out.ends_with(b"mine\n"));
    // One that ends the shell is reported as such.
    std::fs::write(user.home().join(".bashrc"), "echo 'no entry' >&2; exit 9\n").unwrap();
    let error = exec(&session, "echo mine").await.0.unwrap_err();
    assert!(error.to_string().contains("did not start the script (exit code 9): no entry"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_login_shell_will_do() {
    let sshd = Sshd::start("");
    for shell in ["/bin/dash", "/bin/bash", "/usr/bin/fish", "/bin/tcsh", "/bin/ksh", "/bin/zsh"] {
        if !Path::new(shell).exists() {
            continue;
        }
        let user = User::make(shell);
        let session = sshd.connect(&[("ansible_user", &user.name)]).await.unwrap();
        assert_eq!(says(&session, "echo \"$0 $((1 + 1))\"").await, "sh 2\n", "{shell}");
    }
    let user = User::make("/usr/sbin/nologin");
    let session = sshd.connect(&[("ansible_user", &user.name)]).await.unwrap();
    assert_eq!(kind(exec(&session, "true").await.0), Kind::NotStarted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_opens() {
    let user = User::make("/bin/sh");
    user.password("correct horse");
    let sshd = Sshd::start("PasswordAuthentication yes");
    std::fs::write(sshd.path("authorized"), "").unwrap();
    let vars = |password| [("ansible_user", &*user.name), ("ansible_password", password)];
    let session = sshd.connect(&vars("correct horse")).await.unwrap();
    assert_eq!(says(&session, "id -un").await.trim(), user.name);
    let error = sshd.connect(&vars("wrong")).await.unwrap_err();
    assert!(error.to_string().contains("key, password"), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sudo_without_rights_says_so() {
    let user = User::make("/bin/bash");
    let sshd = Sshd::start("");
    let vars = [("ansible_user", &*user.name), ("ansible_become", "yes")];
    let session = sshd.connect(&vars).await.unwrap();
    let error = exec(&session, "id -u").await.0.unwrap_err();
    assert!(
        matches!(&*error.problem, Problem::Sudo(SudoProblem::NeedsPassword { user: who }) if *who == user.name),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("--ask-become-pass"));
    // Without sudo the login still works.
    let mut out = Vec::new();
    let exec_plain = Exec::new(b"id -un").as_login();
    session.exec(exec_plain, &mut |chunk| out.extend_from_slice(chunk)).await.unwrap();
    assert_eq!(String::from_utf8(out).unwrap().trim(), user.name);

    user.sudoers("ALL=(ALL) NOPASSWD: /bin/ls");
    let error = exec(&session, "id -u").await.0.unwrap_err();
    assert!(
        matches!(
            &*error.problem,
            Problem::Sudo(SudoProblem::NeedsPassword { .. } | SudoProblem::NotAllowed { .. })
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sudo_with_rights_runs_as_root() {
    let user = User::make("/bin/bash");
    user.sudoers("ALL=(ALL) NOPASSWD: ALL");
    std::fs::write(user.home().join(".bashrc"), "echo noise; echo noise >&2\n").unwrap();
    let sshd = Sshd::start("");
    let vars = [("ansible_user", &*user.name)];
    let mut target = sshd.target(&vars);
    target.r#become = Become::Sudo { user: "root".into(), password: None };
    let session = Connector::new(&sshd.options()).connect(&target).await.unwrap();
    let (result, out) = exec(&session, "id -u; echo e >&2; exit 1").await;
    let output = result.unwrap();
    assert!(out.ends_with(b"\n0\n") || out == b"0\n", "{out:?}");
    assert_eq!((output.status, &output.stderr[..]), (Some(1), &b"e\n"[..]));

    // A password that is not asked for is never sent to the shell.
    target.r#become = Become::Sudo { user: "root".into(), password: Some(Secret::new("echo leaked")) };
    let session = Connector::new(&sshd.options()).connect(&target).await.unwrap();
    let (result, out) = exec(&session, "id -u").await;
    assert_eq!(
        (result.unwrap().stderr, String::from_utf8_lossy(&out).contains("leaked")),
        (Vec::new(), false)
    );

    target.r#become = Become::Sudo { user: "nobody9".into(), password: None };
    let session = Connector::new(&sshd.options()).connect(&target).await.unwrap();
    let error = exec(&session, "id -u").await.0.unwrap_err();
    assert!(matches!(&*error.problem, Problem::Sudo(SudoProblem::UnknownUser { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sudo_takes_a_password_over_stdin() {
    let user = User::make("/bin/bash");
    user.password("correct horse");
    user.sudoers("ALL=(ALL) ALL");
    let sshd = Sshd::start("");
    let vars = |password| {
        [("ansible_user", &*user.name), ("ansible_become", "yes"), ("ansible_become_password", password)]
    };
    let session = sshd.connect(&vars("correct horse")).await.unwrap();
    for _ in 0..2 {
        assert_eq!(
            says(&session, "id -u; cat /proc/$$/environ /proc/$$/cmdline | grep -c horse || :").await,
            "0\n0\n"
        );
    }
    let session = sshd.connect(&vars("wrong")).await.unwrap();
    let error = exec(&session, "id -u").await.0.unwrap_err();
    assert!(matches!(&*error.problem, Problem::Sudo(SudoProblem::WrongPassword { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_port_is_refused_at_once() {
    let sshd = Sshd::start("");
    let port = free_port().to_string();
    let start = Instant::now();
    let error = sshd.connect(&[("ansible_port", &port)]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    assert!(start.elapsed() < Duration::from_secs(1));
    let error = sshd.connect(&[("ansible_host", "no-such-host.invalid")]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Resolve, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_costs_the_timeout_once() {
    let sshd = Sshd::start("");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
            held.push(stream);
        }
    });
    let start = Instant::now();
    let error = sshd.connect(&[("ansible_port", &port), ("ansible_timeout", "1")]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
    assert!(start.elapsed() >= Duration::from_secs(1) && start.elapsed() < Duration::from_millis(1900));
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_than_ssh_is_told_apart() {
    let sshd = Sshd::start("");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            for _ in 0..100 {
                if stream.write_all(b"HTTP/1.1 400 Bad Request and a long line of words\r\n").is_err() {
                    break;
                }
            }
        }
    });
    let error = sshd.connect(&[("ansible_port", &port)]).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Handshake | Kind::HandshakeReset), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_at_once_pass_max_startups() {
    let sshd = Sshd::start("MaxStartups 10:30:100");
    sshd.known("");
    let connector = Connector::new(&sshd.options());
    let mut tasks = tokio::task::JoinSet::new();
    let target = sshd.target(&[]);
    for _ in 0..30 {
        let (target, connector) = (target.clone(), connector.clone());
        tasks.spawn(async move { connector.connect(&target).await.map(drop).map_err(|e| e.to_string()) });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap().unwrap();
    }
    // They all met the same unknown key, and it was written once.
    assert_eq!(sshd.text("state/learned").lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tight_max_startups_is_retried() {
    let sshd = Sshd::start("MaxStartups 2:50:4");
    let connector = Connector::new(&sshd.options());
    let mut tasks = tokio::task::JoinSet::new();
    let target = sshd.target(&[]);
    for _ in 0..16 {
        let (target, connector) = (target.clone(), connector.clone());
        tasks.spawn(async move { connector.connect(&target).await.map(drop).map_err(|e| e.to_string()) });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap().unwrap();
    }
    assert!(sshd.log().contains("drop connection"), "the test did not test anything: {}", sshd.log());
}

/// Answers one request a connection with its own head and body.
async fn echo_server() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                loop {
                    let text = String::from_utf8_lossy(&request).to_lowercase();
                    if let Some(head) = text.find("\r\n\r\n") {
                        let length = text
                            .lines()
                            .find_map(|line| line.strip_prefix("content-length: "))
                            .map_or(0, |n| n.parse::<usize>().unwrap());
                        if request.len() >= head + 4 + length {
                            break;
                        }
                    }
                    let n = stream.read(&mut buffer).await.unwrap();
                    request.extend_from_slice(&buffer[..n]);
                }
                let status =
                    if request.starts_with(b"GET /replica") { "503 Service Unavailable" } else { "200 OK" };
                if request.starts_with(b"GET /hang") {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", request.len());
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(&request).await.unwrap();
            });
        }
    });
    port
}

fn get(port: u16, path: &str) -> Http<'_> {
    Http {
        method: "GET",
        host: "127.0.0.1",
        port,
        path,
        headers: &[],
        body: None,
        timeout: Duration::from_secs(5),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_goes_through_the_connection() {
    let sshd = Sshd::start("");
    let session = sshd.connect(&[]).await.unwrap();
    let port = echo_server().await;
    let reply = session.http(get(port, "/replica?x=1")).await.unwrap();
    assert_eq!(reply.status, 503);
    assert!(
        String::from_utf8(reply.body).unwrap().starts_with("GET /replica?x=1 HTTP/1.1\r\nhost: 127.0.0.1:")
    );
    let body = vec![b'b'; 300_000];
    let patch = Http {
        method: "PATCH",
        headers: &[("Authorization", "Basic eA==")],
        body: Some(body),
        ..get(port, "/config")
    };
    let reply = session.http(patch).await.unwrap();
    let text = String::from_utf8(reply.body).unwrap();
    assert!(
        text.to_lowercase().contains("authorization: basic ea==") && text.ends_with("bbb"),
        "{reply:?}",
        reply = reply.status
    );
    assert!(text.len() > 300_000);

    let start = Instant::now();
    let hang = Http { timeout: Duration::from_millis(500), ..get(port, "/hang") };
    assert_eq!(kind(session.http(hang).await), Kind::Deadline);
    assert!(start.elapsed() < Duration::from_secs(2));
    let closed = free_port();
    assert_eq!(kind(session.http(get(closed, "/")).await), Kind::TunnelRefused);
    let second = Duration::from_secs(1);
    assert_eq!(kind(session.probe_port("127.0.0.1", closed, second).await), Kind::TunnelRefused);
    session.probe_port("127.0.0.1", port, second).await.unwrap();
    // What listens is no HTTP server.
    let error = session.http(get(sshd.port, "/")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Http, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_forwarding_is_told_from_a_closed_port() {
    let sshd = Sshd::start("AllowTcpForwarding no");
    let session = sshd.connect(&[]).await.unwrap();
    let port = echo_server().await;
    let error = session.http(get(port, "/")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Forwarding, "{error}");
    assert!(error.hint().unwrap().contains("AllowTcpForwarding"));
    // Scripts still run.
    assert_eq!(says(&session, "echo fine").await, "fine\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_script_ends_with_its_holder() {
    let sshd = Sshd::start("");
    let session = sshd.connect(&[]).await.unwrap();
    let gone = |name: &str| sshd.path(name);
    let script = |name: &str| {
        format!(
            "main() {{ echo locked; echo by me; cat >/dev/null; echo bye; touch {}; }}\nmain\n",
            gone(name).display()
        )
    };

    let mut held = session.exec_held(script("released").as_bytes());
    assert_eq!(held.next_line().await.unwrap(), b"locked");
    assert_eq!(held.next_line().await.unwrap(), b"by me");
    // Others run meanwhile.
    assert_eq!(says(&session, "echo meanwhile").await, "meanwhile\n");
    assert!(!held.is_finished() && !gone("released").exists());
    let output = held.release().await.unwrap();
    assert!(output.success() && gone("released").exists());

    let mut held = session.exec_held(script("dropped").as_bytes());
    assert_eq!(held.next_line().await.unwrap(), b"locked");
    drop(held);
    let start = Instant::now();
    while !gone("dropped").exists() {
        assert!(start.elapsed() < Duration::from_secs(5), "it is still held");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // It dies with the connection, whoever forgot it.
    let mut held = session.exec_held(b"main() { echo $PPID; cat >/dev/null; }\nmain\n");
    kill_sshd(&String::from_utf8(held.next_line().await.unwrap()).unwrap());
    assert_eq!(held.next_line().await, None);
    assert_eq!(kind(held.release().await), Kind::ConnectionLost);
}
