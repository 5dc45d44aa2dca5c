//! Private keys as PEM (RFC 7468, RFC 1421): the one that is meant, whatever stands around it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use keyfob_auth_core::{AuthError, ExposeSecret as _, SecretString};
use openssl::{
    error::{Error, ErrorStack},
    pkey::{PKey, Private},
};
use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";
/// The longest passphrase that OpenSSL has room for.
const LONGEST_PASSPHRASE: usize = 1024;

/// Reads the only private key of the text.
pub(super) fn read(text: &str, passphrase: Option<&SecretString>) -> Result<PKey<Private>, AuthError> {
    // In an environment variable, line ends are often written `\n`.
    let mut lines = Zeroizing::new(String::with_capacity(text.len() + 1));
    for line in text.split("\\n") {
        lines.extend([line, "\n"]);
    }
    let blocks = Block::all(&lines)?;
    let mut private = blocks.iter().filter(|block| block.kind == Kind::Private);
    match (private.next(), private.next()) {
        (Some(key), None) => key.open(passphrase),
        (Some(_), Some(_)) => Err(wrong("is two private keys; leave the one that is meant")),
        (None, _) => Err(none(&blocks)),
    }
}

/// Why there is no private key.
fn none(blocks: &[Block<'_>]) -> AuthError {
    let has = |kind| blocks.iter().any(|block| block.kind == kind);
    wrong(if has(Kind::OpenSsh) {
        "has OpenSSH's own format; rewrite a copy of it as PEM with `ssh-keygen -p -m PKCS8 -f COPY`"
    } else if has(Kind::Public) {
        "is the public one; give the private key that belongs to it"
    } else if has(Kind::Certificate) {
        "is a certificate; give the private key that belongs to it"
    } else if blocks.is_empty() {
        "is neither PEM (`-----BEGIN PRIVATE KEY-----`) nor a JWK"
    } else {
        "is PEM, but no private key that can sign"
    })
}

/// What a block holds, by its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Private,
    Public,
    Certificate,
    OpenSsh,
    Other,
}

/// What stands between a BEGIN line and its END line.
struct Block<'a> {
    kind: Kind,
    label: &'a str,
    body: &'a str,
}

impl<'a> Block<'a> {
    fn all(mut text: &'a str) -> Result<Vec<Self>, AuthError> {
        let cut_off = || wrong("is cut off: a PEM block has no end (`-----END`)");
        let mut blocks = Vec::new();
        while let Some((_, rest)) = text.split_once(BEGIN) {
            let (label, rest) = rest.split_once(DASHES).ok_or_else(cut_off)?;
            let (body, rest) = rest.split_once("-----END ").ok_or_else(cut_off)?;
            if body.contains(BEGIN) {
                return Err(cut_off());
            }
            let kind = match label {
                "PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => {
                    Kind::Private
                }
                "PUBLIC KEY" | "RSA PUBLIC KEY" | "EC PUBLIC KEY" => Kind::Public,
                "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => Kind::Certificate,
                "OPENSSH PRIVATE KEY" => Kind::OpenSsh,
                _ => Kind::Other,
            };
            blocks.push(Self { kind, label, body });
            text = rest;
        }
        Ok(blocks)
    }

    /// The key in it.
    fn open(&self, passphrase: Option<&SecretString>) -> Result<PKey<Private>, AuthError> {
        let (headers, data) = self.split();
        let encrypted = self.label.starts_with("ENCRYPTED") || !headers.is_empty();
        let passphrase = match (encrypted, passphrase.map(|passphrase| passphrase.expose_secret())) {
            (false, _) => "",
            (true, None | Some("")) => {
                return Err(wrong("is encrypted; give its passphrase too (`key_passphrase`)"));
            }
            (true, Some(passphrase)) if passphrase.len() > LONGEST_PASSPHRASE => {
                return Err(wrong("has a passphrase of more than 1024 bytes, which OpenSSL does not take"));
            }
            (true, Some(passphrase)) => passphrase,
        };
        let damaged = || wrong("is damaged: what stands between BEGIN and END is no base64; copy it anew");
        let der = Zeroizing::new(STANDARD.decode(data.as_bytes()).map_err(|_| damaged())?);
        if headers.is_empty() && is_cut_off(&der) {
            return Err(wrong("is cut off: there is less of it than it says itself; copy it anew"));
        }
        // The one block, with its lines as they should be. Unless a callback is given, OpenSSL asks at the terminal.
        let pem = self.normal(&headers, &data);
        let give = |buffer: &mut [u8]| -> Result<usize, ErrorStack> {
            let room = buffer.get_mut(..passphrase.len()).unwrap_or_default();
            room.copy_from_slice(&passphrase.as_bytes()[..room.len()]);
            Ok(room.len())
        };
        PKey::private_key_from_pem_callback(pem.as_bytes(), give).map_err(|error| {
            let unsupported = |one: &Error| {
                one.library() == Some("digital envelope routines") && one.reason() == Some("unsupported")
            };
            let what = if encrypted && error.errors().iter().any(unsupported) {
                "is encrypted with a cipher that OpenSSL no longer has; encrypt it anew with \
                 `openssl pkcs8 -topk8 -v2 aes-256-cbc`"
            } else if encrypted {
                "cannot be decrypted: the passphrase is wrong (`key_passphrase`), or the key damaged"
            } else {
                "cannot be read: it is damaged, or something else than its BEGIN line says"
            };
            wrong(what).with_source(error)
        })
    }

    /// The headers of RFC 1421 (`Proc-Type`, `DEK-Info`), and the base64 without its white space.
    fn split(&self) -> (Vec<&'a str>, Zeroizing<String>) {
        let lines = || self.body.lines().map(str::trim);
        let headers: Vec<&str> = lines().filter(|line| line.contains(": ")).collect();
        let mut data = Zeroizing::new(String::with_capacity(self.body.len()));
        for line in lines().filter(|line| !line.contains(": ")) {
            data.extend(line.split_ascii_whitespace());
        }
        (headers, data)
    }

    fn normal(&self, headers: &[&str], data: &str) -> Zeroizing<String> {
        let size = 2 * self.body.len() + 4 * self.label.len() + 128;
        let mut pem = Zeroizing::new(String::with_capacity(size));
        pem.extend([BEGIN, self.label, "-----\n"]);
        for header in headers {
            pem.extend([header, "\n"]);
        }
        if !headers.is_empty() {
            pem.push('\n');
        }
        for (n, letter) in data.char_indices() {
            if n > 0 && n % 64 == 0 {
                pem.push('\n');
            }
            pem.push(letter);
        }
        pem.extend(["\n-----END ", self.label, "-----\n"]);
        pem
    }
}

fn wrong(what: &str) -> AuthError {
    AuthError::configuration(format!("the key {what}"))
}

/// Whether the outermost element of this DER is longer than what there is.
fn is_cut_off(der: &[u8]) -> bool {
    let Some((&[_, first], rest)) = der.split_first_chunk() else { return true };
    let (length, rest) = match usize::from(first) {
        short @ 0..0x80 => (short, rest),
        long => {
            let bytes = long - 0x80;
            let Some((length, rest)) = rest.split_at_checked(bytes).filter(|_| bytes <= 4) else {
                return true;
            };
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
    };
    rest.len() < length
}
