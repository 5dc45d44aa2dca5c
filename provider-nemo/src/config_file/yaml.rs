//! YAML as a tree that knows where in the text each part is, so that one part can be changed and the rest stays.

use std::borrow::Cow;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};
use zeroize::Zeroize;

/// Deeper than any configuration, and shallow enough for every stack.
const DEEPEST: usize = 32;

/// A part of a document.
#[derive(Debug)]
pub(super) struct Node<'t> {
    /// Its first byte: of a list in block style, that of its first item; of a text in block style, that of its first line.
    pub(super) start: usize,
    /// The byte after its last, without what follows on the line.
    pub(super) end: usize,
    pub(super) kind: Kind<'t>,
    /// Whether it has an anchor or a tag.
    pub(super) decorated: bool,
}

#[derive(Debug)]
pub(super) enum Kind<'t> {
    Scalar { text: Text<'t>, style: ScalarStyle },
    Map { pairs: Vec<(Node<'t>, Node<'t>)>, flow: bool },
    List { items: Vec<Node<'t>>, flow: bool },
    Alias,
}

/// A scalar's text, which may be a secret: wiped if it is not the document's own.
pub(super) struct Text<'t>(Cow<'t, str>);

impl std::fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Text")
    }
}

impl Drop for Text<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(text) = &mut self.0 {
            text.zeroize();
        }
    }
}

impl<'t> Node<'t> {
    /// Its pairs, if it is a mapping.
    pub(super) fn pairs(&self) -> Option<&[(Self, Self)]> {
        match &self.kind {
            Kind::Map { pairs, .. } => Some(pairs),
            _ => None,
        }
    }

    /// Its items, if it is a list.
    pub(super) fn items(&self) -> Option<&[Self]> {
        match &self.kind {
            Kind::List { items, .. } => Some(items),
            _ => None,
        }
    }

    /// Its text, if it is a scalar and not null.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } if !self.is_null() => Some(&text.0),
            _ => None,
        }
    }

    /// Whether it is null, or nothing at all.
    pub(super) fn is_null(&self) -> bool {
        let nulls = ["", "~", "null", "Null", "NULL"];
        matches!(&self.kind, Kind::Scalar { text, style: ScalarStyle::Plain } if nulls.contains(&&*text.0))
    }

    /// The place and the value of a key; an error if it is there twice, since then it depends on the reader which counts.
    pub(super) fn find(&self, key: &str) -> Result<Option<(usize, &Self)>, String> {
        let pairs = self.pairs().unwrap_or_default().iter().enumerate();
        let mut found = pairs.filter(|(_, (name, _))| name.text() == Some(key));
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(format!("`{key}` is there twice")),
            (first, _) => Ok(first.map(|(place, (_, value))| (place, value))),
        }
    }

    /// The value of a key, unless it is null.
    pub(super) fn get(&self, key: &str) -> Result<Option<&Self>, String> {
        Ok(self.find(key)?.map(|(_, value)| value).filter(|value| !value.is_null()))
    }

    /// Whether replacing it from its start to its end replaces all of it.
    pub(super) fn is_plain_or_quoted(&self) -> bool {
        let block = [ScalarStyle::Literal, ScalarStyle::Folded];
        !self.decorated
            && self.end > self.start
            && matches!(&self.kind, Kind::Scalar { style, .. } if !block.contains(style))
    }

    /// Whether the two say the same, wherever and however they are written.
    pub(super) fn says(&self, other: &Self) -> bool {
        if self.decorated != other.decorated {
            return false;
        }
        match (&self.kind, &other.kind) {
            (Kind::Scalar { text: a, style: p }, Kind::Scalar { text: b, style: q }) => {
                // What is not quoted may be a number or a truth value.
                a.0 == b.0 && (*p == ScalarStyle::Plain) == (*q == ScalarStyle::Plain)
            }
            (Kind::Map { pairs: a, .. }, Kind::Map { pairs: b, .. }) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0.says(&b.0) && a.1.says(&b.1))
            }
            (Kind::List { items: a, .. }, Kind::List { items: b, .. }) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.says(b))
            }
            (Kind::Alias, Kind::Alias) => true,
            _ => false,
        }
    }
}

