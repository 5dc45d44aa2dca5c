//! Changing one part of a YAML text and leaving the rest as it is written: comments, order, quotes, line ends.
//!
//! Each function makes one change and gives the new text, in memory that is wiped. Whoever makes several parses in between.

use std::ops::Range;

use zeroize::Zeroizing;

use super::yaml::{Kind, Node};

pub(super) type Edited = Result<Zeroizing<String>, String>;

/// The mapping in which a key gets this value: in its place, else behind those of `before` that are there.
pub(super) fn set(text: &str, map: &Node<'_>, key: &str, value: &str, before: &[&str]) -> Edited {
    let written = scalar(value);
    if let Some((place, old)) = map.find(key)? {
        let name = &pair(map, place)?.0;
        return Ok(if old.is_plain_or_quoted() {
            splice(text, old.start..old.end, &[&written])
        } else {
            let colon = colon(text, name.end)?;
            splice(text, colon..old.end.max(colon), &[" ", &written])
        });
    }
    let mut places = Vec::with_capacity(before.len());
    for key in before {
        places.extend(map.find(key)?.map(|(place, _)| place));
    }
    let last = map.pairs().unwrap_or_default().len().saturating_sub(1);
    let (name, after) = pair(map, places.into_iter().max().unwrap_or(last))?;
    if matches!(map.kind, Kind::Map { flow: true, .. }) {
        return Ok(splice(text, after.end..after.end, &[", ", key, ": ", &written]));
    }
    let end = line_end(text, after.end.max(name.end));
    let indent = " ".repeat(column(text, name.start));
    Ok(splice(text, end..end, &[line_break(text), &indent, key, ": ", &written]))
}

/// The mapping without a key; the text as it is, if the key is not there.
pub(super) fn remove(text: &str, map: &Node<'_>, key: &str) -> Edited {
    let Some((place, value)) = map.find(key)? else { return Ok(Zeroizing::new(text.to_owned())) };
    let (name, _) = pair(map, place)?;
    let next = pair(map, place + 1).ok();
    if matches!(map.kind, Kind::Map { flow: true, .. }) {
        return Ok(match (next, place.checked_sub(1).and_then(|before| pair(map, before).ok())) {
            (Some((next, _)), _) => splice(text, name.start..next.start, &[]),
            (None, Some((_, before))) => splice(text, before.end..value.end, &[]),
            (None, None) => splice(text, name.start..value.end, &[]),
        });
    }
    let begin = line_start(text, name.start);
    let end = after_line(text, value.end.max(name.end));
    let indent = text.get(begin..name.start).unwrap_or_default();
    if indent.bytes().all(|byte| byte == b' ') {
        return Ok(splice(text, begin..end, &[]));
    }
    // The first of an item: the next takes its place behind the dash, and comments between the two go above it.
    let (next, _) = next.ok_or("nothing would be left of an item")?;
    let between = text.get(end..line_start(text, next.start)).unwrap_or_default();
    Ok(splice(text, begin..next.start, &[between, indent]))
}

