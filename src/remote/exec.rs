//! Running a script on a node: over stdin to `sh`, under sudo when the login is not enough.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::error::{Problem, RemoteError};
use super::secret::Secret;
use super::session::Session;
use super::sudo;
use super::target::Become;

/// How much of stderr is kept: its end.
const STDERR: usize = 64 * 1024;
/// Silence after the exit status that ends waiting for output; a child left behind may hold stdout open for ever.
const GRACE: Duration = Duration::from_secs(2);
/// sudo's time to ask for the password or to start.
const PROMPT: Duration = Duration::from_secs(60);
/// A held script's time to end once its stdin is closed.
const RELEASE: Duration = Duration::from_secs(10);
/// Time to end a script that nobody waits for.
const REAP: Duration = Duration::from_secs(10);

/// A script to run. It arrives over stdin, never in argv.
///
/// The shell reads it as it comes, so a script that was cut off on the way runs up to the cut: wrap it in a function
/// that is called on the last line, and give children `</dev/null`.
#[derive(Clone, Copy, Debug)]
pub struct Exec<'a> {
    pub script: &'a [u8],
    /// Ends the wait with [`Problem::Deadline`]; the script and its children on the node get a TERM.
    pub deadline: Option<Duration>,
    /// Without sudo, whatever the target says.
    pub as_login: bool,
}

impl<'a> Exec<'a> {
    pub fn new(script: &'a [u8]) -> Self {
        Self { script, deadline: None, as_login: false }
    }

    #[must_use]
    pub fn deadline(mut self, after: Duration) -> Self {
        self.deadline = Some(after);
        self
    }

    #[must_use]
    pub fn as_login(mut self) -> Self {
        self.as_login = true;
        self
    }
}

/// How a script ended. Its stdout went to the sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit code; `None` when a signal ended it.
    pub status: Option<u32>,
    /// Name without `SIG`.
    pub signal: Option<String>,
    /// The last 64 KiB, without what was said before the script began.
    pub stderr: Vec<u8>,
}

impl ExecOutput {
    pub fn success(&self) -> bool {
        self.status == Some(0)
    }
}

/// A script whose stdin stays open after its last byte. It ends when it is released, dropped, or with the connection.
#[derive(Debug)]
pub struct Held {
    chunks: mpsc::UnboundedReceiver<Vec<u8>>,
    pending: Vec<u8>,
    release: oneshot::Sender<()>,
    done: JoinHandle<Result<ExecOutput, RemoteError>>,
}

impl Held {
    /// The next line of stdout without its newline; `None` when stdout has ended.
    pub async fn next_line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.pending.drain(..=end).collect();
                line.pop();
                return Some(line);
            }
            match self.chunks.recv().await {
                Some(chunk) => self.pending.extend(chunk),
                None if self.pending.is_empty() => return None,
                None => return Some(std::mem::take(&mut self.pending)),
            }
        }
    }

    /// The script has ended, or its connection.
    pub fn is_finished(&self) -> bool {
        self.done.is_finished()
    }

    /// Closes the script's stdin and waits for its end.
    pub async fn release(self) -> Result<ExecOutput, RemoteError> {
        let Self { chunks, release, done, .. } = self;
        drop(chunks);
        // An error means that it has ended already.
        let _ = release.send(());
        done.await.unwrap_or_else(|error| {
            Err(RemoteError::new(
                "?",
                Problem::Channel { why: format!("the task that held the script failed: {error}") },
            ))
        })
    }
}

