//! A browser without JavaScript: follows redirects, keeps cookies, and shows forms to who sits at it.

use std::{collections::BTreeMap, error::Error as _};

use reqwest::{
    StatusCode,
    header::{ACCEPT, COOKIE, HeaderMap, LOCATION, SET_COOKIE},
};
use url::Url;

use super::html::{Form, Page};

/// More pages than any sign-in has.
const MOST_PAGES: usize = 25;

/// What a form sends.
pub(crate) type Fields = Vec<(String, String)>;

/// A browser with its cookies.
#[derive(Debug)]
pub(crate) struct Browser {
    http: reqwest::Client,
    /// By scheme and authority, then by name. Flags do not count: on loopback Keycloak marks them `Secure` though it
    /// speaks plain HTTP.
    cookies: BTreeMap<String, BTreeMap<String, String>>,
}

/// Where a visit ended.
#[derive(Debug)]
pub(crate) enum End {
    /// At a page of the server that nobody answers.
    Page { at: Url, got: Got, words: String },
    /// Where the server sends the browser away, which has not gone there.
    Elsewhere { at: Url, form: Option<Fields> },
}

impl End {
    pub(crate) fn at(&self) -> &Url {
        match self {
            Self::Page { at, .. } | Self::Elsewhere { at, .. } => at,
        }
    }
}

/// A page as it was got.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) location: Option<Url>,
    pub(crate) html: String,
}

impl Browser {
    /// A browser that sends by this client, which must follow no redirects.
    pub(crate) fn new(http: reqwest::Client) -> Self {
        Self { http, cookies: BTreeMap::new() }
    }

    /// Goes on from a page of a server until the server sends us elsewhere or asks nothing more. `answer` gives what
    /// to send for a form, if it is to be sent.
    pub(crate) async fn walk(
        &mut self,
        start: &str,
        base: &str,
        mut answer: impl FnMut(&Form, &Page) -> Result<Option<Fields>, String>,
    ) -> Result<End, String> {
        let mut at = Url::parse(start).map_err(|error| format!("{start}: {error}"))?;
        let mut form = None;
        for _ in 0..MOST_PAGES {
            if !is_under(&at, base) {
                return Ok(End::Elsewhere { at, form });
            }
            let got = self.call(&at, form.take()).await?;
            if let Some(location) = &got.location {
                at = location.clone();
                continue;
            }
            let page = Page::parse(&got.html);
            let mut answered = None;
            for candidate in &page.forms {
                let action = join(&at, &candidate.action)?;
                let fields = if !is_under(&action, base) && candidate.is_filled() {
                    // It would submit itself, with JavaScript.
                    Some(candidate.filled())
                } else {
                    answer(candidate, &page)?
                };
                if let Some(fields) = fields {
                    answered = Some((action, fields));
                    break;
                }
            }
            match answered {
                Some((action, fields)) => (at, form) = (action, Some(fields)),
                None if got.status.is_client_error() || got.status.is_server_error() => {
                    return Err(format!("{} at {at}: {}", got.status, shortened(&page.words)));
                }
                None => return Ok(End::Page { at, got, words: page.words }),
            }
        }
        Err(format!("more than {MOST_PAGES} pages, the last at {at}"))
    }

    /// Gets a page, or posts a form to it.
    pub(crate) async fn call(&mut self, at: &Url, form: Option<Fields>) -> Result<Got, String> {
        let request = match form {
            Some(fields) => self.http.post(at.clone()).form(&fields),
            None => self.http.get(at.clone()),
        };
        let jar = self.cookies.entry(at.origin().ascii_serialization()).or_default();
        let cookies = jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        // Asked for anything, Keycloak takes its own device form for an API call and refuses it.
        let mut request = request.header(ACCEPT, "text/html");
        if !cookies.is_empty() {
            request = request.header(COOKIE, cookies.join("; "));
        }
        let answer = request.send().await.map_err(|error| told(&error))?;
        keep_cookies(jar, answer.headers());
        let status = answer.status();
        let location = answer.headers().get(LOCATION).filter(|_| status.is_redirection());
        let location = location.map(|to| join(at, &String::from_utf8_lossy(to.as_bytes()))).transpose()?;
        let html = answer.text().await.map_err(|error| told(&error))?;
        Ok(Got { status, location, html })
    }

    /// Forgets every cookie.
    pub(crate) fn forget(&mut self) {
        self.cookies.clear();
    }
}

fn keep_cookies(jar: &mut BTreeMap<String, String>, headers: &HeaderMap) {
    for line in headers.get_all(SET_COOKIE) {
        let line = String::from_utf8_lossy(line.as_bytes());
        let (cookie, flags) = line.split_once(';').unwrap_or((&line, ""));
        let Some((name, value)) = cookie.split_once('=') else { continue };
        let name = name.trim().to_owned();
        let ended = flags.split(';').any(|flag| flag.trim().eq_ignore_ascii_case("max-age=0"));
        if ended || value.is_empty() {
            jar.remove(&name);
        } else {
            jar.insert(name, value.to_owned());
        }
    }
}

/// Whether an address is the server's.
fn is_under(at: &Url, base: &str) -> bool {
    at.as_str().strip_prefix(base).is_some_and(|path| path.is_empty() || path.starts_with('/'))
}

fn join(at: &Url, reference: &str) -> Result<Url, String> {
    at.join(reference).map_err(|error| format!("{reference}: {error}"))
}

/// An error with its causes.
fn told(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The beginning of a text, for an error.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(400).collect()
}
