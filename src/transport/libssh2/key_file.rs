//! Private keys in files.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

use crate::transport::{TransportError, plain_reason};

/// No private key is larger than this.
const KEY_FILE_BYTES: u64 = 64 * 1024;

/// A private key from a file.
pub(super) enum PrivateKey {
    /// For libssh2 to understand.
    Plain(SecretString),
    /// Of no use without its passphrase; its public half, where that is known.
    Encrypted { public: Option<Vec<u8>> },
}

/// The error for a key file that is of no use.
pub(super) fn unusable(path: &Path, reason: &str) -> TransportError {
    TransportError::Credential {
        what: format!("cannot use key file {}: {reason}", path.display()),
        cure: "`identity_file` names a private key as `ssh-keygen` makes it".to_owned(),
    }
}

/// Reads a key file, and tells whether it is encrypted.
pub(super) fn read(path: &Path) -> Result<PrivateKey, TransportError> {
    let text = read_small_file(path).map_err(|reason| unusable(path, &reason))?;
    let first_line = text.trim_start().lines().next().unwrap_or_default();
    if !first_line.starts_with("-----BEGIN ") || !first_line.contains("PRIVATE KEY") {
        let reason = if first_line.starts_with("ssh-") || first_line.starts_with("ecdsa-") {
            "it is the public half"
        } else {
            "it is not a private key"
        };
        return Err(unusable(path, reason));
    }
    let container = openssh_container(&text);
    let is_encrypted = match &container {
        Some(container) => container.is_encrypted,
        None => {
            first_line.contains("ENCRYPTED")
                || text.lines().any(|line| {
                    line.starts_with("Proc-Type:") && line.trim_end().ends_with("ENCRYPTED")
                })
        }
    };
    if !is_encrypted {
        return Ok(PrivateKey::Plain(SecretString::from(text)));
    }
    let public = match container {
        Some(container) => Some(container.public),
        None => public_half_of(path),
    };
    Ok(PrivateKey::Encrypted { public })
}

/// Reads a file that must be a regular one: a pipe would keep us waiting.
fn read_small_file(path: &Path) -> Result<String, String> {
    let plain = |error: io::Error| plain_reason(&error);
    if !std::fs::metadata(path).map_err(plain)?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(KEY_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(plain)?;
    String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())
}

/// The public key that lies beside a private one.
fn public_half_of(path: &Path) -> Option<Vec<u8>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    let text = read_small_file(&PathBuf::from(name)).ok()?;
    STANDARD.decode(text.split_whitespace().nth(1)?).ok()
}

/// Whether a public key is for RSA. How such a key may sign depends on what the host says of itself.
pub(super) fn is_rsa(public: &[u8]) -> bool {
    take_string(&mut &*public).is_some_and(|kind| kind.starts_with(b"ssh-rsa"))
}

/// Whether a private key may be for RSA. Only OpenSSH's own format tells.
pub(super) fn may_be_rsa(text: &str) -> bool {
    openssh_container(text).is_none_or(|container| is_rsa(&container.public))
}

/// The readable part of a key in OpenSSH's own format.
struct OpensshContainer {
    is_encrypted: bool,
    public: Vec<u8>,
}

fn openssh_container(text: &str) -> Option<OpensshContainer> {
    let body = text
        .trim()
        .strip_prefix("-----BEGIN OPENSSH PRIVATE KEY-----")?
        .strip_suffix("-----END OPENSSH PRIVATE KEY-----")?;
    let body: String = body.split_whitespace().collect();
    let bytes = STANDARD.decode(body).ok()?;
    let mut rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    let cipher = take_string(&mut rest)?;
    let _key_derivation = take_string(&mut rest)?;
    let _its_options = take_string(&mut rest)?;
    let (_number_of_keys, mut rest) = rest.split_first_chunk::<4>()?;
    let public = take_string(&mut rest)?;
    Some(OpensshContainer {
        is_encrypted: cipher != b"none",
        public: public.to_vec(),
    })
}

/// Takes one length-prefixed string off the front.
fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (string, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(string)
}
