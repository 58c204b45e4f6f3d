//! `~/.ssh/config`, as the system's own `ssh` understands it.
//!
//! `ssh -G` resolves `Include`, `Match`, tokens and every `-o` for us (ssh(1), 8 ms a call), so a node that `ssh` can
//! reach is reached the same way here. Where no `ssh` is installed a small reader takes its place, which refuses
//! what it would have to guess (`Match`, `Include`) instead of dialling the wrong machine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::known_hosts::match_list;

/// What the configuration says about one host. Paths are as written, with `~` and tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) hostname: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    pub(super) identity_files: Vec<String>,
    pub(super) certificate_files: Vec<String>,
    pub(super) identities_only: bool,
    pub(super) identity_agent: Option<String>,
    pub(super) proxy_jump: Option<String>,
    pub(super) proxy_command: Option<String>,
    /// `UserKnownHostsFile` and then `GlobalKnownHostsFile`.
    pub(super) known_hosts: Vec<String>,
    pub(super) strict: Option<String>,
    pub(super) host_key_alias: Option<String>,
}

impl Settings {
    /// Takes one `keyword value` pair; like ssh, the first value of a keyword holds, and files add up.
    fn take(&mut self, keyword: &str, value: &str) -> Result<(), String> {
        fn first(slot: &mut Option<String>, value: &str) {
            slot.get_or_insert_with(|| value.to_owned());
        }
        let plain = value.trim().trim_matches('"');
        match keyword.to_ascii_lowercase().as_str() {
            "hostname" => first(&mut self.hostname, plain),
            "user" => first(&mut self.user, plain),
            "port" if self.port.is_none() => {
                self.port = Some(plain.parse().map_err(|_| format!("`{plain}` is not a port"))?);
            }
            "identityfile" if plain != "none" => self.identity_files.push(plain.to_owned()),
            "certificatefile" if plain != "none" => self.certificate_files.push(plain.to_owned()),
            "identitiesonly" => self.identities_only |= plain == "yes" || plain == "true",
            "identityagent" => first(&mut self.identity_agent, plain),
            "proxyjump" if self.proxy_command.is_none() => first(&mut self.proxy_jump, plain),
            "proxycommand" if self.proxy_jump.is_none() => first(&mut self.proxy_command, value.trim()),
            "userknownhostsfile" | "globalknownhostsfile" => {
                self.known_hosts.extend(plain.split_whitespace().map(str::to_owned));
            }
            "stricthostkeychecking" => first(&mut self.strict, &plain.to_ascii_lowercase()),
            "hostkeyalias" => first(&mut self.host_key_alias, plain),
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self) -> Self {
        let none = |value: &Option<String>| value.as_deref().is_some_and(|v| v.eq_ignore_ascii_case("none"));
        if none(&self.proxy_jump) {
            self.proxy_jump = None;
        }
        if none(&self.proxy_command) {
            self.proxy_command = None;
        }
        self
    }
}

/// The options of an `ssh` command line that change where and how to connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Args(pub(super) Vec<String>);

impl Args {
    /// Reads `ansible_ssh_common_args` and the like. Options about terminals, multiplexing and verbosity are
    /// dropped; what would forward ports or run something is refused, as is a word that is no option (ssh
    /// would take it for the host).
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut out = Vec::new();
        let mut words = words(text)?.into_iter();
        while let Some(word) = words.next() {
            let Some(flags) =
                word.strip_prefix('-').filter(|flags| !flags.is_empty() && !flags.starts_with('-'))
            else {
                return Err(format!("`{word}` is not an option of ssh"));
            };
            for (at, flag) in flags.char_indices() {
                match flag {
                    '4' | '6' | 'a' | 'A' | 'C' | 'K' | 'k' | 'M' | 'n' | 'q' | 't' | 'T' | 'v' | 'x'
                    | 'X' | 'Y' | 'y' => {}
                    'o' | 'i' | 'J' | 'F' | 'p' | 'l' | 'S' | 'c' | 'm' | 'e' | 'E' | 'b' | 'B' | 'I' => {
                        let rest = &flags[at + 1..];
                        let value = if rest.is_empty() {
                            words.next().ok_or_else(|| format!("`-{flag}` needs a value"))?
                        } else {
                            rest.to_owned()
                        };
                        match flag {
                            // `ssh -i` drops a file that is not there; as an option it stays, and can be named in an error.
                            'i' => out.extend(["-o".to_owned(), format!("IdentityFile={value}")]),
                            'o' | 'J' | 'F' | 'p' | 'l' => out.extend([format!("-{flag}"), value]),
                            _ => {}
                        }
                        break;
                    }
                    other => return Err(format!("the option `-{other}` of ssh has no meaning for pgctl")),
                }
            }
        }
        Ok(Self(out))
    }

    fn push(&mut self, flag: &str, value: impl Into<String>) {
        self.0.extend([flag.to_owned(), value.into()]);
    }

