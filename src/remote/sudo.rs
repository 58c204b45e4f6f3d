//! What sudo means by what it says. Sentences of sudo 1.8 and 1.9 and of sudo-rs, in the C locale.

use super::error::SudoProblem;

/// Reads stderr of a sudo that did not start its command.
pub(super) fn problem(said: &str, user: &str, target: &str) -> SudoProblem {
    let text = said.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let user = || user.to_owned();
    let target = || target.to_owned();
    if has(&["must have a tty to run sudo", "no tty present"]) {
        return SudoProblem::NeedsTerminal { user: user() };
    }
    if has(&[
        "incorrect password attempt",
        "incorrect authentication attempt",
        "sorry, try again",
        "authentication failed",
    ]) {
        return SudoProblem::WrongPassword { user: user() };
    }
    if has(&[
        "password is required",
        "authentication is required",
        "authentication required",
        "terminal is required to read the password",
        "unable to read password",
    ]) {
        return SudoProblem::NeedsPassword { user: user() };
    }
    if has(&[
        "is not in the sudoers file",
        "is not allowed to",
        "may not run sudo",
        "not allowed to run sudo",
        "i'm afraid i can't do that",
    ]) {
        return SudoProblem::NotAllowed { user: user(), target: target() };
    }
    if has(&["unknown user"]) || (text.contains("user '") && text.contains("not found")) {
        return SudoProblem::UnknownUser { target: target() };
    }
    // env, or the login shell itself.
    let missing = |line: &str| {
        line.contains("sudo")
            && (line.contains("not found")
                || line.contains("no such file")
                || line.contains("unknown command"))
    };
    if text.lines().any(missing) {
        return SudoProblem::NotInstalled;
    }
    let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let last = last.unwrap_or("it ended without a word");
    let last = last.strip_prefix("sudo: ").or_else(|| last.strip_prefix("sudo-rs: ")).unwrap_or(last);
    SudoProblem::Other { said: last.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_sentences_are_understood() {
        let needs = SudoProblem::NeedsPassword { user: "u".into() };
        let not_allowed = SudoProblem::NotAllowed { user: "u".into(), target: "root".into() };
        let wrong = SudoProblem::WrongPassword { user: "u".into() };
        for (said, expected) in [
            ("sudo: a password is required\n", needs.clone()),
            (
                "sudo: unable to resolve host x: Name or service not known\nsudo: a password is required\n",
                needs.clone(),
            ),
            ("sudo: interactive authentication is required\n", needs.clone()),
            ("sudo-rs: interactive authentication is required", needs.clone()),
            (
                "sudo: a terminal is required to read the password; either use the -S option to read from standard \
                 input or configure an askpass helper\nsudo: a password is required",
                needs,
            ),
            ("u is not in the sudoers file.  This incident will be reported.", not_allowed.clone()),
            ("Sorry, user u is not allowed to execute '/usr/bin/sh' as root on h.", not_allowed.clone()),
            ("Sorry, user u may not run sudo on h.", not_allowed.clone()),
            ("sudo: I'm sorry u. I'm afraid I can't do that", not_allowed),
            ("Sorry, try again.\nsudo: 1 incorrect password attempt", wrong.clone()),
            ("sudo: 3 incorrect password attempts", wrong.clone()),
            ("sudo-rs: maximum 3 incorrect authentication attempts", wrong),
            ("sudo: sorry, you must have a tty to run sudo", SudoProblem::NeedsTerminal { user: "u".into() }),
            ("env: 'sudo': No such file or directory", SudoProblem::NotInstalled),
            ("env: can't execute 'sudo': No such file or directory", SudoProblem::NotInstalled),
            ("bash: line 1: sudo: command not found", SudoProblem::NotInstalled),
            ("sudo: unknown user: nobody9", SudoProblem::UnknownUser { target: "root".into() }),
            (
                "sudo: unknown user nobody9\nsudo: error initializing audit plugin sudoers_audit",
                SudoProblem::UnknownUser { target: "root".into() },
            ),
            ("sudo-rs: user 'nobody9' not found", SudoProblem::UnknownUser { target: "root".into() }),
            (
                "sudo: /usr/bin/sudo must be owned by uid 0 and have the setuid bit set",
                SudoProblem::Other {
                    said: "/usr/bin/sudo must be owned by uid 0 and have the setuid bit set".into(),
                },
            ),
            ("", SudoProblem::Other { said: "it ended without a word".into() }),
        ] {
            assert_eq!(problem(said, "u", "root"), expected, "{said}");
        }
    }
}
