//! SCRAM-SHA-256 verifiers, as `PostgreSQL` keeps them in `pg_authid` (RFC 5802, RFC 7677).
//!
//! The server and `PgBouncer` must hold the same verifier, salt and all: only then can `PgBouncer` log in to
//! the server with the keys that a client proved to it, without ever knowing a password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// What `PostgreSQL` uses itself (`scram_iterations`).
pub const ITERATIONS: u32 = 4096;

/// A verifier that no password has: nobody knows what hashes to keys of zeros. For users of `PgBouncer` who come
/// in as operating system users only. An empty secret would not do: some clients can send an empty password.
pub const LOCKED: &str = "SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

const MECHANISM: &str = "SCRAM-SHA-256";

/// Why a password has no verifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// `PostgreSQL` treats it as no password at all, and nobody could log in.
    #[error("the password is empty")]
    Empty,
    /// `SASLprep` (RFC 4013) would have to normalise it, and client, `PgBouncer` and server must agree on the result.
    #[error(
        "the password holds characters beyond ASCII; use ASCII, or give a SCRAM verifier made by psql's `\\password`"
    )]
    NotAscii,
    /// RFC 4013 prohibits it; it cannot be typed, nor kept in a password file.
    #[error("the password holds a control character")]
    Control,
}

/// The verifier of `password`: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
///
/// `SASLprep` leaves printable ASCII as it is, so only that is taken.
///
/// # Errors
/// When the password is empty, or holds a character outside printable ASCII.
pub fn verifier(password: &str, salt: &[u8]) -> Result<String, ScramError> {
    if password.is_empty() {
        return Err(ScramError::Empty);
    }
    if !password.is_ascii() {
        return Err(ScramError::NotAscii);
    }
    if password.bytes().any(|b| b.is_ascii_control()) {
        return Err(ScramError::Control);
    }
    let keys = Keys::derive(password, salt, ITERATIONS);
    Ok(format!(
        "{MECHANISM}${ITERATIONS}:{}${}:{}",
        BASE64.encode(salt),
        BASE64.encode(keys.stored),
        BASE64.encode(keys.server)
    ))
}

/// What a server keeps for `password`: a verifier or MD5 hash as it is, a plain password as the verifier
/// with the salt of [`salt_for`]. Empty for an empty password or one that cannot be prepared.
pub fn stored(password: &str, cluster: &str, user: &str) -> String {
    if password.is_empty() || is_verifier(password) || is_md5(password) {
        return password.to_owned();
    }
    verifier(password, &salt_for(cluster, user)).unwrap_or_default()
}

/// Whether `verifier` was made from `password`, whatever its salt and iterations; an md5 hash never is.
pub fn verify(password: &str, verifier: &str) -> bool {
    let Some(parts) = Parts::read(verifier) else { return false };
    let keys = Keys::derive(password, &parts.salt, parts.iterations);
    keys.stored[..] == parts.stored[..] && keys.server[..] == parts.server[..]
}

/// Whether `PostgreSQL` would store `text` as it is, instead of hashing it as a password: a SCRAM verifier,
/// or `md5` and 32 hex digits (`get_password_type` in its `crypt.c`).
pub fn is_verifier(text: &str) -> bool {
    is_md5(text) || Parts::read(text).is_some()
}

/// Whether `text` is an md5 password hash. `PgBouncer` cannot pass such a login on to a server that asks for SCRAM.
pub fn is_md5(text: &str) -> bool {
    text.strip_prefix("md5").is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The salt of a role's verifier.
///
/// It is derived from names, not drawn, so that rendering is reproducible on every member and in every run.
/// A salt need not be secret; it has to differ between roles and clusters, so that equal passwords do not
/// show as equal verifiers. NUL separates the parts: no name can hold it.
pub fn salt_for(cluster: &str, user: &str) -> [u8; 16] {
    let digest = Sha256::digest(format!("pgctl scram salt v1\0{cluster}\0{user}"));
    let mut salt = [0; 16];
    salt.copy_from_slice(&digest[..16]);
    salt
}

struct Keys {
    stored: [u8; 32],
    server: [u8; 32],
}

impl Keys {
    /// RFC 5802, section 3.
    fn derive(password: &str, salt: &[u8], iterations: u32) -> Self {
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, iterations);
        let client = sign(&salted, b"Client Key");
        Self { stored: Sha256::digest(client).into(), server: sign(&salted, b"Server Key") }
    }
}