    /// The same for a jump host: ssh hands only the configuration file on.
    pub(super) fn for_jump(&self, user: Option<&str>, port: Option<u16>) -> Self {
        let mut args = Self::default();
        for pair in self.0.chunks_exact(2).filter(|pair| pair[0] == "-F") {
            args.push("-F", &pair[1]);
        }
        if let Some(user) = user {
            args.push("-l", user);
        }
        if let Some(port) = port {
            args.push("-p", port.to_string());
        }
        args
    }

    pub(super) fn with(mut self, user: Option<&str>, port: Option<u16>, file: Option<&Path>) -> Self {
        // First on the line, so that an `-F` or `-l` of the user's own comes later and wins or loses as in ssh.
        let mut first = Self::default();
        if let Some(file) = file {
            first.push("-F", file.display().to_string());
        }
        if let Some(user) = user {
            first.push("-l", user);
        }
        if let Some(port) = port {
            first.push("-p", port.to_string());
        }
        first.0.append(&mut self.0);
        first
    }
}

type Slot = Arc<OnceLock<Result<Settings, String>>>;

/// Resolved settings, one `ssh -G` for each distinct host and options in a run. Cheap to clone; clones share.
#[derive(Clone, Debug, Default)]
pub struct SshConfig {
    slots: Arc<Mutex<HashMap<(String, Args), Slot>>>,
}

impl SshConfig {
    pub(super) fn settings(&self, host: &str, args: &Args) -> Result<Settings, String> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry((host.to_owned(), args.clone())).or_default())
        };
        slot.get_or_init(|| resolve(host, args)).clone()
    }
}

fn resolve(host: &str, args: &Args) -> Result<Settings, String> {
    let output = Command::new("ssh").arg("-G").args(&args.0).args(["--", host]).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => parse_dump(&String::from_utf8_lossy(&output.stdout)),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("Pseudo-terminal")).collect();
            Err(format!("ssh refuses its configuration for `{host}`: {}", said.join("; ")))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => without_ssh(host, args),
        Err(error) => Err(format!("cannot run ssh: {error}")),
    }
}

fn parse_dump(text: &str) -> Result<Settings, String> {
    let mut settings = Settings::default();
    for line in text.lines() {
        if let Some((keyword, value)) = line.split_once(' ') {
            settings.take(keyword, value)?;
        }
    }
    // `userknownhostsfile` may be printed after the global one; the user's own come first all the same.
    settings.known_hosts.sort_by_key(|path| path.starts_with("/etc/"));
    Ok(settings.finish())
}

fn without_ssh(host: &str, args: &Args) -> Result<Settings, String> {
    let mut settings = Settings::default();
    let mut file = None;
    for pair in args.0.chunks_exact(2) {
        let value = pair[1].as_str();
        match pair[0].as_str() {
            "-F" => file = Some(PathBuf::from(value)),
            "-l" => settings.take("user", value)?,
            "-p" => settings.take("port", value)?,
            "-J" => settings.take("proxyjump", value)?,
            _ => {
                let (keyword, value) =
                    split_keyword(value).ok_or_else(|| format!("`-o {value}` has no value"))?;
                settings.take(keyword, value)?;
            }
        }
    }
    let files = match file {
        Some(file) => vec![file],
        None => home()
            .map(|home| home.join(".ssh/config"))
            .into_iter()
            .chain(["/etc/ssh/ssh_config".into()])
            .collect(),
    };
    for file in files {
        match std::fs::read_to_string(&file) {
            Ok(text) => read_file(&mut settings, host, &file, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
        }
    }
    if settings.identity_files.is_empty() {
        settings.identity_files =
            ["id_rsa", "id_ecdsa", "id_ed25519"].iter().map(|name| format!("~/.ssh/{name}")).collect();
    }
    if settings.known_hosts.is_empty() {
        settings.known_hosts = vec!["~/.ssh/known_hosts".into(), "/etc/ssh/ssh_known_hosts".into()];
    }
    Ok(settings.finish())
}

fn read_file(settings: &mut Settings, host: &str, file: &Path, text: &str) -> Result<(), String> {
    let mut applies = true;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = || format!("{}:{}", file.display(), index + 1);
        let (keyword, value) = split_keyword(line).ok_or_else(|| format!("{}: no value", place()))?;
        match keyword.to_ascii_lowercase().as_str() {
            "host" => {
                let patterns: Vec<&str> =
                    value.split_whitespace().map(|word| word.trim_matches('"')).collect();
                applies = match_list(&patterns.join(","), host);
            }
            "match" | "include" => {
                return Err(format!(
                    "{}: `{keyword}` can only be understood by ssh, which is not installed here",
                    place()
                ));
            }
            _ if applies => settings.take(keyword, value).map_err(|why| format!("{}: {why}", place()))?,
            _ => {}
        }
    }
    Ok(())
}

