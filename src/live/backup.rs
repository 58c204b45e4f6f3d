//! `pgbackrest info --output=json` (pgBackRest command reference, "info").

use serde::Serialize;
use serde_json::Value;

/// What a repository holds for one stanza.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backups {
    /// 0 ok, 1 missing stanza path, 2 no valid backups, 3 missing stanza data, 4 different across
    /// repositories, 5 a database is missing, 6 requested backup not found, 99 other.
    pub status_code: i64,
    pub status: String,
    /// Labels in order of time; a full backup ends in `F`.
    pub labels: Vec<String>,
    /// Epoch seconds at which the last backup stopped.
    pub last_stop_seconds: Option<i64>,
}

impl Backups {
    pub fn has_stanza(&self) -> bool {
        !matches!(self.status_code, 1 | 3)
    }

    pub fn fulls(&self) -> usize {
        self.labels.iter().filter(|l| l.ends_with('F')).count()
    }
}

/// Reads the document and picks `stanza`. `None` when it is not such a document.
pub fn parse(output: &str, stanza: &str) -> Option<Backups> {
    let document: Value = serde_json::from_str(output.trim()).ok()?;
    let entry = document.as_array()?.iter().find(|e| e.get("name").and_then(Value::as_str) == Some(stanza));
    let Some(entry) = entry else {
        return Some(Backups {
            status_code: 1,
            status: "missing stanza path".into(),
            labels: Vec::new(),
            last_stop_seconds: None,
        });
    };
    let backups = entry.get("backup").and_then(Value::as_array).cloned().unwrap_or_default();
    Some(Backups {
        status_code: entry.pointer("/status/code")?.as_i64()?,
        status: entry.pointer("/status/message").and_then(Value::as_str).unwrap_or_default().to_owned(),
        labels: backups
            .iter()
            .filter(|b| b.get("error").and_then(Value::as_bool) != Some(true))
            .filter_map(|b| Some(b.get("label")?.as_str()?.to_owned()))
            .collect(),
        last_stop_seconds: backups.last().and_then(|b| b.pointer("/timestamp/stop")).and_then(Value::as_i64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_and_backups_are_read() {
        let some = r#"[{"backup":[{"label":"20261121-041500F","error":false,"timestamp":{"start":1,"stop":2}}],
            "name":"pg-test","status":{"code":0,"message":"ok"}}]"#;
        let b = parse(some, "pg-test").unwrap();
        assert_eq!((b.has_stanza(), b.fulls(), b.last_stop_seconds), (true, 1, Some(2)));
        assert!(!parse(some, "other").unwrap().has_stanza());
        let none = r#"[{"backup":[],"name":"pg-test","status":{"code":2,"message":"no valid backups"}}]"#;
        let b = parse(none, "pg-test").unwrap();
        assert_eq!((b.has_stanza(), b.fulls()), (true, 0));
        assert!(!parse("[]", "pg-test").unwrap().has_stanza());
        assert_eq!(parse("ERROR: [027]", "pg-test"), None);
    }
}
