use proptest::prelude::*;

use super::*;

/// What `PyYAML` 6.0.3's `safe_load` gives for each document, as JSON; `error` where it refuses.
#[rustfmt::skip]
const PYYAML: &[(&str, &str)] = &[
    ("a: yes", "{\"a\": true}"),
    ("a: No", "{\"a\": false}"),
    ("a: ON", "{\"a\": true}"),
    ("a: off", "{\"a\": false}"),
    ("a: True", "{\"a\": true}"),
    ("a: FALSE", "{\"a\": false}"),
    ("a: y", "{\"a\": \"y\"}"),
    ("a: n", "{\"a\": \"n\"}"),
    ("a: Y", "{\"a\": \"Y\"}"),
    ("a: tRUE", "{\"a\": \"tRUE\"}"),
    ("a: 'yes'", "{\"a\": \"yes\"}"),
    ("a: \"off\"", "{\"a\": \"off\"}"),
    ("a: 0755", "{\"a\": 493}"),
    ("a: 0o755", "{\"a\": \"0o755\"}"),
    ("a: 08", "{\"a\": \"08\"}"),
    ("a: -017", "{\"a\": -15}"),
    ("a: 0x1F", "{\"a\": 31}"),
    ("a: 0x_1f", "{\"a\": 31}"),
    ("a: 0b1010", "{\"a\": 10}"),
    ("a: -0b11", "{\"a\": -3}"),
    ("a: 1_000", "{\"a\": 1000}"),
    ("a: _1", "{\"a\": \"_1\"}"),
    ("a: 0", "{\"a\": 0}"),
    ("a: +12", "{\"a\": 12}"),
    ("a: -0", "{\"a\": 0}"),
    ("a: 00", "{\"a\": 0}"),
    ("a: 123456789012345678901234567890", "{\"a\": \"123456789012345678901234567890\"}"),
    ("a: 18446744073709551615", "{\"a\": 18446744073709551615}"),
    ("a: -9223372036854775809", "{\"a\": \"-9223372036854775809\"}"),
    ("a: 22:22", "{\"a\": 1342}"),
    ("a: 12:30:45", "{\"a\": 45045}"),
    ("a: -1:30", "{\"a\": -90}"),
    ("a: 1:60", "{\"a\": \"1:60\"}"),
    ("a: 0:30", "{\"a\": \"0:30\"}"),
    ("a: 1:2.5", "{\"a\": 62.5}"),
    ("a: 10:15:30.25", "{\"a\": 36930.25}"),
    ("a: 10.10.10.10", "{\"a\": \"10.10.10.10\"}"),
    ("a: 1.5", "{\"a\": 1.5}"),
    ("a: 1.", "{\"a\": 1.0}"),
    ("a: .5", "{\"a\": 0.5}"),
    ("a: -.5", "{\"a\": \"-.5\"}"),
    ("a: +.5", "{\"a\": \"+.5\"}"),
    ("a: 1e3", "{\"a\": \"1e3\"}"),
    ("a: 1.0e3", "{\"a\": \"1.0e3\"}"),
    ("a: 1.0e+3", "{\"a\": 1000.0}"),
    ("a: 1.5E-2", "{\"a\": 0.015}"),
    ("a: 1_0.2_5", "{\"a\": 10.25}"),
    ("a: .inf", "{\"a\": \"inf\"}"),
    ("a: -.INF", "{\"a\": \"-inf\"}"),
    ("a: +.Inf", "{\"a\": \"inf\"}"),
    ("a: .nan", "{\"a\": \"nan\"}"),
    ("a: .NaN", "{\"a\": \"nan\"}"),
    ("a: -.nan", "{\"a\": \"-.nan\"}"),
    ("a: inf", "{\"a\": \"inf\"}"),
    ("a: ~", "{\"a\": null}"),
    ("a: null", "{\"a\": null}"),
    ("a: Null", "{\"a\": null}"),
    ("a: NULL", "{\"a\": null}"),
    ("a: nULL", "{\"a\": \"nULL\"}"),
    ("a:", "{\"a\": null}"),
    ("a: ''", "{\"a\": \"\"}"),
    ("a: 2024-01-01", "{\"a\": \"2024-01-01\"}"),
    ("a: 2024-1-1", "{\"a\": \"2024-1-1\"}"),
    ("a: 2024-02-30", "error"),
    ("a: 2025-07-13 10:00:00", "{\"a\": \"2025-07-13 10:00:00\"}"),
    ("a: 2025-07-13T10:00:00Z", "{\"a\": \"2025-07-13 10:00:00+00:00\"}"),
    ("a: 2025-07-13 10:00:00+08", "{\"a\": \"2025-07-13 10:00:00+08:00\"}"),
    ("a: 2025-07-13 10:00:00 -05:30", "{\"a\": \"2025-07-13 10:00:00-05:30\"}"),
    ("a: 2025-07-13 10:00:00+0800", "{\"a\": \"2025-07-13 10:00:00+0800\"}"),
    ("a: 2025-07-13 10:00:00.5", "{\"a\": \"2025-07-13 10:00:00.500000\"}"),
    ("a: 2025-07-13 10:00:00.1234567", "{\"a\": \"2025-07-13 10:00:00.123456\"}"),
    ("a: 2025-07-13 10:00:00.000", "{\"a\": \"2025-07-13 10:00:00\"}"),
    ("a: 2025-07-13t1:00:00z", "{\"a\": \"2025-07-13t1:00:00z\"}"),
    ("a: 2025-7-3 1:00:00", "{\"a\": \"2025-07-03 01:00:00\"}"),
    ("a: 2025-07-13 25:00:00", "error"),
    ("a: 2025-07-13 10:00", "{\"a\": \"2025-07-13 10:00\"}"),
    ("a: 2025-07-13 10:00:00+24:00", "error"),
    ("a: 2025-07-13 10:00:00-00:00", "{\"a\": \"2025-07-13 10:00:00+00:00\"}"),
    ("a: 2025-07-13 10:00:00+01:90", "{\"a\": \"2025-07-13 10:00:00+02:30\"}"),
    ("a: 0000-01-01", "error"),
    ("yes: 1", "{\"true\": 1}"),
    ("1: a", "{\"1\": \"a\"}"),
    ("1.5: a", "{\"1.5\": \"a\"}"),
    ("~: a", "{\"null\": \"a\"}"),
    ("2024-01-01: a", "{\"2024-01-01\": \"a\"}"),
    ("? a", "{\"a\": null}"),
    ("? [1, 2]\n: 3", "error"),
    ("{a: b ,c: d}", "{\"a\": \"b\", \"c\": \"d\"}"),
    ("{ a : b,c : [d ,e] }", "{\"a\": \"b\", \"c\": [\"d\", \"e\"]}"),
    ("{a:b}", "{\"a:b\": null}"),
    ("{a: b:c}", "{\"a\": \"b:c\"}"),
    ("{\"a\":b}", "{\"a\": \"b\"}"),
    ("{'a':1}", "{\"a\": 1}"),
    ("{a}", "{\"a\": null}"),
    ("{a: }", "{\"a\": null}"),
    ("{a: , b: }", "{\"a\": null, \"b\": null}"),
    ("[a, b,]", "[\"a\", \"b\"]"),
    ("{a: 1,}", "{\"a\": 1}"),
    ("[a: b]", "[{\"a\": \"b\"}]"),
    ("[a: b, c]", "[{\"a\": \"b\"}, \"c\"]"),
    ("{a: http://x:80/y}", "{\"a\": \"http://x:80/y\"}"),
    ("a: http://x:80", "{\"a\": \"http://x:80\"}"),
    ("a: b #c", "{\"a\": \"b\"}"),
    ("a: b#c", "{\"a\": \"b#c\"}"),
    ("a: \"b\" #c", "{\"a\": \"b\"}"),
    ("a: \"x\\ty\\u00e9\"", "{\"a\": \"x\\tyé\"}"),
    ("a: 'it''s'", "{\"a\": \"it's\"}"),
    ("a: |\n  one\n  two\n", "{\"a\": \"one\\ntwo\\n\"}"),
    ("a: |-\n  one\n  two\n\n", "{\"a\": \"one\\ntwo\"}"),
    ("a: |+\n  one\n\n", "{\"a\": \"one\\n\\n\"}"),
    ("a: >-\n  one\n  two\n\n  three\n", "{\"a\": \"one two\\nthree\"}"),
    ("a: one\n  two\n  three\n", "{\"a\": \"one two three\"}"),
    ("a: \"one\n  two\"\n", "{\"a\": \"one two\"}"),
    ("- a\n- b\n-\n- [c]", "[\"a\", \"b\", null, [\"c\"]]"),
    ("a:\n- b\n- c", "{\"a\": [\"b\", \"c\"]}"),
    ("a:\n  - b\n  -  c: d\n     e: f", "{\"a\": [\"b\", {\"c\": \"d\", \"e\": \"f\"}]}"),
    ("&x a: *x", "{\"a\": \"a\"}"),
    ("a: &x {b: 1}\nc: *x", "{\"a\": {\"b\": 1}, \"c\": {\"b\": 1}}"),
    ("a: &x [1]\nc: [*x, *x]", "{\"a\": [1], \"c\": [[1], [1]]}"),
    ("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}", "{\"x\": {\"a\": 1, \"b\": 2}, \"y\": {\"a\": 1, \"b\": 3}}"),
    ("x: &x {a: 1}\ny: &y {a: 2, b: 2}\nz: {c: 3, <<: [*x, *y]}", "{\"x\": {\"a\": 1}, \"y\": {\"a\": 2, \"b\": 2}, \"z\": {\"a\": 1, \"b\": 2, \"c\": 3}}"),
    ("y: {'<<': {a: 1}}", "{\"y\": {\"<<\": {\"a\": 1}}}"),
    ("y: {<<: 1}", "error"),
    ("y: {<<: {a: 1}, b: 2}", "{\"y\": {\"a\": 1, \"b\": 2}}"),
    ("a: !!str 123", "{\"a\": \"123\"}"),
    ("a: !!int \"12\"", "{\"a\": 12}"),
    ("a: !!float 3", "{\"a\": 3.0}"),
    ("a: !!float \"1.5\"", "{\"a\": 1.5}"),
    ("a: !!bool \"yes\"", "{\"a\": true}"),
    ("a: !!null x", "{\"a\": null}"),
    ("a: !!str", "{\"a\": \"\"}"),
    ("a: !!map {b: 1}", "{\"a\": {\"b\": 1}}"),
    ("a: !!seq [b]", "{\"a\": [\"b\"]}"),
    ("a: !!int x", "error"),
    ("a: ! 12", "{\"a\": 12}"),
    ("---\na: 1\n...\n", "{\"a\": 1}"),
    ("--- a", "\"a\""),
    ("%YAML 1.1\n---\na: 1", "{\"a\": 1}"),
    ("a: 1\n---\nb: 2", "error"),
    ("a: 1\n...\n# end\n", "{\"a\": 1}"),
    ("# only a comment", "null"),
    ("", "null"),
    ("a: @b", "error"),
    ("a: `b`", "error"),
    ("a: %b", "error"),
    ("a: b: c", "error"),
    ("a: [b", "error"),
    ("a: {b", "error"),
    ("a: 'b", "error"),
    ("a: b]", "{\"a\": \"b]\"}"),
    ("a: - b", "error"),
    ("a: -b", "{\"a\": \"-b\"}"),
    ("a: --- b", "{\"a\": \"--- b\"}"),
    ("- - - a", "[[[\"a\"]]]"),
    ("a: *x", "error"),
    ("a: [a, *x]", "error"),
    ("a: {{ x }}", "error"),
    ("a: \"{{ x }}\"", "{\"a\": \"{{ x }}\"}"),
    ("a: x{{ y }}", "{\"a\": \"x{{ y }}\"}"),
    ("\ta: 1", "error"),
    ("a:\n\t- b", "error"),
    ("a:\tb", "error"),
    ("a: b\n c: d", "error"),
    ("a: b\nc", "error"),
    ("a b: c d", "{\"a b\": \"c d\"}"),
    ("a: ?b", "{\"a\": \"?b\"}"),
    ("a: ??", "{\"a\": \"??\"}"),
    ("? b", "{\"b\": null}"),
    ("a: :b", "{\"a\": \":b\"}"),
    ("a: b:", "error"),
    ("::: x", "{\"::\": \"x\"}"),
    ("a: '1'", "{\"a\": \"1\"}"),
    ("a: 1 2", "{\"a\": \"1 2\"}"),
    ("a: é", "{\"a\": \"é\"}"),
    ("é: 1", "{\"é\": 1}"),
    ("a: \"\\x41\"", "{\"a\": \"A\"}"),
    ("a: \"\\z\"", "error"),
    ("a: \"a\\\n  b\"", "{\"a\": \"ab\"}"),
    ("a: $libdir/x, y", "{\"a\": \"$libdir/x, y\"}"),
    ("a: ${admin_ip}", "{\"a\": \"${admin_ip}\"}"),
    ("a: 64MiB", "{\"a\": \"64MiB\"}"),
    ("a: 1h", "{\"a\": \"1h\"}"),
    ("a: !!binary aGk=", "error"),
    ("a: !!set {x}", "error"),
    ("a: &a\nb: 1", "{\"a\": null, \"b\": 1}"),
    ("a: \"b\"c", "error"),
    ("\"a\": 1", "{\"a\": 1}"),
    ("\"a\" : 1", "{\"a\": 1}"),
    ("'a b':   2", "{\"a b\": 2}"),
    ("- 1\n - 2", "[\"1 - 2\"]"),
    ("a: |\n one\n  two", "{\"a\": \"one\\n two\"}"),
    ("a: >\n one\n\n two", "{\"a\": \"one\\ntwo\"}"),
    ("a:\n  b: 1\n c: 2", "error"),
    ("a: {b: 1,\n  c: 2}", "{\"a\": {\"b\": 1, \"c\": 2}}"),
    ("a: [{b: 1}, c: 2]", "{\"a\": [{\"b\": 1}, {\"c\": 2}]}"),
    ("fd00::1: {a: 1}", "{\"fd00::1\": {\"a\": 1}}"),
    ("a: fd00::1", "{\"a\": \"fd00::1\"}"),
    ("a: ::1", "{\"a\": \"::1\"}"),
    ("a: +", "{\"a\": \"+\"}"),
    ("a: .", "{\"a\": \".\"}"),
    ("a: -", "error"),
    ("a: 0.0.0.0/0", "{\"a\": \"0.0.0.0/0\"}"),
    ("a: 1.2.3", "{\"a\": \"1.2.3\"}"),
    ("a: 0x", "{\"a\": \"0x\"}"),
    ("a: 0b", "{\"a\": \"0b\"}"),
    ("a: 0b_", "error"),
    ("a: 1__0", "{\"a\": 10}"),
    ("a: 9:99", "{\"a\": \"9:99\"}"),
    ("a: 1:00:00:00", "{\"a\": 216000}"),
    ("a: null # x", "{\"a\": null}"),
    ("a: \"null\"", "{\"a\": \"null\"}"),
    ("a: 'y'", "{\"a\": \"y\"}"),
    ("- yes\n- 'no'\n- 0o7\n- 1e5", "[true, \"no\", \"0o7\", \"1e5\"]"),
];