/// The mapping with one more item in the list under this key, after those that it has. The item's lines are indented as if
/// it began a line.
pub(super) fn append(text: &str, map: Option<&Node<'_>>, key: &str, lines: &[&str]) -> Edited {
    let eol = line_break(text);
    let item = |indent: &str| -> String {
        let line = |(number, line): (usize, &&str)| {
            let dash = if number == 0 { "- " } else { "  " };
            format!("{indent}{dash}{line}{eol}")
        };
        lines.iter().enumerate().map(line).collect()
    };
    let found = map.map(|map| map.find(key)).transpose()?.flatten();
    let Some((place, list)) = found else {
        let fresh = if text.is_empty() || text.ends_with('\n') { "" } else { eol };
        return Ok(splice(text, text.len()..text.len(), &[fresh, key, ":", eol, &item("")]));
    };
    let name = map.map(|map| pair(map, place)).transpose()?.map(|(name, _)| name.end).unwrap_or_default();
    match &list.kind {
        Kind::List { items, flow: false } if !items.is_empty() => {
            let first = items.first().map(|item| item.start).unwrap_or_default();
            let before = text.get(line_start(text, first)..first).unwrap_or_default();
            let indent = before.trim_end_matches([' ', '-']);
            let dash = before
                .find('-')
                .filter(|_| indent.is_empty())
                .ok_or_else(|| format!("the items of `{key}` are written in a way that is not extended"))?;
            let end = after_line(text, list.end);
            let fresh = if text.get(..end).is_some_and(|before| before.ends_with('\n')) { "" } else { eol };
            Ok(splice(text, end..end, &[fresh, &item(&" ".repeat(dash))]))
        }
        kind if list.is_null()
            || matches!(kind, Kind::List { items, .. } if items.is_empty() && !list.decorated) =>
        {
            let colon = colon(text, name)?;
            let end = list.end.max(colon);
            let comment = text.get(end..line_end(text, end)).unwrap_or_default().trim();
            let space = if comment.is_empty() { "" } else { " " };
            Ok(splice(text, colon..after_line(text, end), &[space, comment, eol, &item("")]))
        }
        _ => Err(format!("the items of `{key}` are written in a way that is not extended")),
    }
}

/// A text as a scalar that YAML 1.1 and 1.2 read as this text, on one line, in block style and in flow style.
pub(super) fn scalar(text: &str) -> Zeroizing<String> {
    // Longer than any form of it.
    let mut written = Zeroizing::new(String::with_capacity(10 * text.len() + 2));
    let words = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && !text.ends_with(':')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~+/=:-".contains(&byte))
        && !words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if plain {
        written.push_str(text);
    } else if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        written.push('\'');
        for character in text.chars() {
            written.push(character);
            if character == '\'' {
                written.push('\'');
            }
        }
        written.push('\'');
    } else {
        written.push('"');
        for character in text.chars() {
            match character {
                '"' | '\\' => written.extend(['\\', character]),
                ' '..='~' => written.push(character),
                wide => written.push_str(&format!("\\U{:08x}", u32::from(wide))),
            }
        }
        written.push('"');
    }
    written
}

fn pair<'n, 't>(map: &'n Node<'t>, place: usize) -> Result<&'n (Node<'t>, Node<'t>), String> {
    map.pairs().and_then(|pairs| pairs.get(place)).ok_or_else(|| "no mapping with anything in it".into())
}

/// The place after the colon of a key that ends here.
fn colon(text: &str, name_end: usize) -> Result<usize, String> {
    let colon = text.get(name_end..).and_then(|rest| rest.find(':')).ok_or("a key without its colon")?;
    Ok(name_end + colon + 1)
}

fn splice(text: &str, place: Range<usize>, parts: &[&str]) -> Zeroizing<String> {
    let (before, after) =
        (text.get(..place.start).unwrap_or_default(), text.get(place.end..).unwrap_or_default());
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut new = Zeroizing::new(String::with_capacity(before.len() + length + after.len()));
    new.push_str(before);
    parts.iter().for_each(|part| new.push_str(part));
    new.push_str(after);
    new
}

fn line_start(text: &str, place: usize) -> usize {
    text.get(..place).and_then(|before| before.rfind('\n')).map_or(0, |found| found + 1)
}

/// Where the line's content ends.
fn line_end(text: &str, place: usize) -> usize {
    let end = text.get(place..).and_then(|after| after.find('\n')).map_or(text.len(), |found| place + found);
    if text.get(..end).is_some_and(|line| line.ends_with('\r')) { end - 1 } else { end }
}

/// Where the next line begins.
fn after_line(text: &str, place: usize) -> usize {
    text.get(place..).and_then(|after| after.find('\n')).map_or(text.len(), |found| place + found + 1)
}

fn column(text: &str, place: usize) -> usize {
    text.get(line_start(text, place)..place).map_or(0, |before| before.chars().count())
}

