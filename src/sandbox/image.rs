//! A Debian root file system, made once with mmdebstrap and shared read-only by all nodes.
//!
//! The name carries a fingerprint of the recipe, so a changed recipe makes a new image and a
//! running sandbox keeps the one that it was made from. It is built in a directory of its own and
//! renamed when complete: what has the right name is whole.
//!
//! The package lists and the archives of the database stack stay in the image. A node installs
//! them without the network, and the first deploy takes no download.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::error::{At as _, Error, Result};
use super::host;

/// What a build takes at its peak, measured: 0.7 GiB.
const ROOM_MIB: u64 = 1500;

/// In every image. No Python: a managed node needs none.
const BASE: &[&str] = &[
    "ca-certificates",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "nftables",
    "openssh-server",
    "procps",
    "sudo",
    "systemd",
    "systemd-sysv",
];

/// Downloaded into every image, not installed.
const STACK: &[&str] = &[
    "chrony",
    "cron",
    "curl",
    "etcd-client",
    "etcd-server",
    "haproxy",
    "patroni",
    "pgbackrest",
    "pgbouncer",
    "python3-etcd",
];

/// Slow at boot, or work that a lab node should not do by itself.
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "systemd-networkd-wait-online.service",
    "systemd-resolved.service",
];

/// `Check-*`: clocks of labs and mirrors that are snapshots disagree. The rest keeps what is in
/// the archive directory, and leaves out what nobody reads in a lab.
const APT: &str = r#"Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Install-Recommends "false";
APT::Keep-Downloaded-Packages "true";
"#;

const DPKG: &str = "\
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
";

struct Release {
    name: &'static str,
    suite: &'static str,
    /// The `PostgreSQL` that the release carries.
    postgres: u8,
}

const RELEASES: &[Release] = &[
    Release { name: "debian-12", suite: "bookworm", postgres: 15 },
    Release { name: "debian-13", suite: "trixie", postgres: 17 },
];

/// Names that `--image` takes.
pub const IMAGES: [&str; 2] = ["debian-12", "debian-13"];

/// `PGCTL_IMAGE_DIR`, else `/var/cache/pgctl/images`.
pub(super) fn directory() -> PathBuf {
    std::env::var_os("PGCTL_IMAGE_DIR").map_or_else(|| "/var/cache/pgctl/images".into(), PathBuf::from)
}

/// An image that is complete and can be a lower directory.
pub(super) struct Image {
    /// `debian-12-1a2b3c4d`
    pub(super) id: String,
}

impl Image {
    /// The root of an image by its id.
    pub(super) fn root(id: &str) -> PathBuf {
        directory().join(id)
    }

    /// The image `name`, built if this recipe was not built yet. `progress` hears of a build before it starts.
    /// `in_use`: ids that sandboxes still stand on; older builds of the same name that are not are removed.
    pub(super) fn ensure(
        name: &str,
        in_use: impl FnOnce() -> Result<Vec<String>>,
        progress: &dyn Fn(&str),
    ) -> Result<Self> {
        let release = release(name)?;
        let recipe = Recipe::new(release);
        let id = recipe.id();
        if Self::root(&id).is_dir() {
            return Ok(Self { id });
        }
        host::need("mmdebstrap", "mmdebstrap")?;
        let dir = directory();
        fs::create_dir_all(&dir).at("create", &dir)?;
        let file = lock(&dir, progress)?;
        if Self::root(&id).is_dir() {
            return Ok(Self { id }); // someone else built it while we waited
        }
        clear_leftovers(&dir)?;
        host::room(&dir, ROOM_MIB, "PGCTL_IMAGE_DIR")?;
        let start = Instant::now();
        progress(&format!("building image {id} from {}", recipe.mirror));
        let work = dir.join(format!("build-{}", std::process::id()));
        let built = recipe.build(&work, &file).and_then(|()| {
            let root = Self::root(&id);
            fs::rename(&work, &root).at("rename", &work)
        });
        if let Err(error) = built {
            host::remove_dir(&work)?;
            return Err(error);
        }
        remove_old(&dir, release.name, &id, &in_use()?)?;
        progress(&format!("built image {id} in {:.1} s", start.elapsed().as_secs_f64()));
        Ok(Self { id })
    }
}

/// Fails for a name that is in no release's.
pub(super) fn known(name: &str) -> Result<()> {
    release(name).map(drop)
}

fn release(name: &str) -> Result<&'static Release> {
    let unknown = || Error::UnknownImage { name: name.to_owned(), known: IMAGES.join(", ") };
    RELEASES.iter().find(|r| r.name == name).ok_or_else(unknown)
}

