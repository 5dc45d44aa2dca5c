//! [`Form`]: the body of a request.

use bytes::Bytes;
use url::form_urlencoded;
use zeroize::Zeroizing;

/// A form in a buffer that is wiped (`application/x-www-form-urlencoded`).
#[derive(Default)]
pub(crate) struct Form(Zeroizing<String>);

impl Form {
    /// Adds a parameter.
    pub(crate) fn push(&mut self, name: &str, value: &str) {
        // Encoded, a byte is three at most. What is outgrown is wiped.
        let most = 3 * (name.len() + value.len()) + 2;
        if self.0.capacity() - self.0.len() < most {
            let mut grown = Zeroizing::new(String::with_capacity(2 * (self.0.len() + most)));
            grown.push_str(&self.0);
            self.0 = grown;
        }
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.extend(form_urlencoded::byte_serialize(name.as_bytes()));
        self.0.push('=');
        self.0.extend(form_urlencoded::byte_serialize(value.as_bytes()));
    }

    /// Adds a parameter, unless its value is empty.
    pub(crate) fn push_some(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.push(name, value);
        }
    }

    /// Another of the same content: for a request that is made once more.
    pub(crate) fn copy(&self) -> Self {
        let mut copy = Zeroizing::new(String::with_capacity(self.0.len() + 1024));
        copy.push_str(&self.0);
        Self(copy)
    }

    /// Its body.
    pub(super) fn into_body(mut self) -> Bytes {
        Bytes::from_owner(Zeroizing::new(std::mem::take(&mut *self.0).into_bytes()))
    }

    /// What is in it, encoded.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6749_appendix_b_a_form_is_utf8_percent_encoded() {
        let mut form = Form::default();
        form.push("grant_type", "client_credentials");
        form.push("scope", "a b");
        form.push("x", "ä&=+%");
        form.push_some("empty", "");
        assert_eq!(form.as_str(), "grant_type=client_credentials&scope=a+b&x=%C3%A4%26%3D%2B%25");
        assert_eq!(form.into_body().len(), 60);
    }
}
