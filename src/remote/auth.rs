//! Logging in: keys of the agent, key files, certificates, a password.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use russh::{MethodKind, MethodSet};
use tokio::net::UnixStream;
use tokio::sync::OnceCell;

use super::connect::Client;
use super::error::Problem;
use super::known_hosts::{blob, fingerprint};
use super::target::Hop;

/// sshd's default `MaxAuthTries` is 6, and it counts every key it is offered.
const MOST_OFFERS: usize = 6;

/// What a key file turned out to be.
#[derive(Clone, Debug)]
enum KeyFile {
    Private(Arc<PrivateKey>),
    /// The public half of a private key that is encrypted, or of one that only the agent holds.
    PublicOnly {
        key: PublicKey,
        encrypted: bool,
    },
    Missing,
    Bad(String),
}

/// Key files read so far: once a run, not once a node.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<HashMap<PathBuf, KeyFile>>);

impl Keys {
    fn load(&self, path: &Path) -> KeyFile {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.entry(path.to_owned()).or_insert_with(|| read_key(path)).clone()
    }
}

fn read_key(path: &Path) -> KeyFile {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return KeyFile::Missing,
        Err(error) => return KeyFile::Bad(super::stream::bare(&error)),
    };
    if let Ok(key) = PublicKey::from_openssh(text.trim()) {
        return KeyFile::PublicOnly { key, encrypted: false };
    }
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) if !key.is_encrypted() => return KeyFile::Private(Arc::new(key)),
        Ok(_) | Err(russh::keys::Error::KeyIsEncrypted) => {}
        Err(error) if !text.contains("ENCRYPTED") => {
            return KeyFile::Bad(match error {
                russh::keys::Error::CouldNotReadKey => "it is not a private key".into(),
                other => format!("it is not a private key that can be read: {}", lower(&other.to_string())),
            });
        }
        Err(_) => {}
    }
    // OpenSSH's format keeps the public half in the clear; the older ones have a `.pub` beside them.
    let public = PrivateKey::from_openssh(&text)
        .map(|key| key.public_key().clone())
        .ok()
        .or_else(|| PublicKey::from_openssh(std::fs::read_to_string(beside(path, ".pub")).ok()?.trim()).ok());
    match public {
        Some(key) => KeyFile::PublicOnly { key, encrypted: true },
        None => KeyFile::Bad(ENCRYPTED.into()),
    }
}

const ENCRYPTED: &str = "it is encrypted and not in the agent";

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// Something to offer, in words and in deed.
enum Offer {
    File { key: Arc<PrivateKey>, certificate: Option<Box<Certificate>>, words: String },
    Agent { identity: Box<AgentIdentity>, words: String },
}

impl Offer {
    fn words(&self) -> &str {
        match self {
            Self::File { words, .. } | Self::Agent { words, .. } => words,
        }
    }
}

