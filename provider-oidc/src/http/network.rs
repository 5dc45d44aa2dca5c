//! [`Network`]: how a provider's requests leave this machine. The clients are shared in the context.

use std::{
    fmt,
    pin::pin,
    sync::{Mutex, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use keyfob_auth_core::{AuthError, Context, ExposeSecret, SecretString, registry::SecretSource};
use reqwest::{Client, ClientBuilder, redirect::Policy};

use super::Endpoint;
use crate::recent::Recent;

/// The longest that a connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// The longest that a request may take, its answer included.
const DEADLINE: Duration = Duration::from_secs(30);
/// How many clients with certificates or a proxy of their own are kept.
const MOST_CLIENTS: usize = 256;

/// Through what requests go.
#[derive(Clone, Default)]
pub(crate) enum Proxy {
    /// What the environment says (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`), else the system's settings.
    #[default]
    System,
    /// None at all.
    None,
    /// This one, whatever the environment says.
    At(String),
}

impl fmt::Debug for Proxy {
    /// Without its URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::None => "None",
            Self::At(_) => "At",
        })
    }
}

/// A certificate that the client shows (RFC 8705), and its private key.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) chain: SecretSource,
    /// Not needed where the chain's source holds the key too.
    pub(crate) key: Option<SecretSource>,
}

/// How requests leave this machine.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// Certificate authorities that are trusted besides the system's, as PEM.
    pub(crate) authorities: Option<SecretSource>,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) proxy: Proxy,
    pub(crate) deadline: Option<Duration>,
}

/// The client for everything over TLS, shared in the context.
struct Remote(Client);

/// The client for plain http on this machine: no proxy gets to see what it sends, and it needs no certificates.
struct Plain(Client);

/// Clients with certificates or a proxy of their own, by a hash of what they were made of.
type Special = Recent<Mutex<Option<Client>>, MOST_CLIENTS>;

impl Network {
    pub(super) async fn client(&self, context: &Context, endpoint: &Endpoint) -> Result<Client, AuthError> {
        if !endpoint.is_https() {
            let make = || build(without_tls(Client::builder().no_proxy())).map(Plain);
            return Ok(context.shared(make)?.0.clone());
        }
        if self.is_ordinary() {
            return Ok(context.shared(|| build(Client::builder()).map(Remote))?.0.clone());
        }
        let read = Read {
            authorities: read(self.authorities.as_ref()).await?,
            chain: read(self.certificate.as_ref().map(|certificate| &certificate.chain)).await?,
            key: read(self.certificate.as_ref().and_then(|certificate| certificate.key.as_ref())).await?,
        };
        let made_of = URL_SAFE_NO_PAD.encode(read.hash(&self.proxy));
        let known = context.shared(|| Ok(Special::default()))?.get(&made_of);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*known {
            return Ok(client.clone());
        }
        let client = self.build(&read)?;
        *known = Some(client.clone());
        Ok(client)
    }

    /// A name for what was heard of this URL or issuer by this network: whoever trusts other authorities, or goes through
    /// another proxy, may have heard something else, and no other provider may believe it.
    pub(crate) fn heard_of(&self, name: &str) -> String {
        if self.authorities.is_none() && matches!(self.proxy, Proxy::System) {
            return name.to_owned();
        }
        let mut hash = hmac_sha256::Hash::new();
        if let Some(authorities) = &self.authorities {
            hash_source(&mut hash, authorities);
        }
        hash_proxy(&mut hash, &self.proxy);
        format!("{name} {}", URL_SAFE_NO_PAD.encode(hash.finalize()))
    }

    /// The SHA-256 thumbprint of the client's certificate (`x5t#S256`, RFC 8705 section 3.1), if it shows one.
    pub(crate) async fn thumbprint(&self) -> Result<Option<String>, AuthError> {
        let Some(certificate) = &self.certificate else { return Ok(None) };
        let chain = certificate.chain.read().await?;
        thumbprint(chain.expose_secret()).map(Some).ok_or_else(|| {
            AuthError::configuration("`certificate` holds no PEM certificate")
                .with_origin(certificate.chain.to_string())
        })
    }

    /// How long one request may take, its answer included.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline.unwrap_or(DEADLINE)
    }

    /// Whether the client still shows the certificate that a token is bound to. Where that cannot be told at once, it is
    /// taken to.
    ///
    /// # Errors
    /// If it shows another, or none.
    pub(crate) fn still_shows(&self, bound: &str) -> Result<(), AuthError> {
        let shown = match &self.certificate {
            None => None,
            // A program is not asked for it.
            Some(certificate) if certificate.chain.revision().is_none() => return Ok(()),
            Some(_) => {
                match pin!(self.thumbprint()).poll(&mut std::task::Context::from_waker(Waker::noop())) {
                    Poll::Ready(Ok(thumbprint)) => thumbprint,
                    Poll::Ready(Err(_)) | Poll::Pending => return Ok(()),
                }
            }
        };
        if shown.as_deref() == Some(bound) {
            return Ok(());
        }
        Err(AuthError::refused("the access token is bound to another certificate than the client has now"))
    }

    /// Changes when the certificate or its key does.
    pub(crate) fn revision(&self) -> Option<u64> {
        let certificate = self.certificate.as_ref()?;
        let key = certificate.key.as_ref().and_then(SecretSource::revision).unwrap_or_default();
        Some(certificate.chain.revision()?.rotate_left(17) ^ key)
    }

    fn is_ordinary(&self) -> bool {
        self.authorities.is_none() && self.certificate.is_none() && matches!(self.proxy, Proxy::System)
    }

    fn build(&self, read: &Read) -> Result<Client, AuthError> {
        let mut builder = Client::builder();
        builder = match &self.proxy {
            Proxy::System => builder,
            Proxy::None => builder.no_proxy(),
            Proxy::At(url) => builder.proxy(reqwest::Proxy::all(url).map_err(|error| {
                AuthError::configuration("`proxy` is no URL of a proxy").with_source(error.without_url())
            })?),
        };
        builder = with_certificates(builder, self, read)?;
        settings(builder).build().map_err(|error| {
            let about = if read.chain.is_some() { "; do `certificate` and its key fit?" } else { "" };
            AuthError::configuration(format!("no HTTP client can be made{about}"))
                .with_source(error.without_url())
        })
    }
}