/// Held by who builds or removes images. A build may take half a minute: waiting for one is said.
fn lock(dir: &Path, progress: &dyn Fn(&str)) -> Result<File> {
    let path = dir.join("lock");
    let file = File::create(&path).at("create", &path)?;
    if file.try_lock().is_err() {
        progress("waiting for another build of an image to end");
        file.lock().at("lock", &path)?;
    }
    Ok(file)
}

/// Under the lock nobody builds: every build directory is of a build that died.
fn clear_leftovers(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).at("read", dir)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("build-") {
            host::remove_dir(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes every image that no sandbox stands on; the ids of those.
pub(super) fn remove_unused(in_use: &[String]) -> Result<Vec<String>> {
    let dir = directory();
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let _lock = lock(&dir, &|_| ())?;
    clear_leftovers(&dir)?;
    let mut removed = Vec::new();
    for entry in fs::read_dir(&dir).at("read", &dir)?.flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        let image =
            RELEASES.iter().any(|r| id.strip_prefix(r.name).is_some_and(|rest| rest.starts_with('-')));
        if image && !in_use.contains(&id) && !mounted(&entry.path())? {
            host::remove_dir(&entry.path())?;
            removed.push(id);
        }
    }
    removed.sort();
    Ok(removed)
}

/// Does a node stand on it, of a sandbox with another state directory perhaps?
fn mounted(root: &Path) -> Result<bool> {
    let file = Path::new("/proc/self/mountinfo");
    let mounts = fs::read_to_string(file).at("read", file)?;
    let lower = format!("lowerdir={},", root.display());
    Ok(mounts.lines().any(|line| line.contains(&lower)))
}

fn remove_old(dir: &Path, name: &str, id: &str, in_use: &[String]) -> Result<()> {
    for entry in fs::read_dir(dir).at("read", dir)?.flatten() {
        let found = entry.file_name().to_string_lossy().into_owned();
        let same = found.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
        if same && found != id && !in_use.contains(&found) && !mounted(&entry.path())? {
            host::remove_dir(&entry.path())?;
        }
    }
    Ok(())
}

/// Everything that goes into an image: what is hashed is what is run.
struct Recipe {
    name: &'static str,
    suite: &'static str,
    mirror: String,
    sources: Vec<String>,
    stack: String,
}

impl Recipe {
    fn new(release: &Release) -> Self {
        let (mirror, security) = mirror();
        let (suite, pg) = (release.suite, release.postgres);
        let sources = vec![
            format!("deb {mirror} {suite} main"),
            format!("deb {mirror} {suite}-updates main"),
            format!("deb {security} {suite}-security main"),
        ];
        let stack = format!("{} postgresql-{pg} postgresql-client-{pg}", STACK.join(" "));
        Self { name: release.name, suite, mirror, sources, stack }
    }

    /// The release and 8 digits of the recipe's SHA-256.
    fn id(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.sources.join("\n"), &self.stack, &BASE.join(" "), APT, DPKG, self.setup().as_str()]
        {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let hex = hash.finalize().iter().take(4).fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        format!("{}-{hex}", self.name)
    }

    /// Runs in the chroot at the end: units, what must differ per node, archives of the stack.
    fn setup(&self) -> String {
        let masks: String = MASKED.iter().fold(String::new(), |mut lines, unit| {
            let _ = writeln!(lines, "ln -sf /dev/null /etc/systemd/system/{unit}");
            lines
        });
        // No policy-rc.d and no docker-clean: packages behave as on a real machine.
        format!(
            "set -eu
{masks}mkdir -p /etc/systemd/system/multi-user.target.wants
ln -sf /lib/systemd/system/systemd-networkd.service /etc/systemd/system/multi-user.target.wants/
ln -sf /lib/systemd/system/multi-user.target /etc/systemd/system/default.target
apt-get clean
apt-get install --yes --download-only {stack}
apt-cache gencaches
rm -f /etc/ssh/ssh_host_* /etc/machine-id /var/lib/dbus/machine-id /etc/hostname /etc/resolv.conf
",
            stack = self.stack
        )
    }

    fn build(&self, root: &Path, lock: &File) -> Result<()> {
        // By the environment: mmdebstrap repeats a failed hook, and would bury the reason.
        let mut command = host::command("mmdebstrap");
        command.args(["--mode=root", "--variant=minbase", "--quiet"]);
        command.arg("--skip=cleanup/apt,cleanup/reproducible");
        command.args(APT.lines().map(|line| format!("--aptopt={}", line.trim_end_matches(';'))));
        command.args(proxy().map(|proxy| format!("--aptopt=Acquire::http::Proxy \"{proxy}\"")));
        command.args(DPKG.lines().map(|line| format!("--dpkgopt={line}")));
        command.arg(format!("--include={}", BASE.join(",")));
        command.env("PGCTL_SETUP", self.setup());
        command.arg("--customize-hook=chroot \"$1\" sh -c \"$PGCTL_SETUP\"");
        command.arg(self.suite).arg(root).args(&self.sources);
        // The build holds the lock too: killing only this process must not let another one
        // remove the directory under a mmdebstrap that still writes.
        command.stdin(lock.try_clone().at("share the lock of", root)?);
        host::run_command(&mut command).map(drop)
    }
}

/// Where packages come from: the release and its security updates.
/// `PGCTL_MIRROR`, else what this machine's own apt uses for Debian, else Debian's.
fn mirror() -> (String, String) {
    if let Some(mirror) = std::env::var("PGCTL_MIRROR").ok().filter(|m| !m.trim().is_empty()) {
        let mirror = mirror.trim().trim_end_matches('/');
        return (mirror.to_owned(), format!("{mirror}-security"));
    }
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|e| e.path());
    let mut parts: Vec<PathBuf> = parts.collect();
    parts.sort();
    files.extend(parts);
    let uris: Vec<String> =
        files.iter().filter_map(|file| fs::read_to_string(file).ok()).flat_map(|t| mirrors(&t)).collect();
    let find = |end: &str| uris.iter().find(|uri| uri.ends_with(end)).cloned();
    let mirror = find("/debian").unwrap_or_else(|| "http://deb.debian.org/debian".to_owned());
    // Debian's mirrors carry security updates beside the release.
    let security = find("/debian-security").unwrap_or_else(|| format!("{mirror}-security"));
    (mirror, security)
}

