//! YAML as Ansible reads it: `PyYAML`'s types (YAML 1.1), with the position of every key and value.
//!
//! Built on `saphyr-parser`'s events. Stricter than `PyYAML` where its silence hurts: duplicate keys,
//! control characters, a second document and unquoted `{{ x }}` are errors. More lenient in one place:
//! an unknown tag is kept on the node, `=` and `<<` as values are text. The parser wants continued
//! lines inside brackets indented, where `PyYAML` does not care. Bounded: file size, nesting, number of nodes.

mod scalar;

use std::collections::HashMap;
use std::ops::Range;

use indexmap::IndexMap;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use self::scalar::Surprise;
use crate::text::diagnostic::{Diagnostic, FileId, Sources, Span};

/// Largest file, in bytes.
pub const MAX_BYTES: usize = 16 << 20;
/// Deepest nesting of lists and maps.
pub const MAX_DEPTH: usize = 128;
/// Most nodes of a document, counting each use of an alias as a copy.
pub const MAX_NODES: usize = 1_000_000;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Yaml {
    pub data: Data,
    /// For an alias: the place of the alias, not of the anchor.
    pub span: Span,
    /// The tag as written (`!vault`), when there is one.
    pub tag: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    /// A date or a date with time, as Python's `str()` writes it.
    Time(String),
    Seq(Vec<Yaml>),
    Map(Map),
}

/// A mapping in the order it was written. Keys are told apart by their JSON text, so `1` and `"1"`
/// are the same key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(IndexMap<String, (Yaml, Yaml)>);

impl Map {
    pub fn get(&self, key: &str) -> Option<&Yaml> {
        self.0.get(key).map(|(_, value)| value)
    }

    /// The key and the value, for their positions.
    pub fn entry(&self, key: &str) -> Option<(&Yaml, &Yaml)> {
        self.0.get(key).map(|(key, value)| (key, value))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Yaml, &Yaml)> {
        self.0.values().map(|(key, value)| (key, value))
    }

    /// Each key's text with its key and value.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Yaml, &Yaml)> {
        self.0.iter().map(|(name, (key, value))| (name.as_str(), key, value))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Yaml {
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::Str(s) => Some(s),
            _ => None,
        }
    }

    pub fn as_map(&self) -> Option<&Map> {
        match &self.data {
            Data::Map(map) => Some(map),
            _ => None,
        }
    }

    pub fn as_seq(&self) -> Option<&[Yaml]> {
        match &self.data {
            Data::Seq(seq) => Some(seq),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.data, Data::Null)
    }

    /// What the value is, for messages: `a list`, `a number` …
    pub fn kind(&self) -> &'static str {
        match self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "a boolean",
            Data::Int(_) => "an integer",
            Data::Float(_) => "a number",
            Data::Str(_) => "text",
            Data::Time(_) => "a date",
            Data::Seq(_) => "a list",
            Data::Map(_) => "a map",
        }
    }

    /// The value without positions. Times become text; integers beyond 64 bits and numbers that JSON
    /// lacks (infinity, not-a-number) become text, too.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(b) => Value::Bool(*b),
            Data::Int(i) => i64::try_from(*i)
                .map(Value::from)
                .or_else(|_| u64::try_from(*i).map(Value::from))
                .unwrap_or_else(|_| Value::String(i.to_string())),
            Data::Float(f) => serde_json::Number::from_f64(*f)
                .map_or_else(|| Value::String(f.to_string().to_ascii_lowercase()), Value::Number),
            Data::Str(s) | Data::Time(s) => Value::String(s.clone()),
            Data::Seq(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Data::Map(map) => Value::Object(
                map.named().map(|(name, _, value)| (name.to_owned(), value.to_json())).collect(),
            ),
        }
    }

    /// The text that tells a key from others; `None` for a list or a map.
    fn key_text(&self) -> Option<String> {
        match &self.data {
            Data::Seq(_) | Data::Map(_) => None,
            Data::Str(s) | Data::Time(s) => Some(s.clone()),
            _ => Some(self.to_json().to_string().trim_matches('"').to_owned()),
        }
    }
}