/// What a client is made of, as it was read.
struct Read {
    authorities: Option<SecretString>,
    chain: Option<SecretString>,
    key: Option<SecretString>,
}

impl Read {
    fn hash(&self, proxy: &Proxy) -> [u8; 32] {
        let mut hash = hmac_sha256::Hash::new();
        for secret in [&self.authorities, &self.chain, &self.key] {
            let text = secret.as_ref().map_or("", |secret| secret.expose_secret());
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        }
        hash_proxy(&mut hash, proxy);
        hash.finalize()
    }
}

fn hash_proxy(hash: &mut hmac_sha256::Hash, proxy: &Proxy) {
    hash.update(format!("{proxy:?}"));
    hash.update(if let Proxy::At(url) = proxy { url } else { "" });
}

/// Where a text comes from, and as far as that can be told at once what it is now.
fn hash_source(hash: &mut hmac_sha256::Hash, source: &SecretSource) {
    match source {
        SecretSource::Literal(text) => hash.update(text.expose_secret()),
        SecretSource::Configured(source, _) => hash_source(hash, source),
        SecretSource::Command(argv) => hash.update(format!("{argv:?}")),
        other => hash.update(format!("{other} {:?}", other.revision())),
    }
}

async fn read(source: Option<&SecretSource>) -> Result<Option<SecretString>, AuthError> {
    match source {
        Some(source) => source.read().await.map(Some),
        None => Ok(None),
    }
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
fn with_certificates(
    mut builder: ClientBuilder,
    network: &Network,
    read: &Read,
) -> Result<ClientBuilder, AuthError> {
    if let (Some(source), Some(pem)) = (&network.authorities, &read.authorities) {
        let bad = |what: &str| {
            AuthError::configuration(format!("`ca_file` {what}")).with_origin(source.to_string())
        };
        let certificates = reqwest::Certificate::from_pem_bundle(pem.expose_secret().as_bytes())
            .map_err(|error| bad("is not PEM").with_source(error.without_url()))?;
        if certificates.is_empty() {
            return Err(bad("holds no PEM certificate"));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    if let (Some(certificate), Some(chain)) = (&network.certificate, &read.chain) {
        let identity = identity(chain, read.key.as_ref()).map_err(|error| {
            AuthError::configuration(
                "`certificate` and its key cannot be used; both are wanted as PEM, the key unencrypted",
            )
            .with_origin(certificate.chain.to_string())
            .with_source(error.without_url())
        })?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

#[cfg(not(any(feature = "rustls", feature = "native-tls")))]
fn with_certificates(builder: ClientBuilder, _: &Network, _: &Read) -> Result<ClientBuilder, AuthError> {
    Ok(builder)
}

#[cfg(feature = "rustls")]
fn identity(chain: &SecretString, key: Option<&SecretString>) -> Result<reqwest::Identity, reqwest::Error> {
    let chain = chain.expose_secret();
    let key = key.map_or("", |key| key.expose_secret());
    let mut pem = zeroize::Zeroizing::new(Vec::with_capacity(chain.len() + key.len() + 1));
    pem.extend_from_slice(chain.as_bytes());
    pem.push(b'\n');
    pem.extend_from_slice(key.as_bytes());
    reqwest::Identity::from_pem(&pem)
}

#[cfg(all(feature = "native-tls", not(feature = "rustls")))]
fn identity(chain: &SecretString, key: Option<&SecretString>) -> Result<reqwest::Identity, reqwest::Error> {
    let chain = chain.expose_secret();
    let key = key.map_or(chain, |key| key.expose_secret());
    reqwest::Identity::from_pkcs8_pem(chain.as_bytes(), key.as_bytes())
}

/// The thumbprint of the first certificate in a PEM text: that of the client itself.
pub(super) fn thumbprint(pem: &str) -> Option<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let body = pem.split_once(BEGIN)?.1.split_once("-----END CERTIFICATE-----")?.0;
    let text: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(text).ok()?;
    let hash = hmac_sha256::Hash::hash(&der);
    Some(URL_SAFE_NO_PAD.encode(hash))
}

fn without_tls(builder: ClientBuilder) -> ClientBuilder {
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    let builder = builder.tls_certs_only([]);
    builder
}

fn settings(builder: ClientBuilder) -> ClientBuilder {
    builder
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(CONNECT_DEADLINE)
        .user_agent(concat!("keyfob/", env!("CARGO_PKG_VERSION")))
}

fn build(builder: ClientBuilder) -> Result<Client, AuthError> {
    settings(builder).build().map_err(|error| {
        AuthError::configuration("no HTTP client can be made; does this machine have CA certificates?")
            .with_source(error.without_url())
    })
}
