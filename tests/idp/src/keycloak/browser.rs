//! Plays the person at the browser: follows Keycloak's pages and answers their forms.

use crate::{
    browser::{Browser, End, Fields, shortened},
    html::{Form, Page},
};

use super::{Error, Keycloak, realm};

impl Keycloak {
    /// Opens a `verification_uri_complete`, or types a user code at the device page, signs in as `user` and
    /// answers the question for consent; gives the address of the page at the end.
    ///
    /// In this flow Keycloak asks each time, also a person who has consented before.
    ///
    /// # Errors
    ///
    /// When the end is not the asked one: an approval that was refused, a denial nobody asked about.
    pub async fn sign_in_at_device(
        &self,
        url_or_code: &str,
        user: &str,
        deny: bool,
    ) -> Result<String, Error> {
        let (url, code) = if url_or_code.starts_with("http") {
            (url_or_code.to_owned(), None)
        } else {
            (format!("{}/device", self.issuer()), Some(url_or_code.to_owned()))
        };
        let (end, denied) = self.visit(&url, Visitor::new(user, code, deny)).await?;
        let at = end.at().as_str();
        let refused = !at.contains("/device/status") || at.contains("error=");
        if refused != deny || denied != deny {
            return Err(unexpected(&end));
        }
        Ok(at.to_owned())
    }

    /// Opens an authorization URL, signs in as `user` and gives the redirect back to the client, with its code or
    /// its error.
    ///
    /// # Errors
    ///
    /// When no redirect comes, and when `deny` is set but nothing could be refused: Keycloak asks for consent only
    /// with the client `native-consent`, and only until it is given; see
    /// [`forget_consents`](Self::forget_consents).
    pub async fn authorize(&self, url: &str, user: &str, deny: bool) -> Result<String, Error> {
        match self.visit(url, Visitor::new(user, None, deny)).await? {
            (End::Elsewhere { at, .. }, denied) if denied == deny => Ok(at.into()),
            (end, _) => Err(unexpected(&end)),
        }
    }

    /// One visit with a browser of its own; tells whether the visitor denied something.
    async fn visit(&self, url: &str, mut visitor: Visitor<'_>) -> Result<(End, bool), Error> {
        let mut browser = Browser::new(self.http.clone());
        let end = browser.walk(url, self.base(), |form, page| visitor.answer(form, page)).await;
        Ok((end.map_err(Error)?, visitor.denied))
    }
}

fn unexpected(end: &End) -> Error {
    match end {
        End::Page { at, words, .. } => Error(format!("the pages ended at {at}: {}", shortened(words))),
        End::Elsewhere { at, .. } => Error(format!("the pages ended at {at}")),
    }
}

/// Who sits at the browser.
struct Visitor<'a> {
    user: &'a str,
    /// The user code, until it has been typed.
    code: Option<String>,
    deny: bool,
    denied: bool,
    signed_in: bool,
}

impl<'a> Visitor<'a> {
    fn new(user: &'a str, code: Option<String>, deny: bool) -> Self {
        Self { user, code, deny, denied: false, signed_in: false }
    }

    /// What to send for a form, if it is one of those a sign-in has.
    fn answer(&mut self, form: &Form, page: &Page) -> Result<Option<Fields>, String> {
        let mut fields = form.filled();
        if let Some(secret) = form.of_kind("password") {
            if self.signed_in {
                return Err(format!("the sign-in was refused: {}", shortened(&page.words)));
            }
            self.signed_in = true;
            set(&mut fields, "username", self.user);
            set(&mut fields, secret, &realm::password(self.user).unwrap_or_default());
        } else if form.field("device_user_code").is_some_and(|field| field.kind == "text") {
            let Some(code) = self.code.take() else {
                // Asked again: the code was not taken.
                return Err(format!("the user code was refused: {}", shortened(&page.words)));
            };
            set(&mut fields, "device_user_code", &code);
        } else if form.field("accept").is_some() && form.field("cancel").is_some() {
            self.denied = self.deny;
            let (button, value) = if self.deny { ("cancel", "No") } else { ("accept", "Yes") };
            set(&mut fields, button, value);
        } else {
            return Ok(None);
        }
        Ok(Some(fields))
    }
}

fn set(fields: &mut Fields, name: &str, value: &str) {
    fields.retain(|(known, _)| known != name);
    fields.push((name.to_owned(), value.to_owned()));
}
