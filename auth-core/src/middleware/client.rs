//! [`AuthClient`], and how it is built.

use std::{fmt, ops::Deref};

use reqwest_middleware::ClientWithMiddleware;

use super::service::AuthMiddleware;
use crate::{
    AuthError, Session,
    authorize::{Authorizer, Origins},
};

/// A reqwest client that puts a session's token on its requests to the [listed origins](Origins), and on no others.
///
/// It is a [`ClientWithMiddleware`], whose methods it has; clones share everything. What [`Authorizer`] says of requests
/// and answers is true of it. It follows redirects itself and decides at every hop anew, because reqwest's own redirects
/// would pass a `DPoP` or `x-api-key` header on to any other origin.
///
/// A request that is refused with a 401 is sent once more with another token, if its body can be: a stream cannot. A
/// 307 or 308 that would need a stream again is delivered as it is.
///
/// # Errors
/// Where there is no token for a listed origin, the request is not sent, and the error is a
/// [`reqwest_middleware::Error::Middleware`], from which [`auth_error`](super::auth_error) takes the [`AuthError`].
///
/// # Security
/// - Default headers of the reqwest client go to every origin, also after a redirect: a secret does not belong there.
/// - A proxy sees what is sent by plain http. Where `HTTP_PROXY` is set and an http origin on loopback is listed,
///   `NO_PROXY` must name it, or the client must be built with [`no_proxy`](reqwest::ClientBuilder::no_proxy).
///
/// # Cancellation
/// Dropping a call drops the request. A renewal that it waited for goes on.
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use keyfob_auth_core::{Session, authorize::Origins, middleware::AuthClient};
///
/// # async fn example(session: Session) -> Result<(), Box<dyn std::error::Error>> {
/// let client = AuthClient::builder(session)
///     .origins(Origins::new().with("https://api.example")?)
///     .http(|http| http.timeout(Duration::from_secs(30)))
///     .build()?;
/// let answer = client.get("https://api.example/jobs").send().await?;
/// # let _ = answer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AuthClient(ClientWithMiddleware);

impl AuthClient {
    /// A client for this session, to be configured. It needs [`origins`](AuthClientBuilder::origins).
    pub fn builder(session: Session) -> AuthClientBuilder {
        AuthClientBuilder {
            session,
            origins: Origins::new(),
            http: reqwest::ClientBuilder::new(),
            certificate: None,
            redirects: MOST_REDIRECTS,
            replay: true,
        }
    }

    /// The client as what it is, to be wrapped in further middleware.
    ///
    /// Middleware that is added to it runs inside: it sees every hop and every replay, with the token.
    pub fn into_inner(self) -> ClientWithMiddleware {
        self.0
    }
}

impl Deref for AuthClient {
    type Target = ClientWithMiddleware;

    fn deref(&self) -> &ClientWithMiddleware {
        &self.0
    }
}

impl From<AuthClient> for ClientWithMiddleware {
    fn from(client: AuthClient) -> Self {
        client.0
    }
}

/// As many as reqwest itself follows.
const MOST_REDIRECTS: usize = 10;

/// Makes an [`AuthClient`].
#[must_use]
pub struct AuthClientBuilder {
    session: Session,
    origins: Origins,
    http: reqwest::ClientBuilder,
    certificate: Option<String>,
    redirects: usize,
    replay: bool,
}

impl AuthClientBuilder {
    /// Where the session's tokens go, instead of what was said before.
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Configures the reqwest client: time-outs (each of one hop, not of all), certificates, a proxy. Its redirect policy
    /// is set aside: see [`redirects`](Self::redirects).
    pub fn http(mut self, configure: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> Self {
        self.http = configure(self.http);
        self
    }

    /// Says that the reqwest client presents the certificate with this SHA-256 thumbprint (`x5t#S256`, base64url: RFC 8705
    /// section 3.1). Without it, tokens that are bound to a certificate are refused. Once the certificate is replaced, a
    /// client that is built anew with the new one gets a token that is bound to it at once.
    pub fn certificate(mut self, thumbprint: impl Into<String>) -> Self {
        self.certificate = Some(thumbprint.into());
        self
    }

    /// How many redirects are followed, 10 unless said; 0 delivers redirect answers as they are.
    pub fn redirects(mut self, most: usize) -> Self {
        self.redirects = most;
        self
    }

    /// Whether a refused request is sent again with another token or nonce; it is, unless said.
    ///
    /// Without it a refused token is still retired, so that the next request gets another. With neither replay nor
    /// redirects no request is copied.
    pub fn replay(mut self, replay: bool) -> Self {
        self.replay = replay;
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) if no origin is listed, or reqwest refuses what it was told (on a
    /// machine without CA certificates, for one).
    pub fn build(self) -> Result<AuthClient, AuthError> {
        if self.origins.is_empty() {
            return Err(AuthError::configuration(
                "no origins are listed for the HTTP client: none of its requests would get a token",
            ));
        }
        let http = self.http.redirect(reqwest::redirect::Policy::none()).referer(false).build();
        let http = http.map_err(|error| {
            AuthError::configuration("the HTTP client cannot be made").with_source(error.without_url())
        })?;
        let mut authorizer = Authorizer::new(self.session, self.origins);
        if let Some(thumbprint) = self.certificate {
            authorizer = authorizer.with_certificate(thumbprint);
        }
        let middleware = AuthMiddleware::new(authorizer, self.redirects, self.replay);
        Ok(AuthClient(reqwest_middleware::ClientBuilder::new(http).with(middleware).build()))
    }
}

impl fmt::Debug for AuthClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the reqwest builder: it shows default headers.
        f.debug_struct("AuthClientBuilder")
            .field("session", &self.session)
            .field("origins", &self.origins)
            .field("redirects", &self.redirects)
            .field("replay", &self.replay)
            .finish_non_exhaustive()
    }
}
