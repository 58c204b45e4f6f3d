//! Known hosts: which host keys are trusted, where it is written, and the writing of new ones.
//!
//! The file format is that of sshd(8), "`SSH_KNOWN_HOSTS` FILE FORMAT": markers, patterns with `*`, `?` and
//! `!`, `[host]:port`, hashed names. The verdicts are those of OpenSSH's client (compared with `ssh` itself in
//! `tests/door.rs`): a revoked key is refused whatever else is written, any equal key is enough (rotation leaves
//! several), and a host that has keys but not this one has changed.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{KeyInit as _, Mac as _};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKey, PublicKeyOrCertificate};
use sha2::Digest as _;

use super::error::Problem;

/// The names a host has in `known_hosts` files.
#[derive(Clone, Debug)]
pub(super) struct HostName {
    /// `host`, or `[host]:port` when the port is not 22. New keys are written under this name.
    pub(super) written: String,
    /// Tried when nothing is written under the name with a port; it can make a key trusted, never changed.
    bare: Option<String>,
    /// The name a certificate must be for.
    principal: String,
}

impl HostName {
    /// `alias` is `HostKeyAlias`: it replaces host and port.
    pub(super) fn new(host: &str, port: u16, alias: Option<&str>) -> Self {
        let host = alias.unwrap_or(host).to_ascii_lowercase();
        if alias.is_some() || port == 22 {
            Self { written: host.clone(), bare: None, principal: host }
        } else {
            Self { written: format!("[{host}]:{port}"), bare: Some(host.clone()), principal: host }
        }
    }
}

/// What the files say about an offered key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Trusted,
    Unknown,
    /// The host is known, by other keys; the first of them.
    Changed {
        file: PathBuf,
        line: usize,
        recorded: String,
    },
    Revoked {
        file: PathBuf,
        line: usize,
    },
    /// A trusted authority signed the certificate, but it cannot be used.
    Certificate {
        file: PathBuf,
        line: usize,
        why: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    None,
    Authority,
    Revoked,
}

#[derive(Debug)]
enum Hosts {
    Patterns(String),
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

#[derive(Debug)]
struct Entry {
    line: usize,
    marker: Marker,
    hosts: Hosts,
    algorithm: String,
    /// Base64 as written; decoded only when the host matches, files can be long.
    key: String,
}

impl Entry {
    /// `None` for comments, blank lines and lines that are no entry; OpenSSH skips those too.
    fn parse(line: usize, text: &str) -> Option<Self> {
        let mut fields = text.split([' ', '\t', '\r']).filter(|field| !field.is_empty());
        let mut first = fields.next().filter(|field| !field.starts_with('#'))?;
        let marker = match first {
            "@cert-authority" => Marker::Authority,
            "@revoked" => Marker::Revoked,
            other if other.starts_with('@') => return None,
            _ => Marker::None,
        };
        if marker != Marker::None {
            first = fields.next()?;
        }
        let hosts = match first.strip_prefix("|1|") {
            Some(hashed) => {
                let (salt, hash) = hashed.split_once('|')?;
                Hosts::Hashed { salt: STANDARD.decode(salt).ok()?, hash: STANDARD.decode(hash).ok()? }
            }
            None => Hosts::Patterns(first.to_ascii_lowercase()),
        };
        Some(Self {
            line,
            marker,
            hosts,
            algorithm: fields.next()?.to_owned(),
            key: fields.next()?.to_owned(),
        })
    }

    fn is_for(&self, name: &str) -> bool {
        match &self.hosts {
            Hosts::Patterns(patterns) => match_list(patterns, name),
            Hosts::Hashed { salt, hash } => hmac::Hmac::<sha1::Sha1>::new_from_slice(salt)
                .is_ok_and(|mac| mac.chain_update(name.as_bytes()).verify_slice(hash).is_ok()),
        }
    }

