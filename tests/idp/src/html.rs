//! Just enough HTML to answer a form: tolerant, and no more than a sign-in's pages need.

/// A page: its forms, and its text for messages.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) forms: Vec<Form>,
    pub(super) words: String,
}

/// A form with its named inputs and buttons.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) action: String,
    pub(super) fields: Vec<Field>,
}

/// A named input or button.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: String,
    /// Its `type`, in lower case: `text`, `hidden`, `password`, `submit` and so on.
    pub(super) kind: String,
}

impl Page {
    /// Reads a page.
    pub(super) fn parse(html: &str) -> Self {
        let mut page = Self::default();
        let mut rest = html;
        while let Some(start) = rest.find('<') {
            page.add_words(&rest[..start]);
            rest = &rest[start..];
            if let Some(comment) = rest.strip_prefix("<!--") {
                rest = comment.split_once("-->").map_or("", |(_, after)| after);
            } else if let Some((tag, after)) = Tag::read(rest) {
                rest = after;
                if ["script", "style"].contains(&tag.name.as_str()) {
                    let end = rest.to_ascii_lowercase().find(&format!("</{}", tag.name));
                    rest = end.map_or("", |end| &rest[end..]);
                } else {
                    page.add_tag(&tag);
                }
            } else {
                rest = &rest[1..];
            }
        }
        page.add_words(rest);
        page
    }

    fn add_words(&mut self, text: &str) {
        for word in unescape(text).split_whitespace() {
            if !self.words.is_empty() {
                self.words.push(' ');
            }
            self.words.push_str(word);
        }
    }

    fn add_tag(&mut self, tag: &Tag) {
        let default_kind = match tag.name.as_str() {
            "form" => {
                let action = tag.attribute("action").unwrap_or_default().to_owned();
                self.forms.push(Form { action, fields: Vec::new() });
                return;
            }
            "input" => "text",
            "button" => "submit",
            _ => return,
        };
        if let (Some(form), Some(name)) = (self.forms.last_mut(), tag.attribute("name")) {
            form.fields.push(Field {
                name: name.to_owned(),
                value: tag.attribute("value").unwrap_or_default().to_owned(),
                kind: tag.attribute("type").unwrap_or(default_kind).to_ascii_lowercase(),
            });
        }
    }
}

impl Form {
    /// The field of a name.
    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The name of the first field of a kind.
    pub(super) fn of_kind(&self, kind: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.kind == kind).map(|field| field.name.as_str())
    }

    /// Whether there is nothing to fill in.
    pub(super) fn is_filled(&self) -> bool {
        self.fields.iter().all(|field| ["hidden", "submit", "button"].contains(&&*field.kind))
    }

    /// What the form sends if no button is pressed and nothing is ticked.
    pub(super) fn filled(&self) -> Vec<(String, String)> {
        let sent =
            |field: &&Field| !["submit", "button", "image", "checkbox", "radio"].contains(&&*field.kind);
        self.fields.iter().filter(sent).map(|field| (field.name.clone(), field.value.clone())).collect()
    }
}

/// A tag: its name in lower case (with the slash of an end tag) and its attributes.
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
}

impl Tag {
    /// Reads the tag at the start of `text`, if it is one, and gives what follows it.
    fn read(text: &str) -> Option<(Self, &str)> {
        let inner = text.strip_prefix('<')?;
        if !inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!') {
            return None;
        }
        let (name, mut rest) = split_where(inner, |c| c.is_whitespace() || c == '>');
        let name = if name.len() > 1 { name.trim_end_matches('/') } else { name };
        let mut tag = Self { name: name.to_ascii_lowercase(), attributes: Vec::new() };
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
            if rest.is_empty() {
                return Some((tag, rest));
            }
            if let Some(after) = rest.strip_prefix('>') {
                return Some((tag, after));
            }
            let (name, after) = split_where(rest, |c| c.is_whitespace() || ['=', '>', '/'].contains(&c));
            let Some(value) = after.trim_start().strip_prefix('=') else {
                tag.attributes.push((name.to_ascii_lowercase(), String::new()));
                rest = after;
                continue;
            };
            let value = value.trim_start();
            let (value, after) = match value.chars().next() {
                Some(quote @ ('"' | '\'')) => value[1..].split_once(quote).unwrap_or((&value[1..], "")),
                _ => split_where(value, |c| c.is_whitespace() || c == '>'),
            };
            tag.attributes.push((name.to_ascii_lowercase(), unescape(value)));
            rest = after;
        }
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Splits before the first character that ends a word.
fn split_where(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// Replaces character references; one that is not known stays as it is.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        plain.push_str(&rest[..start]);
        rest = &rest[start..];
        let reference = rest[1..].split_once(';').and_then(|(name, after)| Some((character(name)?, after)));
        match reference {
            Some((character, after)) => {
                plain.push(character);
                rest = after;
            }
            None => {
                plain.push('&');
                rest = &rest[1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

fn character(name: &str) -> Option<char> {
    let code = match name {
        "amp" => return Some('&'),
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "quot" => return Some('"'),
        "apos" => return Some('\''),
        "nbsp" => return Some(' '),
        _ => name.strip_prefix('#')?,
    };
    let number = match code.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => code.parse(),
    };
    char::from_u32(number.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_form_is_read() {
        let page = Page::parse(
            r#"<!doctype html><html><!-- <form action="no"> --><style>a > b { }</style>
            <script>if (a < b) { document.write("<form action='no'>"); }</SCRIPT>
            <p>Sign in &amp; go on</p>
            <FORM id=login onsubmit="login.disabled = true; return true;"
                  action="http://127.0.0.1/x?a=1&amp;b=&#x32;&c=3" method='post'>
              <input tabindex="2" id="username" name="username" value="" type="text" autofocus />
              <input type="PASSWORD" name=password><input type=hidden name="credentialId" value='a&quot;b'/>
              <input type="checkbox" name="rememberMe"> <button name="login" type="submit">Sign in</button>
            </FORM>"#,
        );
        assert_eq!(page.words, "Sign in & go on Sign in");
        let [form] = page.forms.as_slice() else { panic!("{page:?}") };
        assert_eq!(form.action, "http://127.0.0.1/x?a=1&b=2&c=3");
        assert_eq!(form.of_kind("password"), Some("password"));
        assert_eq!(form.field("login").map(|field| field.kind.as_str()), Some("submit"));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(form.filled(), [pair("username", ""), pair("password", ""), pair("credentialId", "a\"b")]);
    }

    #[test]
    fn odd_pages_do_no_harm() {
        for odd in [
            "",
            "<",
            "a < b",
            "<form",
            "<form action",
            "<form action=",
            "<input name=\"x",
            "&#xd800;&",
            "<é>",
        ] {
            let _ = Page::parse(odd);
        }
        assert_eq!(Page::parse("1 < 2 &unknown; é").words, "1 2 &unknown; é");
    }
}