/// Everything there is to offer, in OpenSSH's order: named files (from the agent where it holds them), other keys of the agent,
/// default files. Beside them what is wrong with files that were named.
async fn offers(
    hop: &Hop,
    keys: &Keys,
) -> (Vec<Offer>, Option<AgentClient<UnixStream>>, Vec<(PathBuf, String)>) {
    let mut agent = match &hop.agent {
        Some(path) => AgentClient::connect_uds(path).await.ok(),
        None => None,
    };
    let mut held = match &mut agent {
        Some(agent) => agent.request_identities().await.unwrap_or_default(),
        None => Vec::new(),
    };
    let mut files = Vec::new();
    let mut from_agent = Vec::new();
    let mut faults = Vec::new();
    for path in &hop.identity_files {
        let public = match keys.load(path) {
            KeyFile::Private(key) => {
                let certificate = read_certificate(&beside(path, "-cert.pub"));
                let words = format!("{}", path.display());
                if certificate.is_some() {
                    let words = format!("{words} (certificate)");
                    files.push(Offer::File { key: Arc::clone(&key), certificate, words });
                }
                for path in &hop.certificate_files {
                    let certificate =
                        read_certificate(path).filter(|c| c.public_key() == key.public_key().key_data());
                    if certificate.is_some() {
                        let words = format!("{} (certificate)", path.display());
                        files.push(Offer::File { key: Arc::clone(&key), certificate, words });
                    }
                }
                files.push(Offer::File { key: Arc::clone(&key), certificate: None, words });
                // Offered from the file; the same key in the agent is the same offer.
                held.retain(|identity| {
                    !matches!(identity, AgentIdentity::PublicKey { key: held, .. }
                        if held.key_data() == key.public_key().key_data())
                });
                continue;
            }
            KeyFile::PublicOnly { key, encrypted } => (key, encrypted),
            KeyFile::Missing => {
                if hop.identities_named {
                    faults.push((path.clone(), "it does not exist".to_owned()));
                }
                continue;
            }
            KeyFile::Bad(why) => {
                faults.push((path.clone(), why));
                continue;
            }
        };
        let (key, encrypted) = public;
        let (mut same, rest): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|identity| identity.public_key().key_data() == key.key_data());
        held = rest;
        if same.is_empty() {
            let why = if encrypted {
                ENCRYPTED
            } else {
                "it is a public key, and the agent does not hold the private one"
            };
            faults.push((path.clone(), why.to_owned()));
        }
        // Certificates first.
        same.sort_by_key(|identity| !matches!(identity, AgentIdentity::Certificate { .. }));
        from_agent.extend(same.into_iter().map(|identity| agent_offer(identity, Some(path))));
    }
    let mut others: Vec<Offer> = Vec::new();
    if !hop.identities_only {
        others.extend(held.into_iter().map(|identity| agent_offer(identity, None)));
    }
    let mut all = from_agent;
    if hop.identities_named {
        all.append(&mut files);
        all.append(&mut others);
    } else {
        all.append(&mut others);
        all.append(&mut files);
    }
    (all, agent, faults)
}

fn agent_offer(identity: AgentIdentity, path: Option<&Path>) -> Offer {
    let print = fingerprint(&blob(&identity.public_key()));
    let words = match path {
        Some(path) => format!("{} (agent)", path.display()),
        None => format!("agent key {print} `{}`", identity.comment()),
    };
    Offer::Agent { identity: Box::new(identity), words }
}

fn read_certificate(path: &Path) -> Option<Box<Certificate>> {
    Certificate::from_openssh(std::fs::read_to_string(path).ok()?.trim()).ok().map(Box::new)
}

/// Logs in on a connection whose host key was accepted.
pub(super) async fn login(handle: &mut Handle<Client>, hop: &Hop, keys: &Keys) -> Result<(), Problem> {
    let (offers, mut agent, faults) = offers(hop, keys).await;
    let mut tried: Vec<String> = Vec::new();
    let mut accepts: Option<MethodSet> = None;
    let mut second = false;
    let rsa_hash = OnceCell::new();
    let mut refused = HashSet::new();

    for offer in offers.iter().take(MOST_OFFERS) {
        if handle.is_closed() || !takes(accepts.as_ref(), MethodKind::PublicKey) {
            break;
        }
        if !refused.insert(offer.words().to_owned()) {
            continue;
        }
        tried.push(offer.words().to_owned());
        match publickey(handle, hop, offer, agent.as_mut(), &rsa_hash).await? {
            Some(AuthResult::Success) => return Ok(()),
            Some(AuthResult::Failure { remaining_methods, partial_success }) => {
                accepts = Some(remaining_methods);
                if partial_success {
                    second = true;
                    break;
                }
            }
            None => {}
        }
    }
    if let Some(password) = hop.password.as_ref().filter(|_| !handle.is_closed()) {
        if takes(accepts.as_ref(), MethodKind::Password) {
            tried.push("password".into());
            match handle.authenticate_password(&hop.user, password.expose()).await.map_err(|e| lost(&e))? {
                AuthResult::Success => return Ok(()),
                AuthResult::Failure { remaining_methods, .. } => accepts = Some(remaining_methods),
            }
        }
        if !handle.is_closed() && takes(accepts.as_ref(), MethodKind::KeyboardInteractive) {
            tried.push("password (keyboard-interactive)".into());
            match interactive(handle, hop, password.expose()).await? {
                AuthResult::Success => return Ok(()),
                AuthResult::Failure { remaining_methods, .. } => accepts = Some(remaining_methods),
            }
        }
    }
    if tried.is_empty()
        && let Some((path, why)) = faults.into_iter().next()
    {
        return Err(Problem::KeyFile { path, why });
    } else if second {
        tried.push("and the node wants a second factor, which pgctl cannot give".into());
    }
    if tried.is_empty() {
        // Some nodes let this user in without anything, and if not they say what they take.
        match handle.authenticate_none(&hop.user).await.map_err(|e| lost(&e))? {
            AuthResult::Success => return Ok(()),
            AuthResult::Failure { remaining_methods, .. } => accepts = Some(remaining_methods),
        }
    }
    let accepts = accepts
        .filter(|_| !handle.is_closed())
        .map(|methods| methods.iter().map(String::from).collect())
        .unwrap_or_default();
    Err(Problem::AuthRefused { user: hop.user.clone(), tried, accepts })
}