    fn is_key(&self, blob: &[u8]) -> bool {
        STANDARD.decode(&self.key).is_ok_and(|key| key == blob)
    }

    fn description(&self) -> String {
        let print =
            STANDARD.decode(&self.key).map_or_else(|_| "an unreadable key".into(), |key| fingerprint(&key));
        format!("{} {print}", self.algorithm)
    }
}

/// One file, read once.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    entries: Vec<Entry>,
}

impl File {
    fn parse(path: &Path, bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let entries =
            text.split('\n').enumerate().filter_map(|(index, line)| Entry::parse(index + 1, line)).collect();
        Self { path: path.to_owned(), entries }
    }

    /// A file that does not exist knows nobody; one that cannot be read is an error, or a revoked key in it would count as good.
    fn read(path: &Path) -> Result<Self, Problem> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Self::parse(path, &bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self { path: path.to_owned(), entries: Vec::new() })
            }
            Err(error) => Err(Problem::KnownHosts { path: path.to_owned(), why: error.to_string() }),
        }
    }
}

/// Files read so far in this run: a thousand nodes share one parse.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<HashMap<PathBuf, Arc<File>>>);

impl Cache {
    pub(super) fn files(&self, paths: &[PathBuf]) -> Result<KnownHosts, Problem> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let file = if let Some(file) = cache.get(path) {
                Arc::clone(file)
            } else {
                let file = Arc::new(File::read(path)?);
                cache.insert(path.clone(), Arc::clone(&file));
                file
            };
            files.push(file);
        }
        Ok(KnownHosts { files })
    }

    fn forget(&self, path: &Path) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    /// Writes a key that no file knows (`accept-new`) and returns what holds now: another process may have
    /// written first, and with another key. The file gets mode 0600, its directory 0700.
    pub(super) fn learn(&self, path: &Path, name: &HostName, key: &PublicKey) -> Result<Verdict, Problem> {
        let verdict = append(path, name, key)
            .map_err(|error| Problem::KnownHosts { path: path.to_owned(), why: error.to_string() });
        self.forget(path);
        verdict
    }
}

fn append(path: &Path, name: &HostName, key: &PublicKey) -> std::io::Result<Verdict> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let mut file = std::fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    file.lock()?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    let known = KnownHosts { files: vec![Arc::new(File::parse(path, &bytes))] };
    let verdict = known.check_key(name, &blob(key));
    if verdict != Verdict::Unknown {
        return Ok(verdict);
    }
    let mut line = String::new();
    if bytes.last().is_some_and(|last| *last != b'\n') {
        line.push('\n');
    }
    let _ = writeln!(line, "{} {} {}", name.written, key.algorithm().as_str(), STANDARD.encode(blob(key)));
    std::io::Write::write_all(&mut file, line.as_bytes())?;
    Ok(Verdict::Trusted)
}

/// The files that apply to one host, in the order they are searched.
#[derive(Clone, Debug)]
pub(super) struct KnownHosts {
    files: Vec<Arc<File>>,
}

impl KnownHosts {
    fn all(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.files.iter().flat_map(|file| file.entries.iter().map(move |entry| (file.path.as_path(), entry)))
    }

