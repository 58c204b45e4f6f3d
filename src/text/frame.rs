//! Framing: how a script's results come back so that a chatty profile, a message of the day or a
//! broken command cannot be read as data.
//!
//! A run has one random marker. A record is `MARK B id`, any lines, `MARK E id code`; the script's last
//! line is `MARK DONE`. Lines outside records are noise. A missing `DONE` means that the connection
//! or the shell died, never success.

/// What a stream of framed output says next.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    Begin(String),
    End(Record),
    Done,
}

/// One finished record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub id: String,
    pub code: i32,
    pub output: String,
}

/// Reads frames from chunks of bytes as they arrive.
#[derive(Debug)]
pub struct Reader {
    mark: String,
    line: Vec<u8>,
    open: Option<(String, Vec<u8>)>,
}

impl Reader {
    pub fn new(mark: &str) -> Self {
        Self { mark: mark.to_owned(), line: Vec::new(), open: None }
    }

    /// Takes a chunk and returns the frames that it completes.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        for &byte in chunk {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                frames.extend(self.take(&line));
            } else {
                self.line.push(byte);
            }
        }
        frames
    }

    fn take(&mut self, line: &[u8]) -> Option<Frame> {
        let words = std::str::from_utf8(line).ok().and_then(|l| l.strip_prefix(self.mark.as_str()));
        let Some(words) = words.and_then(|w| w.strip_prefix(' ')) else {
            if let Some((_, output)) = &mut self.open {
                output.extend_from_slice(line);
                output.push(b'\n');
            }
            return None;
        };
        let mut words = words.splitn(2, ' ');
        match (words.next(), words.next()) {
            (Some("B"), Some(id)) => {
                self.open = Some((id.to_owned(), Vec::new()));
                Some(Frame::Begin(id.to_owned()))
            }
            (Some("E"), Some(rest)) => {
                let (id, code) = rest.rsplit_once(' ')?;
                let (_, mut output) = self.open.take().filter(|(open, _)| open == id)?;
                // The newline that the script printed before the end mark.
                output.pop();
                Some(Frame::End(Record {
                    id: id.to_owned(),
                    code: code.parse().ok()?,
                    output: String::from_utf8_lossy(&output).into_owned(),
                }))
            }
            (Some("DONE"), None) => Some(Frame::Done),
            _ => None,
        }
    }
}

/// A complete script around `body`: nothing runs unless all of it has arrived, because it is one
/// function that the last line calls. `body` calls [`RECORD_HELPERS`]' functions.
pub fn script(mark: &str, body: &str) -> String {
    format!("{}\n{{ pgctl_main </dev/null; }}\n", function(mark, body))
}

/// The same, with the script's standard input left open for `body` to read.
pub fn script_with_stdin(mark: &str, body: &str) -> String {
    format!("{}\n{{ pgctl_main; }}\n", function(mark, body))
}

fn function(mark: &str, body: &str) -> String {
    format!("pgctl_main() {{\nM='{mark}'\n{RECORD_HELPERS}\n{body}\nprintf '%s DONE\\n' \"$M\"\n}}")
}

/// `begin ID`, `end ID CODE`, and a clean environment.
const RECORD_HELPERS: &str = r#"LC_ALL=C; export LC_ALL
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH
unset ENV BASH_ENV CDPATH GREP_OPTIONS POSIXLY_CORRECT
umask 022
cd /
begin() { printf '%s B %s\n' "$M" "$1"; }
end() { printf '\n%s E %s %s\n' "$M" "$1" "$2"; }"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> Vec<Frame> {
        let out = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        Reader::new("@m").push(&out.stdout)
    }

    #[test]
    fn records_come_back_whole_and_noise_does_not() {
        let script = format!(
            "echo welcome; echo '@x B a'\n{}",
            script("@m", "begin a; printf 'x\\n\\ny'; end a 3\necho noise\nbegin b c; end 'b c' 0")
        );
        let record =
            |id: &str, code, output: &str| Frame::End(Record { id: id.into(), code, output: output.into() });
        assert_eq!(
            run(&script),
            vec![Frame::Begin("a".into()), record("a", 3, "x\n\ny"), Frame::Begin("b".into()), Frame::Done]
        );
    }

    #[test]
    fn a_truncated_script_does_nothing() {
        let whole = script("@m", "begin a; end a 0");
        let call = whole.rfind("{ pgctl_main").unwrap();
        // Everywhere in the call and at a few places before; without its last newline it is whole.
        for cut in (call..whole.len() - 1).chain([1, 20, call / 2]) {
            assert_eq!(run(&whole[..cut]), vec![], "{}", &whole[..cut]);
        }
        assert_eq!(run(&whole).len(), 3);
    }

    #[test]
    fn chunks_may_split_anywhere() {
        let bytes = b"@m B a\nhello\n\n@m E a 0\n@m DONE\n";
        for split in 0..bytes.len() {
            let mut reader = Reader::new("@m");
            let mut frames = reader.push(&bytes[..split]);
            frames.extend(reader.push(&bytes[split..]));
            assert_eq!(frames.len(), 3, "split at {split}");
            assert_eq!(frames[1], Frame::End(Record { id: "a".into(), code: 0, output: "hello\n".into() }));
        }
    }
}
