//! Facts: what a node is. The script runs on the node; reading its output is pure.

use serde::Serialize;

/// What one node is, as its own tools say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// `ID` of `/etc/os-release`: `debian`, `ubuntu`, `rocky` …
    pub os_id: String,
    /// `VERSION_ID`: `12`, `24.04` …
    pub os_version: String,
    pub os_codename: String,
    pub os_name: String,
    /// `uname -m`.
    pub arch: String,
    pub hostname: String,
    pub cpu: u32,
    pub memory_mb: u64,
    /// Size and free space of the file system that holds the data directory, bytes.
    pub disk_bytes: u64,
    pub disk_free_bytes: u64,
    /// Free space of the root file system, bytes.
    pub root_free_bytes: u64,
    /// Hard limit of open files that a process really gets.
    pub nofile: u64,
    /// Seconds since the epoch on the node, when its script ran.
    pub clock_seconds: i64,
    /// Whether an etcd member lives here: its log is there.
    pub etcd_data: bool,
    pub uid: u32,
    pub systemd: bool,
    /// `apt` or `dnf`; empty when neither is there.
    pub package_manager: String,
    /// Tools that pgctl needs and the node lacks.
    pub missing_tools: Vec<String>,
}

impl Facts {
    /// Facts for rendering without a node (`--offline`, golden plans): a small Debian 12 machine.
    pub fn assumed(hostname: &str, os_version: &str) -> Self {
        Self {
            os_id: "debian".into(),
            os_version: os_version.into(),
            os_codename: if os_version == "13" { "trixie" } else { "bookworm" }.into(),
            os_name: format!("Debian GNU/Linux {os_version} (assumed)"),
            arch: "x86_64".into(),
            hostname: hostname.into(),
            cpu: 2,
            memory_mb: 4096,
            disk_bytes: 40 << 30,
            disk_free_bytes: 30 << 30,
            root_free_bytes: 30 << 30,
            nofile: 20_000,
            clock_seconds: 0,
            etcd_data: false,
            uid: 0,
            systemd: true,
            package_manager: "apt".into(),
            missing_tools: Vec::new(),
        }
    }

    /// Reads the facts script's `key=value` lines. The error names the key that is missing or odd.
    pub fn parse(output: &str) -> Result<Self, FactsError> {
        let get = |key: &str| {
            output
                .lines()
                .find_map(|l| l.strip_prefix(key).and_then(|l| l.strip_prefix('=')))
                .map(str::trim)
                .ok_or_else(|| FactsError::Missing(key.to_owned()))
        };
        let word = |key: &str| get(key).map(|v| v.trim_matches('"').to_owned());
        let odd = |key: &str, value: &str| FactsError::Odd(key.to_owned(), value.to_owned());
        let number = |key: &str| {
            let value = get(key)?;
            value.parse::<u64>().map_err(|_| odd(key, value))
        };
        let small = |key: &str| {
            let value = get(key)?;
            value.parse::<u32>().map_err(|_| odd(key, value))
        };
        Ok(Self {
            os_id: word("os_id")?,
            os_version: word("os_version")?,
            os_codename: word("os_codename")?,
            os_name: word("os_name")?,
            arch: word("arch")?,
            hostname: word("hostname")?,
            cpu: small("cpu")?.max(1),
            memory_mb: number("memory_kb")?.div_ceil(1024),
            disk_bytes: number("disk_kb")? * 1024,
            disk_free_bytes: number("disk_free_kb")? * 1024,
            root_free_bytes: number("root_free_kb")? * 1024,
            nofile: match get("nofile")? {
                "unlimited" => 1 << 20,
                value => value.parse().map_err(|_| odd("nofile", value))?,
            },
            clock_seconds: get("clock")?.parse().map_err(|_| odd("clock", "not a number"))?,
            etcd_data: get("etcd_data")? == "yes",
            uid: small("uid")?,
            systemd: get("systemd")? == "yes",
            package_manager: word("package_manager")?,
            missing_tools: get("missing")?.split_whitespace().map(str::to_owned).collect(),
        })
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FactsError {
    #[error("the facts script did not say `{0}`")]
    Missing(String),
    #[error("the facts script said `{0}={1}`, which cannot be read")]
    Odd(String, String),
}

/// The facts script: the body of one record. `data` and `etcd` are the data directories of Postgres and etcd
/// (already shell-quoted); the disk is that of the nearest existing parent of `data`.
pub fn script(data: &str, etcd: &str) -> String {
    format!("D={data}; E={etcd}\n{SCRIPT}")
}

const SCRIPT: &str = r#"ID=; VERSION_ID=; VERSION_CODENAME=; PRETTY_NAME=
[ -r /etc/os-release ] && . /etc/os-release
printf 'os_id=%s\nos_version=%s\nos_codename=%s\nos_name=%s\n' "$ID" "$VERSION_ID" "$VERSION_CODENAME" "$PRETTY_NAME"
while [ ! -e "$D" ]; do D=${D%/*}; [ -n "$D" ] || D=/; done
printf 'arch=%s\nhostname=%s\ncpu=%s\n' "$(uname -m)" "$(uname -n)" "$(nproc 2>/dev/null || grep -c ^processor /proc/cpuinfo)"
while read -r k v u; do [ "$k" = MemTotal: ] && echo "memory_kb=$v" && break; done </proc/meminfo
df -Pk "$D" 2>/dev/null | { read -r l; read -r f t u a r; printf 'disk_kb=%s\ndisk_free_kb=%s\n' "$t" "$a"; }
df -Pk / 2>/dev/null | { read -r l; read -r f t u a r; printf 'root_free_kb=%s\n' "$a"; }
# The limit of the first process, which services inherit: that of a login depends on who logs in.
N=; while read -r a b c d e f; do [ "$a $b $c" = "Max open files" ] && N=$e; done </proc/1/limits
printf 'nofile=%s\nclock=%s\nuid=%s\n' "${N:-$(ulimit -Hn)}" "$(date +%s)" "$(id -u)"
if [ -d "$E/member/wal" ]; then echo etcd_data=yes; else echo etcd_data=no; fi
if [ -d /run/systemd/system ]; then echo systemd=yes; else echo systemd=no; fi
P=; command -v apt-get >/dev/null 2>&1 && P=apt; [ -n "$P" ] || { command -v dnf >/dev/null 2>&1 && P=dnf; }
echo "package_manager=$P"
X=; for t in stat sha256sum base64 mktemp sync systemctl getent flock runuser; do command -v $t >/dev/null 2>&1 || X="$X $t"; done
echo "missing=$X""#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_read() {
        let out = std::process::Command::new("sh")
            .arg("-c")
            .arg(script("/no/such/place", "/no/etcd"))
            .output()
            .unwrap();
        let facts = Facts::parse(&String::from_utf8(out.stdout).unwrap()).unwrap();
        assert!(facts.cpu >= 1 && facts.memory_mb > 100 && facts.disk_bytes > 0);
        assert!(!facts.os_id.is_empty() && facts.clock_seconds > 1_700_000_000);
    }

    #[test]
    fn a_missing_or_odd_fact_is_named() {
        assert_eq!(Facts::parse("os_id=debian"), Err(FactsError::Missing("os_version".into())));
    }
}
