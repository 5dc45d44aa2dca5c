//! [`Authorizer`]: puts a session's token on one request and judges its answer.

use http::{HeaderMap, HeaderName, Method, StatusCode, header};

use super::{
    answer::{Meaning, meaning, speaks_of_the_token},
    origins::{Origins, Policy, Target},
    outgoing::{Outgoing, Parts},
};
use crate::{AuthError, Binding, Challenge, ErrorKind, Presentation, Session, Token};

/// Puts a session's token on requests for listed origins, and judges the answers.
///
/// An adapter for an HTTP client makes one for each client and an [`Attempt`] for each request, and then, for that request
/// and for every one that it sends in its place (a replay, a redirect's next hop):
///
/// 1. starts from the headers without a token; [`strip`](Self::strip)s them on the way to another origin,
/// 2. calls [`authorize`](Self::authorize), and sends nothing if that fails,
/// 3. calls [`judge`](Self::judge) with the answer's status and headers and where it came from,
/// 4. unless the verdict is [`Verdict::Deliver`], calls [`settle`](Self::settle), and sends the request again if that says
///    so.
///
/// The client must not follow redirects by itself: those of most pass other headers than `Authorization` on.
///
/// # What is decided here
/// - A request gets the token if its origin is [listed](Origins). If none is to be had, the origin's [`Policy`] says
///   whether it is sent without.
/// - The caller's own credential wins: a request that comes with an `Authorization` or `DPoP` header, or with the header
///   that the token would go into, is left alone, and so are its answers and its redirects.
/// - An answer counts only if it came from a listed origin, to a request that got the token here.
/// - Each request is sent again at most once for a token (renewed, or satisfying a challenge), and once for a nonce at each
///   origin; only if the token is another than the refused one; never because of a 403 or an `insufficient_scope`.
/// - A nonce challenge (RFC 9449 section 9) never invalidates a token.
#[derive(Clone, Debug)]
pub struct Authorizer {
    session: Session,
    origins: Origins,
    certificate: Option<Box<str>>,
    authorization_only: bool,
}

/// What became of one request so far, over its replays and redirects.
#[derive(Debug, Default)]
pub struct Attempt {
    /// The token that the request last sent carried.
    attached: Option<Token>,
    /// The token for the next sending, from [`Authorizer::settle`].
    next: Option<Token>,
    /// The token of the request whose answer carried the challenge that is to be settled.
    refused: Option<Token>,
    token_replayed: bool,
    nonce_replayed: bool,
    policy: Policy,
    /// The caller brought a credential of its own.
    callers_own: bool,
    /// Headers that held credentials of the caller's: found where the token would go, or taken off at a redirect.
    callers: Vec<HeaderName>,
    /// Why the provider takes the answer that is to be settled for a refusal.
    refusal: Option<AuthError>,
}

/// What to do with an answer.
#[derive(Clone, Debug)]
#[must_use]
pub enum Verdict {
    /// Give it to the caller.
    Deliver,
    /// Send the request again with a new proof: the server demanded a nonce. The token stays.
    ReplayAfterNonce,
    /// Retire this token, and send the request again with the one that comes after it.
    ReplayAfterRenewal(Token),
    /// Get a token that satisfies this, and send the request again with it.
    ReplayAfterChallenge(Challenge),
}

impl Attempt {
    /// Before anything was sent.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether [`Authorizer::judge`] would deliver an answer with this status, whatever else it says. Only a signer learns from
    /// others than refusals and redirects (to a page to log in at), and nearly all are others.
    #[inline]
    pub(crate) fn delivers(&self, status: StatusCode) -> bool {
        let Some(token) = &self.attached else { return true };
        !speaks_of_the_token(status) && !status.is_redirection() && token.header().is_some()
    }
}

impl Authorizer {
    /// Puts this session's token on requests for these origins.
    pub fn new(session: Session, origins: Origins) -> Self {
        Self { session, origins, certificate: None, authorization_only: false }
    }

