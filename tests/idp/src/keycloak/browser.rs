//! Plays the person at the browser: follows Keycloak's pages and answers their forms.

use std::collections::BTreeMap;

use reqwest::header::{ACCEPT, COOKIE, HeaderMap, LOCATION, SET_COOKIE};
use url::Url;

use super::html::{Form, Page};
use super::{Error, Keycloak, realm, shortened};

/// More pages than any sign-in has.
const MOST_PAGES: usize = 25;

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
        let mut visit = Visit::new(self, user, code, deny);
        let end = visit.walk(&url).await?;
        let at = end.at.as_str();
        let refused = !at.contains("/device/status") || at.contains("error=");
        if refused != deny || visit.denied != deny {
            return Err(end.unexpected());
        }
        Ok(end.at.into())
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
        let mut visit = Visit::new(self, user, None, deny);
        let end = visit.walk(url).await?;
        if visit.is_ours(&end.at) || visit.denied != deny {
            return Err(end.unexpected());
        }
        Ok(end.at.into())
    }
}

/// One visit of a person, with cookies of its own.
struct Visit<'a> {
    http: &'a reqwest::Client,
    base: &'a str,
    /// By name, whatever their flags: on loopback Keycloak marks them `Secure` though it speaks plain HTTP.
    cookies: BTreeMap<String, String>,
    user: &'a str,
    /// The user code, until it has been typed.
    code: Option<String>,
    deny: bool,
    denied: bool,
    signed_in: bool,
}

/// Where a visit ended, and what is written there.
struct End {
    at: Url,
    words: String,
}

impl End {
    fn unexpected(&self) -> Error {
        Error(format!("the pages ended at {}: {}", self.at, shortened(&self.words)))
    }
}

impl<'a> Visit<'a> {
    fn new(keycloak: &'a Keycloak, user: &'a str, code: Option<String>, deny: bool) -> Self {
        Self {
            http: &keycloak.http,
            base: keycloak.base(),
            cookies: BTreeMap::new(),
            user,
            code,
            deny,
            denied: false,
            signed_in: false,
        }
    }

    /// Goes on until the server sends us elsewhere or asks nothing more.
    async fn walk(&mut self, start: &str) -> Result<End, Error> {
        let mut at = Url::parse(start).map_err(|error| Error(format!("{start}: {error}")))?;
        let mut form = None;
        for _ in 0..MOST_PAGES {
            let answer = self.call(&at, form.take()).await?;
            let status = answer.status();
            if let Some(location) = answer.headers().get(LOCATION).filter(|_| status.is_redirection()) {
                at = join(&at, &String::from_utf8_lossy(location.as_bytes()))?;
                if self.is_ours(&at) {
                    continue;
                }
                return Ok(End { at, words: String::new() });
            }
            let page = Page::parse(&answer.text().await?);
            let mut answered = None;
            for candidate in &page.forms {
                if let Some(fields) = self.answer(candidate, &page)? {
                    answered = Some((candidate, fields));
                    break;
                }
            }
            match answered {
                Some((answered, fields)) => {
                    at = join(&at, &answered.action)?;
                    form = Some(fields);
                }
                None if status.is_client_error() || status.is_server_error() => {
                    return Err(Error(format!("{status} at {at}: {}", shortened(&page.words))));
                }
                None => return Ok(End { at, words: page.words }),
            }
        }
        Err(Error(format!("more than {MOST_PAGES} pages, the last at {at}")))
    }

    async fn call(
        &mut self,
        at: &Url,
        form: Option<Vec<(String, String)>>,
    ) -> Result<reqwest::Response, Error> {
        let request = match form {
            Some(fields) => self.http.post(at.clone()).form(&fields),
            None => self.http.get(at.clone()),
        };
        let cookies = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        // Asked for anything, Keycloak takes its own device form for an API call and refuses it.
        let mut request = request.header(ACCEPT, "text/html");
        if !cookies.is_empty() {
            request = request.header(COOKIE, cookies.join("; "));
        }
        let answer = request.send().await?;
        self.keep_cookies(answer.headers());
        Ok(answer)
    }

    fn keep_cookies(&mut self, headers: &HeaderMap) {
        for line in headers.get_all(SET_COOKIE) {
            let line = String::from_utf8_lossy(line.as_bytes());
            let (cookie, flags) = line.split_once(';').unwrap_or((&line, ""));
            let Some((name, value)) = cookie.split_once('=') else { continue };
            let name = name.trim().to_owned();
            let ended = flags.split(';').any(|flag| flag.trim().eq_ignore_ascii_case("max-age=0"));
            if ended || value.is_empty() {
                self.cookies.remove(&name);
            } else {
                self.cookies.insert(name, value.to_owned());
            }
        }
    }

    /// What to send for a form, if it is one of those a sign-in has.
    fn answer(&mut self, form: &Form, page: &Page) -> Result<Option<Vec<(String, String)>>, Error> {
        let mut fields = form.filled();
        if let Some(secret) = form.of_kind("password") {
            if self.signed_in {
                return Err(Error(format!("the sign-in was refused: {}", shortened(&page.words))));
            }
            self.signed_in = true;
            set(&mut fields, "username", self.user);
            set(&mut fields, secret, &realm::password(self.user).unwrap_or_default());
        } else if form.field("device_user_code").is_some_and(|field| field.kind == "text") {
            let Some(code) = self.code.take() else {
                // Asked again: the code was not taken.
                return Err(Error(format!("the user code was refused: {}", shortened(&page.words))));
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

    fn is_ours(&self, at: &Url) -> bool {
        at.as_str().strip_prefix(self.base).is_some_and(|path| path.starts_with('/'))
    }
}

fn set(fields: &mut Vec<(String, String)>, name: &str, value: &str) {
    fields.retain(|(known, _)| known != name);
    fields.push((name.to_owned(), value.to_owned()));
}

fn join(at: &Url, reference: &str) -> Result<Url, Error> {
    at.join(reference).map_err(|error| Error(format!("{reference}: {error}")))
}
