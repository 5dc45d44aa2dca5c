//! [`AuthMiddleware`]: one request, with its replays and redirects.

use http::Extensions;
use reqwest::{Request, Response};
use reqwest_middleware::{Error, Middleware, Next};

use super::redirect::{self, TooManyRedirects};
use crate::{
    AuthError, Session, async_trait,
    authorize::{Attempt, Authorizer, Origins, Verdict, same_origin},
};

/// The middleware of an [`AuthClient`](super::AuthClient), which is the client to use.
///
/// For a client that keyfob did not build there is [`AuthMiddleware::dangerously_for_foreign_client`].
#[derive(Debug)]
pub struct AuthMiddleware {
    authorizer: Authorizer,
    redirects: usize,
    replay: bool,
    foreign: bool,
}

impl AuthMiddleware {
    pub(super) fn new(authorizer: Authorizer, redirects: usize, replay: bool) -> Self {
        Self { authorizer, redirects, replay, foreign: false }
    }

    /// Puts the session's token on requests of a client that was built elsewhere and follows redirects by itself.
    ///
    /// Its redirects are out of reach: they take `Authorization` off on the way to another origin, and pass every other
    /// header on. So a token that goes into any other header, or needs each request signed (DPoP), is refused: no request
    /// for a listed origin is sent, and the error is [`Configuration`](crate::ErrorKind::Configuration). Nor does a token go
    /// onto what a redirect leads to, listed or not. Tokens that are bound to a certificate are refused too.
    ///
    /// # Examples
    /// ```
    /// use keyfob_auth_core::{Session, authorize::Origins, middleware::AuthMiddleware};
    /// use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
    ///
    /// fn wrap(theirs: reqwest::Client, session: Session, origins: Origins) -> ClientWithMiddleware {
    ///     ClientBuilder::new(theirs).with(AuthMiddleware::dangerously_for_foreign_client(session, origins)).build()
    /// }
    /// ```
    pub fn dangerously_for_foreign_client(session: Session, origins: Origins) -> Self {
        let authorizer = Authorizer::new(session, origins).authorization_header_only();
        Self { authorizer, redirects: 0, replay: true, foreign: true }
    }

    async fn send(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response, Error> {
        let mut attempt = Attempt::new();
        let mut followed = 0;
        loop {
            let spare = (self.replay || self.redirects > 0).then(|| Spare::of(&mut request)).flatten();
            self.authorize(&mut attempt, &mut request).await.map_err(Error::middleware)?;
            let response = next.clone().run(request, extensions).await?;
            let verdict = self.judge(&mut attempt, spare.as_ref(), &response);
            if !matches!(verdict, Verdict::Deliver) {
                tracing::debug!(
                    status = response.status().as_u16(),
                    why = why(&verdict),
                    "the API refused the request"
                );
                let replayable = spare.filter(|spare| spare.whole && self.replay);
                let settled = self.authorizer.settle(&mut attempt, verdict, replayable.is_some()).await;
                if let (true, Some(spare)) = (settled.map_err(Error::middleware)?, replayable) {
                    request = spare.request;
                    continue;
                }
                return Ok(response);
            }
            let Some(Spare { request: mut spare, whole }) = spare else { return Ok(response) };
            let hop = redirect::hop(spare.url(), spare.method(), response.status(), response.headers());
            let Some(hop) = hop.filter(|hop| self.redirects > 0 && (whole || !hop.keeps_body)) else {
                return Ok(response);
            };
            if followed == self.redirects {
                return Err(Error::middleware(TooManyRedirects { followed }));
            }
            followed += 1;
            let from = spare.url().clone();
            hop.take(&mut spare);
            let mut headers = std::mem::take(spare.headers_mut());
            self.authorizer.strip(&mut attempt, &from, spare.url(), &mut headers);
            *spare.headers_mut() = headers;
            request = spare;
        }
    }

    async fn authorize(&self, attempt: &mut Attempt, request: &mut Request) -> Result<(), AuthError> {
        let mut headers = std::mem::take(request.headers_mut());
        let done = self.authorizer.authorize(attempt, request.method(), request.url(), &mut headers).await;
        *request.headers_mut() = headers;
        done
    }

    /// A foreign client may have followed redirects: the token stayed behind then, and the answer says nothing of it.
    fn judge(&self, attempt: &mut Attempt, sent: Option<&Spare>, response: &Response) -> Verdict {
        if self.foreign && !sent.is_some_and(|sent| same_origin(sent.request.url(), response.url())) {
            return Verdict::Deliver;
        }
        self.authorizer.judge(attempt, response.url(), response.status(), response.headers())
    }
}

#[async_trait]
impl Middleware for AuthMiddleware {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        self.send(request, extensions, next).await
    }
}

/// A copy of a request without a token, for sending it again or elsewhere.
struct Spare {
    request: Request,
    /// Whether it has the body, if there is one: a stream cannot be copied.
    whole: bool,
}

impl Spare {
    fn of(request: &mut Request) -> Option<Self> {
        if let Some(copy) = request.try_clone() {
            return Some(Self { request: copy, whole: true });
        }
        let body = request.body_mut().take();
        let copy = request.try_clone();
        *request.body_mut() = body;
        copy.map(|request| Self { request, whole: false })
    }
}

fn why(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Deliver => "",
        Verdict::ReplayAfterNonce => "it demands a nonce",
        Verdict::ReplayAfterRenewal(_) => "it does not take the token",
        Verdict::ReplayAfterChallenge(_) => "it demands more of the token",
    }
}