fn sign(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

struct Parts {
    iterations: u32,
    salt: Vec<u8>,
    stored: Vec<u8>,
    server: Vec<u8>,
}

impl Parts {
    fn read(verifier: &str) -> Option<Self> {
        let rest = verifier.strip_prefix(MECHANISM)?.strip_prefix('$')?;
        let (head, keys) = rest.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text| BASE64.decode(text).ok().filter(|bytes| bytes.len() == 32);
        Some(Self {
            iterations: iterations.parse().ok().filter(|n| *n > 0)?,
            salt: BASE64.decode(salt).ok()?,
            stored: key(stored)?,
            server: key(server)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3: user `user`, password `pencil`. The exchange printed there gives nonces, client
    /// proof and server signature; both must follow from our keys.
    #[test]
    fn the_exchange_of_rfc_7677_follows_from_our_keys() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = Keys::derive("pencil", &salt, 4096);
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let message = format!(
            "n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}"
        );
        assert_eq!(
            BASE64.encode(sign(&keys.server, message.as_bytes())),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
        let proof = BASE64.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap();
        let signature = sign(&keys.stored, message.as_bytes());
        let client: Vec<u8> = proof.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        assert_eq!(Sha256::digest(client)[..], keys.stored[..]);
    }

    #[test]
    fn a_verifier_has_the_form_of_the_server_and_verifies() {
        let salt = salt_for("pg-test", "dbuser_test");
        let made = verifier("DBUser.Test", &salt).unwrap();
        assert!(made.starts_with("SCRAM-SHA-256$4096:"));
        assert_eq!(made.len(), "SCRAM-SHA-256$4096:".len() + 24 + 1 + 44 + 1 + 44);
        assert!(is_verifier(&made));
        assert!(verify("DBUser.Test", &made));
        assert!(!verify("DBUser.test", &made));
        assert!(!verify("DBUser.Test", "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA"));
        assert_eq!(made, verifier("DBUser.Test", &salt).unwrap());
    }

    #[test]
    fn salts_differ_by_cluster_and_by_user() {
        assert_ne!(salt_for("a", "u"), salt_for("b", "u"));
        assert_ne!(salt_for("a", "u"), salt_for("a", "v"));
        assert_ne!(salt_for("ab", "c"), salt_for("a", "bc"));
    }

    #[test]
    fn passwords_that_look_like_verifiers_are_not() {
        assert!(is_verifier(LOCKED));
        assert!(!verify("", LOCKED));
        assert!(is_verifier("md5a3556571e93b0d20722ba62be61e8c2d"));
        assert!(!is_verifier("md5a3556571e93b0d20722ba62be61e8c2"));
        assert!(!is_verifier("SCRAM-SHA-256$0:AAAA$AAAA:AAAA"));
        assert!(!is_verifier("SCRAM-SHA-256"));
        assert!(!is_verifier(""));
        assert!(!verify("x", "md5a3556571e93b0d20722ba62be61e8c2d"));
    }

    #[test]
    fn passwords_that_saslprep_would_change_are_refused() {
        assert_eq!(verifier("", b"salt"), Err(ScramError::Empty));
        assert_eq!(verifier("pässword", b"salt"), Err(ScramError::NotAscii));
        assert_eq!(verifier("a\tb", b"salt"), Err(ScramError::Control));
    }
}