/// How plain keys such as `on:` are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// As `PyYAML`: `on:` is the key true.
    Python,
    /// As words: `on:` is the key "on".
    Words,
}

/// Loads one document, with the warnings about values that few people intend.
///
/// # Errors
/// Every problem found, in the order of the file. A syntax error ends the search.
pub fn load(sources: &Sources, file: FileId) -> Result<(Yaml, Vec<Diagnostic>), Vec<Diagnostic>> {
    Loader::new(sources, file, Keys::Python).run()
}

/// As [`load`], but plain keys that are boolean words stay text: for our own files, where `on:` is a word.
pub fn load_words(sources: &Sources, file: FileId) -> Result<(Yaml, Vec<Diagnostic>), Vec<Diagnostic>> {
    Loader::new(sources, file, Keys::Words).run()
}

/// Byte offsets for saphyr's character offsets: every 256th kept, the rest walked.
struct Offsets<'a> {
    text: &'a str,
    kept: Vec<usize>,
    /// Bytes before `text` in the file (a byte order mark).
    skipped: usize,
}

const STRIDE: usize = 256;

impl<'a> Offsets<'a> {
    fn new(text: &'a str, skipped: usize) -> Self {
        let kept = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().step_by(STRIDE).map(|(byte, _)| byte).collect()
        };
        Self { text, kept, skipped }
    }

    /// Offset inside `text`.
    fn inner(&self, mark: Marker) -> usize {
        let index = mark.index();
        if self.kept.is_empty() {
            return index.min(self.text.len());
        }
        let Some(&start) = self.kept.get(index / STRIDE) else {
            return self.text.len();
        };
        let rest = &self.text[start..];
        rest.char_indices().nth(index % STRIDE).map_or(self.text.len(), |(byte, _)| start + byte)
    }
}

/// A list or map whose end has not been seen.
struct Open {
    data: Data,
    /// The key that waits for its value. The flag says that it is a merge key.
    key: Option<(Yaml, bool)>,
    /// Merged maps, weakest first.
    merges: Vec<Map>,
    start: usize,
    /// End of the last child.
    end: usize,
    tag: Option<String>,
    anchor: usize,
    /// Nodes inside, itself included.
    nodes: usize,
    /// A collection was used as a key; its value is dropped.
    dropped: bool,
}

struct Loader<'a> {
    file: FileId,
    offsets: Offsets<'a>,
    keys: Keys,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    open: Vec<Open>,
    anchors: HashMap<usize, (Yaml, usize)>,
    nodes: usize,
    root: Option<Yaml>,
}

const QUOTE_HINT: &str =
    "quote a value that starts with `{{`, as in `\"{{ name }}\"`: without quotes YAML reads a map";

impl<'a> Loader<'a> {
    fn new(sources: &'a Sources, file: FileId, keys: Keys) -> Self {
        let full = sources.text(file);
        let text = full.strip_prefix('\u{feff}').unwrap_or(full);
        Self {
            file,
            offsets: Offsets::new(text, full.len() - text.len()),
            keys,
            errors: Vec::new(),
            warnings: Vec::new(),
            open: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            root: None,
        }
    }

    fn run(mut self) -> Result<(Yaml, Vec<Diagnostic>), Vec<Diagnostic>> {
        let text = self.offsets.text;
        if text.len() > MAX_BYTES {
            let message = format!("the file is larger than {} MiB", MAX_BYTES >> 20);
            return Err(vec![Diagnostic::error(None, message)]);
        }
        if let Some((at, c)) = text.char_indices().find(|(_, c)| !printable(*c)) {
            let span = self.span(at, at + c.len_utf8());
            return Err(vec![
                Diagnostic::error(span, format!("control character U+{:04X}", u32::from(c)))
                    .label("YAML does not allow this character")
                    .help("in a double-quoted value, write an escape such as `\\t` instead"),
            ]);
        }
        let mut parser = Parser::new_from_str(text);
        let mut documents = 0;
        while let Some(event) = parser.next_event() {
            match event {
                Ok((event, place)) => {
                    let (start, end) = (self.offsets.inner(place.start), self.offsets.inner(place.end));
                    let start = self.content(start, end);
                    match event {
                        Event::DocumentStart(_) => {
                            documents += 1;
                            if documents > 1 {
                                let span = self.span(start, end.max(start + 1));
                                self.errors.push(
                                    Diagnostic::error(span, "a second YAML document in one file")
                                        .label("the second document starts here")
                                        .help("put it in a file of its own, or remove the `---`"),
                                );
                                break;
                            }
                        }
                        event => {
                            if self.event(event, start, end).is_err() {
                                break;
                            }
                        }
                    }
                }
                Err(error) => {
                    self.syntax(&error);
                    break;
                }
            }
        }
        if self.errors.is_empty() {
            let empty = Yaml { data: Data::Null, span: self.span(0, 0), tag: None };
            Ok((self.root.unwrap_or(empty), self.warnings))
        } else {
            Err(self.errors)
        }
    }

