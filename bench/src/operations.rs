//! What is timed and counted per call: the cached header and its rivals, the middleware and its rival.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use http::{Extensions, HeaderName, HeaderValue, Method, StatusCode, header};
use keyfob::{
    AccessToken, Acquired, Session,
    authorize::Origins,
    middleware::AuthClient,
    testing::{ScriptedProvider, Step},
};
use reqwest::{Client, Request, Response, ResponseBuilderExt as _};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use rustix::time::{ClockId, clock_gettime};
use url::Url;

use crate::{Result, files};

/// Something done so many times.
pub type Repeated = Box<dyn FnMut(usize) + Send>;

/// The names that [`named`] knows.
pub const NAMES: [&str; 11] = [
    CLONE,
    ARC_SWAP,
    HAND_WRITTEN,
    CACHED_1024,
    CACHED_200,
    TOKEN,
    FILE_LOAD,
    CONSTANT,
    CONSTANT_AND_COPY,
    AUTH,
    AUTH_WITHOUT_REPLAY,
];

/// [`HeaderValue::clone`] of 1,024 bytes.
pub const CLONE: &str = "clone";
/// The limit: an `arc_swap` load, a coarse clock, a clone.
pub const ARC_SWAP: &str = "arc_swap";
/// What most people write.
pub const HAND_WRITTEN: &str = "hand_written";
/// [`Session::cached_header`] of a token of 1,024 bytes.
pub const CACHED_1024: &str = "cached_header";
/// [`Session::cached_header`] of a token of 200 bytes.
pub const CACHED_200: &str = "cached_header_200";
/// [`Session::token`] with the token at hand.
pub const TOKEN: &str = "token";
/// [`TokenStore::load`](keyfob::TokenStore::load) of a file store.
pub const FILE_LOAD: &str = "file_load";
/// A middleware that inserts a constant header.
pub const CONSTANT: &str = "constant_header";
/// The same, and the request copied first, as a replay needs it.
pub const CONSTANT_AND_COPY: &str = "constant_header_and_copy";
/// [`AuthClient`] as it comes.
pub const AUTH: &str = "auth_client";
/// [`AuthClient`] without replays and redirects.
pub const AUTH_WITHOUT_REPLAY: &str = "auth_client_without_replay";

/// The operation of this name, ready to be repeated. Its session's token is cached.
///
/// # Errors
/// An unknown name; what keeps the session or the client from being made.
pub fn named(name: &str) -> Result<Repeated> {
    Ok(match name {
        CLONE => clone(&header_of(1024)?),
        ARC_SWAP => arc_swap(1024)?,
        HAND_WRITTEN => hand_written(1024)?,
        CACHED_1024 => cached_header(session_of(1024)?),
        CACHED_200 => cached_header(session_of(200)?),
        TOKEN => token(session_of(1024)?),
        FILE_LOAD => files::loading()?,
        CONSTANT => requests(constant(false)?)?,
        CONSTANT_AND_COPY => requests(constant(true)?)?,
        AUTH => requests(auth(10, true)?)?,
        AUTH_WITHOUT_REPLAY => requests(auth(0, false)?)?,
        _ => return Err(format!("there is no operation {name}; there are: {}", NAMES.join(", ")).into()),
    })
}

/// A token's text of this length.
pub fn token_of(length: usize) -> String {
    "0123456789abcdef".chars().cycle().take(length).collect()
}

/// A session with a token of this length at hand, on the system's clock and the default context.
///
/// # Errors
/// If it gets none.
pub fn session_of(length: usize) -> Result<Session> {
    let provider = ScriptedProvider::unattended();
    let token = AccessToken::new(token_of(length)).expires_in(24 * 3600);
    provider.push(Step::Answer(Box::new(Acquired::token(token))));
    let session = Session::builder(Arc::new(provider)).build()?;
    session.token_blocking()?;
    Ok(session)
}

/// [`Session::cached_header`] of this session.
pub fn cached_header(session: Session) -> Repeated {
    Box::new(move |times| {
        for _ in 0..times {
            black_box(black_box(&session).cached_header());
        }
    })
}

fn token(session: Session) -> Repeated {
    Box::new(move |times| {
        pollster::block_on(async {
            for _ in 0..times {
                // An error would be seen: it takes far more instructions.
                drop(black_box(black_box(&session).token().await));
            }
        });
    })
}

/// A plain clone of this value, which others may share.
pub fn clone(value: &HeaderValue) -> Repeated {
    let value = value.clone();
    Box::new(move |times| {
        for _ in 0..times {
            black_box(black_box(&value).clone());
        }
    })
}

/// The header of a token of this length.
///
/// # Errors
/// Never in fact.
pub fn header_of(length: usize) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token_of(length)))?;
    value.set_sensitive(true);
    Ok(value)
}

