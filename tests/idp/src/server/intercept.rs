//! What happens around every request: it is read, counted and recorded, and meets its fault.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    fault::{Endpoint, Fault},
    inner::Server,
    received::Received,
    respond::{OAuthError, empty_response, html_response, json_response, status_code},
};

/// The most bytes of a body that the server reads.
const LONGEST_BODY: usize = 64 << 20;

/// In the extensions of a response: it is not to be sent, the connection is to be closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Severed;

impl Severed {
    /// What the connection is to do with a response: send it, or fail and so be closed.
    pub(super) fn check(response: Result<Response, Infallible>) -> Result<Response, io::Error> {
        let response = response.unwrap_or_else(|never| match never {});
        match response.extensions().get::<Self>() {
            None => Ok(response),
            Some(Self) => Err(io::Error::other("the connection is to be closed")),
        }
    }
}

/// The middleware around all routes.
pub(super) async fn intercept(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    if server.is_down() {
        return severed();
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LONGEST_BODY).await else { return severed() };
    let endpoint = Endpoint::of(parts.uri.path());
    let control = parts.uri.path().starts_with("/control/");
    let mut request = Request::from_parts(parts.clone(), Body::empty());
    let received = Arc::new(Received::new(parts, body));
    request.extensions_mut().insert(Arc::clone(&received));
    if control {
        return next.run(request).await;
    }

    let fault = arrive(&server, endpoint, &received);
    let act = async {
        let response = next.run(request).await;
        sleep_unless_zero(server.settings.response_delay).await;
        response
    };
    let response = match fault {
        None => act.await,
        Some(fault) => fail(&server, &received, fault, act).await,
    };
    if endpoint == Some(Endpoint::Api) {
        count_api_answer(&server, &response);
    }
    response
}

/// Counts and records a request and takes its fault.
fn arrive(server: &Server, endpoint: Option<Endpoint>, received: &Received) -> Option<Fault> {
    let mut state = server.state();
    state.record(received.record(endpoint));
    let endpoint = endpoint?;
    state.counters.arrived(endpoint, received);
    let fault = server.faults.take(endpoint);
    state.counters.faults += u64::from(fault.is_some());
    fault
}

fn count_api_answer(server: &Server, response: &Response) {
    if response.extensions().get::<Severed>().is_some() {
        return;
    }
    let counters = &mut server.state().counters;
    match response.status() {
        StatusCode::UNAUTHORIZED => counters.api_unauthorized += 1,
        StatusCode::FORBIDDEN => counters.api_forbidden += 1,
        status if status.is_success() => counters.api_ok += 1,
        _ => {}
    }
}

async fn fail(
    server: &Server,
    received: &Received,
    mut fault: Fault,
    act: impl Future<Output = Response>,
) -> Response {
    while let Fault::Delayed(by, inner) = fault {
        sleep(by).await;
        fault = *inner;
    }
    match fault {
        Fault::Delay(by) | Fault::Delayed(by, _) => {
            sleep(by).await;
            act.await
        }
        Fault::DelayAnswer(by) => {
            let response = act.await;
            sleep(by).await;
            response
        }
        Fault::DropAfter => {
            act.await;
            severed()
        }
        Fault::Truncated => truncate(act.await).await,
        Fault::Malformed => replace_body(act.await, r#"{"access_token": <malformed>"#.into()),
        Fault::EmptyBody => replace_body(act.await, Bytes::new()),
        Fault::Oversized(bytes) => grow(act.await, bytes).await,
        Fault::DropBefore => severed(),
        Fault::Status { status, retry_after, body } => {
            let response = match body {
                Some(body) => json_response(status_code(status), &body),
                None => status_code(status).into_response(),
            };
            with_retry_after(response, retry_after.as_deref())
        }
        Fault::TooManyRequests { retry_after } => {
            with_retry_after(StatusCode::TOO_MANY_REQUESTS.into_response(), retry_after.as_deref())
        }
        Fault::SlowDown => slow_down(server, received),
        Fault::OAuthError { status, error, description } => {
            OAuthError { status: status_code(status), error, description, basic: false }.response()
        }
        Fault::Html(status) => html_response(status_code(status), "<h1>The proxy has trouble</h1>"),
        Fault::Challenge { status, challenge } => {
            empty_response(status_code(status), header::WWW_AUTHENTICATE, &challenge)
        }
    }
}

fn slow_down(server: &Server, received: &Received) -> Response {
    let mut state = server.state();
    let known = received.parameter("device_code").is_some_and(|code| state.devices.slow_down(code));
    state.counters.device_polls += u64::from(known);
    OAuthError::new("slow_down", "a fault").response()
}

/// A response that closes the connection instead.
fn severed() -> Response {
    let mut response = StatusCode::SERVICE_UNAVAILABLE.into_response();
    response.extensions_mut().insert(Severed);
    response
}

fn with_retry_after(mut response: Response, retry_after: Option<&str>) -> Response {
    if let Some(value) = retry_after {
        let value = HeaderValue::from_str(value).expect("a header value in visible ASCII");
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

fn replace_body(response: Response, body: Bytes) -> Response {
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(body))
}

/// The response with the first half of its body, after which the connection breaks.
async fn truncate(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = read(body).await;
    let half = body.slice(..body.len() / 2);
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len().max(1)));
    // The wait lets the half out before the connection breaks.
    let broken = stream::once(async {
        sleep(Duration::from_millis(20)).await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    let stream = stream::once(async { Ok::<_, io::Error>(half) }).chain(broken);
    Response::from_parts(parts, Body::from_stream(stream))
}

/// The response with a body of at least so many bytes.
async fn grow(response: Response, bytes: usize) -> Response {
    let (parts, body) = response.into_parts();
    let body = read(body).await;
    let padding = "x".repeat(bytes.saturating_sub(body.len()));
    let grown = match serde_json::from_slice(&body) {
        Ok(Value::Object(mut members)) => {
            members.insert("padding".to_owned(), json!(padding));
            Value::Object(members).to_string().into()
        }
        _ => [&body, padding.as_bytes()].concat().into(),
    };
    replace_body(Response::from_parts(parts, Body::empty()), grown)
}

async fn read(body: Body) -> Bytes {
    to_bytes(body, usize::MAX).await.expect("an answer of this server is read without failure")
}

async fn sleep_unless_zero(duration: Duration) {
    if !duration.is_zero() {
        sleep(duration).await;
    }
}
