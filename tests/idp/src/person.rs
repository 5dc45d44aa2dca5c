//! A person with a browser without JavaScript, who signs in at the embedded server.

use std::fmt;

use reqwest::redirect::Policy;
use url::Url;

use crate::{
    browser::{Browser, End, Fields, Got, shortened},
    html::{Form, Page},
};

/// More redirects than a client's callback page has.
const MOST_REDIRECTS: usize = 10;

/// A person with a browser without JavaScript: follows redirects, keeps cookies from visit to visit, signs in by name
/// and approves or denies, and sends the form of `response_mode=form_post` that would submit itself.
#[derive(Debug)]
pub struct Person {
    name: String,
    denies: bool,
    browser: Browser,
}

/// Where the authorization server sent the browser: the answer to an authorization request.
#[derive(Clone, PartialEq, Eq)]
pub struct Callback {
    /// The address, with the answer in its query unless it comes by a form.
    pub url: Url,
    /// The form that is to be posted there, with `response_mode=form_post`.
    pub form: Option<Vec<(String, String)>>,
}

/// The last page of a visit.
#[derive(Clone, Debug)]
pub struct LastPage {
    /// Its address.
    pub url: Url,
    /// Its status code.
    pub status: u16,
    /// Its HTML.
    pub html: String,
    /// The words on it.
    pub words: String,
}

impl Person {
    /// A person who approves.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), denies: false, browser: browser(None) }
    }

    /// The person, who denies from now on, or approves again.
    #[must_use]
    pub fn who_denies(mut self, denies: bool) -> Self {
        self.denies = denies;
        self
    }

    /// The person with a new browser that trusts the authority of a server, by its certificate in PEM.
    #[must_use]
    pub fn trusting(mut self, ca_pem: &str) -> Self {
        self.browser = browser(Some(ca_pem));
        self
    }

    /// Forgets all cookies: nobody is signed in any more.
    pub fn forget_cookies(&mut self) {
        self.browser.forget();
    }

    /// Opens the URL of an authorization request (or of a logout) and follows it through the server's pages to where
    /// they lead: the callback, which is visited too, and whatever it redirects to. Gives the last page.
    ///
    /// # Errors
    ///
    /// In words, when a page is an error of the authorization server, or nothing answers.
    pub async fn visit(&mut self, url: &str) -> Result<LastPage, String> {
        let (mut at, mut form) = match self.walk(url).await? {
            End::Page { at, got, words } => return Ok(LastPage::new(at, got, words)),
            End::Elsewhere { at, form } => (at, form),
        };
        for _ in 0..MOST_REDIRECTS {
            let got = self.browser.call(&at, form.take()).await?;
            match got.location {
                Some(location) => at = location,
                None => {
                    let words = Page::parse(&got.html).words;
                    return Ok(LastPage::new(at, got, words));
                }
            }
        }
        Err(format!("more than {MOST_REDIRECTS} redirects, the last to {at}"))
    }

    /// Opens the URL of an authorization request and gives the answer that the server sends to the client, without
    /// going there.
    ///
    /// # Errors
    ///
    /// In words, when the server sends no answer: its page says why, or asks something.
    pub async fn answer(&mut self, url: &str) -> Result<Callback, String> {
        match self.walk(url).await? {
            End::Elsewhere { at, form } => Ok(Callback { url: at, form }),
            End::Page { at, words, .. } => Err(format!("the pages ended at {at}: {}", shortened(&words))),
        }
    }

    async fn walk(&mut self, url: &str) -> Result<End, String> {
        let base = Url::parse(url).map_err(|error| format!("{url}: {error}"))?.origin().ascii_serialization();
        let (name, denies) = (self.name.clone(), self.denies);
        let mut asked = false;
        let answer = move |form: &Form, page: &Page| {
            if form.field("user").is_none() || form.field("action").is_none() {
                return Ok(None);
            }
            if std::mem::replace(&mut asked, true) {
                return Err(format!("the sign-in was refused: {}", shortened(&page.words)));
            }
            let mut fields: Fields = form.filled();
            fields.retain(|(field, _)| field != "user");
            fields.push(("user".to_owned(), name.clone()));
            fields.push(("action".to_owned(), if denies { "deny" } else { "approve" }.to_owned()));
            Ok(Some(fields))
        };
        self.browser.walk(url, &base, answer).await
    }
}

impl Callback {
    /// The first value of a parameter of the answer.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The parameters of the answer, decoded.
    pub fn parameters(&self) -> Vec<(String, String)> {
        self.form.clone().unwrap_or_else(|| self.url.query_pairs().into_owned().collect())
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").field("url", &self.url.as_str()).field("form", &self.form).finish()
    }
}

impl LastPage {
    fn new(url: Url, got: Got, words: String) -> Self {
        Self { url, status: got.status.as_u16(), html: got.html, words }
    }
}

fn browser(ca_pem: Option<&str>) -> Browser {
    let mut http = reqwest::Client::builder().redirect(Policy::none()).no_proxy();
    if let Some(pem) = ca_pem {
        let certificate = reqwest::Certificate::from_pem(pem.as_bytes()).expect("a certificate in PEM");
        http = http.tls_certs_only([certificate]);
    }
    Browser::new(http.build().expect("an HTTP client"))
}