struct Swapped {
    value: HeaderValue,
    expires: i64,
}

/// The least that a cached header with an expiry takes.
fn arc_swap(length: usize) -> Result<Repeated> {
    let swapped = Swapped { value: header_of(length)?, expires: coarse_seconds() + 24 * 3600 };
    let cell = ArcSwapOption::from_pointee(swapped);
    Ok(Box::new(move |times| {
        for _ in 0..times {
            let current = black_box(&cell).load();
            let fresh = current.as_ref().filter(|current| coarse_seconds() < current.expires);
            black_box(fresh.map(|current| current.value.clone()));
        }
    }))
}

fn coarse_seconds() -> i64 {
    clock_gettime(ClockId::MonotonicCoarse).tv_sec
}

struct Token {
    secret: String,
    expires: Instant,
}

/// What most people write, where most people run it: on Tokio.
fn hand_written(length: usize) -> Result<Repeated> {
    let token = Token { secret: token_of(length), expires: Instant::now() + Duration::from_secs(24 * 3600) };
    let cell = Arc::new(tokio::sync::RwLock::new(Some(token)));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    Ok(Box::new(move |times| {
        // Otherwise the task would have to yield now and then, as it does at its requests in truth.
        runtime.block_on(tokio::task::unconstrained(async {
            for _ in 0..times {
                black_box(hand_written_header(black_box(&cell)).await);
            }
        }));
    }))
}

async fn hand_written_header(cell: &tokio::sync::RwLock<Option<Token>>) -> Option<HeaderValue> {
    let guard = cell.read().await;
    let token = guard.as_ref().filter(|token| Instant::now() < token.expires)?;
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.secret)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

const URL: &str = "https://api.example/v1/jobs?state=running";

/// Sends requests with a few headers and a body through this client.
///
/// The headers have room for one more: what it takes to grow them hangs on what lies beside them on the heap (up to 300
/// instructions either way, by what the process did before), and would be told as the middleware's.
fn requests(client: ClientWithMiddleware) -> Result<Repeated> {
    let url: Url = URL.parse()?;
    let template = [
        (header::ACCEPT, HeaderValue::from_static("application/json")),
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (HeaderName::from_static("x-request-id"), HeaderValue::from_static("7f3a0c52")),
    ];
    Ok(Box::new(move |times| {
        pollster::block_on(async {
            for _ in 0..times {
                let mut request = Request::new(Method::POST, url.clone());
                request.headers_mut().reserve(template.len() + 1);
                request.headers_mut().extend(template.iter().cloned());
                *request.body_mut() = Some(br#"{"job":1}"#.as_slice().into());
                let answer = client.execute(black_box(request)).await;
                assert!(
                    answer.is_ok_and(|answer| answer.status() == StatusCode::OK),
                    "the request was refused"
                );
            }
        });
    }))
}

fn constant(copies: bool) -> Result<ClientWithMiddleware> {
    let constant = Constant { value: header_of(1024)?, copies };
    let client = Client::builder().tls_certs_only([]).build()?;
    Ok(ClientBuilder::new(client).with(constant).with(Answer::new()?).build())
}

fn auth(redirects: usize, replay: bool) -> Result<ClientWithMiddleware> {
    let client = AuthClient::builder(session_of(1024)?)
        .origins(Origins::new().with("https://api.example")?)
        .http(|http| http.tls_certs_only([]))
        .redirects(redirects)
        .replay(replay)
        .build()?;
    Ok(ClientBuilder::from_client(client.into_inner()).with(Answer::new()?).build())
}

/// Puts the same header on every request.
struct Constant {
    value: HeaderValue,
    /// Copies each request first, and keeps the copy until the answer is there.
    copies: bool,
}

#[async_trait]
impl Middleware for Constant {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let copy = self.copies.then(|| request.try_clone());
        request.headers_mut().insert(header::AUTHORIZATION, self.value.clone());
        let answer = next.run(request, extensions).await;
        black_box(copy);
        answer
    }
}

/// Answers every request that carries a token with 200, others with 401, and sends none.
struct Answer(Url);

impl Answer {
    fn new() -> Result<Self> {
        Ok(Self(URL.parse()?))
    }
}

#[async_trait]
impl Middleware for Answer {
    async fn handle(
        &self,
        request: Request,
        _: &mut Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let carried = request.headers().get(header::AUTHORIZATION).is_some_and(|value| value.len() > 1024);
        let status = if carried { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        let answer = http::Response::builder().status(status).url(self.0.clone()).body("");
        answer.map(Response::from).map_err(reqwest_middleware::Error::middleware)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_works() {
        for name in NAMES {
            named(name).unwrap()(3);
        }
        assert!(named("nothing").is_err());
    }
}