impl Session {
    /// Runs a script and hands its stdout to `sink` as it comes, in pieces of any size.
    ///
    /// # Errors
    /// Never for the script's own failure, which is in [`ExecOutput`]: [`Problem::Sudo`], [`Problem::NotStarted`],
    /// [`Problem::ConnectionLost`], [`Problem::Channel`], [`Problem::Deadline`].
    pub async fn exec(
        &self,
        exec: Exec<'_>,
        sink: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<ExecOutput, RemoteError> {
        let launch = Arc::new(Launch::new(self, exec.as_login));
        let run = self.run(&launch, exec.script.to_vec(), sink, None);
        match exec.deadline {
            // Dropping the run sends the TERM.
            Some(after) => tokio::time::timeout(after, run).await.unwrap_or(Err(Problem::Deadline { after })),
            None => run.await,
        }
        .map_err(|problem| self.error(problem))
    }

    /// Starts a script whose stdin stays open until [`Held::release`] or the drop of [`Held`].
    pub fn exec_held(&self, script: &[u8]) -> Held {
        let (sender, chunks) = mpsc::unbounded_channel();
        let (release, released) = oneshot::channel();
        let (session, script) = (self.clone(), script.to_vec());
        let done = tokio::spawn(async move {
            let launch = Arc::new(Launch::new(&session, false));
            // The reader may be gone; the script goes on.
            let mut sink = |chunk: &[u8]| drop(sender.send(chunk.to_vec()));
            let result = session.run(&launch, script, &mut sink, Some(released)).await;
            result.map_err(|problem| session.error(problem))
        });
        Held { chunks, pending: Vec::new(), release, done }
    }

    async fn run(
        &self,
        launch: &Arc<Launch>,
        script: Vec<u8>,
        sink: &mut (dyn FnMut(&[u8]) + Send),
        mut released: Option<oneshot::Receiver<()>>,
    ) -> Result<ExecOutput, Problem> {
        let (channel, _permit) = self.channel().await?;
        let (mut read, write) = channel.split();
        let write = Arc::new(write);
        let mut closing =
            Closing { write: Arc::clone(&write), abandoned: Some((self.clone(), Arc::clone(launch))) };
        if write.exec(true, launch.command.as_str()).await.is_err() {
            return Err(self.lost());
        }

        let events = Events::default();
        let (letting_go, let_go) = (Notify::new(), Notify::new());
        let writer = async {
            if let Some(password) = &launch.password {
                tokio::select! {
                    biased;
                    () = events.started.notified() => {}
                    () = events.prompted.notified() => {
                        write.data_bytes(format!("{}\n", password.expose()).into_bytes()).await?;
                        events.started.notified().await;
                    }
                }
            }
            write.data_bytes(script).await?;
            if let Some(released) = &mut released {
                // Released, or dropped: the same.
                let _ = released.await;
                letting_go.notify_one();
            }
            // On a tunnelled connection an EOF before the answer to `exec` costs a delayed acknowledgement (crates.md, 1.2).
            events.accepted.notified().await;
            write.eof().await
        };
        tokio::pin!(writer);
        // Reader and writer must go on together, and the reader's end is the end: a writer whose window is full is never
        // woken when the other side has closed the channel (crates.md, 1.5, trap 2).
        let reader = self.read(&mut read, launch, sink, &events, &let_go);
        tokio::pin!(reader);
        let mut writing = true;
        loop {
            tokio::select! {
                biased;
                result = &mut reader => {
                    closing.abandoned = None;
                    return result;
                }
                // A failed write means that the channel is going; the reader says why.
                _ = &mut writer, if writing => writing = false,
                () = letting_go.notified() => let_go.notify_one(),
            }
        }
    }

    async fn read(
        &self,
        read: &mut ChannelReadHalf,
        launch: &Launch,
        sink: &mut (dyn FnMut(&[u8]) + Send),
        events: &Events,
        let_go: &Notify,
    ) -> Result<ExecOutput, Problem> {
        let mut stderr = Stderr::new(launch);
        let mut status = None;
        let mut signal = None;
        let far = || Instant::now() + Duration::from_secs(365 * 24 * 3600);
        let limit = sleep_until(if launch.password.is_some() { Instant::now() + PROMPT } else { far() });
        tokio::pin!(limit);
        let mut released = false;
        loop {
            let message = tokio::select! {
                biased;
                message = read.wait() => message,
                () = let_go.notified(), if !released => {
                    released = true;
                    limit.as_mut().reset(Instant::now() + RELEASE);
                    continue;
                }
                () = &mut limit => {
                    if launch.password.is_some() && !stderr.started {
                        return Err(Problem::Sudo(launch.sudo_problem("it neither asked for the password nor started")));
                    }
                    break;
                }
            };
            match message {
                Some(ChannelMsg::Data { data }) => sink(&data),
                Some(ChannelMsg::ExtendedData { data, ext: 1 }) => match stderr.take(&data) {
                    Seen::Nothing => {}
                    Seen::Prompt => events.prompted.notify_one(),
                    Seen::PromptAgain => return Err(Problem::Sudo(launch.wrong_password())),
                    Seen::Start => {
                        events.started.notify_one();
                        limit.as_mut().reset(far());
                    }
                },
                Some(ChannelMsg::Success) => events.accepted.notify_one(),
                Some(ChannelMsg::Failure) => {
                    return Err(Problem::Channel { why: "it runs no commands for this login".into() });
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => status = Some(exit_status),
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    signal = Some(match signal_name {
                        Sig::Custom(name) => name,
                        known => format!("{known:?}"),
                    });
                }
                Some(ChannelMsg::Close) | None => break,
                Some(_) => {}
            }
            if status.is_some() || signal.is_some() {
                limit.as_mut().reset(Instant::now() + GRACE);
            }
        }
        if status.is_none() && signal.is_none() {
            if released {
                return Err(Problem::Deadline { after: RELEASE });
            }
            // The event loop may still be on its way out.
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Err(if self.is_closed() {
                self.lost()
            } else {
                Problem::Channel { why: "it closed the channel without an exit code".into() }
            });
        }
        if !stderr.started {
            return Err(launch.not_started(status, signal.as_deref(), &stderr.kept));
        }
        Ok(ExecOutput { status, signal, stderr: stderr.kept })
    }
}

/// What the reader tells the writer.
#[derive(Default)]
struct Events {
    accepted: Notify,
    prompted: Notify,
    started: Notify,
}

/// Ends the remote side when a run ends early, because nobody waits for it any more.
struct Closing {
    write: Arc<ChannelWriteHalf<Msg>>,
    /// Taken away when the run has come to its own end.
    abandoned: Option<(Session, Arc<Launch>)>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (write, abandoned) = (Arc::clone(&self.write), self.abandoned.take());
        runtime.spawn(async move {
            // First the TERM: with its pipes closed, a shell dies of them before its traps can tidy up.
            if let Some((session, launch)) = abandoned {
                session.reap(&launch).await;
            }
            // On a channel that ended it is an error that nobody needs.
            let _ = write.close().await;
        });
    }
}

