//! `block`: marked lines in a file that others write too, such as `/etc/hosts`.

use serde::Deserialize;

use super::file::{put, sha256, unified};
use super::{Change, Diff, Kind, PathKind, Query, Seen, Verdict};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    #[serde(deserialize_with = "super::path")]
    pub path: String,
    pub content: String,
    /// Names the block within the file.
    #[serde(default = "usual_marker")]
    pub marker: String,
}

fn usual_marker() -> String {
    "pgctl".to_owned()
}

impl Block {
    /// `old` with the block in it: in its place when it is there, else at the end.
    fn apply(&self, old: &str) -> Result<String, String> {
        let begin = format!("# {} begin: managed by pgctl, changes here are lost", self.marker);
        let end = format!("# {} end", self.marker);
        let mut block = format!("{begin}\n{}", self.content);
        if !block.ends_with('\n') {
            block.push('\n');
        }
        block.push_str(&end);
        block.push('\n');
        if self.content.lines().any(|l| l.trim_end() == begin || l.trim_end() == end) {
            return Err(format!("the content of block `{}` holds one of its marker lines", self.marker));
        }
        let lines: Vec<&str> = old.lines().collect();
        let at = |marker: &str| lines.iter().position(|l| l.trim_end() == marker);
        let join = |lines: &[&str]| lines.iter().map(|l| format!("{l}\n")).collect::<String>();
        match (at(&begin), at(&end)) {
            (None, None) => Ok(format!("{}{block}", join(&lines))),
            (Some(b), Some(e)) if b < e => {
                Ok(format!("{}{block}{}", join(&lines[..b]), join(&lines[e + 1..])))
            }
            _ => Err(format!(
                "`{}` holds half of the block `{}`: put its two marker lines right or remove both",
                self.path, self.marker
            )),
        }
    }
}

impl Kind for Block {
    fn id(&self) -> String {
        format!("block {}", self.path)
    }

    fn queries(&self) -> Vec<Query> {
        vec![
            Query::Path { path: self.path.clone(), want: None, show: false },
            Query::Content(self.path.clone()),
        ]
    }

    fn diff(&self, seen: &Seen<'_>) -> Diff {
        let state = seen.observed.paths.get(&self.path);
        if state.is_some_and(|s| s.kind != PathKind::File) {
            return Diff::Failed(format!("`{}` is there and is not a file", self.path));
        }
        let content = seen.observed.contents.get(&self.path).cloned().unwrap_or_default();
        if content.len() >= super::observe::CONTENT_LIMIT {
            return Diff::Failed(format!("`{}` is too large to keep a block in (64 KiB)", self.path));
        }
        let Ok(old) = String::from_utf8(content) else {
            return Diff::Failed(format!("`{}` is not UTF-8 text", self.path));
        };
        let new = match self.apply(&old) {
            Ok(new) if state.is_some() && new == old => return Diff::Same,
            Ok(new) => new,
            Err(why) => return Diff::Failed(why),
        };
        let (owner, group, mode) =
            state.map_or(("root", "root", 0o644), |s| (s.owner.as_str(), s.group.as_str(), s.mode));
        let (diff, plus, minus) = unified(&old, &new);
        let verdict =
            if old.contains(&format!("# {} begin", self.marker)) { Verdict::Update } else { Verdict::Create };
        let reason = match verdict {
            Verdict::Create => "block is missing".to_owned(),
            _ => format!("block differs (+{plus} -{minus})"),
        };
        let mut change = Change::new(verdict, reason, put(&self.path, &new, owner, group, mode, None));
        change.diff = Some(diff);
        change.puts.push((self.path.clone(), sha256(new.as_bytes())));
        Diff::Change(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(content: &str) -> Block {
        Block { path: "/etc/hosts".into(), content: content.into(), marker: "pgctl".into() }
    }

    #[test]
    fn the_block_keeps_its_place_and_the_rest_of_the_file() {
        let first = block("10.0.0.1 a").apply("127.0.0.1 localhost\n").unwrap();
        let more = format!("{first}# mine\n");
        let second = block("10.0.0.2 b").apply(&more).unwrap();
        assert!(second.starts_with("127.0.0.1 localhost\n# pgctl begin"));
        assert!(second.contains("10.0.0.2 b\n# pgctl end\n# mine\n") && !second.contains("10.0.0.1"));
        assert_eq!(block("10.0.0.2 b").apply(&second).unwrap(), second);
        assert!(block("x").apply("# pgctl end\n").is_err());
    }
}
