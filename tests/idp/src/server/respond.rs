//! Answers.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

/// A JSON answer that no cache may keep.
pub(super) fn json_response(status: StatusCode, body: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, body.to_string()).into_response()
}

/// A small HTML page. The text is not escaped.
pub(super) fn html_response(status: StatusCode, text: &str) -> Response {
    let page =
        format!("<!DOCTYPE html>\n<html><head><title>keyfob-idp</title></head><body>{text}</body></html>\n");
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

/// A text for a place in HTML, attributes included.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            other => escaped.push(other),
        }
    }
    escaped
}

/// An empty answer with one header.
pub(super) fn empty_response(status: StatusCode, name: header::HeaderName, value: &str) -> Response {
    let mut response = (status, Body::empty()).into_response();
    response
        .headers_mut()
        .insert(name, HeaderValue::from_str(value).expect("a header value in visible ASCII"));
    response
}

/// A status code that a test gave.
pub(super) fn status_code(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("a status code between 100 and 999")
}

/// An error answer of RFC 6749 section 5.2.
#[derive(Debug)]
pub(super) struct OAuthError {
    pub(super) status: StatusCode,
    pub(super) error: String,
    pub(super) description: Option<String>,
    /// Whether to name the scheme `Basic`, which the client tried.
    pub(super) basic: bool,
}

impl OAuthError {
    pub(super) fn new(error: &str, description: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error: error.to_owned(),
            description: Some(description.to_owned()),
            basic: false,
        }
    }

    pub(super) fn invalid_request(description: &str) -> Self {
        Self::new("invalid_request", description)
    }

    pub(super) fn invalid_grant(description: &str) -> Self {
        Self::new("invalid_grant", description)
    }

    pub(super) fn invalid_client(description: &str, basic: bool) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, basic, ..Self::new("invalid_client", description) }
    }

    /// The description.
    pub(super) fn text(&self) -> &str {
        self.description.as_deref().unwrap_or_default()
    }

    pub(super) fn response(&self) -> Response {
        let mut body = json!({ "error": self.error });
        if let Some(description) = &self.description {
            body["error_description"] = json!(description);
        }
        let mut response = json_response(self.status, &body);
        if self.basic {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Basic realm="authorization server""#),
            );
        }
        response
    }
}