/// `Keyword value`, `Keyword=value`, `Keyword = value` (`ssh_config(5)`).
fn split_keyword(line: &str) -> Option<(&str, &str)> {
    let (keyword, rest) = line.split_once(|c: char| c == '=' || c.is_whitespace())?;
    let rest = rest.trim_start();
    let value = rest.strip_prefix('=').unwrap_or(rest).trim();
    (!value.is_empty()).then_some((keyword, value))
}

/// One hop of a `ProxyJump` list: `[user@]host[:port]` or `ssh://[user@]host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JumpName {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl JumpName {
    pub(super) fn list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(|hop| Self::one(hop.trim())).collect()
    }

    fn one(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a jump host: write `user@host:port`");
        let rest = text.strip_prefix("ssh://").unwrap_or(text).trim_end_matches('/');
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, rest),
        };
        let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
            let (host, after) = inner.split_once(']').ok_or_else(bad)?;
            (host, after.strip_prefix(':'))
        } else {
            match rest.split_once(':') {
                // Two colons and no brackets: an IPv6 address without a port.
                Some((_, after)) if after.contains(':') => (rest, None),
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            }
        };
        if host.is_empty() || user.as_deref() == Some("") {
            return Err(bad());
        }
        let port = port.map(str::parse).transpose().map_err(|_| bad())?;
        Ok(Self { user, host: host.to_owned(), port })
    }
}

/// The user's home directory.
pub(super) fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
}

/// Splits words as a POSIX shell does: quotes and backslashes, no expansion.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err(format!("a quote is not closed in `{text}`")),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                            Some(c) => word.extend(['\\', c]),
                            None => return Err(format!("a quote is not closed in `{text}`")),
                        },
                        Some(c) => word.push(c),
                        None => return Err(format!("a quote is not closed in `{text}`")),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_ssh_reads_them() {
        let args = |text| Args::parse(text).map(|args| args.0.join("|"));
        assert_eq!(
            args("-o ProxyCommand=\"ssh -W %h:%p bastion\" -oStrictHostKeyChecking=no").unwrap(),
            "-o|ProxyCommand=ssh -W %h:%p bastion|-o|StrictHostKeyChecking=no"
        );
        assert_eq!(
            args("-C -vvvJ u@b:2222,c -p2222 -i k").unwrap(),
            "-J|u@b:2222,c|-p|2222|-o|IdentityFile=k"
        );
        assert_eq!(args("-o ControlMaster=auto -S /tmp/x").unwrap(), "-o|ControlMaster=auto");
        assert_eq!(args("").unwrap(), "");
        for bad in ["host", "-o", "-L 1:2:3", "--", "-", "'x", "-N"] {
            assert!(args(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn jump_hosts_are_lists() {
        let list = JumpName::list("u@b:2222, c,ssh://d@[fe80::1]:9/,::1").unwrap();
        let words: Vec<String> = list
            .iter()
            .map(|hop| {
                format!("{}/{}/{}", hop.user.as_deref().unwrap_or("-"), hop.host, hop.port.unwrap_or(0))
            })
            .collect();
        assert_eq!(words, ["u/b/2222", "-/c/0", "d/fe80::1/9", "-/::1/0"]);
        for bad in ["", "a,", "@b", "b:x", "[::1"] {
            assert!(JumpName::list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_fallback_reads_hosts_and_refuses_match() {
        let text = "IdentityFile ~/.ssh/all\nHost db* !db9\n  HostName=10.0.0.5\n  Port = 2200\n  User \"adm\"\nHost *\n  Port 22\n";
        let read = |host: &str, text: &str| {
            let mut settings = Settings::default();
            read_file(&mut settings, host, Path::new("cfg"), text).map(|()| settings)
        };
        let db = read("db1", text).unwrap();
        assert_eq!(
            (db.hostname.as_deref(), db.port, db.user.as_deref()),
            (Some("10.0.0.5"), Some(2200), Some("adm"))
        );
        let other = read("db9", text).unwrap();
        assert_eq!((other.hostname, other.port, other.identity_files.len()), (None, Some(22), 1));
        assert!(read("x", "\nMatch host x\n").unwrap_err().starts_with("cfg:2: `Match`"));
        assert!(read("x", "Include y").is_err());
    }

    #[test]
    fn the_dump_of_ssh_is_read() {
        let dump = "host h\nuser me\nhostname 10.0.0.5\nport 2222\nidentitiesonly yes\nidentityfile ~/a\nidentityfile ~/b\n\
                    globalknownhostsfile /etc/ssh/ssh_known_hosts\nuserknownhostsfile /root/.ssh/known_hosts /root/.ssh/known_hosts2\n\
                    stricthostkeychecking ask\nproxycommand nc -X 5 %h %p\nidentityagent SSH_AUTH_SOCK\n";
        let settings = parse_dump(dump).unwrap();
        assert_eq!(settings.identity_files, ["~/a", "~/b"]);
        assert_eq!(settings.known_hosts[0], "/root/.ssh/known_hosts");
        assert_eq!(settings.proxy_command.as_deref(), Some("nc -X 5 %h %p"));
        assert!(settings.identities_only);
    }
}
