//! Who a node is on the wire: address, login, trust, the way there.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::error::{Problem, RemoteError};
use super::secret::Secret;
use super::ssh_config::{Args, JumpName, Settings, SshConfig, home};

/// What to do with a host key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKeyPolicy {
    /// Only keys that are on file.
    Strict,
    /// Keys on file; the key of a host that has none is written down. A changed key is refused.
    AcceptNew,
    /// Any key but a revoked one (`StrictHostKeyChecking=no`).
    Off,
}

/// How the script gets its rights on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Become {
    /// As the user who logged in.
    None,
    Sudo {
        /// Whom to become, `root` as a rule.
        user: String,
        /// Without one, `sudo -n`.
        password: Option<Secret>,
    },
}

/// One end of a connection that wants a login: a jump host, or the node itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Name or address to dial.
    pub host: String,
    pub port: u16,
    pub user: String,
    /// Private keys to offer, or public ones whose private half is in the agent.
    pub identity_files: Vec<PathBuf>,
    /// Somebody named the files; a missing default key is no news, a missing named one is.
    pub identities_named: bool,
    /// Offer nothing else from the agent.
    pub identities_only: bool,
    pub certificate_files: Vec<PathBuf>,
    /// Socket of the agent to ask.
    pub agent: Option<PathBuf>,
    pub password: Option<Secret>,
    /// Files to search, in order.
    pub known_hosts: Vec<PathBuf>,
    /// Where [`HostKeyPolicy::AcceptNew`] writes.
    pub learn: Option<PathBuf>,
    /// The name to look up instead of host and port.
    pub host_key_alias: Option<String>,
    pub host_key_policy: HostKeyPolicy,
}

impl Hop {
    /// `user@host:port`, IPv6 in brackets.
    pub fn place(&self) -> String {
        if self.host.contains(':') {
            format!("{}@[{}]:{}", self.user, self.host, self.port)
        } else {
            format!("{}@{}:{}", self.user, self.host, self.port)
        }
    }
}

/// A node as the wire sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The node's name in messages.
    pub name: String,
    /// The inventory's key for it, an address as a rule.
    pub address: String,
    pub host: String,
    pub port: u16,
    pub user: String,
    pub identity_files: Vec<PathBuf>,
    pub identities_named: bool,
    pub identities_only: bool,
    pub certificate_files: Vec<PathBuf>,
    pub agent: Option<PathBuf>,
    pub password: Option<Secret>,
    /// Jump hosts, the first to dial first.
    pub jump: Vec<Hop>,
    /// A command whose stdin and stdout are the connection to the first hop, tokens expanded.
    pub proxy_command: Option<String>,
    pub known_hosts: Vec<PathBuf>,
    pub learn: Option<PathBuf>,
    pub host_key_alias: Option<String>,
    pub host_key_policy: HostKeyPolicy,
    pub r#become: Become,
    /// For each of: TCP and key exchange of a hop.
    pub connect_timeout: Duration,
}

/// A login that pgctl made itself, for its sandbox nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub key: PathBuf,
    pub known_hosts: PathBuf,
}

/// What holds for all nodes of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most handshakes at once.
    pub forks: usize,
    /// For each of: TCP and key exchange of a hop.
    pub connect_timeout: Duration,
    /// Sandbox nodes by address; used when the inventory does not say otherwise.
    pub identities: HashMap<String, Identity>,
    /// pgctl's own known hosts, beside `~/.ssh/known_hosts`: searched last, written by `accept-new`.
    pub known_hosts_file: Option<PathBuf>,
    /// From `--ask-become-pass`; `ansible_become_password` of a node goes before it.
    pub become_password: Option<Secret>,
    /// From `--ask-pass`; `ansible_password` of a node goes before it.
    pub password: Option<Secret>,
    /// Another file than `~/.ssh/config` (`ssh -F`).
    pub ssh_config: Option<PathBuf>,
    /// What `ssh -G` said so far.
    pub resolved: SshConfig,
}

impl Default for Options {
    /// 50 forks, 10 s, `PGCTL_KNOWN_HOSTS` or `~/.local/state/pgctl/known_hosts`.
    fn default() -> Self {
        let known_hosts_file = std::env::var_os("PGCTL_KNOWN_HOSTS")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .or_else(|| home().map(|home| home.join(".local/state/pgctl/known_hosts")));
        Self {
            forks: 50,
            connect_timeout: Duration::from_secs(10),
            identities: HashMap::new(),
            known_hosts_file,
            become_password: None,
            password: None,
            ssh_config: None,
            resolved: SshConfig::default(),
        }
    }
}

