//! Requests to an authorization server: no redirects, bounded answers, deadlines, nothing secret in errors.

mod clocks;
mod echo;
mod endpoint;
mod form;
mod network;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use keyfob_auth_core::{AuthError, Context, ErrorKind};
use reqwest::{
    Method, RequestBuilder, Response,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use tokio::time::{Instant, sleep};
use zeroize::{Zeroize, Zeroizing};

pub(crate) use self::{
    clocks::{Clocks, Skew},
    echo::Sent,
    endpoint::Endpoint,
    form::Form,
    network::{Certificate, Network, Proxy},
};
use crate::explain;

/// The largest answer that is read.
pub(crate) const LARGEST_ANSWER: usize = 1 << 20;
/// The longest wait that a server can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// The pauses before a request that only reads is sent again.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// How long after its beginning a request may be sent again: who waits has waited long enough.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends what one provider sends.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    pub(crate) context: Context,
    pub(crate) network: Arc<Network>,
}

/// What a server answered, read to its end.
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// `Retry-After`, an hour at most.
    pub(crate) retry_after: Option<Duration>,
    /// The body, wiped when it is dropped.
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// Who answered, as errors name it.
    pub(crate) origin: String,
}

impl Reply {
    /// An error about this answer.
    pub(crate) fn error(&self, error: AuthError) -> AuthError {
        error.with_status(self.status).with_origin(self.origin.clone())
    }

    /// Whether it is a success by its status.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the status says that another time may be better.
    pub(crate) fn is_overload(&self) -> bool {
        matches!(self.status, 408 | 425 | 429 | 500..=599)
    }

    /// The error of an answer that says nothing but its status.
    pub(crate) fn bare_error(&self, what: &str) -> AuthError {
        let error = if self.is_overload() {
            let error = AuthError::transient(format!("{what}: the server cannot answer now"));
            // A gateway that gave up does not know what the server behind it did.
            let error = if matches!(self.status, 500 | 502 | 504) { error.with_answer_lost() } else { error };
            match self.retry_after {
                Some(after) => error.with_retry_after(after),
                None => error,
            }
        } else if (300..400).contains(&self.status) {
            AuthError::refused(format!("{what}: the server redirects elsewhere, which is not followed"))
        } else {
            AuthError::refused(format!("{what}: the server refused without saying why"))
        };
        self.error(error)
    }
}

/// Where reqwest was not asked for any; an application may have asked it for some, and then it connects.
const NO_TLS: bool = !cfg!(any(feature = "rustls", feature = "native-tls"));