    /// Entries for the name as written; where there is none, for the bare host.
    /// The flag says that the name matched as written.
    fn matching<'a>(
        &'a self,
        name: &str,
        bare: Option<&str>,
        marker: Marker,
    ) -> (bool, Vec<(&'a Path, &'a Entry)>) {
        let under = |name: &str| {
            self.all().filter(|(_, entry)| entry.marker == marker && entry.is_for(name)).collect::<Vec<_>>()
        };
        let found = under(name);
        match bare {
            Some(bare) if found.is_empty() => (false, under(bare)),
            _ => (true, found),
        }
    }

    /// Host key algorithms to ask for: those recorded for the host first, so that a node which is known by its
    /// RSA key alone does not offer another and look unknown. The flag asks for host certificates.
    pub(super) fn algorithms(&self, name: &HostName) -> (Vec<Algorithm>, bool) {
        let (_, plain) = self.matching(&name.written, name.bare.as_deref(), Marker::None);
        let (_, authorities) = self.matching(&name.written, name.bare.as_deref(), Marker::Authority);
        let recorded = |algorithm: &Algorithm| {
            let kind = match algorithm {
                Algorithm::Rsa { .. } => "ssh-rsa",
                other => other.as_str(),
            };
            plain.iter().any(|(_, entry)| entry.algorithm == kind)
        };
        let (mut first, rest): (Vec<_>, Vec<_>) = OFFERED.iter().cloned().partition(recorded);
        first.extend(rest);
        (first, !authorities.is_empty())
    }

    /// The verdict on what a node offers.
    pub(super) fn check(&self, name: &HostName, offered: &PublicKeyOrCertificate) -> Verdict {
        let Some(certificate) = offered.certificate() else {
            return self.check_key(name, &blob(&offered.public_key()));
        };
        let authority = blob(&PublicKey::from(certificate.signature_key().clone()));
        if let Some(revoked) = self.revoked(name, &authority) {
            return revoked;
        }
        // Like OpenSSH: a certificate that does not help still carries a plain key that may be known.
        let plain = self.check_key(name, &blob(&offered.public_key()));
        if matches!(plain, Verdict::Trusted | Verdict::Revoked { .. }) {
            return plain;
        }
        let (_, authorities) = self.matching(&name.written, name.bare.as_deref(), Marker::Authority);
        match authorities.iter().find(|(_, entry)| entry.is_key(&authority)) {
            None => plain,
            Some((file, entry)) => match certificate_fault(certificate, &name.principal) {
                None => Verdict::Trusted,
                Some(why) => Verdict::Certificate { file: (*file).to_owned(), line: entry.line, why },
            },
        }
    }

    fn check_key(&self, name: &HostName, blob: &[u8]) -> Verdict {
        if let Some(revoked) = self.revoked(name, blob) {
            return revoked;
        }
        let (as_written, known) = self.matching(&name.written, name.bare.as_deref(), Marker::None);
        if known.iter().any(|(_, entry)| entry.is_key(blob)) {
            return Verdict::Trusted;
        }
        match known.first() {
            Some((file, entry)) if as_written => {
                Verdict::Changed { file: (*file).to_owned(), line: entry.line, recorded: entry.description() }
            }
            _ => Verdict::Unknown,
        }
    }

    fn revoked(&self, name: &HostName, blob: &[u8]) -> Option<Verdict> {
        self.all()
            .find(|(_, entry)| {
                entry.marker == Marker::Revoked
                    && entry.is_key(blob)
                    && (entry.is_for(&name.written)
                        || name.bare.as_deref().is_some_and(|bare| entry.is_for(bare)))
            })
            .map(|(file, entry)| Verdict::Revoked { file: file.to_owned(), line: entry.line })
    }
}

/// Host key algorithms we take, best first: those of russh without SHA-1.
const OFFERED: [Algorithm; 6] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// Why a host certificate of a trusted authority cannot be used (PROTOCOL.certkeys of OpenSSH); `None` when it can.
fn certificate_fault(certificate: &Certificate, principal: &str) -> Option<String> {
    if certificate.cert_type() != CertType::Host {
        return Some("it is a user's certificate, not a host's".into());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if now < certificate.valid_after() {
        return Some("it is not valid yet".into());
    }
    if now >= certificate.valid_before() {
        return Some("it has expired".into());
    }
    if !certificate.critical_options().is_empty() {
        return Some("it has critical options, which host certificates cannot have".into());
    }
    let principals = certificate.valid_principals();
    // No wildcards, and no certificate for everybody: like ssh in the first, stricter than it in the second.
    if !principals.iter().any(|name| name.eq_ignore_ascii_case(principal)) {
        return Some(format!("it is for {}, not for `{principal}`", listed(principals)));
    }
    let authority = certificate.signature_key().fingerprint(HashAlg::Sha256);
    // Checks the signature; the times once more.
    certificate.validate_at(now, [&authority]).err().map(|_| "its signature is wrong".to_owned())
}

fn listed(principals: &[String]) -> String {
    if principals.is_empty() {
        return "no host at all".into();
    }
    principals.iter().map(|principal| format!("`{principal}`")).collect::<Vec<_>>().join(", ")
}

/// The wire form of a public key (RFC 4253, 6.6), which is what the base64 in a file holds.
pub(super) fn blob(key: &PublicKey) -> Vec<u8> {
    key.to_bytes().unwrap_or_default()
}

/// `SHA256:…` as OpenSSH prints it.
pub(super) fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(sha2::Sha256::digest(blob)))
}

