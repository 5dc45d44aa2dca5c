//! [`Sent`]: the secrets of a request, which an answer may say again.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use keyfob_auth_core::{ExposeSecret, SecretString};
use reqwest::header::HeaderValue;
use serde_json::Value;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::Reply;
use crate::{explain, json, oauth_error};

/// What stands in a secret's place.
const HIDDEN: &str = "(not shown)";
/// The shortest value that is taken for a secret: shorter ones are words that any text may hold.
const SHORTEST: usize = 8;
/// The shortest of what certainly is one.
const SHORTEST_SECRET: usize = 4;

/// The secrets that a request held.
pub(crate) struct Sent(Vec<SecretString>);

impl Sent {
    /// Those of a form, and of headers.
    pub(super) fn of<'a>(form: &str, headers: impl IntoIterator<Item = &'a HeaderValue>) -> Self {
        let mut sent = Self(Vec::new());
        for pair in form.split('&') {
            let Some((name, value)) = form_urlencoded::parse(pair.as_bytes()).next() else { continue };
            let certain =
                matches!(&*name, "client_secret" | "password" | "code" | "user_code" | "code_verifier");
            let shortest = if certain { SHORTEST_SECRET } else { SHORTEST };
            if explain::is_open(&name) || value.len() < shortest {
                continue;
            }
            // As it was written too, for servers that say again what they have not decoded.
            if let Some((_, written)) = pair.split_once('=').filter(|(_, written)| *written != value) {
                sent.add(written.into());
            }
            sent.add(Zeroizing::new(value.into_owned()).as_str().into());
        }
        for header in headers {
            let Ok(text) = header.to_str() else { continue };
            let (scheme, secret) = text.split_once(' ').unwrap_or(("", text));
            if scheme.eq_ignore_ascii_case("basic") {
                passwords(secret).into_iter().for_each(|password| sent.add(password));
            }
            if secret.len() >= SHORTEST {
                sent.add(secret.into());
            }
        }
        sent
    }

    /// The longest first: one may be the beginning of another.
    fn add(&mut self, secret: SecretString) {
        let length = |secret: &SecretString| secret.expose_secret().len();
        let at = self.0.partition_point(|other| length(other) > length(&secret));
        self.0.insert(at, secret);
    }

    /// Hides them in the texts of an answer that is an error. Where there is none, what is said again is an answer.
    pub(super) fn hide_in(&self, reply: &mut Reply) {
        if !oauth_error::is_error(reply) {
            return;
        }
        let Some(mut members) = json::object(&reply.body) else { return };
        let mut hidden = false;
        for value in members.values_mut() {
            let Value::String(text) = value else { continue };
            for secret in &self.0 {
                if text.contains(secret.expose_secret()) {
                    *text = text.replace(secret.expose_secret(), HIDDEN);
                    hidden = true;
                }
            }
        }
        if hidden {
            reply.body = Zeroizing::new(Value::Object(members).to_string().into_bytes());
        }
    }
}

/// The password of HTTP Basic, as it is written there and as it is meant.
fn passwords(pair: &str) -> Vec<SecretString> {
    let pair = STANDARD.decode(pair).map(Zeroizing::new);
    let text = pair.as_ref().ok().and_then(|pair| std::str::from_utf8(pair).ok());
    let Some((_, written)) = text.and_then(|pair| pair.split_once(':')) else { return Vec::new() };
    let named = Zeroizing::new(format!("x={written}"));
    let meant = form_urlencoded::parse(named.as_bytes()).map(|(_, value)| Zeroizing::new(value.into_owned()));
    let all = meant.chain([Zeroizing::new(written.to_owned())]);
    all.filter(|one| one.len() >= SHORTEST_SECRET).map(|one| one.as_str().into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::Form, oauth_error::tests::reply};

    fn said(form: &[(&str, &str)], header: &'static str, status: u16, body: &str) -> String {
        let mut encoded = Form::default();
        for (name, value) in form {
            encoded.push(name, value);
        }
        let mut reply = reply(status, body);
        Sent::of(encoded.as_str(), [&HeaderValue::from_static(header)]).hide_in(&mut reply);
        String::from_utf8(reply.body.to_vec()).unwrap()
    }

    #[test]
    fn an_error_does_not_say_again_what_was_secret() {
        for (form, header, text, shown) in [
            (&[("refresh_token", "marker-1")][..], "", "bad: marker-1.", "bad: (not shown)."),
            (&[("client_assertion", "a.marker.b")], "", "a.marker.b", "(not shown)"),
            (&[("never_heard_of_it", "marker+/=")], "", "marker+/=", "(not shown)"),
            (&[("token", "marker+/=")], "", "marker%2B%2F%3D?", "(not shown)?"),
            (&[("password", "pass")], "", "`pass` is wrong", "`(not shown)` is wrong"),
            (&[("token", "marker12"), ("x", "marker123")], "", "marker123", "(not shown)"),
            // id:marker%2B, as Basic has it and as it is meant.
            (&[], "Basic aWQ6bWFya2VyJTJC", "marker%2B marker+", "(not shown) (not shown)"),
            (&[], "Bearer marker-2", "no marker-2", "no (not shown)"),
            // What is open, and what is no more than a word, stays.
            (
                &[("client_id", "marker-3"), ("scope", "marker-4")],
                "",
                "marker-3 marker-4",
                "marker-3 marker-4",
            ),
            (&[("x", "token")], "", "bad token", "bad token"),
        ] {
            for (status, code) in
                [(400, "invalid_grant".into()), (200, "invalid_grant".into()), (200, Value::Bool(true))]
            {
                let body = serde_json::json!({"error": code, "error_description": text, "error_uri": text});
                let said: Value =
                    serde_json::from_str(&said(form, header, status, &body.to_string())).unwrap();
                let expected =
                    serde_json::json!({"error": code, "error_description": shown, "error_uri": shown});
                assert_eq!(said, expected, "{form:?} {header}");
            }
        }
        let said_of_none = said(&[("token", "marker-1")], "", 400, r#"{"error_description":"marker-1"}"#);
        assert!(!said_of_none.contains("marker"), "an error by its status alone");
    }

    #[test]
    fn an_answer_is_left_as_it_is() {
        for (status, body) in [
            (200, r#"{"access_token": "new-token", "refresh_token": "marker-1"}"#),
            (200, r#"{"access_token": "new-token", "refresh_token": "marker-1", "error": ""}"#),
            (400, "<html>marker-1</html>"),
            (400, r#"{"error": "invalid_request",  "x": 1}"#),
        ] {
            assert_eq!(said(&[("refresh_token", "marker-1")], "", status, body), body);
        }
    }
}