fn line_break(text: &str) -> &'static str {
    if text.find('\n').is_some_and(|at| text.get(..at).is_some_and(|line| line.ends_with('\r'))) {
        "\r\n"
    } else {
        "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_file::yaml;

    fn item(text: &str) -> (String, usize) {
        // Which item is edited, in this text: the one that says so.
        let root = yaml::parse(text).unwrap().unwrap();
        let users = root.get("users").unwrap().unwrap().items().unwrap();
        let place = users.iter().position(|user| user.get("name").unwrap().and_then(Node::text) == Some("u"));
        (text.to_owned(), place.unwrap())
    }

    fn edited(text: &str, edit: impl Fn(&str, &Node<'_>) -> Edited) -> String {
        let (text, place) = item(text);
        let root = yaml::parse(&text).unwrap().unwrap();
        edit(&text, &root.get("users").unwrap().unwrap().items().unwrap()[place]).unwrap().to_string()
    }

    #[test]
    fn a_value_is_set_in_its_place() {
        for (text, new) in [
            ("users:\n- name: u\n  token: old # c\n", "users:\n- name: u\n  token: new # c\n"),
            ("users:\n- token: 'o''d'   # ü\n  name: u", "users:\n- token: new   # ü\n  name: u"),
            ("users:\r\n- token: \"o\\\"d\"\r\n  name: u\r\n", "users:\r\n- token: new\r\n  name: u\r\n"),
            ("users: [{token: old, name: u}]\n", "users: [{token: new, name: u}]\n"),
            ("users:\n- token:\n  name: u\n", "users:\n- token: new\n  name: u\n"),
            ("users:\n- token: null\n  name: u\n", "users:\n- token: new\n  name: u\n"),
            ("users:\n- token: # c\n\n  name: u\n", "users:\n- token: new # c\n\n  name: u\n"),
            ("users:\n- token: |\n    a\n    b\n  name: u\n", "users:\n- token: new\n  name: u\n"),
            ("users:\n- token: a\n    b\n  name: u\n", "users:\n- token: new\n  name: u\n"),
            ("users:\n- token: [a, b]\n  name: u\n", "users:\n- token: new\n  name: u\n"),
            ("users:\n- \"token\" : a\n  name: u\n", "users:\n- \"token\" : new\n  name: u\n"),
            (
                "# ü\nusers:\n- name: o\n  token: o\n- {token: old,name: u}\n",
                "# ü\nusers:\n- name: o\n  token: o\n- {token: new,name: u}\n",
            ),
        ] {
            assert_eq!(edited(text, |text, user| set(text, user, "token", "new", &[])), new);
        }
    }

    #[test]
    fn a_pair_is_added_after_those_that_it_follows() {
        for (text, new) in [
            ("users:\n- name: u # c\n  more: 1\n", "users:\n- name: u # c\n  token: new\n  more: 1\n"),
            ("users:\n-   more: 1\n    name: u", "users:\n-   more: 1\n    name: u\n    token: new"),
            ("users:\r\n  - name: u\r\nx: 1\r\n", "users:\r\n  - name: u\r\n    token: new\r\nx: 1\r\n"),
            ("users: [{name: u, more: 1}]\n", "users: [{name: u, token: new, more: 1}]\n"),
            (
                "users:\n- name: |-\n    u\n  more: 1\n",
                "users:\n- name: |-\n    u\n  token: new\n  more: 1\n",
            ),
        ] {
            assert_eq!(edited(text, |text, user| set(text, user, "token", "new", &["type", "name"])), new);
        }
        let after_all = "users:\n- name: u\n  more: 1\n";
        assert_eq!(
            edited(after_all, |text, user| set(text, user, "token", "t", &["no"])),
            format!("{after_all}  token: t\n")
        );
    }

    #[test]
    fn a_pair_is_removed_with_its_lines_and_nothing_else() {
        for (text, new) in [
            (
                "users:\n- name: u\n  # above\n  token: t # c\n  # below\n  more: 1\n",
                "users:\n- name: u\n  # above\n  # below\n  more: 1\n",
            ),
            ("users:\n- name: u\n  token: t", "users:\n- name: u\n"),
            (
                "users:\n  - token: t # c\n    # between\n    name: u\n",
                "users:\n    # between\n  - name: u\n",
            ),
            ("users:\n- name: u\n  token: >\n    a\n\n    b\n  more: 1\n", "users:\n- name: u\n  more: 1\n"),
            ("users: [{name: u, token: t}, 2]\n", "users: [{name: u}, 2]\n"),
            ("users: [{token: t, name: u}, 2]\n", "users: [{name: u}, 2]\n"),
            ("users:\n- name: u\n  token:\n  more: 1\n", "users:\n- name: u\n  more: 1\n"),
            ("users:\n- name: u\n  token: # c\n  # d\n  more: 1\n", "users:\n- name: u\n  # d\n  more: 1\n"),
            ("users:\n- name: u\n", "users:\n- name: u\n"),
        ] {
            assert_eq!(edited(text, |text, user| remove(text, user, "token")), new);
        }
    }

    #[test]
    fn an_item_comes_after_those_there_are() {
        for (text, new) in [
            ("", "list:\n- a: 1\n  b: 2\n"),
            ("# only a comment", "# only a comment\nlist:\n- a: 1\n  b: 2\n"),
            ("x: 1\n", "x: 1\nlist:\n- a: 1\n  b: 2\n"),
            ("list: []  # c\nx: 1\n", "list: # c\n- a: 1\n  b: 2\nx: 1\n"),
            ("list: []", "list:\n- a: 1\n  b: 2\n"),
            ("list: # c\nx: 1\n", "list: # c\n- a: 1\n  b: 2\nx: 1\n"),
            ("list:\nx: 1\n", "list:\n- a: 1\n  b: 2\nx: 1\n"),
            ("list: ~\nx: 1\n", "list:\n- a: 1\n  b: 2\nx: 1\n"),
            (
                "list:\n  - o: 'x' # c\n# after\nx: 1\n",
                "list:\n  - o: 'x' # c\n  - a: 1\n    b: 2\n# after\nx: 1\n",
            ),
            ("list:\n- o: {}", "list:\n- o: {}\n- a: 1\n  b: 2\n"),
            ("x: 1\r\nlist:\r\n- o: 1\r\n", "x: 1\r\nlist:\r\n- o: 1\r\n- a: 1\r\n  b: 2\r\n"),
        ] {
            let root = yaml::parse(text).unwrap();
            assert_eq!(*append(text, root.as_ref(), "list", &["a: 1", "b: 2"]).unwrap(), new);
            yaml::parse(new).unwrap();
        }
        for text in ["list: [a]\n", "list: text\n", "list: {}\n", "list: &a []\n"] {
            let root = yaml::parse(text).unwrap();
            assert!(append(text, root.as_ref(), "list", &["a: 1"]).is_err(), "{text}");
        }
    }

    #[test]
    fn a_scalar_is_read_as_the_text_that_it_was() {
        for (text, form) in [
            ("eyJhbGciOiJub25lIn0.eyJz-_x.", 'p'),
            ("fake-nemo-refresh-1", 'p'),
            ("https://nemo.example.com:8443/", 'p'),
            ("key:", '\''),
            ("yes", '\''),
            ("Null", '\''),
            ("1e5", '\''),
            ("", '\''),
            ("two words", '\''),
            ("it's: # {x}", '\''),
            ("line\nbreak", '"'),
            ("ä🔑\\\"\u{0}\u{85}\u{feff}", '"'),
        ] {
            let written = scalar(text);
            assert_eq!(written.starts_with(['\'', '"']), form != 'p', "{written:?}");
            for whole in [format!("a: {}\n", *written), format!("{{a: {}, b: 1}}", *written)] {
                let root = yaml::parse(&whole).unwrap().unwrap();
                assert_eq!(root.get("a").unwrap().and_then(Node::text), Some(text), "{whole}");
            }
        }
    }
}
