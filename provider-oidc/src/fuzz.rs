//! No input panics: what a server sends is anything.

use std::time::SystemTime;

use proptest::prelude::*;
use zeroize::Zeroizing;

use crate::{
    grant,
    http::{Endpoint, Reply},
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

proptest! {
    #[test]
    fn no_answer_panics(status in 100u16..600, body in bodies(), spends_login: bool) {
        let reply = Reply {
            status,
            headers: reqwest::header::HeaderMap::new(),
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
    fn no_url_panics(url in any::<String>(), path in any::<String>()) {
        for text in [url, format!("https://{path}"), format!("https://idp.example/{path}")] {
            let _ = Endpoint::parse(&text);
            let _ = Issuer::parse(&text);
        }
    }
}