/// One node to resolve: name, address, its `ansible_*` variables rendered to text.
pub type Request<'a> = (&'a str, &'a str, &'a BTreeMap<String, String>);

impl Target {
    /// Works out how to reach a node from its `ansible_*` variables and the user's `~/.ssh/config`.
    ///
    /// Runs `ssh -G` (8 ms, once for each distinct host and options; shared through [`Options::resolved`]), which
    /// dials nobody. Use [`Target::resolve_all`] for many nodes.
    ///
    /// # Errors
    /// [`Problem::Config`] for variables or configuration that make no sense or that pgctl does not support.
    pub fn resolve(
        name: &str,
        address: &str,
        vars: &BTreeMap<String, String>,
        options: &Options,
    ) -> Result<Self, RemoteError> {
        resolve(name, address, vars, options).map_err(|why| {
            RemoteError::new(if name.is_empty() { address } else { name }, Problem::Config { why })
        })
    }

    /// [`Target::resolve`] for many nodes at once, in their order.
    pub fn resolve_all(requests: &[Request<'_>], options: &Options) -> Vec<Result<Self, RemoteError>> {
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(requests.len()));
        std::thread::scope(|scope| {
            // Each waits for a process of ssh most of the time.
            for _ in 0..requests.len().min(8) {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some((name, address, vars)) = requests.get(index) else { break };
                        let target = Self::resolve(name, address, vars, options);
                        done.lock().unwrap_or_else(PoisonError::into_inner).push((index, target));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, target)| target).collect()
    }

    /// The node itself as the last hop.
    pub(super) fn end(&self) -> Hop {
        Hop {
            host: self.host.clone(),
            port: self.port,
            user: self.user.clone(),
            identity_files: self.identity_files.clone(),
            identities_named: self.identities_named,
            identities_only: self.identities_only,
            certificate_files: self.certificate_files.clone(),
            agent: self.agent.clone(),
            password: self.password.clone(),
            known_hosts: self.known_hosts.clone(),
            learn: self.learn.clone(),
            host_key_alias: self.host_key_alias.clone(),
            host_key_policy: self.host_key_policy,
        }
    }

    /// `user@host:port`.
    pub fn place(&self) -> String {
        self.end().place()
    }
}

/// The variables of one node, by Ansible's names and their older spellings.
struct Vars<'a>(&'a BTreeMap<String, String>);

impl Vars<'_> {
    fn get(&self, names: &[&str]) -> Option<&str> {
        names
            .iter()
            .find_map(|name| self.0.get(*name))
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// Not trimmed: a password may begin with a space.
    fn secret(&self, names: &[&str]) -> Option<Secret> {
        names.iter().find_map(|name| self.0.get(*name)).filter(|value| !value.is_empty()).map(Secret::new)
    }

    fn number<T: std::str::FromStr>(&self, names: &[&str]) -> Result<Option<T>, String> {
        self.get(names)
            .map(|value| {
                value.parse().map_err(|_| format!("`{}: {value}` is not a number in range", names[0]))
            })
            .transpose()
    }

    /// YAML's and Ansible's words for yes and no.
    fn boolean(&self, names: &[&str]) -> Result<Option<bool>, String> {
        let Some(value) = self.get(names) else { return Ok(None) };
        match value.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" | "y" | "t" => Ok(Some(true)),
            "false" | "no" | "off" | "0" | "n" | "f" => Ok(Some(false)),
            _ => Err(format!("`{}: {value}` is neither true nor false", names[0])),
        }
    }
}

const KEY_FILE: &[&str] = &["ansible_ssh_private_key_file", "ansible_private_key_file"];
const ARGS: [&str; 3] = ["ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args"];