    fn span(&self, start: usize, end: usize) -> Span {
        let byte = |at: usize| u32::try_from(at + self.offsets.skipped).unwrap_or(u32::MAX);
        Span { file: self.file, start: byte(start), end: byte(end.max(start)) }
    }

    fn syntax(&mut self, error: &saphyr_parser::ScanError) {
        let text = self.offsets.text;
        let at = self.offsets.inner(*error.marker());
        let line_start = text[..at].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[at..].find('\n').map_or(text.len(), |i| at + i);
        let line = &text[line_start..line_end];
        let info = error.info();
        let message = if info.contains("unknown anchor") {
            "this alias has no anchor before it".to_owned()
        } else {
            format!("this is not YAML: {}", info.trim_end_matches('.'))
        };
        let next = text[at..].chars().next();
        let help = if line.contains(": {{") || line.contains("- {{") || line.contains(": {%") {
            Some(QUOTE_HINT)
        } else if line.trim_start_matches(' ').starts_with('\t') {
            Some("indent with spaces, not with tabs")
        } else if matches!(next, Some('@' | '`' | '%')) {
            Some("quote a value that starts with `@`, `` ` `` or `%`")
        } else if info.contains("invalid indentation") {
            Some(
                "indent every line inside brackets, braces or quotes by one space more than the key they belong to",
            )
        } else if info.contains("mapping values") {
            Some("quote a value that contains `: `, and check that the line is indented like its neighbours")
        } else if info.contains("did not find expected") {
            Some("check the indentation of this line and the quotes and brackets before it")
        } else {
            None
        };
        let end = next.filter(|c| *c != '\n').map_or(at, |c| at + c.len_utf8());
        let mut diagnostic = Diagnostic::error(self.span(at, end), message).label("the reader stopped here");
        diagnostic.help = help.map(str::to_owned);
        self.errors.push(diagnostic);
    }

    /// Takes one event. `Err` means that a limit was passed and reading must stop.
    fn event(&mut self, event: Event<'_>, start: usize, end: usize) -> Result<(), ()> {
        match event {
            Event::Alias(id) => {
                let span = self.span(start, end);
                let Some((node, count)) = self.anchors.get(&id) else {
                    self.errors
                        .push(Diagnostic::error(span, "this alias refers to the value that contains it"));
                    self.count(1, span)?;
                    self.close(Yaml { data: Data::Null, span, tag: None }, 1, end, false);
                    return Ok(());
                };
                let (deep, count) = (self.open.len() + depth(node) > MAX_DEPTH, *count);
                if deep {
                    return self.too_deep(span);
                }
                self.count(count, span)?;
                if let Some((node, _)) = self.anchors.get(&id) {
                    let node = Yaml { span, ..node.clone() };
                    self.close(node, count, end, false);
                }
                Ok(())
            }
            Event::Scalar(value, style, anchor, tag) => {
                let tag = tag.map(|t| tag_text(&t.handle, &t.suffix));
                let end = self.trim(start, end, style);
                self.tabs(start);
                let value = self.unfinished(&value, end, style);
                let is_key = self.key_comes_next();
                let merge = is_key && tag.is_none() && style == ScalarStyle::Plain && value == "<<";
                let node = self.scalar(value, style, tag, self.span(start, end), is_key);
                self.count(1, node.span)?;
                if anchor > 0 {
                    self.anchors.insert(anchor, (node.clone(), 1));
                }
                self.close(node, 1, end, merge);
                Ok(())
            }
            Event::SequenceStart(anchor, tag) => self.begin(Data::Seq(Vec::new()), anchor, tag, start, end),
            Event::MappingStart(anchor, tag) => {
                self.begin(Data::Map(Map::default()), anchor, tag, start, end)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                self.end(open, start)
            }
            _ => Ok(()),
        }
    }