/// URIs of component `main` in one-line (`deb [options] URI suite …`) and deb822 (`URIs: …`) sources.
fn mirrors(sources: &str) -> Vec<String> {
    let mut uris = Vec::new();
    for stanza in sources.split("\n\n") {
        let deb822 = stanza.lines().any(|line| line.to_ascii_lowercase().starts_with("uris:"));
        let blocks: Vec<&str> = if deb822 { vec![stanza] } else { stanza.lines().collect() };
        for block in blocks {
            let lines = block.lines().filter(|line| !line.trim_start().starts_with('#'));
            let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
            if words.contains(&"main") {
                let web = words.iter().filter(|w| w.starts_with("http://") || w.starts_with("https://"));
                uris.extend(web.map(|uri| uri.trim_end_matches('/').to_owned()));
            }
        }
    }
    uris
}

/// A proxy that this machine's apt goes through.
fn proxy() -> Option<String> {
    let line = host::run("apt-config", &["dump", "--format=%v%n", "Acquire::http::Proxy"]).ok()?;
    line.lines().next().map(str::trim).filter(|proxy| !proxy.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_of_both_source_formats() {
        let list = "\
# deb http://old.example/debian buster main
deb [arch=amd64 signed-by=/k.gpg] https://mirror.example/debian/ bookworm main
deb http://security.debian.org/debian-security bookworm-security main
deb https://download.docker.com/linux/debian bookworm stable
";
        assert_eq!(
            mirrors(list),
            ["https://mirror.example/debian", "http://security.debian.org/debian-security"]
        );
        let deb822 = "Types: deb\n# URIs: http://old/debian\nURIs: http://deb.debian.org/debian\nSuites: bookworm\n\
            Components: main\n\nURIs: https://download.docker.com/linux/debian\nComponents: stable\n";
        assert_eq!(mirrors(deb822), ["http://deb.debian.org/debian"]);
        assert!(mirrors("deb https://deb.nodesource.com/node_20.x nodistro other\n").is_empty());
    }

    #[test]
    fn a_changed_recipe_is_another_image() {
        let recipe = Recipe::new(&RELEASES[0]);
        let mut other = Recipe::new(&RELEASES[0]);
        assert_eq!(recipe.id(), other.id());
        other.stack.push_str(" vim");
        assert_ne!(recipe.id(), other.id());
        assert!(recipe.id().starts_with("debian-12-") && recipe.id().len() == "debian-12-".len() + 8);
    }

    #[test]
    fn the_names_are_the_releases() {
        assert!(RELEASES.iter().map(|r| r.name).eq(IMAGES));
    }

    #[test]
    fn old_builds_go_unless_a_sandbox_stands_on_them() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["debian-12-new", "debian-12-old", "debian-12-used", "debian-13-x", "build-7"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        remove_old(dir.path(), "debian-12", "debian-12-new", &["debian-12-used".to_owned()]).unwrap();
        clear_leftovers(dir.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["debian-12-new", "debian-12-used", "debian-13-x"]);
    }
}