fn takes(accepts: Option<&MethodSet>, method: MethodKind) -> bool {
    accepts.is_none_or(|methods| methods.contains(&method))
}

fn lost(error: &russh::Error) -> Problem {
    Problem::ConnectionLost { why: format!("during login: {}", lower(&error.to_string())) }
}

/// `None`: the agent would not sign (a key that wants a touch or a confirmation, and got none).
async fn publickey(
    handle: &mut Handle<Client>,
    hop: &Hop,
    offer: &Offer,
    agent: Option<&mut AgentClient<UnixStream>>,
    rsa_hash: &OnceCell<Option<HashAlg>>,
) -> Result<Option<AuthResult>, Problem> {
    let is_rsa = match offer {
        Offer::File { key, .. } => key.algorithm().is_rsa(),
        Offer::Agent { identity, .. } => identity.public_key().algorithm().is_rsa(),
    };
    let hash = if is_rsa {
        // A server that says nothing is old or terse, not necessarily without SHA-2.
        let ask = || async {
            handle.best_supported_rsa_hash().await.map(|said| said.unwrap_or(Some(HashAlg::Sha512)))
        };
        *rsa_hash.get_or_try_init(ask).await.map_err(|e| lost(&e))?
    } else {
        None
    };
    match (offer, agent) {
        (Offer::File { key, certificate: Some(certificate), .. }, _) => handle
            .authenticate_openssh_cert(&hop.user, Arc::clone(key), Certificate::clone(certificate))
            .await
            .map(Some)
            .map_err(|e| lost(&e)),
        (Offer::File { key, certificate: None, .. }, _) => handle
            .authenticate_publickey(&hop.user, PrivateKeyWithHashAlg::new(Arc::clone(key), hash))
            .await
            .map(Some)
            .map_err(|e| lost(&e)),
        (Offer::Agent { identity, .. }, Some(agent)) => {
            let result = match identity.as_ref() {
                AgentIdentity::PublicKey { key, .. } => {
                    handle.authenticate_publickey_with(&hop.user, key.clone(), hash, agent).await
                }
                AgentIdentity::Certificate { certificate, .. } => {
                    handle.authenticate_certificate_with(&hop.user, certificate.clone(), hash, agent).await
                }
            };
            Ok(result.ok())
        }
        (Offer::Agent { .. }, None) => Ok(None),
    }
}

/// Answers questions that hide their answer with the password; anything else (a one-time code) is not ours to know.
async fn interactive(handle: &mut Handle<Client>, hop: &Hop, password: &str) -> Result<AuthResult, Problem> {
    let mut reply =
        handle.authenticate_keyboard_interactive_start(&hop.user, None).await.map_err(|e| lost(&e))?;
    for _ in 0..4 {
        let answers = match reply {
            KeyboardInteractiveAuthResponse::Success => return Ok(AuthResult::Success),
            KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                return Ok(AuthResult::Failure { remaining_methods, partial_success });
            }
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts
                .iter()
                .map(|prompt| if prompt.echo { String::new() } else { password.to_owned() })
                .collect(),
        };
        reply = handle.authenticate_keyboard_interactive_respond(answers).await.map_err(|e| lost(&e))?;
    }
    Ok(AuthResult::Failure { remaining_methods: MethodSet::empty(), partial_success: false })
}