    fn key_comes_next(&self) -> bool {
        self.open.last().is_some_and(|o| matches!(o.data, Data::Map(_)) && o.key.is_none() && !o.dropped)
    }

    fn too_deep(&mut self, span: Span) -> Result<(), ()> {
        let message = format!("lists and maps are nested more than {MAX_DEPTH} deep");
        self.errors.push(Diagnostic::error(span, message));
        Err(())
    }

    /// Counts nodes against the limit before they are made.
    fn count(&mut self, nodes: usize, span: Span) -> Result<(), ()> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values, counting each use of an alias");
            self.errors.push(Diagnostic::error(span, message));
            return Err(());
        }
        Ok(())
    }

    fn begin(
        &mut self,
        data: Data,
        anchor: usize,
        tag: Option<std::borrow::Cow<'_, saphyr_parser::Tag>>,
        start: usize,
        end: usize,
    ) -> Result<(), ()> {
        if self.open.len() >= MAX_DEPTH {
            return self.too_deep(self.span(start, end));
        }
        self.count(1, self.span(start, end))?;
        let tag = tag.map(|t| tag_text(&t.handle, &t.suffix));
        if let Some(tag) = tag.as_deref().filter(|t| t.starts_with("!!")) {
            let fits = matches!((&data, tag), (Data::Seq(_), "!!seq") | (Data::Map(_), "!!map"));
            if !fits {
                let message = format!("the tag `{tag}` is not supported here");
                self.errors.push(Diagnostic::error(self.span(start, end), message));
            }
        }
        self.open.push(Open {
            data,
            key: None,
            merges: Vec::new(),
            start,
            end,
            tag,
            anchor,
            nodes: 1,
            dropped: false,
        });
        Ok(())
    }

    /// The end of a list or map: merges, then hands it to its parent. `last` is the place of the end event.
    fn end(&mut self, open: Open, last: usize) -> Result<(), ()> {
        let bracket = |at: usize, brackets: &[u8]| {
            self.offsets.text.as_bytes().get(at).is_some_and(|byte| brackets.contains(byte))
        };
        let flow = bracket(open.start, b"{[") && bracket(last, b"}]");
        let end = if flow { last + 1 } else { open.end };
        let data = match open.data {
            Data::Map(own) if !open.merges.is_empty() => {
                let mut merged = Map::default();
                for (name, pair) in open.merges.into_iter().chain([own]).flat_map(|m| m.0) {
                    merged.0.insert(name, pair);
                }
                Data::Map(merged)
            }
            data => data,
        };
        let node = Yaml { data, span: self.span(open.start, end), tag: open.tag };
        if open.anchor > 0 {
            // The kept copy counts too, or anchors nested in anchors would take memory unseen.
            self.count(open.nodes, node.span)?;
            self.anchors.insert(open.anchor, (node.clone(), open.nodes));
        }
        self.close(node, open.nodes, end, false);
        Ok(())
    }

    /// Gives a complete node to the list or map it belongs to.
    fn close(&mut self, node: Yaml, count: usize, end: usize, merge_key: bool) {
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        parent.end = end;
        parent.nodes += count;
        match &mut parent.data {
            Data::Seq(items) => items.push(node),
            Data::Map(map) => {
                if parent.dropped {
                    parent.dropped = false;
                } else if let Some((key, merge)) = parent.key.take() {
                    if merge {
                        self.merge(node);
                    } else if let Some(name) = key.key_text() {
                        map.0.insert(name, (key, node));
                    }
                } else {
                    self.key(node, merge_key);
                }
            }
            _ => {}
        }
    }

    fn key(&mut self, key: Yaml, merge: bool) {
        let Some(parent) = self.open.last_mut() else { return };
        let Data::Map(map) = &parent.data else { return };
        let Some(name) = key.key_text() else {
            parent.dropped = true;
            let templated = self.offsets.text[parent.start..].starts_with("{{");
            let diagnostic = if templated {
                Diagnostic::error(key.span, "an unquoted `{{ … }}`")
                    .label("YAML reads this as a map")
                    .help(QUOTE_HINT)
            } else {
                Diagnostic::error(key.span, "a list or a map cannot be a key").label("this is the key")
            };
            self.errors.push(diagnostic);
            return;
        };
        let first = map.entry(&name).map(|(first, _)| first);
        if let Some(first) = first.filter(|_| !merge) {
            let message = if first.data == key.data {
                format!("the key `{name}` is given twice")
            } else {
                format!("two keys are both read as `{name}`")
            };
            self.errors.push(
                Diagnostic::error(key.span, message)
                    .label("the second one")
                    .also(first.span, "the first one")
                    .help("keep one of them; other readers would silently take the last"),
            );
        }
        parent.key = Some((key, merge));
    }

    fn merge(&mut self, node: Yaml) {
        let span = node.span;
        let maps: Option<Vec<Map>> = match node.data {
            Data::Map(map) => Some(vec![map]),
            // The first of a list is the strongest.
            Data::Seq(items) => items
                .into_iter()
                .rev()
                .map(|item| if let Data::Map(map) = item.data { Some(map) } else { None })
                .collect(),
            _ => None,
        };
        match (maps, self.open.last_mut()) {
            (Some(maps), Some(parent)) => parent.merges.extend(maps),
            _ => self.errors.push(
                Diagnostic::error(span, "`<<` takes a map or a list of maps").label("this is something else"),
            ),
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<String>,
        span: Span,
        is_key: bool,
    ) -> Yaml {
        if let Some(c) = text.chars().find(|c| !printable(*c) || *c == '\u{7f}') {
            let message = format!("control character U+{:04X} in a value", u32::from(c));
            self.errors.push(Diagnostic::error(span, message).label("by an escape in this value"));
        }
        let data = match tag.as_deref() {
            None | Some("!") if style == ScalarStyle::Plain => match scalar::resolve(text) {
                Ok((Data::Bool(_), _)) if is_key && self.keys == Keys::Words => Data::Str(text.to_owned()),
                Ok((data, surprise)) => {
                    self.surprise(&data, surprise, span, is_key);
                    data
                }
                Err(error) => {
                    self.errors.push(
                        Diagnostic::error(span, error.to_string())
                            .help("quote the value when it is meant as text"),
                    );
                    Data::Null
                }
            },
            Some(name) if name.starts_with("!!") => match scalar::tagged(&name[2..], text) {
                Some(Ok(data)) => data,
                Some(Err(error)) => {
                    self.errors.push(Diagnostic::error(span, error.to_string()));
                    Data::Null
                }
                None => {
                    self.errors.push(Diagnostic::error(span, format!("the tag `{name}` is not supported")));
                    Data::Null
                }
            },
            _ => Data::Str(text.to_owned()),
        };
        Yaml { data, span, tag }
    }

    fn surprise(&mut self, data: &Data, surprise: Option<Surprise>, span: Span, is_key: bool) {
        let quote = "quote it when it is meant as text";
        let warning = match surprise {
            Some(Surprise::Octal) => {
                Diagnostic::warning(span, "an integer with a leading zero is read as octal").help(quote)
            }
            Some(Surprise::Sexagesimal) => {
                Diagnostic::warning(span, "digits with colons are read as a number to the base 60")
                    .help(quote)
            }
            None if is_key && matches!(data, Data::Bool(_)) => {
                Diagnostic::warning(span, "this key is read as a boolean").help(quote)
            }
            None => return,
        };
        self.warnings.push(warning);
    }

    /// Where a value starts after its anchor and tag.
    fn content(&self, start: usize, end: usize) -> usize {
        let text = &self.offsets.text[start.min(end)..end.max(start)];
        let mut rest = text;
        while rest.starts_with(['&', '!']) {
            let Some(space) = rest.find(char::is_whitespace) else { break };
            rest = rest[space..].trim_start();
        }
        if rest.is_empty() { start } else { start + text.len() - rest.len() }
    }

    /// Tabs before the first word of a block line: `PyYAML` refuses them, because nobody sees how wide they are.
    fn tabs(&mut self, start: usize) {
        let text = self.offsets.text;
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let indent = &text[line_start..start];
        let in_flow = self.open.iter().any(|o| matches!(text.as_bytes().get(o.start), Some(b'{' | b'[')));
        if indent.contains('\t') && indent.bytes().all(|b| b == b' ' || b == b'\t') && !in_flow {
            let span = self.span(line_start, start);
            self.errors.push(Diagnostic::error(span, "a tab in the indentation").help("indent with spaces"));
        }
    }

    /// A block scalar whose last line is the last of the file and has no newline gets none.
    fn unfinished<'v>(&self, value: &'v str, end: usize, style: ScalarStyle) -> &'v str {
        let text = self.offsets.text;
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        if block && end == text.len() { value.strip_suffix('\n').unwrap_or(value) } else { value }
    }

    /// The end of a scalar without the white space and comments that saphyr may count to it.
    fn trim(&self, start: usize, end: usize, style: ScalarStyle) -> usize {
        let text = &self.offsets.text[start.min(end)..end];
        match style {
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => end,
            _ => start + text.trim_end().len(),
        }
    }
}

