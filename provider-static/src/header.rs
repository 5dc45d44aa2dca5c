//! [`Header`]: the header that a token goes into, and what stands before it there.

use http::{HeaderName, header};
use keyfob_auth_core::{AccessToken, AuthError, Presentation};

#[derive(Clone, Debug)]
pub(crate) struct Header {
    name: HeaderName,
    /// Unless it was said: `Bearer` in `Authorization`, nothing in any other.
    scheme: Option<String>,
}

impl Default for Header {
    fn default() -> Self {
        Self { name: header::AUTHORIZATION, scheme: None }
    }
}

impl Header {
    pub(crate) fn set_name(&mut self, name: &str) -> Result<(), AuthError> {
        self.name = name.parse().map_err(|_| {
            AuthError::configuration(format!("{name:?} is no name of an HTTP header (RFC 9110 section 5.1)"))
        })?;
        Ok(())
    }

    pub(crate) fn set_scheme(&mut self, scheme: &str) -> Result<(), AuthError> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if !scheme.bytes().all(is_token) {
            return Err(AuthError::configuration(format!(
                "{scheme:?} is no authentication scheme (RFC 9110 section 11.1): write a word such as \"Bearer\", or \"\" \
                 for the token alone"
            )));
        }
        self.scheme = Some(scheme.to_owned());
        Ok(())
    }

    pub(crate) fn present(&self, token: &AccessToken) -> Result<Presentation, AuthError> {
        let scheme = match &self.scheme {
            Some(scheme) => scheme,
            None if self.name == header::AUTHORIZATION => "Bearer",
            None => "",
        };
        let prefix = if scheme.is_empty() { String::new() } else { format!("{scheme} ") };
        Presentation::header(self.name.clone(), &prefix, token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: Option<&str>, scheme: Option<&str>) -> Result<String, AuthError> {
        let mut header = Header::default();
        name.map_or(Ok(()), |name| header.set_name(name))?;
        scheme.map_or(Ok(()), |scheme| header.set_scheme(scheme))?;
        match header.present(&AccessToken::new("abc"))? {
            Presentation::Header(name, value) => Ok(format!("{name}: {}", value.to_str().unwrap())),
            _ => panic!("no header"),
        }
    }

    #[test]
    fn any_header_and_any_scheme() {
        for (name, scheme, expected) in [
            (None, None, "authorization: Bearer abc"),
            (None, Some("Token"), "authorization: Token abc"),
            (None, Some(""), "authorization: abc"),
            (Some("Authorization"), None, "authorization: Bearer abc"),
            (Some("X-Api-Key"), None, "x-api-key: abc"),
            (Some("X-Api-Key"), Some("Key"), "x-api-key: Key abc"),
        ] {
            assert_eq!(shown(name, scheme).unwrap(), expected);
        }
        for (name, scheme) in [
            (Some(""), None),
            (Some("a b"), None),
            (Some("a:"), None),
            (None, Some("Bearer ")),
            (None, Some("é")),
        ] {
            let error = shown(name, scheme).unwrap_err();
            assert!(error.to_string().contains("RFC 9110"), "{error}");
        }
    }
}