    /// Says that the client presents the certificate with this SHA-256 thumbprint (`x5t#S256`, base64url: RFC 8705 section
    /// 3.1). Tokens that are bound to any other are refused, and without this all that are bound to one. A token of a
    /// certificate that the provider has since replaced is renewed first.
    #[must_use]
    pub fn with_certificate(mut self, thumbprint: impl Into<String>) -> Self {
        self.certificate = Some(thumbprint.into().into());
        self
    }

    /// Refuses every token that does not go into the `Authorization` header: for clients that follow redirects themselves,
    /// and take only that one off on the way to another origin.
    #[must_use]
    pub fn authorization_header_only(mut self) -> Self {
        self.authorization_only = true;
        self
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Where its tokens go.
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// Whether a request to this target gets the token, and what happens when there is none.
    pub fn decide(&self, target: &impl Target) -> Option<Policy> {
        self.origins.covers(target)
    }

    /// Puts the token on a request if its origin is listed, getting one first if need be. The headers are the caller's: what
    /// an earlier call put on must not be among them.
    ///
    /// A cached token costs no waiting.
    ///
    /// # Errors
    /// Why there is no token, or it must not go onto this request. The request must not be sent then.
    ///
    /// # Cancellation
    /// Loses nothing: a renewal under way goes on.
    pub async fn authorize(
        &self,
        attempt: &mut Attempt,
        method: &Method,
        target: &impl Target,
        headers: &mut HeaderMap,
    ) -> Result<(), AuthError> {
        let mut request = Parts { method, target, headers };
        match self.authorize_now(attempt, &mut request) {
            Some(done) => done,
            None => self.authorize_later(attempt, &mut request).await,
        }
    }

    /// [`authorize`](Self::authorize) where nothing has to be waited for: what nearly every request takes. `None` where no
    /// token is at hand: [`authorize_later`](Self::authorize_later) then.
    #[inline]
    pub(crate) fn authorize_now(
        &self,
        attempt: &mut Attempt,
        request: &mut impl Outgoing,
    ) -> Option<Result<(), AuthError>> {
        attempt.attached = None;
        let next = attempt.next.take();
        attempt.callers_own |= has_credential(request.headers());
        if attempt.callers_own {
            return Some(Ok(()));
        }
        let Some(policy) = self.decide(request.target()) else { return Some(Ok(())) };
        attempt.policy = policy;
        let token = next.or_else(|| self.session.cached())?;
        if self.is_outdated(&token) {
            return None;
        }
        Some(self.attach(attempt, request, token))
    }

    /// The rest of [`authorize`](Self::authorize), where [`authorize_now`](Self::authorize_now) had no token.
    pub(crate) async fn authorize_later(
        &self,
        attempt: &mut Attempt,
        request: &mut impl Outgoing,
    ) -> Result<(), AuthError> {
        match self.session.token().await {
            Ok(token) => self.attach(attempt, request, token),
            Err(error) if attempt.policy == Policy::IfLoggedIn && nobody_is_logged_in(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Puts the token on a request that may have it, unless the caller put something in its place.
    #[inline]
    fn attach(
        &self,
        attempt: &mut Attempt,
        request: &mut impl Outgoing,
        token: Token,
    ) -> Result<(), AuthError> {
        // That the request has no `Authorization` is known.
        if let Presentation::Header(name, _) = token.presentation()
            && (name != header::AUTHORIZATION && request.headers().contains_key(name)
                || attempt.callers.contains(name))
        {
            attempt.callers_own = true;
            attempt.callers.push(name.clone());
            return Ok(());
        }
        self.put(request, &token)?;
        attempt.attached = Some(token);
        Ok(())
    }

    /// Puts this token on a request, wherever it goes: [`authorize`](Self::authorize) decides that.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if the token is bound to a certificate that this client does not have, or
    /// goes into a header that this client cannot keep to itself; the signer's errors.
    pub fn apply(
        &self,
        headers: &mut HeaderMap,
        method: &Method,
        target: &impl Target,
        token: &Token,
    ) -> Result<(), AuthError> {
        self.put(&mut Parts { method, target, headers }, token)
    }

    #[inline]
    fn put(&self, request: &mut impl Outgoing, token: &Token) -> Result<(), AuthError> {
        if let Binding::Certificate(thumbprint) = token.binding() {
            self.check_certificate(thumbprint)?;
        }
        match token.presentation() {
            Presentation::Header(name, value) => {
                if self.authorization_only && name != header::AUTHORIZATION {
                    return Err(foreign(&format!("goes into the header `{name}`")));
                }
                request.headers_mut().insert(name, value.clone());
            }
            Presentation::Signed(signer) => {
                if self.authorization_only {
                    return Err(foreign("needs each request signed (DPoP)"));
                }
                let signed = signer.sign(request.method(), request.target().uri()?.as_ref())?;
                request.headers_mut().extend(signed);
            }
        }
        Ok(())
    }

    /// Judges the answer to the request that was last [authorized](Self::authorize). `from` is where it came from.
    ///
    /// It must see every answer, also the good ones: they bring nonces.
    pub fn judge(
        &self,
        attempt: &mut Attempt,
        from: &impl Target,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Verdict {
        let delivered = attempt.delivers(status);
        let Some(token) = attempt.attached.take().filter(|_| !delivered) else { return Verdict::Deliver };
        if self.decide(from).is_none() {
            return Verdict::Deliver;
        }
        if let Presentation::Signed(signer) = token.presentation() {
            let again = from.uri().is_ok_and(|uri| signer.observe(&uri, status, headers));
            if again && status.is_client_error() && !attempt.nonce_replayed {
                attempt.nonce_replayed = true;
                // The same token: the answer is no reason to wait for another.
                attempt.next = Some(token);
                return Verdict::ReplayAfterNonce;
            }
        }
        if status.is_redirection() {
            attempt.refusal = from.uri().ok().and_then(|uri| self.session.refusal(&uri, status, headers));
            let refused = attempt.refusal.is_some();
            return if refused { Verdict::ReplayAfterRenewal(token) } else { Verdict::Deliver };
        }
        if attempt.token_replayed {
            return Verdict::Deliver;
        }
        match meaning(status, headers) {
            Meaning::Nothing | Meaning::Nonce => Verdict::Deliver,
            Meaning::AnotherToken => Verdict::ReplayAfterRenewal(token),
            Meaning::Satisfaction(challenge) => {
                attempt.refused = Some(token);
                Verdict::ReplayAfterChallenge(challenge)
            }
        }
    }

    /// Does what the verdict takes: retires the token and waits for the next, or gets one that satisfies the challenge.
    /// Whether the request is worth sending again: there is another token than the refused one, or a nonce.
    ///
    /// Where it is not `replayable`, the token is retired and nothing waited for; a challenge is satisfied all the same, for
    /// the requests that follow. Where the session has no better token to offer ([`Refused`](ErrorKind::Refused): a literal
    /// is what it is), the server's answer is the caller's; but where the answer is a refusal by the
    /// [provider's](crate::CredentialProvider::refusal) judgement alone, it is that error, for the answer looks like success.
    ///
    /// # Errors
    /// Why there is no other token, in place of the answer: above all
    /// [`InteractionRequired`](ErrorKind::InteractionRequired), with the challenge for
    /// [`Session::login_with`], and [`LoginRequired`](ErrorKind::LoginRequired).
    ///
    /// # Cancellation
    /// Loses nothing: the token is retired, and a renewal under way goes on.
    pub async fn settle(
        &self,
        attempt: &mut Attempt,
        verdict: Verdict,
        replayable: bool,
    ) -> Result<bool, AuthError> {
        let refusal = attempt.refusal.take();
        let deliver = |refusal: Option<AuthError>| refusal.map_or(Ok(false), Err);
        let (refused, next) = match verdict {
            Verdict::Deliver => return Ok(false),
            Verdict::ReplayAfterNonce => return Ok(replayable),
            Verdict::ReplayAfterRenewal(refused) => {
                if !self.session.invalidate(&refused) || !replayable || attempt.token_replayed {
                    return deliver(refusal);
                }
                (Some(refused), self.session.token().await)
            }
            Verdict::ReplayAfterChallenge(challenge) => {
                (attempt.refused.take(), self.session.satisfy(challenge).await)
            }
        };
        attempt.token_replayed = true;
        match next {
            Ok(next) if refused.is_some_and(|refused| refused.secret() == next.secret()) => deliver(refusal),
            Ok(next) => {
                attempt.next = Some(next);
                Ok(replayable)
            }
            Err(error) if attempt.policy == Policy::IfLoggedIn && nobody_is_logged_in(&error) => {
                Ok(replayable)
            }
            Err(error) if error.kind() == ErrorKind::Refused => deliver(refusal),
            Err(error) => Err(error),
        }
    }

    /// Takes off what must not go along with a redirect from one origin to another: everything that is known to hold a
    /// credential, or whose value is [marked](http::HeaderValue::set_sensitive) as one, and `Host`. Within one origin it
    /// takes off nothing.
    pub fn strip(
        &self,
        attempt: &mut Attempt,
        from: &impl Target,
        to: &impl Target,
        headers: &mut HeaderMap,
    ) {
        if same_origin(from, to) {
            return;
        }
        attempt.nonce_replayed = false; // The other origin has nonces of its own.
        let secret = |name: &HeaderName| {
            CREDENTIALS.contains(&name.as_str())
                || attempt.callers.contains(name)
                || headers.get_all(name).iter().any(http::HeaderValue::is_sensitive)
        };
        let taken: Vec<HeaderName> = headers.keys().filter(|name| secret(name)).cloned().collect();
        for name in &taken {
            headers.remove(name);
        }
        headers.remove(header::HOST);
        attempt.callers.extend(taken);
    }

    /// Whether this client has another certificate than the token is bound to because the provider's was replaced (RFC 8705
    /// section 3). The token is retired then: the next one is bound to the new certificate.
    #[inline]
    fn is_outdated(&self, token: &Token) -> bool {
        match token.binding() {
            Binding::Certificate(bound) => {
                self.certificate.is_some() && !self.has(bound) && self.session.retire_outdated(token)
            }
            _ => false,
        }
    }

    /// Whether the client presents the certificate with this thumbprint.
    fn has(&self, thumbprint: &str) -> bool {
        let ours = self.certificate.as_deref().map(|ours| ours.trim_end_matches('='));
        ours == Some(thumbprint.trim_end_matches('='))
    }

    fn check_certificate(&self, thumbprint: &str) -> Result<(), AuthError> {
        match self.certificate {
            _ if self.has(thumbprint) => Ok(()),
            Some(_) => Err(AuthError::configuration(
                "the token is bound to another client certificate than this HTTP client's: where the provider's certificate \
                 was replaced, build the HTTP client anew with that one; where the client's is the newer one, refresh the \
                 session (RFC 8705)",
            )),
            None => Err(AuthError::configuration(
                "the token is bound to a client certificate, and this HTTP client was not declared to have it: give its \
                 thumbprint to the builder (RFC 8705)",
            )),
        }
    }
}

/// Whether the two are the same origin; `false` where one is neither http nor https.
pub(crate) fn same_origin(one: &impl Target, other: &impl Target) -> bool {
    one.location().zip(other.location()).is_some_and(|(one, other)| one.is(other))
}

/// Whether the caller brought a credential. It looks at every name: requests have few, and a hash takes as long as ten of them.
#[inline]
fn has_credential(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| *name == header::AUTHORIZATION || *name == DPOP)
}

const DPOP: HeaderName = HeaderName::from_static("dpop");

/// Headers that hold credentials, whoever put them there.
const CREDENTIALS: [&str; 10] = [
    "authorization",
    "dpop",
    "cookie",
    "cookie2",
    "proxy-authorization",
    "www-authenticate",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "private-token",
];

fn nobody_is_logged_in(error: &AuthError) -> bool {
    matches!(error.kind(), ErrorKind::NotConfigured | ErrorKind::LoginRequired | ErrorKind::LoginRejected)
}

fn foreign(why: &str) -> AuthError {
    AuthError::configuration(format!(
        "the token {why}, which is refused on a client that keyfob did not build: its redirects would pass it on to \
         other origins; use AuthClient"
    ))
}
