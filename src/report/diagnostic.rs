//! Diagnostics as text, in the style of rustc. Secrets in the shown lines are masked.

use std::ops::Range;
use std::sync::LazyLock;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use regex::Regex;

use crate::text::diagnostic::{Diagnostic, FileId, Severity, Sources, Span};
use crate::text::yaml;

/// Columns of the text, for every terminal the same.
const WIDTH: usize = 140;

/// One diagnostic with the lines it is about. Ends without a newline.
pub fn render(sources: &Sources, d: &Diagnostic, color: bool) -> String {
    let level = match d.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut places: Vec<(FileId, Vec<(Range<usize>, Option<&str>)>)> = Vec::new();
    let labels = d.span.iter().map(|span| (*span, d.label.as_str()));
    for (span, label) in labels.chain(d.also.iter().map(|(span, label)| (*span, label.as_str()))) {
        let annotation = (range(sources, span), (!label.is_empty()).then_some(label));
        match places.iter_mut().find(|(file, _)| *file == span.file) {
            Some((_, annotations)) => annotations.push(annotation),
            None => places.push((span.file, vec![annotation])),
        }
    }
    let texts: Vec<String> = places.iter().map(|(file, _)| masked(sources.text(*file))).collect();
    let mut group = Group::with_title(level.primary_title(d.message.as_str()));
    for (at, ((file, annotations), text)) in places.iter().zip(&texts).enumerate() {
        let mut snippet = Snippet::source(text.as_str()).path(sources.name(*file)).fold(true);
        for (index, (range, label)) in annotations.iter().enumerate() {
            let kind = if at == 0 && index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            snippet = snippet.annotation(kind.span(range.clone()).label(*label));
        }
        group = group.element(snippet);
    }
    if let Some(help) = &d.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    renderer.term_width(WIDTH).render(&[group])
}

/// A range of whole characters; only the first line of a value of many lines.
fn range(sources: &Sources, span: Span) -> Range<usize> {
    let text = sources.text(span.file);
    let whole = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (start, end) = (whole(span.start as usize), whole(span.end as usize));
    let end = text[start..end.max(start)].find(['\n', '\r']).map_or(end.max(start), |line| start + line);
    start..end
}

static KEYED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?im)([\w.-]*(?:password|passwd|passphrase|secret|auth_pass|cipher_pass|token|pgsodium_key|_pass)[\w.-]*["']?[ \t]*[:=][ \t]*)("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,}\n#]+)"#,
    )
});

/// The password of a URL.
static URL: LazyLock<Regex> = LazyLock::new(|| pattern(r"(://[^:/@\s]*:)([^@/\s]+)(@)"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern compiles")
}

/// The text with every secret replaced by asterisks, byte by byte, so that positions stay.
///
/// Two nets: the values under secret keys as YAML reads them, and the look of single lines for
/// files that YAML cannot read.
fn masked(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let keyed = KEYED.captures_iter(text).filter_map(|c| c.get(2)).map(|m| m.range());
    let urls = URL.captures_iter(text).filter_map(|c| c.get(2)).map(|m| m.range());
    for secret in yaml::secret_ranges(text).into_iter().chain(keyed).chain(urls) {
        for byte in bytes.get_mut(secret).into_iter().flatten() {
            if !byte.is_ascii_whitespace() {
                *byte = b'*';
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| "*".repeat(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(sources: &Sources, file: FileId, what: &str) -> Span {
        let start = sources.text(file).find(what).unwrap();
        let byte = |at: usize| u32::try_from(at).unwrap();
        Span { file, start: byte(start), end: byte(start + what.len()) }
    }

    #[test]
    fn an_error_shows_its_lines_and_help() {
        let mut sources = Sources::default();
        let file = sources.add("pigsty.yml", "all:\n  one: 1\n  two: 2\n  three: 3\n  four: 4\n  one: é5\n");
        let d = Diagnostic::error(place(&sources, file, "é5"), "the key `one` is given twice")
            .label("the second one")
            .also(place(&sources, file, "one"), "the first one")
            .help("keep one of them");
        insta::assert_snapshot!(render(&sources, &d, false), @"");
    }

    #[test]
    fn a_message_without_a_place_is_one_line() {
        let d = Diagnostic::error(None, "no such file: `a.yml`");
        assert_eq!(render(&Sources::default(), &d, false), "error: no such file: `a.yml`");
    }

    #[test]
    fn secrets_in_shown_lines_are_masked() {
        let mut sources = Sources::default();
        let text = "pg_users: [{ name: a, password: c4nary-é, comment: shown, nmae: b }]\n\
                    pgbackrest_repo: { s3: { s3_key_secret: 'c4nary', path: /x } }\n\
                    patroni_password: |\n  c4nary\n  c4nary2\nurl: postgres://u:c4nary@h/db\n";
        let file = sources.add("i.yml", text);
        for what in ["nmae", "path", "c4nary2", "url"] {
            let shown = render(&sources, &Diagnostic::error(place(&sources, file, what), "m"), false);
            assert!(!shown.contains("c4nary"), "{shown}");
        }
        let shown = render(&sources, &Diagnostic::error(place(&sources, file, "nmae"), "m"), false);
        assert!(shown.contains("comment: shown"), "{shown}");
        // A file that is no YAML is masked by the look of its lines.
        let file = sources.add("broken.yml", "a: [\n  password: c4nary }\n b: ]: x\n");
        let shown = render(&sources, &Diagnostic::error(place(&sources, file, "c4nary"), "m"), false);
        assert!(!shown.contains("c4nary"), "{shown}");
    }
}