impl Http {
    /// Sends a form, once.
    ///
    /// # Errors
    /// Transient ones: what the server says is in the reply, whatever its status. Configuration, for a certificate that
    /// cannot be read.
    pub(crate) async fn post(
        &self,
        endpoint: &Endpoint,
        form: Form,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<Reply, AuthError> {
        let mut request = self
            .network
            .client(&self.context, endpoint)
            .await?
            .request(Method::POST, endpoint.url().clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        let told = explain::Told::post(&self.context, endpoint, &form, &headers);
        let sent = Sent::of(form.as_str(), headers.iter().map(|(_, value)| value));
        self.send(endpoint, request.body(form.into_body()), &sent, told).await
    }

    /// Fetches a document; again after a moment if the server cannot be reached or cannot answer now.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub(crate) async fn get(&self, endpoint: &Endpoint) -> Result<Reply, AuthError> {
        self.get_with(endpoint, || Ok(HeaderMap::new())).await
    }

    /// [`get`](Self::get) with headers, which are made anew for each attempt.
    pub(crate) async fn get_with(
        &self,
        endpoint: &Endpoint,
        headers: impl Fn() -> Result<HeaderMap, AuthError>,
    ) -> Result<Reply, AuthError> {
        let started = Instant::now();
        for pause in PAUSES {
            let answer = self.get_once(endpoint, headers()?).await;
            let wait = match &answer {
                Ok(reply) if matches!(reply.status, 429 | 502..=504) => reply.retry_after.unwrap_or(pause),
                // With a status, it is the answer that is bad, and the next would be no better.
                Err(error) if error.kind() == ErrorKind::Transient && error.status().is_none() => pause,
                _ => return answer,
            };
            if wait > PAUSES[1] || started.elapsed() > PATIENCE {
                return answer;
            }
            // Never earlier than the server said.
            sleep(wait.mul_f64(1.0 + 0.5 * fraction())).await;
        }
        self.get_once(endpoint, headers()?).await
    }

    async fn get_once(&self, endpoint: &Endpoint, headers: HeaderMap) -> Result<Reply, AuthError> {
        let told = explain::Told::get(&self.context, endpoint, &headers);
        let client = self.network.client(&self.context, endpoint).await?;
        let sent = Sent::of("", headers.values());
        let request = client.request(Method::GET, endpoint.url().clone()).headers(headers);
        self.send(endpoint, request, &sent, told).await
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        request: RequestBuilder,
        sent: &Sent,
        told: Option<explain::Told>,
    ) -> Result<Reply, AuthError> {
        let started = Instant::now();
        let mut answer = self.answer(endpoint, request).await;
        if let Ok(reply) = &mut answer {
            // Before anybody else sees it: errors, logs and records quote what the server says.
            sent.hide_in(reply);
        }
        if let Some(told) = told {
            told.answered(&answer, started.elapsed());
        }
        answer
    }

    async fn answer(&self, endpoint: &Endpoint, request: RequestBuilder) -> Result<Reply, AuthError> {
        let failed = |error: reqwest::Error| {
            if NO_TLS && endpoint.url().scheme() == "https" && error.is_connect() {
                return AuthError::configuration(
                    "this build has no TLS: turn on keyfob's feature `rustls` or `native-tls`",
                )
                .with_origin(endpoint.to_string())
                .with_source(error.without_url());
            }
            let what = if error.is_timeout() {
                "did not answer in time"
            } else if error.is_connect() {
                "cannot be reached"
            } else if error.is_body() || error.is_decode() {
                "broke off its answer"
            } else {
                "did not answer"
            };
            let sent = !error.is_connect();
            let error = AuthError::transient(format!("the server {what}"))
                .with_origin(endpoint.to_string())
                .with_source(error.without_url());
            // Once the request was on its way, the server may have acted on it.
            if sent { error.with_answer_lost() } else { error }
        };
        let request = request.header(ACCEPT, "application/json").timeout(self.network.deadline());
        let mut response = request.send().await.map_err(failed)?;
        let now = self.context.clock().wall();
        let headers = std::mem::take(response.headers_mut());
        self.clocks()?.learn(&endpoint.host(), &headers, now);
        let mut reply = Reply {
            status: response.status().as_u16(),
            retry_after: retry_after(&headers, now),
            headers,
            body: Zeroizing::default(),
            origin: endpoint.to_string(),
        };
        match read(response).await.map_err(failed)? {
            Some(body) => reply.body = body,
            None => {
                let error =
                    AuthError::transient("the server's answer is larger than 1 MiB").with_answer_lost();
                return Err(reply.error(error));
            }
        }
        Ok(reply)
    }

    /// The time as the server has it, as far as its answers have shown: assertions are judged by the server's clock.
    pub(crate) fn server_time(&self, endpoint: &Endpoint) -> Result<SystemTime, AuthError> {
        Ok(self.clocks()?.time_at(&endpoint.host(), self.context.clock().wall()))
    }

    /// How far the server's clock is known to be off this machine's: whether ahead, and by how much.
    pub(crate) fn skew(&self, endpoint: &Endpoint) -> Result<Option<Skew>, AuthError> {
        Ok(self.clocks()?.skew(&endpoint.host()))
    }

    /// Whether the server's clock has turned out to be noticeably elsewhere since its [`skew`](Self::skew) was this.
    pub(crate) fn clock_has_moved(
        &self,
        endpoint: &Endpoint,
        since: Option<Skew>,
    ) -> Result<bool, AuthError> {
        Ok(self.clocks()?.has_moved(&endpoint.host(), since))
    }

    fn clocks(&self) -> Result<Arc<Clocks>, AuthError> {
        self.context.shared(|| Ok(Clocks::default()))
    }
}

/// A number from 0 to 1, for jitter alone.
fn fraction() -> f64 {
    getrandom::u32().map_or(0.5, |n| f64::from(n) / f64::from(u32::MAX))
}

/// Reads a body; `None` if it is too large.
async fn read(mut response: Response) -> Result<Option<Zeroizing<Vec<u8>>>, reqwest::Error> {
    let expected = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    if expected > LARGEST_ANSWER {
        return Ok(None);
    }
    let mut body = Zeroizing::new(Vec::with_capacity(expected.max(4096)));
    while let Some(chunk) = response.chunk().await? {
        let length = body.len() + chunk.len();
        if length > LARGEST_ANSWER {
            return Ok(None);
        }
        if length > body.capacity() {
            let mut grown = Vec::with_capacity(2 * length);
            grown.extend_from_slice(&body);
            std::mem::replace(&mut *body, grown).zeroize();
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// `Retry-After` in seconds or as a date (RFC 9110 section 10.2.3), an hour at most.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_or(LONGEST_WAIT, Duration::from_secs)
    } else {
        httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_an_hour_at_most() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        for (value, seconds) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(3600)),
            ("7200", Some(3600)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(3600)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            assert_eq!(retry_after(&headers, now).map(|wait| wait.as_secs()), seconds, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