impl Session {
    /// Sends a TERM to the process group of a script that nobody waits for, and gives it 5 s to tidy up. From a channel of its own: sshd passes
    /// no signals on for root, nor to what runs under sudo. The token in its environment makes sure that it is the script.
    async fn reap(&self, launch: &Launch) {
        let Some(pid) = launch.pid.get() else { return };
        let script = format!(
            "main() {{ if tr '\\0' '\\n' <'/proc/{pid}/environ' 2>/dev/null | grep -qx 'PGCTL_RUN={}'; then\n\
             read -r stat <'/proc/{pid}/stat'; set -- ${{stat##*) }}; kill -TERM \"-$3\"\n\
             for second in 1 2 3 4 5; do sleep 1; [ -d '/proc/{pid}' ] || break; done; fi; }}\nmain </dev/null\n",
            launch.token
        );
        let reaper = Arc::new(Launch::new(self, launch.sudo.is_none()));
        let mut ignore = |_: &[u8]| {};
        let run = self.run(&reaper, script.into_bytes(), &mut ignore, None);
        // A node that does not answer is found out by the keepalive.
        let _ = tokio::time::timeout(REAP, run).await;
    }
}

/// The command line of one run and what it needs to be understood.
struct Launch {
    command: String,
    token: String,
    /// Of the shell that reads the script, once it runs.
    pid: OnceLock<u32>,
    /// Written to stderr by the shell that reads the script, right before it does: what comes before is not the script's. The shell's pid and a newline follow.
    mark: String,
    prompt: String,
    password: Option<Secret>,
    sudo: Option<(String, String)>,
}

impl Launch {
    /// The words must mean the same to every login shell (bash, dash, busybox, fish, csh): plain words and single quotes.
    fn new(session: &Session, as_login: bool) -> Self {
        let token = token();
        let mark = format!("pgctl-begins-{token}-");
        let prompt = format!("pgctl-asks-{token}:");
        let shell = format!(
            "sh -c 'echo {mark}$$ >&2; LC_ALL=C; PGCTL_RUN={token}; export LC_ALL PGCTL_RUN; exec sh'"
        );
        let inner = &session.inner;
        let (command, password, sudo) = match &inner.r#become {
            Become::Sudo { user, password } if !as_login => {
                let how = match password {
                    // `-k` with a command: never takes a remembered login for granted, so there is one way through.
                    Some(_) => format!("-k -S -p {prompt}"),
                    None => "-n".to_owned(),
                };
                (
                    format!("exec env LC_ALL=C sudo {how} -H -u {user} -- {shell}"),
                    password.clone(),
                    Some((inner.user.clone(), user.clone())),
                )
            }
            _ => (format!("exec {shell}"), None, None),
        };
        Self { command, token, pid: OnceLock::new(), mark, prompt, password, sudo }
    }

    fn not_started(&self, status: Option<u32>, signal: Option<&str>, said: &[u8]) -> Problem {
        let said = String::from_utf8_lossy(said);
        if self.sudo.is_some() {
            return Problem::Sudo(self.sudo_problem(&said));
        }
        let status = match (status, signal) {
            (Some(status), _) => status.to_string(),
            (None, signal) => format!("signal {}", signal.unwrap_or("?")),
        };
        Problem::NotStarted { status, said: last_line(&said) }
    }

    fn sudo_problem(&self, said: &str) -> super::error::SudoProblem {
        let (user, target) = self.sudo.as_ref().map_or(("?", "root"), |(user, target)| (user, target));
        sudo::problem(said, user, target)
    }

    fn wrong_password(&self) -> super::error::SudoProblem {
        let user = self.sudo.as_ref().map(|(user, _)| user.clone()).unwrap_or_default();
        super::error::SudoProblem::WrongPassword { user }
    }
}

