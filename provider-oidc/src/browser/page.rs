//! The pages that a browser shows in the end.

use std::fmt::{self, Write as _};

use keyfob_auth_core::AuthError;

/// The page that the browser shows when a login has ended.
///
/// It is sent with a Content Security Policy that allows inline styles and `data:` images, and nothing from elsewhere.
///
/// # Examples
/// ```
/// use keyfob_auth_core::AuthError;
/// use keyfob_provider_oidc::browser::{Page, escape_html};
///
/// #[derive(Debug)]
/// struct Plain;
///
/// impl Page for Plain {
///     fn render(&self, outcome: Result<(), &AuthError>) -> String {
///         let text = match outcome {
///             Ok(()) => "Welcome.".to_owned(),
///             Err(error) => escape_html(error.message()),
///         };
///         format!("<!doctype html><html lang=\"en\"><title>Example</title><p role=\"status\">{text}</p></html>")
///     }
/// }
/// ```
pub trait Page: fmt::Debug + Send + Sync {
    /// A whole HTML document. `outcome` is what came of the login; nothing of it may be put into the page
    /// [unescaped](escape_html). Called on the context's executor: it must not block.
    fn render(&self, outcome: Result<(), &AuthError>) -> String;
}

/// keyfob's own page: in one piece, without scripts, light or dark as the person has it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnPage;

impl Page for OwnPage {
    fn render(&self, outcome: Result<(), &AuthError>) -> String {
        match outcome {
            Ok(()) => page(&Words {
                good: true,
                heading: "You are signed in",
                what: "You can close this window and go back to the program that opened it.",
                next: "",
            }),
            // Its message alone: what the server or the request said besides is for where the login was begun.
            Err(error) => page(&Words {
                good: false,
                heading: "You are not signed in",
                what: &sentence(error.message()),
                next: "The program that opened this page says more. You can close this window, and try again there.",
            }),
        }
    }
}

/// For a browser that comes with something that is not this login's.
pub(super) fn stranger() -> String {
    page(&Words {
        good: false,
        heading: "This is not the sign-in that is waited for",
        what: "The answer belongs to another sign-in, or to none: the page may be an old one.",
        next: "Go on in the newest window, or begin again in the program that wants you to sign in.",
    })
}

/// Text as it stands in HTML, between tags and in quoted attributes.
pub fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

struct Words<'a> {
    good: bool,
    heading: &'a str,
    what: &'a str,
    next: &'a str,
}

