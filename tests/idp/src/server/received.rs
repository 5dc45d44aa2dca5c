//! A request, read to its end.

use std::time::Instant;

use axum::{
    body::Bytes,
    http::{HeaderMap, header, request::Parts},
};

use super::{
    algorithm::certificate_thumbprint, counters::RecordedRequest, fault::Endpoint, respond::OAuthError,
};

/// What a request came over, in its extensions.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    /// Scheme and authority of the listener.
    pub(super) base: String,
    /// The client's certificates as it sent them, its own first; none without TLS.
    pub(super) certificates: Vec<Vec<u8>>,
}

/// A request with its whole body.
#[derive(Debug)]
pub(super) struct Received {
    parts: Parts,
    body: Bytes,
    form: Vec<(String, String)>,
}

impl Received {
    pub(super) fn new(parts: Parts, body: Bytes) -> Self {
        let form = if is_form(&parts.headers) { decode(&body) } else { Vec::new() };
        Self { parts, body, form }
    }

    pub(super) fn method(&self) -> &str {
        self.parts.method.as_str()
    }

    pub(super) fn path(&self) -> &str {
        self.parts.uri.path()
    }

    /// Scheme and authority of the listener that the request came to.
    pub(super) fn base(&self) -> &str {
        self.parts.extensions.get::<Wire>().map_or("", |wire| &wire.base)
    }

    /// The certificates of the connection, the client's own first.
    pub(super) fn certificates(&self) -> &[Vec<u8>] {
        self.parts.extensions.get::<Wire>().map_or(&[], |wire| &wire.certificates)
    }

    /// The thumbprint of the client's certificate.
    pub(super) fn certificate_thumbprint(&self) -> Option<String> {
        self.certificates().first().map(|certificate| certificate_thumbprint(certificate))
    }

    /// The parameters of the form.
    pub(super) fn form(&self) -> &[(String, String)] {
        &self.form
    }

    /// The values of a parameter of the form that may be repeated.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        let mine = self.form.iter().filter(|(key, value)| key == name && !value.is_empty());
        mine.map(|(_, value)| value.clone()).collect()
    }

    /// The value of a header that may be there once.
    pub(super) fn only_header(&self, name: &header::HeaderName) -> Result<Option<&str>, String> {
        let mut values = self.parts.headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        match (value.to_str(), values.next()) {
            (Ok(value), None) => Ok(Some(value)),
            _ => Err(format!("the header {name} is there twice or is not text")),
        }
    }

    /// The value of a cookie.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let cookies = self.parts.headers.get(header::COOKIE)?.to_str().ok()?;
        let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    pub(super) fn body(&self) -> &Bytes {
        &self.body
    }

    /// A parameter of the form. An empty one counts as missing, as RFC 6749 section 3.2 says.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.form
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// A parameter that has to be there.
    pub(super) fn required(&self, name: &str) -> Result<&str, OAuthError> {
        self.parameter(name).ok_or_else(|| OAuthError::invalid_request(&format!("{name} is missing")))
    }

    /// Refuses what is not a form, and a form that has a parameter twice, except those that may be repeated.
    pub(super) fn check_form(&self) -> Result<(), OAuthError> {
        if !is_form(&self.parts.headers) {
            return Err(OAuthError::invalid_request("the body is not application/x-www-form-urlencoded"));
        }
        let twice = self.form.iter().enumerate().find(|(index, (key, _))| {
            !matches!(key.as_str(), "resource" | "audience")
                && self.form.iter().take(*index).any(|(other, _)| other == key)
        });
        match twice {
            None => Ok(()),
            Some((_, (key, _))) => Err(OAuthError::invalid_request(&format!("{key} is there twice"))),
        }
    }

    /// A parameter of the query.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        self.query_pairs().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The credentials of the header `Authorization`, if it has this scheme.
    pub(super) fn authorization(&self, scheme: &str) -> Option<&str> {
        let value = self.parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (found, credentials) = value.split_once(' ')?;
        found.eq_ignore_ascii_case(scheme).then(|| credentials.trim())
    }

    pub(super) fn has_header(&self, name: header::HeaderName) -> bool {
        self.parts.headers.contains_key(name)
    }

    pub(super) fn record(&self, endpoint: Option<Endpoint>) -> RecordedRequest {
        let headers = self.parts.headers.iter();
        RecordedRequest {
            at: Instant::now(),
            endpoint,
            version: format!("{:?}", self.parts.version),
            method: self.method().to_owned(),
            path: self.path().to_owned(),
            query: self.query_pairs(),
            headers: headers
                .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
                .collect(),
            form: self.form.clone(),
            body_length: self.body.len(),
            base: self.base().to_owned(),
            certificate: self.certificate_thumbprint(),
        }
    }

    /// The parameters of the query.
    pub(super) fn query_pairs(&self) -> Vec<(String, String)> {
        decode(self.parts.uri.query().unwrap_or_default().as_bytes())
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn decode(text: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text).into_owned().collect()
}
