//! What comes back to a redirect URI (RFC 6749 section 4.1.2, RFC 9207).

use keyfob_auth_core::{AuthError, ExposeSecret, SecretString};
use url::form_urlencoded;

use crate::oauth_error::page;

/// The longest answer that is read.
pub(crate) const LONGEST: usize = 64 * 1024;

/// The parameters of an answer; others are passed over.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) state: Option<String>,
    pub(crate) code: Option<SecretString>,
    pub(crate) iss: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) error_description: Option<String>,
    pub(crate) error_uri: Option<String>,
}

/// Reads a query or a form; also a whole URL, as a person pastes it. A parameter that is there twice makes the answer void
/// (RFC 6749 section 3.1).
pub(crate) fn read(text: &str) -> Result<Answer, AuthError> {
    if text.len() > LONGEST {
        return Err(AuthError::refused("the answer is longer than any that a server gives"));
    }
    let mut answer = Answer::default();
    for (name, value) in parameters(text) {
        let value = value.into_owned();
        let twice = match &*name {
            "state" => answer.state.replace(value).is_some(),
            "code" => answer.code.replace(value.into()).is_some(),
            "iss" => answer.iss.replace(value).is_some(),
            "error" => answer.error.replace(value).is_some(),
            "error_description" => answer.error_description.replace(value).is_some(),
            "error_uri" => answer.error_uri.replace(value).is_some(),
            _ => false,
        };
        if twice {
            return Err(AuthError::refused(format!("the answer holds `{name}` twice")));
        }
    }
    // Empty is absent.
    answer.code = answer.code.filter(|code| !code.expose_secret().is_empty());
    answer.error = answer.error.filter(|error| !error.is_empty());
    answer.error_uri = answer.error_uri.as_deref().and_then(page);
    Ok(answer)
}

/// The `state` of an answer, if it has one and no other.
#[cfg(any(test, feature = "browser"))]
pub(crate) fn state_of(answer: &SecretString) -> Option<String> {
    let text = answer.expose_secret();
    if text.len() > LONGEST {
        return None;
    }
    let mut states = parameters(text).filter(|(name, _)| name == "state");
    let state = states.next().map(|(_, state)| state.into_owned());
    if states.next().is_some() { None } else { state }
}

/// The parameters of a query, a form or a URL.
fn parameters(text: &str) -> form_urlencoded::Parse<'_> {
    form_urlencoded::parse(query_of(text).as_bytes())
}

/// What of a query, a form or a URL is its parameters.
pub(crate) fn query_of(text: &str) -> &str {
    let text = text.trim();
    // In a query of its own, a question mark is part of a value.
    let query = match text.split_once('?') {
        Some((before, query)) if !before.contains(['=', '&']) => query,
        _ => text,
    };
    query.split('#').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str) -> (Option<String>, Option<String>, Option<String>) {
        let answer = read(text).unwrap();
        (answer.state, answer.code.map(|code| code.expose_secret().to_owned()), answer.error)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn an_answer_is_a_query_a_form_or_a_url() {
        for text in [
            "code=c&state=s",
            "?code=c&state=s",
            "state=s&code=c&session_state=x%20y",
            "/callback?code=c&state=s",
            "  http://127.0.0.1:8000/callback?code=c&state=s#_=_ \n",
        ] {
            assert_eq!(parts(text), (some("s"), some("c"), None), "{text}");
            assert_eq!(state_of(&text.into()), some("s"), "{text}");
        }
        assert_eq!(parts("code=a%2Bb+c&state=s%3D"), (some("s="), some("a+b c"), None));
        assert_eq!(parts("code=c?d&state=s"), (some("s"), some("c?d"), None));
        assert_eq!(parts("error=access_denied&state=s"), (some("s"), None, some("access_denied")));
        let page = |uri: &str| read(&format!("error=a&state=s&error_uri={uri}")).unwrap().error_uri;
        assert_eq!(page("https%3A%2F%2Fidp.example%2Fe%3F1"), some("https://idp.example/e?1"));
        assert_eq!(page("javascript:alert(1)"), None);
        assert_eq!(parts("code=&error=&state=s"), (some("s"), None, None), "empty is absent");
        assert_eq!(parts(""), (None, None, None));
        assert_eq!(parts("http://127.0.0.1:8000/callback"), (None, None, None));
    }

    #[test]
    fn rfc6749_3_1_duplicate_parameters_void_the_answer() {
        for name in ["code", "state", "iss", "error", "error_description", "error_uri"] {
            let error = read(&format!("{name}=a&x=1&{name}=b")).err().unwrap();
            assert!(error.message().contains(&format!("`{name}` twice")), "{error}");
            assert!(read("x=1&x=2").is_ok(), "what is not known does no harm");
        }
        assert_eq!(state_of(&"state=s&state=s".into()), None);
    }

    #[test]
    fn an_answer_without_end_is_not_read() {
        let long = format!("state=s&code={}", "x".repeat(LONGEST));
        assert!(read(&long).is_err());
        assert_eq!(state_of(&long.into()), None);
    }

    proptest! {
        #[test]
        fn no_answer_panics(text in any::<String>(), query in "[a-z_=&?#%+0-9]{0,200}") {
            for text in [text, query] {
                let read = read(&text);
                let state = state_of(&text.into());
                if let Ok(answer) = read {
                    prop_assert_eq!(answer.state, state);
                }
            }
        }
    }
}