fn last_line(text: &str) -> String {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").trim().to_owned()
}

/// Letters that nobody else prints: 64 bits from the system's randomness (through the standard library's seeds).
fn token() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// What a piece of stderr brought.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Prompt,
    PromptAgain,
    Start,
}

/// stderr: looks for the prompt and the start mark, then keeps the end.
struct Stderr<'a> {
    launch: &'a Launch,
    started: bool,
    prompted: bool,
    kept: Vec<u8>,
}

impl<'a> Stderr<'a> {
    fn new(launch: &'a Launch) -> Self {
        Self { launch, started: false, prompted: false, kept: Vec::new() }
    }

    fn take(&mut self, data: &[u8]) -> Seen {
        self.kept.extend_from_slice(data);
        let seen = if self.started { Seen::Nothing } else { self.look() };
        if self.kept.len() > 2 * STDERR {
            self.kept.drain(..self.kept.len() - STDERR);
        }
        seen
    }

    fn look(&mut self) -> Seen {
        if let Some(at) = find(&self.kept, self.launch.mark.as_bytes()) {
            let after = at + self.launch.mark.len();
            let Some(length) = self.kept[after..].iter().position(|byte| *byte == b'\n') else {
                return Seen::Nothing;
            };
            let pid =
                std::str::from_utf8(&self.kept[after..after + length]).ok().and_then(|pid| pid.parse().ok());
            if let Some(pid) = pid {
                // Set once: a mark is looked for until it is found.
                let _ = self.launch.pid.set(pid);
            }
            self.kept.drain(..=after + length);
            self.started = true;
            return Seen::Start;
        }
        if let Some(at) = find(&self.kept, self.launch.prompt.as_bytes()) {
            self.kept.drain(..at + self.launch.prompt.len());
            if self.prompted {
                return Seen::PromptAgain;
            }
            self.prompted = true;
            return Seen::Prompt;
        }
        Seen::Nothing
    }
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch() -> Launch {
        Launch {
            command: String::new(),
            token: "1".into(),
            pid: OnceLock::new(),
            mark: "pgctl-begins-1-".into(),
            prompt: "pgctl-asks-1:".into(),
            password: None,
            sudo: None,
        }
    }

    #[test]
    fn the_start_mark_is_found_in_pieces_and_noise_is_dropped() {
        let launch = launch();
        let mut stderr = Stderr::new(&launch);
        assert_eq!(stderr.take(b"motd without a newlinepgctl-beg"), Seen::Nothing);
        assert_eq!(stderr.take(b"ins-1-4"), Seen::Nothing);
        assert_eq!(stderr.take(b"2\nreal"), Seen::Start);
        assert_eq!(launch.pid.get(), Some(&42));
        assert_eq!(stderr.take(b" words pgctl-asks-1:"), Seen::Nothing);
        assert_eq!(stderr.kept, b"real words pgctl-asks-1:");
    }

    #[test]
    fn a_second_prompt_is_a_wrong_password() {
        let launch = launch();
        let mut stderr = Stderr::new(&launch);
        assert_eq!(stderr.take(b"lecture\npgctl-asks-1:"), Seen::Prompt);
        assert_eq!(stderr.take(b"Sorry, try again.\n"), Seen::Nothing);
        assert_eq!(stderr.take(b"pgctl-asks-1:"), Seen::PromptAgain);
    }

    #[test]
    fn stderr_keeps_its_end() {
        let launch = launch();
        let mut stderr = Stderr::new(&launch);
        stderr.take(b"pgctl-begins-1-42\n");
        for _ in 0..100 {
            stderr.take(&[b'x'; 10_000]);
        }
        stderr.take(b"the end");
        assert!(stderr.kept.len() <= 2 * STDERR && stderr.kept.ends_with(b"the end"));
    }

    #[test]
    fn tokens_differ() {
        assert_ne!(token(), token());
        assert_eq!(token().len(), 16);
    }
}