/// The one document in a text; `None` if there is nothing in it.
pub(super) fn parse(text: &str) -> Result<Option<Node<'_>>, String> {
    let places = Places::of(text);
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut root = None;
    let mut documents = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| unreadable(text, error.marker()))?;
        let (start, end) = (places.byte(span.start), places.byte(span.end));
        let node = match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err("more than one document".into());
                }
                continue;
            }
            Event::Scalar(value, style, anchor, tag) => {
                let decorated = anchor != 0 || tag.is_some();
                let end = scalar_end(text, start, end, style);
                Node { start, end, kind: Kind::Scalar { text: Text(value), style }, decorated }
            }
            Event::Alias(_) => Node { start, end, kind: Kind::Alias, decorated: false },
            Event::MappingStart(anchor, tag) => {
                let flow = text.get(start..end).is_some_and(|span| span.ends_with('{'));
                let kind = Kind::Map { pairs: Vec::new(), flow };
                begin(&mut open, span, start, kind, anchor != 0 || tag.is_some())?;
                continue;
            }
            Event::SequenceStart(anchor, tag) => {
                let flow = text.get(start..end).is_some_and(|span| span.ends_with('['));
                let kind = Kind::List { items: Vec::new(), flow };
                begin(&mut open, span, start, kind, anchor != 0 || tag.is_some())?;
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => {
                let Some(Open { mut node, .. }) = open.pop() else { continue };
                node.end = match &node.kind {
                    Kind::Map { flow: true, .. } | Kind::List { flow: true, .. } => start + 1, // its bracket
                    Kind::Map { pairs, .. } => pairs.last().map_or(node.start, |(_, value)| value.end),
                    Kind::List { items, .. } => items.last().map_or(node.start, |item| item.end),
                    _ => node.end,
                };
                node
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => continue,
        };
        match open.last_mut() {
            Some(parent) => parent.take(node),
            None => root = Some(node),
        }
    }
    Ok(root.filter(|root| !root.is_null()))
}

/// A collection whose end has not come yet.
struct Open<'t> {
    node: Node<'t>,
    key: Option<Node<'t>>,
}

impl<'t> Open<'t> {
    fn take(&mut self, mut child: Node<'t>) {
        match &mut self.node.kind {
            Kind::List { items, .. } => items.push(child),
            Kind::Map { pairs, .. } => match self.key.take() {
                Some(key) => {
                    // Of nothing, the parser tells where the next thing is.
                    if child.start == child.end && matches!(child.kind, Kind::Scalar { .. }) {
                        (child.start, child.end) = (key.end, key.end);
                    }
                    pairs.push((key, child));
                }
                None => self.key = Some(child),
            },
            Kind::Scalar { .. } | Kind::Alias => {}
        }
    }
}

fn begin<'t>(
    open: &mut Vec<Open<'t>>,
    span: Span,
    start: usize,
    kind: Kind<'t>,
    decorated: bool,
) -> Result<(), String> {
    if open.len() == DEEPEST {
        return Err(format!("nested more than {DEEPEST} times at line {}", span.start.line()));
    }
    open.push(Open { node: Node { start, end: start, kind, decorated }, key: None });
    Ok(())
}

/// Where a scalar ends: the parser's span goes on to the next token.
fn scalar_end(text: &str, start: usize, end: usize, style: ScalarStyle) -> usize {
    let quote = match style {
        ScalarStyle::SingleQuoted => b'\'',
        ScalarStyle::DoubleQuoted => b'"',
        _ => return start + text.get(start..end).unwrap_or_default().trim_end().len(),
    };
    let mut bytes =
        text.bytes().enumerate().skip(start).skip_while(|(_, byte)| *byte != quote).skip(1).peekable();
    while let Some((place, byte)) = bytes.next() {
        let doubled = quote == b'\'' && bytes.peek().is_some_and(|(_, next)| *next == quote);
        match byte {
            b'\\' if quote == b'"' => {
                bytes.next();
            }
            _ if byte == quote && doubled => {
                bytes.next();
            }
            _ if byte == quote => return place + 1,
            _ => {}
        }
    }
    end
}

