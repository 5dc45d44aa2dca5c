//! [`AuthMiddleware`]: one request, with its replays and redirects.

use std::pin::Pin;

use http::{Extensions, HeaderMap, Method};
use reqwest::{Request, Response, Url};
use reqwest_middleware::{Error, Middleware, Next};

use super::redirect::{self, TooManyRedirects};
use crate::{
    Session,
    authorize::{Attempt, Authorizer, Origins, Outgoing, Verdict, same_origin},
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

    /// Looks into an answer that may not be the caller's yet: a refusal, a redirect, any at all to a signed request.
    async fn follow(
        &self,
        attempt: &mut Attempt,
        followed: &mut usize,
        spare: Option<Spare>,
        response: Response,
    ) -> Result<After, Error> {
        let verdict = self.judge(attempt, spare.as_ref(), &response);
        if !matches!(verdict, Verdict::Deliver) {
            tracing::debug!(
                status = response.status().as_u16(),
                why = why(&verdict),
                "the API refused the request"
            );
            let replayable = spare.filter(|spare| spare.whole && self.replay);
            let settled = self.authorizer.settle(attempt, verdict, replayable.is_some()).await;
            return Ok(match (settled.map_err(Error::middleware)?, replayable) {
                (true, Some(spare)) => After::Send(spare.request),
                _ => After::Deliver(response),
            });
        }
        let Some(Spare { request: mut spare, whole }) = spare else { return Ok(After::Deliver(response)) };
        let hop = redirect::hop(spare.url(), spare.method(), response.status(), response.headers());
        let Some(hop) = hop.filter(|hop| self.redirects > 0 && (whole || !hop.keeps_body)) else {
            return Ok(After::Deliver(response));
        };
        if *followed == self.redirects {
            return Err(Error::middleware(TooManyRedirects { followed: *followed }));
        }
        *followed += 1;
        let from = spare.url().clone();
        hop.take(&mut spare);
        let mut headers = std::mem::take(spare.headers_mut());
        self.authorizer.strip(attempt, &from, spare.url(), &mut headers);
        *spare.headers_mut() = headers;
        Ok(After::Send(spare))
    }

    /// A foreign client may have followed redirects: the token stayed behind then, and the answer says nothing of it.
    fn judge(&self, attempt: &mut Attempt, sent: Option<&Spare>, response: &Response) -> Verdict {
        if self.foreign && !sent.is_some_and(|sent| same_origin(sent.request.url(), response.url())) {
            return Verdict::Deliver;
        }
        self.authorizer.judge(attempt, response.url(), response.status(), response.headers())
    }
}

/// Every request pays for the size of this future, which is made on the heap and moved there. So the request is kept once
/// (`async_trait` would keep it as an argument and as a variable), and what is seldom awaited is in a box of its own.
impl Middleware for AuthMiddleware {
    fn handle<'a, 'e, 'n, 'f>(
        &'a self,
        mut request: Request,
        extensions: &'e mut Extensions,
        next: Next<'n>,
    ) -> Pin<Box<dyn Future<Output = reqwest_middleware::Result<Response>> + Send + 'f>>
    where
        Self: 'f,
        'a: 'f,
        'e: 'f,
        'n: 'f,
    {
        Box::pin(async move {
            let mut attempt = Attempt::new();
            let mut followed = 0;
            loop {
                let spare = if self.replay || self.redirects > 0 { Spare::of(&mut request) } else { None };
                let authorized = match self.authorizer.authorize_now(&mut attempt, &mut request) {
                    Some(done) => done,
                    None => Box::pin(self.authorizer.authorize_later(&mut attempt, &mut request)).await,
                };
                authorized.map_err(Error::middleware)?;
                let response = next.clone().run(request, extensions).await?;
                let redirected = self.redirects > 0 && response.status().is_redirection();
                if !redirected && attempt.delivers(response.status()) {
                    return Ok(response);
                }
                match Box::pin(self.follow(&mut attempt, &mut followed, spare, response)).await? {
                    After::Send(next) => request = next,
                    After::Deliver(response) => return Ok(response),
                }
            }
        })
    }
}

impl Outgoing for Request {
    type Target = Url;

    fn method(&self) -> &Method {
        self.method()
    }

    fn target(&self) -> &Url {
        self.url()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }
}

/// What comes after an answer.
enum After {
    Send(Request),
    Deliver(Response),
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