/// Documents where we decided otherwise.
#[rustfmt::skip]
const OURS: &[(&str, &str)] = &[
    ("a: <<", "{\"a\": \"<<\"}"),
    ("a: =", "{\"a\": \"=\"}"),
    ("a: 1\nb: 2\na: 3", "error"),
    ("a: [1,\n2,\n  3]", "error"),
    ("a: !vault |\n  $ANSIBLE_VAULT", "{\"a\": \"$ANSIBLE_VAULT\"}"),
    ("a: !unsafe '{{ x }}'", "{\"a\": \"{{ x }}\"}"),
];

fn read(text: &str) -> Result<(Yaml, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut sources = Sources::default();
    let file = sources.add("a.yml", text);
    load(&sources, file)
}

fn first_error(text: &str) -> Diagnostic {
    read(text).unwrap_err().remove(0)
}

#[test]
fn values_are_those_of_pyyaml() {
    let mut wrong = Vec::new();
    for (text, expected) in PYYAML.iter().chain(OURS) {
        let found = match read(text) {
            Ok((yaml, _)) => yaml.to_json().to_string(),
            Err(_) => "error".to_owned(),
        };
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        if json(&found) != json(expected) {
            wrong.push(format!("{text:?}: PyYAML {expected}, pgctl {found}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), PYYAML.len(), wrong.join("\n"));
}

fn shown(text: &str, span: Span) -> &str {
    &text[span.start as usize..span.end as usize]
}

#[test]
fn every_key_and_value_knows_its_bytes() {
    let text = "\u{feff}# é\nkey é: {a: [1, 'x'] ,b: é # c\n  }\nlist:\n  - one  # c\n  - two: |\n      é\n\nlast: *no\n"
        .replace("*no", "&x plain text   ");
    let (yaml, _) = read(&text).unwrap();
    let map = yaml.as_map().unwrap();
    let (key, value) = map.entry("key é").unwrap();
    assert_eq!(shown(&text, key.span), "key é");
    assert_eq!(shown(&text, value.span), "{a: [1, 'x'] ,b: é # c\n  }");
    let inner = value.as_map().unwrap();
    assert_eq!(shown(&text, inner.get("a").unwrap().span), "[1, 'x']");
    assert_eq!(shown(&text, inner.get("a").unwrap().as_seq().unwrap()[1].span), "'x'");
    assert_eq!(shown(&text, inner.get("b").unwrap().span), "é");
    let list = map.get("list").unwrap().as_seq().unwrap();
    assert_eq!(shown(&text, list[0].span), "one");
    assert_eq!(shown(&text, list[1].as_map().unwrap().entry("two").unwrap().0.span), "two");
    assert_eq!(shown(&text, map.get("last").unwrap().span), "plain text");
    let mut sources = Sources::default();
    let file = sources.add("a.yml", text.as_str());
    assert_eq!(sources.place(Span { file, ..list[0].span }), "a.yml:5:5");
}

#[test]
fn positions_hold_far_into_a_file_that_is_not_ascii() {
    let mut text = String::new();
    for n in 0..1000 {
        text.push_str(&format!("kéy{n}: 'välue {n}'\n"));
    }
    let (yaml, _) = read(&text).unwrap();
    for (name, key, value) in yaml.as_map().unwrap().named() {
        assert_eq!(shown(&text, key.span), name);
        assert_eq!(shown(&text, value.span), format!("'{}'", value.as_str().unwrap()));
    }
}

#[test]
fn all_duplicate_keys_are_found_with_both_places() {
    let text = "a: 1\nb: {c: 1, c: 2}\na: 2\n1: x\n'1': y\n";
    let errors = read(text).unwrap_err();
    let found: Vec<(&str, u32, u32)> =
        errors.iter().map(|e| (e.message.as_str(), e.also[0].0.start, e.span.unwrap().start)).collect();
    assert_eq!(
        found,
        [
            ("the key `c` is given twice", 9, 15),
            ("the key `a` is given twice", 0, 21),
            ("two keys are both read as `1`", 26, 31),
        ]
    );
}

#[test]
fn surprises_are_warnings_without_the_value() {
    let (_, warnings) = read("a: 0755\nb: 22:22\non: 1\nc: '0755'\nd: yes\n").unwrap();
    let messages: Vec<&str> = warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "an integer with a leading zero is read as octal",
            "digits with colons are read as a number to the base 60",
            "this key is read as a boolean",
        ]
    );
}

#[test]
fn words_as_keys_stay_words_when_asked() {
    let mut sources = Sources::default();
    let file = sources.add("a.yml", "on: yes\nyes: 1\n");
    let (yaml, warnings) = load_words(&sources, file).unwrap();
    assert_eq!(yaml.to_json(), serde_json::json!({"on": true, "yes": 1}));
    assert!(warnings.is_empty());
}

#[test]
fn an_unquoted_template_says_to_quote_it() {
    for text in ["a: {{ x }}\n", "a: {{ x }}/y\n", "a:\n  - {{ x }}\nb: 1\n"] {
        let error = first_error(text);
        assert!(error.help.as_deref().is_some_and(|h| h.starts_with("quote a value")), "{text}: {error:?}");
    }
}

#[test]
fn control_characters_are_refused_raw_and_escaped() {
    assert_eq!(first_error("a: x\u{0}y\n").message, "control character U+0000");
    assert_eq!(first_error("a: \"x\\0y\"\n").message, "control character U+0000 in a value");
    assert_eq!(first_error("a: \"x\\ey\"\n").message, "control character U+001B in a value");
    assert!(read("a: \"x\\ny\\t\"\n").is_ok());
}

#[test]
fn alias_bombs_are_refused_before_they_are_built() {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..30 {
        let uses = vec![format!("*a{}", n - 1); 10].join(",");
        text.push_str(&format!("a{n}: &a{n} [{uses}]\n"));
    }
    assert!(first_error(&text).message.starts_with("more than 1000000 values"));
}

#[test]
fn deep_nesting_is_refused() {
    for text in ["[".repeat(20_000), "{a: ".repeat(20_000), "- ".repeat(20_000), "? ".repeat(20_000)] {
        let message = first_error(&text).message;
        assert!(message.contains("nested more than 128 deep") || message.contains("not YAML"), "{message}");
    }
    // Aliases do not get around it.
    let text = format!(
        "a: &a {}{}\nb: {}*a{}\n",
        "[".repeat(100),
        "]".repeat(100),
        "[".repeat(100),
        "]".repeat(100)
    );
    assert!(first_error(&text).message.contains("nested"));
}

#[test]
fn a_large_file_is_refused_by_its_size() {
    let message = first_error(&"#".repeat(MAX_BYTES + 1)).message;
    assert_eq!(message, "the file is larger than 16 MiB");
}

#[test]
fn secrets_are_found_even_where_the_file_is_broken() {
    let text = "a_password: one\nusers: [{name: x, password: 'two'}]\nsecret: {deep: [three]}\nx: four\ny: [";
    let found: Vec<&str> = secret_ranges(text).into_iter().map(|range| &text[range]).collect();
    assert_eq!(found, ["one", "'two'", "three"]);
}

proptest! {
    /// Whatever the text, the loader answers, and its positions lie inside the text.
    #[test]
    fn the_loader_never_panics(text in "([a-c]: |- |[{}\\[\\],:&*!|>'\"#%@?=<~ \n\té.0-9-]|<<: |\\PC){0,60}") {
        if let Err(errors) = read(&text) {
            for span in errors.iter().filter_map(|e| e.span) {
                prop_assert!(text.get(span.start as usize..span.end as usize).is_some(), "{:?}", span);
            }
        }
        let _ = secret_ranges(&text);
    }

    /// What `serde_json` writes is YAML, and means the same.
    #[test]
    fn json_is_read_as_it_was_written(words in prop::collection::vec("[ -~é€]{0,12}", 0..6), n in any::<i64>()) {
        let value = serde_json::json!({"words": words, "n": n, "none": null, "yes": true});
        let (yaml, _) = read(&value.to_string()).unwrap();
        prop_assert_eq!(yaml.to_json(), value);
    }
}