fn page(words: &Words<'_>) -> String {
    let (class, sign, role) = if words.good { ("good", "✓", "status") } else { ("bad", "!", "alert") };
    let (heading, what) = (escape_html(words.heading), escape_html(words.what));
    let mut page = String::with_capacity(STYLE.len() + 1024);
    // Writing to a text does not fail.
    let _ = write!(
        page,
        "<!doctype html>\n\
         <html lang=\"en\">\n\
         <head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{heading}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <style>{STYLE}</style>\n\
         </head>\n\
         <body>\n\
         <main class=\"{class}\">\n\
         <p class=\"sign\" aria-hidden=\"true\">{sign}</p>\n\
         <div role=\"{role}\">\n\
         <h1>{heading}</h1>\n\
         <p>{what}</p>\n\
         </div>\n"
    );
    if !words.next.is_empty() {
        let _ = writeln!(page, "<p class=\"next\">{}</p>", escape_html(words.next));
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// Every text is at least seven times as light or dark as what it stands on.
const STYLE: &str = "\
:root{--ground:#f3f4f6;--card:#fff;--text:#1a1d21;--soft:#4b5563;--line:#d7dbe0;--good:#14532d;--good-ground:#dcfce7;\
--bad:#7f1d1d;--bad-ground:#fee2e2}\
@media(prefers-color-scheme:dark){:root{--ground:#101317;--card:#1a1f26;--text:#eceef1;--soft:#bcc3cc;--line:#333b45;\
--good:#bbf7d0;--good-ground:#14432a;--bad:#fecaca;--bad-ground:#5c1a1a}}\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;display:flex;align-items:center;justify-content:center;padding:1.5rem;\
background:var(--ground);color:var(--text);font:1.0625rem/1.55 system-ui,-apple-system,\"Segoe UI\",Roboto,sans-serif}\
main{width:100%;max-width:28rem;padding:2.25rem 2rem;background:var(--card);border:1px solid var(--line);\
border-radius:1rem;text-align:center;overflow-wrap:anywhere}\
h1{margin:0 0 .5rem;font-size:1.5rem;line-height:1.25}\
p{margin:0}\
.next{margin-top:1rem;color:var(--soft)}\
.sign{display:inline-flex;align-items:center;justify-content:center;width:3.5rem;height:3.5rem;margin-bottom:1.25rem;\
border-radius:50%;font-size:1.75rem;font-weight:700;line-height:1}\
.good .sign{color:var(--good);background:var(--good-ground)}\
.bad .sign{color:var(--bad);background:var(--bad-ground)}";

/// A message as a sentence of its own.
fn sentence(message: &str) -> String {
    let mut rest = message.chars();
    let first = rest.next().into_iter().flat_map(char::to_uppercase);
    let mut sentence: String = first.chain(rest).collect();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "</p><script>alert('x')</script>\"><img src=x onerror=alert(1)>&amp;\u{0}\u{1b}";

    #[test]
    fn rfc8252_page_holds_nothing_of_the_answer() {
        let error = AuthError::refused("the sign-in was denied")
            .with_oauth("access_denied", Some(HOSTILE.into()))
            .with_origin("https://idp.example/marker");
        let page = OwnPage.render(Err(&error));
        assert!(page.contains("<p>The sign-in was denied.</p>"), "{page}");
        for absent in ["script", "onerror", "access_denied", "marker"] {
            assert!(!page.contains(absent), "{absent}: {page}");
        }
    }

    #[test]
    fn rfc8252_page_shows_a_hostile_message_as_text() {
        let page = OwnPage.render(Err(&AuthError::refused(HOSTILE)));
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("'x'"), "{page}");
        assert!(
            page.contains("&lt;/p&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&gt;"),
            "{page}"
        );
        assert!(!page.contains(['\u{0}', '\u{1b}']), "{page}");
    }

    #[test]
    fn rfc9700_4_2_4_pages_load_nothing_and_are_whole_and_accessible() {
        let error = AuthError::refused("no");
        for (page, heading, role) in [
            (OwnPage.render(Ok(())), "You are signed in", "status"),
            (OwnPage.render(Err(&error)), "You are not signed in", "alert"),
            (stranger(), "This is not the sign-in that is waited for", "alert"),
        ] {
            assert!(page.starts_with("<!doctype html>\n<html lang=\"en\">") && page.ends_with("</html>\n"));
            assert!(page.contains(&format!("<title>{heading}</title>")), "{page}");
            assert!(
                page.contains(&format!("<h1>{heading}</h1>")) && page.contains(&format!("role=\"{role}\""))
            );
            for loads in ["http", "src=", "url(", "@import", "<script", "<form", "on"] {
                let found =
                    page.split(['<', '>']).skip(1).step_by(2).any(|tag| tag.contains(&format!(" {loads}")));
                assert!(!found, "{loads}: {page}");
            }
            assert!(!page.contains("//") && !page.contains("url("), "nothing from elsewhere: {page}");
            let opened = page.matches("<p").count() + page.matches("<div").count();
            assert_eq!(opened, page.matches("</p>").count() + page.matches("</div>").count());
            assert!(page.len() < 4096, "{}", page.len());
        }
    }

    #[test]
    fn every_text_stands_out_from_its_ground() {
        let colour = |name: &str, dark: bool| {
            let style = STYLE.split("@media").nth(usize::from(dark)).unwrap();
            let hex = style.split(&format!("--{name}:#")).nth(1).unwrap();
            let hex: String = hex.chars().take_while(char::is_ascii_hexdigit).collect();
            let long = if hex.len() == 3 { hex.chars().flat_map(|c| [c, c]).collect() } else { hex };
            let part = |at: usize| {
                let value = f64::from(u8::from_str_radix(&long[at..at + 2], 16).unwrap()) / 255.0;
                if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * part(0) + 0.7152 * part(2) + 0.0722 * part(4)
        };
        for dark in [false, true] {
            for (text, ground) in
                [("text", "card"), ("soft", "card"), ("good", "good-ground"), ("bad", "bad-ground")]
            {
                let (a, b) = (colour(text, dark), colour(ground, dark));
                let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                assert!(contrast >= 7.0, "{text} on {ground}, dark {dark}: {contrast:.1}");
            }
        }
    }
}