/// Says where, and quotes nothing.
fn unreadable(text: &str, at: &Marker) -> String {
    let tab = text.lines().any(|line| line.trim_start_matches(' ').starts_with('\t'));
    let hint = if tab { "; a line is indented with a tab" } else { "" };
    format!("not YAML: line {}, column {}{hint}", at.line(), at.col() + 1)
}

/// The parser counts characters, the text is bytes.
struct Places(Option<Vec<usize>>);

impl Places {
    fn of(text: &str) -> Self {
        let wide = !text.is_ascii();
        Self(wide.then(|| text.char_indices().map(|(place, _)| place).chain([text.len()]).collect()))
    }

    fn byte(&self, at: Marker) -> usize {
        match &self.0 {
            Some(places) => places.get(at.index()).or(places.last()).copied().unwrap_or_default(),
            None => at.index(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn slices<'t>(text: &'t str, node: &Node<'_>, found: &mut Vec<&'t str>) {
        match &node.kind {
            Kind::Scalar { .. } | Kind::Alias => found.push(&text[node.start..node.end]),
            Kind::Map { pairs, .. } => pairs.iter().for_each(|(_, value)| slices(text, value, found)),
            Kind::List { items, .. } => items.iter().for_each(|item| slices(text, item, found)),
        }
    }

    #[test]
    fn values_are_where_the_tree_says() {
        let text = "# ä\n\"a\": \"x \\\" ü\" # c\nb:   'it''s'  \nc: plain text # c\nd:\n  - [1, \"2\" ]\n  - {e: f , g: 'h'} # c\n\
                    i: |\n  block\n  more\nj: >-\n   folded\n\nk: many\n   lines\nl:\nm: ~\n";
        let root = parse(text).unwrap().unwrap();
        let mut found = Vec::new();
        slices(text, &root, &mut found);
        assert_eq!(
            found,
            [
                "\"x \\\" ü\"",
                "'it''s'",
                "plain text",
                "1",
                "\"2\"",
                "f",
                "'h'",
                "block\n  more",
                "folded",
                "many\n   lines",
                "",
                "~"
            ]
        );
        assert_eq!(root.get("a").unwrap().and_then(Node::text), Some("x \" ü"));
        assert!(root.get("m").unwrap().is_none() && root.get("none").unwrap().is_none());
        let (_, list) = root.find("d").unwrap().unwrap();
        assert_eq!(&text[list.items().unwrap()[1].start..list.items().unwrap()[1].end], "{e: f , g: 'h'}");
    }

    #[test]
    fn what_is_no_document_is_told_without_quoting_it() {
        for (text, why) in [
            ("a: 1\n\tmarker: 2\n", "indented with a tab"),
            ("a: marker\0\n", "line 1, column"),
            ("a: [marker\n", "line"),
            ("a: \"marker\n", "line"),
            ("a: marker: b\n", "line 1, column"),
            ("--- 1\n--- 2\n", "more than one document"),
            ("%marker\n", "line"),
            (&"[".repeat(100), "nested"),
        ] {
            let told = parse(text).map(|_| ()).unwrap_err();
            assert!(told.contains(why) && !told.contains("marker"), "{text:?}: {told}");
        }
        for nothing in ["", "\n", "# a comment\n", "---\n", "~\n", "\u{feff}"] {
            assert!(parse(nothing).unwrap().is_none(), "{nothing:?}");
        }
        let twice = parse("a: 1\nb: 2\na: 3\n").unwrap().unwrap();
        assert_eq!(twice.find("a").unwrap_err(), "`a` is there twice");
    }

    #[test]
    fn a_mebibyte_of_anything_is_done_with_soon() {
        for piece in [
            "a: ", "- ", "[", "{", "? ", "a: b\n", "\"", "'", "&a ", "*a ", "!", "a\n", "#", "|\n", ": ",
            "ä", "\\", "[a,",
        ] {
            let text = piece.repeat(1024 * 1024 / piece.len());
            let begun = Instant::now();
            let _ = parse(&text);
            assert!(begun.elapsed() < Duration::from_secs(20), "{piece:?} took {:?}", begun.elapsed());
        }
    }
}
