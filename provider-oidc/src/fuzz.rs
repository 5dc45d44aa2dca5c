//! No input panics: what a server sends is anything.

use std::time::SystemTime;

use proptest::prelude::*;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::{
    grant,
    http::{Clocks, Endpoint, Reply},
    id_token::{self, Expected},
    metadata::{Issuer, Metadata, Which},
    oauth_error::Asked,
    token_endpoint,
};

/// Members that the readers know, with values that they do not expect, beside arbitrary bytes.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let names = [
        "access_token",
        "refresh_token",
        "id_token",
        "token_type",
        "expires_in",
        "scope",
        "refresh_in",
        "error",
        "error_description",
        "refresh_expires_in",
        "issuer",
        "token_endpoint",
        "device_code",
        "user_code",
        "interval",
        "verification_uri",
        "iss",
        "sub",
        "aud",
        "azp",
        "exp",
        "name",
        "active",
        "client_id",
        "request_uri",
        "issued_token_type",
        // Of a login under way.
        "state",
        "code_verifier",
        "nonce",
        "redirect_uri",
        "scopes",
        "resources",
        "max_age",
        "iss_required",
        "binding_key",
    ];
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("\"\"".to_owned()),
        Just("\"https://idp.example\"".to_owned()),
        Just("[[[]]]".to_owned()),
        Just("{\"a\":{}}".to_owned()),
        any::<f64>().prop_map(|n| if n.is_finite() { format!("{n:e}") } else { "1e999".into() }),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<String>().prop_map(|text| serde_json::Value::String(text).to_string()),
    ];
    let member =
        (prop::sample::select(names.to_vec()), value).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        prop::collection::vec(member, 0..8)
            .prop_map(|members| format!("{{{}}}", members.join(",")).into_bytes()),
    ]
}

/// Challenges, almost as servers write them.
fn challenges() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "DPoP",
        "Bearer",
        " ",
        ",",
        "=",
        "\"",
        "\\",
        "error",
        "use_dpop_nonce",
        "invalid_dpop_proof",
        "\"use_dpop_nonce\"",
        "algs",
    ]);
    prop::collection::vec(part, 0..20).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_answer_panics(status in 100u16..600, body in bodies(), spends_login: bool) {
        let reply = Reply {
            status,
            headers: HeaderMap::new(),
            retry_after: None,
            body: Zeroizing::new(body),
            origin: String::new(),
        };
        let asked = Asked { spends_login, ..Asked::default() };
        if let Err(error) = token_endpoint::read(&reply, &asked, None) {
            let _ = error.to_string();
        }
        grant::read_device_authorization(&reply);
        let _ = crate::introspection::read(&reply);
        let _ = crate::user_info::read(&reply);
        let _ = grant::authorization_code::read_pushed(&reply);
    }

    #[test]
    fn no_metadata_panics(body in bodies()) {
        if let Ok(metadata) = Metadata::parse("https://idp.example", false, &body) {
            for which in Which::ALL {
                let _ = metadata.endpoint(which, true);
            }
        }
    }

    #[test]
    fn no_id_token_panics(header in bodies(), payload in bodies(), other in any::<String>()) {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let expected = Expected::new("https://idp.example", "x", SystemTime::now());
        let signed = format!("{}.{}.{other}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&payload));
        let good = format!("eyJhbGciOiJSUzI1NiJ9.{}.x", URL_SAFE_NO_PAD.encode(&payload));
        for token in [signed, good, other] {
            let _ = id_token::account_of_login(&token, &expected);
            let _ = id_token::account_of_renewal(&token, &Expected { former: Some(&token), ..expected }, None);
        }
    }

    #[test]
    fn no_header_panics(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 5), good in challenges()) {
        let names = [
            header::DATE,
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
            HeaderName::from_static("dpop-nonce"),
            HeaderName::from_static("dpop"),
        ];
        let values = values.into_iter().filter_map(|value| HeaderValue::from_bytes(&value).ok());
        let mut headers: HeaderMap = names.into_iter().zip(values).collect();
        headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_str(&good).unwrap());
        let now = SystemTime::now();
        let clocks = Clocks::default();
        clocks.learn("idp.example:443", &headers, now);
        clocks.time_at("idp.example:443", now);
        let _ = crate::http::retry_after(&headers, now);
        #[cfg(feature = "jose")]
        crate::dpop::observe_anything(&headers);
    }

    #[test]
    fn no_login_under_way_panics(body in bodies(), length in 0usize..400, answer in any::<String>()) {
        use crate::grant::authorization_code::Pending;
        let good = r#"{"state":"marker","code_verifier":"marker","nonce":null,"redirect_uri":"http://127.0.0.1/","issuer":"i",
            "client_id":"c","scopes":[],"max_age":18446744073709551615,"acr_values":null,"iss_required":true}"#;
        let cut = good.get(..length.min(good.len())).unwrap_or_default();
        for text in [&*body, cut.as_bytes(), good.as_bytes(), answer.as_bytes()] {
            let Ok(pending) = serde_json::from_slice::<Pending>(text) else { continue };
            let shown = format!("{pending:?}");
            prop_assert!(!shown.contains("marker"));
            pending.is_answered_by(&answer);
        }
    }

    #[test]
    fn nothing_that_is_explained_panics_or_is_long(name in any::<String>(), value in any::<String>(), body in bodies()) {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let jwt = format!("{0}.{0}.{0}", URL_SAFE_NO_PAD.encode(&body));
        for value in [value, jwt] {
            for name in [name.as_str(), "client_assertion", "scope", "error"] {
                let shown = crate::explain::parameter(name, &value);
                prop_assert!(shown.chars().count() <= 301 && !shown.chars().any(char::is_control), "{shown:?}");
                let shown = crate::explain::member(name, &serde_json::Value::String(value.clone()));
                prop_assert!(shown.chars().count() <= 301 && !shown.chars().any(char::is_control), "{shown:?}");
            }
        }
    }

    #[test]
    fn no_url_panics(url in any::<String>(), path in any::<String>()) {
        for text in [url, format!("https://{path}"), format!("https://idp.example/{path}")] {
            let _ = Endpoint::parse(&text);
            let _ = Issuer::parse(&text);
        }
    }
}