fn resolve(
    name: &str,
    address: &str,
    vars: &BTreeMap<String, String>,
    options: &Options,
) -> Result<Target, String> {
    let vars = Vars(vars);
    match vars.get(&["ansible_connection"]) {
        None | Some("ssh" | "smart" | "paramiko" | "paramiko_ssh") => {}
        Some(other) => {
            return Err(format!(
                "`ansible_connection: {other}` is not supported: nodes are reached over SSH"
            ));
        }
    }
    let host = vars.get(&["ansible_host", "ansible_ssh_host"]).unwrap_or(address);
    check_host(host)?;
    let user = vars.get(&["ansible_user", "ansible_ssh_user"]);
    user.map_or(Ok(()), check_user)?;
    let port = vars.number::<u16>(&["ansible_port", "ansible_ssh_port"])?;
    if port == Some(0) {
        return Err("`ansible_port: 0` is not a port".into());
    }
    let key_file = vars.get(KEY_FILE);
    let connect_timeout = vars
        .number::<u64>(&["ansible_ssh_timeout", "ansible_timeout"])?
        .map_or(options.connect_timeout, |seconds| Duration::from_secs(seconds.max(1)));
    let password = vars
        .secret(&["ansible_password", "ansible_ssh_password", "ansible_ssh_pass"])
        .or(options.password.clone());

    let mine = options.identities.get(host).or_else(|| options.identities.get(address));
    let says_otherwise = key_file.is_some() || ARGS.iter().any(|name| vars.get(&[name]).is_some());
    let (mut hop, jump, proxy_command) = match mine.filter(|_| !says_otherwise) {
        Some(identity) => (sandbox_hop(host, user, port, identity), Vec::new(), None),
        None => configured_hop(host, user, port, &vars, options)?,
    };
    if let Some(file) = key_file {
        hop.identity_files = vec![expand(file, &hop)];
        hop.identities_named = true;
    }
    if vars.boolean(&["ansible_host_key_checking", "ansible_ssh_host_key_checking"])? == Some(false) {
        hop.host_key_policy = HostKeyPolicy::Off;
    }
    check_user(&hop.user)?;
    Ok(Target {
        name: if name.is_empty() { address.to_owned() } else { name.to_owned() },
        address: address.to_owned(),
        r#become: elevation(&vars, &hop.user, options)?,
        host: hop.host,
        port: hop.port,
        user: hop.user,
        identity_files: hop.identity_files,
        identities_named: hop.identities_named,
        identities_only: hop.identities_only,
        certificate_files: hop.certificate_files,
        agent: hop.agent,
        password,
        jump,
        proxy_command,
        known_hosts: hop.known_hosts,
        learn: hop.learn,
        host_key_alias: hop.host_key_alias,
        host_key_policy: hop.host_key_policy,
        connect_timeout,
    })
}

fn sandbox_hop(host: &str, user: Option<&str>, port: Option<u16>, identity: &Identity) -> Hop {
    Hop {
        host: host.to_owned(),
        port: port.unwrap_or(22),
        user: user.unwrap_or(&identity.user).to_owned(),
        identity_files: vec![identity.key.clone()],
        identities_named: true,
        identities_only: true,
        certificate_files: Vec::new(),
        agent: None,
        password: None,
        known_hosts: vec![identity.known_hosts.clone()],
        learn: None,
        host_key_alias: None,
        host_key_policy: HostKeyPolicy::Strict,
    }
}

fn configured_hop(
    host: &str,
    user: Option<&str>,
    port: Option<u16>,
    vars: &Vars<'_>,
    options: &Options,
) -> Result<(Hop, Vec<Hop>, Option<String>), String> {
    let mut args = Args::default();
    for name in ARGS {
        if let Some(text) = vars.get(&[name]) {
            args.0.append(&mut Args::parse(text).map_err(|why| format!("`{name}`: {why}"))?.0);
        }
    }
    let args = args.with(user, port, options.ssh_config.as_deref());
    let settings = options.resolved.settings(host, &args)?;
    let hop = hop(host, &settings, options)?;
    let (jump, proxy) = jump_hops(&settings, &args, options, 0)?;
    // The command reaches the first hop that is dialled.
    let command = proxy.map(|command| expand_command(&command, jump.first().unwrap_or(&hop), host));
    Ok((hop, jump, command.transpose()?))
}

/// The jump hosts of a host, and the proxy command of the first of them (or of the host, when it has no jump).
/// The first jump host may have jump hosts of its own.
fn jump_hops(
    settings: &Settings,
    args: &Args,
    options: &Options,
    depth: usize,
) -> Result<(Vec<Hop>, Option<String>), String> {
    let Some(list) = &settings.proxy_jump else { return Ok((Vec::new(), settings.proxy_command.clone())) };
    if depth == 8 {
        return Err(format!("`ProxyJump {list}` goes in circles"));
    }
    let mut hops = Vec::new();
    let mut proxy = None;
    for (index, name) in JumpName::list(list)?.into_iter().enumerate() {
        check_host(&name.host)?;
        let args = args.for_jump(name.user.as_deref(), name.port);
        let settings = options.resolved.settings(&name.host, &args)?;
        if index == 0 {
            let (before, command) = jump_hops(&settings, &args, options, depth + 1)?;
            hops = before;
            proxy = command;
        }
        let hop = hop(&name.host, &settings, options)?;
        check_user(&hop.user)?;
        hops.push(hop);
    }
    Ok((hops, proxy))
}