/// What `PyYAML`'s reader lets through.
fn printable(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
}

/// How deep a value nests: 0 for a scalar.
fn depth(node: &Yaml) -> usize {
    // Values come from the bounded loader, so this recursion is bounded by `MAX_DEPTH`.
    match &node.data {
        Data::Seq(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Data::Map(map) => 1 + map.iter().map(|(_, value)| depth(value)).max().unwrap_or(0),
        _ => 0,
    }
}

/// `!!int` for the standard tags, `!vault` for others, `!` for the bare one.
fn tag_text(handle: &str, suffix: &str) -> String {
    match (handle, suffix) {
        ("tag:yaml.org,2002:", _) => format!("!!{suffix}"),
        _ => format!("{handle}{suffix}"),
    }
}

/// Whether the value under this key is a secret, by the words people use for them.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "auth_pass", "cipher_pass", "token", "pgsodium_key"]
        .iter()
        .any(|word| name.contains(word))
        && !name.starts_with("passwordcheck")
        || name == "pass"
}

/// Byte ranges of every scalar under a key with a secret's name, read as far as the text is YAML.
pub fn secret_ranges(text: &str) -> Vec<Range<usize>> {
    let inner = text.strip_prefix('\u{feff}').unwrap_or(text);
    let skipped = text.len() - inner.len();
    let offsets = Offsets::new(inner, skipped);
    let mut parser = Parser::new_from_str(inner);
    let mut found = Vec::new();
    // For every open collection: is it a map, does a key come next, is it under a secret key, is its next value.
    let mut open: Vec<(bool, bool, bool, bool)> = Vec::new();
    while let Some(Ok((event, place))) = parser.next_event() {
        let secret = match open.last() {
            Some((true, key_next, inherited, value_next)) => !key_next && (*inherited || *value_next),
            Some((false, _, inherited, _)) => *inherited,
            None => false,
        };
        let mut key = None;
        match event {
            Event::Scalar(value, ..) => {
                if secret && !value.is_empty() {
                    let (start, end) = (offsets.inner(place.start), offsets.inner(place.end));
                    found.push(start + skipped..end.max(start) + skipped);
                }
                key = Some(is_secret_name(&value));
            }
            Event::Alias(_) => {}
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if open.len() >= MAX_DEPTH {
                    break;
                }
                open.push((matches!(event, Event::MappingStart(..)), true, secret, false));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
            }
            _ => continue,
        }
        if let Some(parent) = open.last_mut().filter(|p| p.0) {
            // Here the node is complete: a key makes its value next, a value makes a key next.
            parent.3 = parent.1 && key.unwrap_or(false);
            parent.1 = !parent.1;
        }
    }
    found
}

#[cfg(test)]
mod tests;
