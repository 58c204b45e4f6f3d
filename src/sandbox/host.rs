//! The control machine: which commands it has, what it answers, how much room it has.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::{At as _, Error, Result};

/// Command → Debian package that brings it. All are needed before the first change.
const TOOLS: [(&str, &str); 7] = [
    ("systemd-nspawn", "systemd-container"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("ssh-keygen", "openssh-client"),
];

/// Root, and every command that a node needs.
pub(super) fn ready() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    TOOLS.iter().try_for_each(|(tool, package)| need(tool, package))
}

/// `tool` is on the path (`sbin` included: `sudo` and `su` keep it off some users' paths).
pub(super) fn need(tool: &'static str, package: &'static str) -> Result<()> {
    match find(tool) {
        Some(_) => Ok(()),
        None => Err(Error::MissingTool { tool, package }),
    }
}

fn find(tool: &str) -> Option<PathBuf> {
    std::env::split_paths(&path()).map(|dir| dir.join(tool)).find(|file| file.is_file())
}

/// The caller's path, and behind it where the system keeps its commands.
fn path() -> String {
    let own = std::env::var("PATH").unwrap_or_default();
    format!("{own}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

/// A command of the machine with a plain locale. Not through a shell: arguments stay arguments.
pub(super) fn command(tool: &str) -> Command {
    let mut command = Command::new(find(tool).unwrap_or_else(|| tool.into()));
    command.env("PATH", path()).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// A command that sees nothing of the caller's environment: no proxy, no locale, no secret.
pub(super) fn clean_command(tool: &str) -> Command {
    let mut command = command(tool);
    command.env_clear().env("PATH", path()).env("LC_ALL", "C.UTF-8");
    command
}

/// Runs to the end; what it printed on stdout, or an error with both outputs.
pub(super) fn run(tool: &str, args: &[&str]) -> Result<String> {
    let mut command = command(tool);
    command.args(args);
    run_command(&mut command)
}

pub(super) fn run_command(command: &mut Command) -> Result<String> {
    let out = command.output().map_err(|source| Error::Spawn { command: words(command), source })?;
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        return Ok(stdout);
    }
    let output = format!("{stdout}\n{}", String::from_utf8_lossy(&out.stderr));
    Err(Error::Command { command: words(command), status: out.status.to_string(), output })
}

/// The command as one would type it, cut where a script follows.
pub(super) fn words(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    let mut text = name;
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    if text.len() > 200 { format!("{}…", text.chars().take(200).collect::<String>()) } else { text }
}

/// JSON of `ip -j …`. `ip` prints nothing at all when there is nothing to list.
pub(super) fn ip_json(args: &[&str]) -> Result<serde_json::Value> {
    let mut all = vec!["-j"];
    all.extend_from_slice(args);
    let text = run("ip", &all)?;
    if text.trim().is_empty() {
        return Ok(serde_json::Value::Array(Vec::new()));
    }
    serde_json::from_str(&text)
        .map_err(|source| Error::Output { command: format!("ip {}", all.join(" ")), source })
}

/// `need` MiB are free for root where `dir` is (or will be).
pub(super) fn room(dir: &Path, need: u64, variable: &'static str) -> Result<()> {
    let existing = dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("/"));
    let stat = rustix::fs::statvfs(existing).map_err(Into::into).at("look at the free space of", existing)?;
    let free = stat.f_bfree.saturating_mul(stat.f_frsize) >> 20;
    if free < need {
        return Err(Error::DiskFull { path: existing.to_owned(), free, need, variable });
    }
    Ok(())
}

/// Mount points at or under `dir`, deepest first: the order in which they can be unmounted.
pub(super) fn mounts_under(dir: &Path) -> Result<Vec<PathBuf>> {
    let file = Path::new("/proc/self/mountinfo");
    let text = std::fs::read_to_string(file).at("read", file)?;
    Ok(parse_mounts(&text, dir))
}

fn parse_mounts(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut found: Vec<PathBuf> = points.map(PathBuf::from).filter(|p| p.starts_with(dir)).collect();
    // Later mounts cover earlier ones, so the reverse order is right within one depth too.
    found.reverse();
    found.sort_by_key(|p| std::cmp::Reverse(p.components().count()));
    found
}

/// proc(5): space, tab, newline and backslash stand as three octal digits.
fn unescape(field: &str) -> String {
    let (mut text, mut rest) = (String::new(), field);
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let byte = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        text.push(byte.map_or('\\', char::from));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    text + rest
}

/// Unmounts everything at or under `dir`. A busy mount is detached: its last user is being killed.
pub(super) fn unmount_under(dir: &Path) -> Result<()> {
    for point in mounts_under(dir)? {
        let point = point.to_string_lossy().into_owned();
        if run("umount", &[&point]).is_err() {
            run("umount", &["--lazy", &point])?;
        }
    }
    Ok(())
}

/// Removes a directory of ours. Refuses while anything is mounted inside: a removal through a
/// mount would empty a file system that is not ours.
pub(super) fn remove_dir(dir: &Path) -> Result<()> {
    unmount_under(dir)?;
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", dir),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_come_deepest_first_and_only_ours() {
        let info = "\
1 0 254:0 / / rw - ext4 /dev/vda rw
2 1 0:5 / /s/node/root rw - overlay overlay rw
3 2 0:6 / /s/node/root/proc rw - proc proc rw
4 1 0:7 / /s/node/root rw - overlay overlay rw
5 1 0:8 / /s/node2 rw - tmpfs tmpfs rw
6 1 0:9 / /s/node/a\\040b rw - tmpfs tmpfs rw
";
        let found = parse_mounts(info, Path::new("/s/node"));
        let names: Vec<_> = found.iter().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(names, ["/s/node/root/proc", "/s/node/a b", "/s/node/root", "/s/node/root"]);
    }

    #[test]
    fn a_missing_tool_names_its_package() {
        let error = need("no-such-tool-anywhere", "some-package").unwrap_err().to_string();
        assert_eq!(error, "`no-such-tool-anywhere` is not installed: `apt-get install some-package`");
    }

    #[test]
    fn a_full_disk_is_said_before_anything_is_written() {
        let error = room(Path::new("/tmp/not/there"), u64::MAX, "PGCTL_IMAGE_DIR").unwrap_err();
        assert!(error.to_string().contains("set `PGCTL_IMAGE_DIR` to another disk"), "{error}");
    }

    #[test]
    fn a_failed_command_shows_what_it_said() {
        let error = run("sh", &["-c", "echo out; echo no luck >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("    no luck"), "{error}");
    }
}