fn hop(host: &str, settings: &Settings, options: &Options) -> Result<Hop, String> {
    let dialled = settings.hostname.as_deref().unwrap_or(host);
    check_host(dialled)?;
    let mut hop = Hop {
        host: dialled.to_owned(),
        port: settings.port.unwrap_or(22),
        user: settings
            .user
            .clone()
            .or_else(current_user)
            .ok_or("cannot tell who you are: set `ansible_user`")?,
        identity_files: Vec::new(),
        identities_named: settings.identity_files.iter().any(|file| !is_default_identity(file)),
        identities_only: settings.identities_only,
        certificate_files: Vec::new(),
        agent: None,
        password: None,
        known_hosts: Vec::new(),
        learn: options.known_hosts_file.clone(),
        host_key_alias: settings.host_key_alias.clone(),
        host_key_policy: policy(settings.strict.as_deref())?,
    };
    hop.identity_files = settings.identity_files.iter().map(|file| expand(file, &hop)).collect();
    hop.certificate_files = settings.certificate_files.iter().map(|file| expand(file, &hop)).collect();
    hop.agent = agent_socket(settings.identity_agent.as_deref(), &hop);
    hop.known_hosts = settings.known_hosts.iter().map(|file| expand(file, &hop)).collect();
    if settings.known_hosts.iter().any(|file| file == "/dev/null") {
        // Somebody asked for no memory; pgctl's own would be one.
        hop.learn = None;
    } else {
        hop.known_hosts.extend(hop.learn.clone());
    }
    Ok(hop)
}

fn policy(strict: Option<&str>) -> Result<HostKeyPolicy, String> {
    match strict {
        Some("yes" | "true") => Ok(HostKeyPolicy::Strict),
        Some("no" | "off" | "false") => Ok(HostKeyPolicy::Off),
        // Nobody is there to be asked; a key that changes later is refused either way.
        None | Some("ask" | "accept-new") => Ok(HostKeyPolicy::AcceptNew),
        Some(other) => Err(format!("`StrictHostKeyChecking {other}` is not yes, no or accept-new")),
    }
}

fn elevation(vars: &Vars<'_>, login: &str, options: &Options) -> Result<Become, String> {
    let user = vars.get(&["ansible_become_user"]).unwrap_or("root");
    check_user(user)?;
    let wanted = vars.boolean(&["ansible_become"])?.unwrap_or(login != "root");
    if !wanted || login == user {
        return Ok(Become::None);
    }
    match vars.get(&["ansible_become_method"]) {
        None | Some("sudo" | "ansible.builtin.sudo") => {}
        Some(other) => return Err(format!("`ansible_become_method: {other}` is not supported: use sudo")),
    }
    match vars.get(&["ansible_become_exe"]) {
        None | Some("sudo" | "/usr/bin/sudo") => {}
        Some(other) => return Err(format!("`ansible_become_exe: {other}` is not supported: it is `sudo`")),
    }
    Ok(Become::Sudo {
        user: user.to_owned(),
        password: vars
            .secret(&["ansible_become_password", "ansible_become_pass"])
            .or_else(|| options.become_password.clone()),
    })
}

fn agent_socket(setting: Option<&str>, hop: &Hop) -> Option<PathBuf> {
    let from_env = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    match setting {
        Some(none) if none.eq_ignore_ascii_case("none") => None,
        None | Some("SSH_AUTH_SOCK") => from_env("SSH_AUTH_SOCK"),
        Some(path) => match path.strip_prefix('$') {
            Some(name) => from_env(name.trim_matches(['{', '}'])),
            None => Some(expand(path, hop)),
        },
    }
}

fn is_default_identity(file: &str) -> bool {
    let names = ["rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss", "dsa"];
    file.strip_prefix("~/.ssh/id_").is_some_and(|name| names.contains(&name))
}

