//! One quoting function per target language. Data never becomes code: whatever comes from an
//! inventory goes through one of these before it reaches a shell, SQL or a configuration file.

/// A POSIX shell word. The result is one word whatever `value` holds, newlines included.
/// NUL cannot exist in a shell word and is refused when inventories and playbooks are read.
pub fn shell(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', "'\\''"))
}

/// An SQL string literal. A value with a backslash becomes an `E''` string, so the meaning does not
/// depend on `standard_conforming_strings` (PostgreSQL manual, 4.1.2.1 and 4.1.2.2).
pub fn sql_literal(value: &str) -> String {
    let doubled = value.replace('\'', "''");
    if value.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// An SQL identifier, always quoted (PostgreSQL manual, 4.1.1).
pub fn sql_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A YAML scalar: a double-quoted flow scalar in JSON's syntax, which every YAML reader takes.
pub fn yaml(value: &serde_json::Value) -> String {
    value.to_string()
}

/// A value in `postgresql.conf` or in a libpq-style file: single quotes, doubled inside
/// (PostgreSQL manual, 19.1.2).
pub fn conf(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// A `PgBouncer` userlist or ini token: double quotes, doubled inside (`PgBouncer` manual, "Authentication file format").
pub fn pgbouncer(value: &str) -> String {
    format!("\"{}\"", value.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_words_stay_readable() {
        assert_eq!(shell("/etc/patroni/patroni.yml"), "/etc/patroni/patroni.yml");
        assert_eq!(shell(""), "''");
        assert_eq!(shell("it's; rm -rf /"), "'it'\\''s; rm -rf /'");
        assert_eq!(sql_literal("o'clock"), "'o''clock'");
        assert_eq!(sql_literal("a\\'b"), " E'a\\\\''b'");
        assert_eq!(sql_ident("a\"b"), "\"a\"\"b\"");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// The real `sh` reads back exactly what went in.
        #[test]
        fn a_shell_word_survives_the_shell(value in "[^\\x00]{0,40}") {
            let script = format!("printf %s {}", shell(&value));
            let out = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
            prop_assert_eq!(String::from_utf8(out.stdout).unwrap(), value);
        }
    }
}