/// A comma-separated list of patterns; one that matches behind `!` rules the whole line out.
pub(super) fn match_list(patterns: &str, name: &str) -> bool {
    let mut matched = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if match_glob(pattern, name) => return false,
            Some(_) => {}
            None => matched |= match_glob(pattern, name),
        }
    }
    matched
}

/// `*` is any run of characters, `?` is one. Linear in both (backtracks to the last `*` only).
fn match_glob(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    n = from + 1;
                    star = Some((at, n));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";
    const R: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==";

    fn key(text: &str) -> Vec<u8> {
        STANDARD.decode(text.split(' ').nth(1).unwrap()).unwrap()
    }

    fn known(text: &str) -> KnownHosts {
        KnownHosts { files: vec![Arc::new(File::parse(Path::new("kh"), text.as_bytes()))] }
    }

    fn verdict(text: &str, host: &str, port: u16, offered: &str) -> &'static str {
        match known(text).check_key(&HostName::new(host, port, None), &key(offered)) {
            Verdict::Trusted => "trusted",
            Verdict::Unknown => "unknown",
            Verdict::Changed { .. } => "changed",
            Verdict::Revoked { .. } => "revoked",
            Verdict::Certificate { .. } => "certificate",
        }
    }

    #[test]
    fn verdicts() {
        let cases: &[(&str, &str, u16, &str, &str)] = &[
            ("", "h", 22, A, "unknown"),
            (&format!("h {A}"), "h", 22, A, "trusted"),
            (&format!("h\t{A} a comment\r\n"), "h", 22, A, "trusted"),
            (&format!("H {A}"), "h", 22, A, "trusted"),
            (&format!("h {A}"), "H", 22, A, "trusted"),
            (&format!("h {A}"), "h", 22, B, "changed"),
            (&format!("h {A}\nh {B}"), "h", 22, B, "trusted"),
            (&format!("h {R}"), "h", 22, A, "changed"),
            (&format!("# h {B}\n\nother {B}\nh,10.0.0.1 {A}"), "10.0.0.1", 22, A, "trusted"),
            (&format!("10.0.0.* {A}"), "10.0.0.7", 22, A, "trusted"),
            (&format!("10.0.0.?,!10.0.0.7 {A}"), "10.0.0.7", 22, A, "unknown"),
            (&format!("!10.0.0.7,10.0.0.? {A}"), "10.0.0.8", 22, A, "trusted"),
            (&format!("[h]:2222 {A}"), "h", 2222, A, "trusted"),
            (&format!("[h]:2222 {A}"), "h", 22, A, "unknown"),
            (&format!("h {A}"), "h", 2222, A, "trusted"),
            (&format!("h {A}"), "h", 2222, B, "unknown"),
            (&format!("[h]:2222 {A}\nh {B}"), "h", 2222, B, "changed"),
            (&format!("@revoked h {A}\nh {A}"), "h", 22, A, "revoked"),
            (&format!("h {A}\n@revoked * {A}"), "h", 22, A, "revoked"),
            (&format!("@revoked h {A}"), "h", 2222, A, "revoked"),
            (&format!("@revoked h {A}"), "h", 22, B, "unknown"),
            (&format!("@cert-authority h {A}"), "h", 22, A, "unknown"),
            (&format!("@strange h {A}"), "h", 22, A, "unknown"),
            ("h ssh-ed25519", "h", 22, A, "unknown"),
            ("h ssh-ed25519 !!!!", "h", 22, A, "changed"),
        ];
        for (text, host, port, offered, expected) in cases {
            assert_eq!(verdict(text, host, *port, offered), *expected, "{text:?} {host}:{port}");
        }
    }

    #[test]
    fn a_hashed_name_is_found() {
        // `ssh-keygen -H` of `[127.0.0.1]:2222` is checked against the real tool in tests/door.rs.
        let salt = b"01234567890123456789";
        let mac = hmac::Hmac::<sha1::Sha1>::new_from_slice(salt).unwrap().chain_update(b"[h]:2222");
        let hash = STANDARD.encode(mac.finalize().into_bytes());
        let text = format!("|1|{}|{hash} {A}", STANDARD.encode(salt));
        assert_eq!(verdict(&text, "h", 2222, A), "trusted");
        assert_eq!(verdict(&text, "h", 2222, B), "changed");
        assert_eq!(verdict(&text, "h", 22, A), "unknown");
    }

    #[test]
    fn a_changed_key_counts_lines_with_comments() {
        let text = format!("# first\n\nh {A}\n");
        let verdict = known(&text).check_key(&HostName::new("h", 22, None), &key(B));
        assert!(matches!(verdict, Verdict::Changed { line: 3, .. }), "{verdict:?}");
    }

    #[test]
    fn recorded_algorithms_come_first() {
        let (algorithms, certificates) =
            known(&format!("h {R}\n@cert-authority *.x {A}")).algorithms(&HostName::new("h", 22, None));
        assert!(matches!(algorithms[0], Algorithm::Rsa { hash: Some(HashAlg::Sha512) }), "{algorithms:?}");
        assert_eq!(algorithms.len(), OFFERED.len());
        assert!(!certificates);
    }

    #[test]
    fn learning_is_private_and_looks_again() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/known_hosts");
        let cache = Cache::default();
        let name = HostName::new("h", 2222, None);
        let (a, b) = (PublicKey::from_openssh(A).unwrap(), PublicKey::from_openssh(B).unwrap());
        assert!(matches!(cache.learn(&path, &name, &a), Ok(Verdict::Trusted)));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(cache.learn(&path, &name, &b), Ok(Verdict::Changed { line: 1, .. })));
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap().trim_end()).unwrap();
        assert!(matches!(cache.learn(&path, &HostName::new("i", 22, None), &b), Ok(Verdict::Trusted)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("[h]:2222 {A}\ni {B}\n"));
    }

    #[test]
    fn concurrent_learners_write_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        let key = PublicKey::from_openssh(A).unwrap();
        std::thread::scope(|scope| {
            for host in 0..20 {
                let (path, key) = (&path, &key);
                scope.spawn(move || {
                    Cache::default().learn(path, &HostName::new(&format!("h{}", host % 10), 22, None), key)
                });
            }
        });
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 10, "{text}");
        assert!(text.lines().all(|line| line.ends_with(A)), "{text}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn no_line_breaks_the_parser(text in "[@|!*?h\\[\\]:, \t#a-zA-Z0-9=/+\n]{0,80}") {
            known(&text).check_key(&HostName::new("h", 22, None), &key(A));
        }

        #[test]
        fn a_glob_of_itself_matches(name in "[a-z0-9.:-]{0,20}", cut in 0usize..20) {
            let cut = cut.min(name.len());
            let pattern = format!("{}*{}", &name[..cut], &name[cut..]);
            prop_assert!(match_glob(&name, &name));
            prop_assert!(match_glob(&pattern, &name));
        }
    }
}