/// `~` and the tokens of `ssh_config(5)` that make sense in a path.
fn expand(path: &str, hop: &Hop) -> PathBuf {
    let home = home().unwrap_or_default();
    let path = match path.strip_prefix("~/") {
        Some(rest) => format!("{}/{rest}", home.display()),
        None => path.to_owned(),
    };
    if !path.contains('%') {
        return PathBuf::from(path);
    }
    PathBuf::from(tokens(&path, |token| match token {
        'd' => Some(home.display().to_string()),
        'h' => Some(hop.host.clone()),
        'p' => Some(hop.port.to_string()),
        'r' => Some(hop.user.clone()),
        'u' => current_user(),
        _ => None,
    }))
}

/// The command line of `ProxyCommand`. What goes into it is a checked host, port and user, so no quoting is due.
fn expand_command(command: &str, hop: &Hop, name: &str) -> Result<String, String> {
    check_user(&hop.user)?;
    Ok(tokens(command, |token| match token {
        'h' => Some(hop.host.clone()),
        'n' => Some(name.to_owned()),
        'p' => Some(hop.port.to_string()),
        'r' => Some(hop.user.clone()),
        'u' => current_user(),
        'd' => home().map(|home| home.display().to_string()),
        _ => None,
    }))
}

/// Replaces `%x` by what `value` knows; `%%` is `%`, unknown tokens stay.
fn tokens(text: &str, value: impl Fn(char) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('%') | None => out.push('%'),
            Some(token) => match value(token) {
                Some(value) => out.push_str(&value),
                None => out.extend(['%', token]),
            },
        }
    }
    out
}

/// The name goes to `ssh -G`, into `known_hosts` files and into proxy commands: letters, digits, `.`, `-`, `_`, `:` and
/// `%` (IPv6 zones), and no `-` first.
fn check_host(host: &str) -> Result<(), String> {
    let good = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || host.starts_with('-') || !host.chars().all(good) {
        return Err(format!("`{host}` is not a host name or address"));
    }
    Ok(())
}

/// Names as useradd and directory services make them: `@` for domains, `$` at the end for machine accounts.
fn check_user(user: &str) -> Result<(), String> {
    let good = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | '+');
    let body = user.strip_suffix('$').unwrap_or(user);
    if body.is_empty() || user.starts_with('-') || !body.chars().all(good) {
        return Err(format!("`{user}` is not a user name"));
    }
    Ok(())
}

/// The local user: by id in `/etc/passwd`, else from the environment (directory services, where ssh is installed
/// and has said so already).
fn current_user() -> Option<String> {
    let id = rustix::process::getuid().as_raw().to_string();
    let passwd = std::fs::read_to_string(Path::new("/etc/passwd")).unwrap_or_default();
    passwd
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == id).then(|| name.to_owned())
        })
        .or_else(|| std::env::var("USER").ok().filter(|user| !user.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            ssh_config: Some("/dev/null".into()),
            known_hosts_file: Some("/state/known_hosts".into()),
            ..Options::default()
        }
    }

    fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (format!("ansible_{name}"), (*value).to_owned())).collect()
    }

    fn target(pairs: &[(&str, &str)]) -> Result<Target, String> {
        Target::resolve("pg-1", "10.0.0.1", &vars(pairs), &options())
            .map_err(|error| error.problem.to_string())
    }

    #[test]
    fn variables_say_where_and_who() {
        let t = target(&[("host", "db1"), ("port", "2222"), ("user", "adm"), ("ssh_private_key_file", "/k")])
            .unwrap();
        assert_eq!(
            (t.name.as_str(), t.address.as_str(), t.place().as_str()),
            ("pg-1", "10.0.0.1", "adm@db1:2222")
        );
        assert_eq!(t.identity_files, [PathBuf::from("/k")]);
        assert_eq!(t.r#become, Become::Sudo { user: "root".into(), password: None });
        assert_eq!(t.host_key_policy, HostKeyPolicy::AcceptNew);
        assert_eq!(t.known_hosts.last().unwrap(), Path::new("/state/known_hosts"));
        assert!(t.identities_named);
    }

    #[test]
    fn become_follows_the_login() {
        let how = |pairs: &[(&str, &str)]| target(pairs).map(|t| t.r#become);
        assert_eq!(how(&[("user", "root")]).unwrap(), Become::None);
        assert_eq!(how(&[("user", "adm"), ("become", "no")]).unwrap(), Become::None);
        assert_eq!(how(&[("user", "root"), ("become", "true")]).unwrap(), Become::None);
        let Become::Sudo { user, password: Some(password) } = how(&[
            ("user", "root"),
            ("become", "yes"),
            ("become_user", "postgres"),
            ("become_password", " x"),
        ])
        .unwrap() else {
            panic!("sudo with a password")
        };
        assert_eq!((user.as_str(), password.expose()), ("postgres", " x"));
        assert!(how(&[("user", "adm"), ("become_method", "su")]).unwrap_err().contains("become_method: su"));
        assert!(how(&[("become", "perhaps")]).is_err());
    }

    #[test]
    fn ssh_arguments_are_honoured() {
        let t = target(&[
            ("user", "u"),
            (
                "ssh_common_args",
                "-J j@bastion:2200,inner -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
            ),
            ("ssh_extra_args", "-o HostKeyAlias=alias -i /key/%r"),
        ])
        .unwrap();
        let jumps: Vec<String> = t.jump.iter().map(Hop::place).collect();
        assert_eq!(jumps[0], "j@bastion:2200");
        assert!(jumps[1].ends_with("@inner:22"), "{jumps:?}");
        assert_eq!(t.host_key_policy, HostKeyPolicy::Off);
        assert_eq!(t.jump[0].host_key_policy, HostKeyPolicy::AcceptNew);
        assert_eq!((t.learn, t.host_key_alias.as_deref()), (None, Some("alias")));
        assert_eq!(t.identity_files, [PathBuf::from("/key/u")]);

        let t =
            target(&[("user", "u"), ("ssh_common_args", "-o ProxyCommand='nc -x 1%% %h %p %r'")]).unwrap();
        assert_eq!(t.proxy_command.as_deref(), Some("nc -x 1% 10.0.0.1 22 u"));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (pairs, word) in [
            (&[("host", "-oProxyCommand=x")][..], "-oProxyCommand=x"),
            (&[("host", "a b")], "a b"),
            (&[("port", "0")], "ansible_port"),
            (&[("port", "70000")], "ansible_port"),
            (&[("user", "a;b")], "a;b"),
            (&[("connection", "local")], "ansible_connection: local"),
            (&[("ssh_common_args", "-L 1:2:3")], "ansible_ssh_common_args"),
            (&[("ssh_common_args", "-o Nonsense=1")], "nonsense"),
        ] {
            let error = target(pairs).unwrap_err();
            assert!(error.to_lowercase().contains(&word.to_lowercase()), "{error}");
        }
    }

    #[test]
    fn a_config_file_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        std::fs::write(
            &file,
            "Host 10.0.0.*\n HostName %h.example\n Port 2200\n User cfg\n ProxyJump b\nHost b\n HostName 192.0.2.9\n \
             ProxyJump a\nMatch host *.example\n IdentityFile ~/.ssh/matched\n",
        )
        .unwrap();
        let options = Options { ssh_config: Some(file), ..options() };
        let t = Target::resolve("n", "10.0.0.1", &vars(&[]), &options).unwrap();
        assert_eq!(t.place(), "cfg@10.0.0.1.example:2200");
        assert!(t.identity_files[0].ends_with(".ssh/matched"), "{:?}", t.identity_files);
        assert_eq!(t.jump.iter().map(|hop| hop.host.as_str()).collect::<Vec<_>>(), ["a", "192.0.2.9"]);
    }

    #[test]
    fn a_sandbox_node_needs_no_configuration() {
        let mut options = options();
        let identity = Identity { user: "root".into(), key: "/sb/key".into(), known_hosts: "/sb/kh".into() };
        options.identities.insert("10.0.0.1".into(), identity);
        let t = Target::resolve("n", "10.0.0.1", &vars(&[]), &options).unwrap();
        assert_eq!(
            (t.place().as_str(), &t.known_hosts[..]),
            ("root@10.0.0.1:22", &[PathBuf::from("/sb/kh")][..])
        );
        assert_eq!((t.agent, t.r#become), (None, Become::None));
        let t = Target::resolve("n", "10.0.0.1", &vars(&[("private_key_file", "/mine")]), &options).unwrap();
        assert_eq!(t.identity_files, [PathBuf::from("/mine")]);
        assert_ne!(t.known_hosts[0], PathBuf::from("/sb/kh"));
    }

    #[test]
    fn many_are_resolved_in_order() {
        let none = BTreeMap::new();
        let names: Vec<String> = (0..20).map(|n| format!("10.0.0.{n}")).collect();
        let requests: Vec<Request<'_>> =
            names.iter().map(|name| (name.as_str(), name.as_str(), &none)).collect();
        let hosts: Vec<String> =
            Target::resolve_all(&requests, &options()).into_iter().map(|t| t.unwrap().host).collect();
        assert_eq!(hosts, names);
    }
}
