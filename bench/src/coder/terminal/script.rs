//! Simple shell commands without a shell: `sleep`, `echo`, `printf`, `true`, `false`, `:` and `exit`, joined by
//! `;`, `&&` and `||`, as a POSIX shell runs them (XCU 2.2 quoting, 2.9.3 lists).
//!
//! What is not known to mean the same to every shell is no script, and gets a real one: expansions, redirections,
//! pipes, background, assignments, options, backslashes that `echo` may or may not take.
//!
//! Nothing waits inside: [`Script::run`] says how long to sleep, and is called again after that.

/// A script under way.
#[derive(Debug)]
pub struct Script {
    steps: std::vec::IntoIter<Step>,
    /// The status of the last command that ran.
    succeeded: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    join: Join,
    action: Action,
}

/// When a command runs, by the status of the last one that did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Join {
    Always,
    OnSuccess,
    OnFailure,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    /// For so many ns.
    Sleep(u64),
    /// This goes to the terminal.
    Print(Vec<u8>),
    /// Nothing but a status.
    Succeed(bool),
    Exit,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Join(Join),
}

impl Script {
    /// The longest script; whatever it prints is not longer.
    pub const BYTES_MAX: usize = 4096;

    /// Reads `command`; `None`: it needs a shell.
    pub fn parse(command: &str) -> Option<Self> {
        if command.len() > Self::BYTES_MAX {
            return None;
        }
        let (mut steps, mut join) = (Vec::new(), Join::Always);
        let mut tokens = tokens(command)?.into_iter().peekable();
        while tokens.peek().is_some() {
            let words: Vec<String> =
                std::iter::from_fn(|| tokens.next_if(|token| matches!(token, Token::Word(_))))
                    .map(|token| if let Token::Word(word) = token { word } else { unreachable!("a word") })
                    .collect();
            steps.push(Step { join, action: action(&words)? });
            match tokens.next() {
                Some(Token::Join(next)) if next == Join::Always || tokens.peek().is_some() => join = next,
                None => {}
                Some(_) => return None, // nothing behind `&&`
            }
        }
        (!steps.is_empty()).then(|| Self { steps: steps.into_iter(), succeeded: true })
    }

    /// Runs on, and appends what it prints to `output`, until it sleeps, for the ns that are returned, or ends: `None`.
    pub fn run(&mut self, output: &mut Vec<u8>) -> Option<u64> {
        for Step { join, action } in self.steps.by_ref() {
            match join {
                Join::OnSuccess if !self.succeeded => continue,
                Join::OnFailure if self.succeeded => continue,
                _ => self.succeeded = true,
            }
            match action {
                Action::Sleep(ns) => return Some(ns),
                Action::Print(text) => output.extend_from_slice(&text),
                Action::Succeed(succeeded) => self.succeeded = succeeded,
                Action::Exit => return None,
            }
        }
        None
    }
}

/// Words, with their quotes gone, and what joins commands.
fn tokens(command: &str) -> Option<Vec<Token>> {
    let (mut tokens, mut word) = (Vec::new(), None::<String>);
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => quoted(&mut chars, word.get_or_insert_default())?,
            ' ' | '\t' => tokens.extend(word.take().map(Token::Word)),
            ';' | '&' | '|' => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(Token::Join(match c {
                    ';' => Join::Always,
                    _ if chars.next_if_eq(&c).is_none() => return None, // a pipe, or the background
                    '&' => Join::OnSuccess,
                    _ => Join::OnFailure,
                }));
            }
            // The rest means something to one shell or another, at least in some places.
            _ if c.is_ascii_alphanumeric() || "_-+./,:@%".contains(c) || !c.is_ascii() => {
                word.get_or_insert_default().push(c);
            }
            '!' | '=' if word.is_some() => word.get_or_insert_default().push(c),
            _ => return None,
        }
    }
    tokens.extend(word.map(Token::Word));
    Some(tokens)
}

/// The rest of a text in double quotes.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, word: &mut String) -> Option<()> {
    loop {
        match chars.next()? {
            '"' => return Some(()),
            '$' | '`' => return None,
            '\\' => match chars.next()? {
                '\n' => return None,
                c @ ('$' | '`' | '"' | '\\') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

fn action(words: &[String]) -> Option<Action> {
    let (name, arguments) = words.split_first()?;
    match (name.as_str(), arguments) {
        ("sleep", [time]) => sleep_ns(time).map(Action::Sleep),
        ("echo", words) => echo(words).map(Action::Print),
        ("printf", [format, words @ ..]) => printf(format, words).map(Action::Print),
        ("true" | ":", _) => Some(Action::Succeed(true)),
        ("false", _) => Some(Action::Succeed(false)),
        ("exit", []) => Some(Action::Exit),
        ("exit", [status]) if status.bytes().all(|byte| byte.is_ascii_digit()) => {
            status.parse::<u8>().is_ok().then_some(Action::Exit)
        }
        _ => None,
    }
}

/// Seconds, with up to 9 digits behind the point, or another unit of GNU's `sleep`.
fn sleep_ns(text: &str) -> Option<u64> {
    let (number, unit_s) = match text.char_indices().last()? {
        (at, 's') => (&text[..at], 1),
        (at, 'm') => (&text[..at], 60),
        (at, 'h') => (&text[..at], 3_600),
        (at, 'd') => (&text[..at], 86_400),
        _ => (text, 1),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 9 {
        return None;
    }
    let ns = whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?;
    ns.checked_add(format!("{part:0<9}").parse().ok()?)?.checked_mul(unit_s)
}

fn echo(words: &[String]) -> Option<Vec<u8>> {
    let (words, end) = match words {
        [first, words @ ..] if first == "-n" => (words, ""),
        words => (words, "\n"),
    };
    let is_option = words.first().is_some_and(|word| word.starts_with('-'));
    let text = words.join(" ");
    (!is_option && !text.contains('\\')).then(|| (text + end).into_bytes())
}

/// As long as its words last: a format that would be gone through twice needs a shell.
fn printf(format: &str, words: &[String]) -> Option<Vec<u8>> {
    let (mut text, mut chars, mut words) = (String::new(), format.chars(), words.iter());
    if format.starts_with('-') {
        return None;
    }
    let mut converts = false;
    while let Some(c) = chars.next() {
        match (c, if matches!(c, '%' | '\\') { chars.next()? } else { c }) {
            ('%', '%') => text.push('%'),
            ('%', 's') => {
                converts = true;
                text.push_str(words.next().map_or("", String::as_str));
            }
            ('\\', 'n') => text.push('\n'),
            ('\\', 'r') => text.push('\r'),
            ('\\', 't') => text.push('\t'),
            ('\\', '\\') => text.push('\\'),
            ('%' | '\\', _) => return None,
            _ => text.push(c),
        }
    }
    (!converts || words.len() == 0).then(|| text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// What is printed before each sleep, with the sleep, and at last.
    fn run(command: &str) -> Option<(Vec<(String, u64)>, String)> {
        let (mut script, mut sleeps, mut output) = (Script::parse(command)?, Vec::new(), Vec::new());
        let text = |output: &mut Vec<u8>| String::from_utf8(std::mem::take(output)).expect("text");
        while let Some(ns) = script.run(&mut output) {
            sleeps.push((text(&mut output), ns));
        }
        Some((sleeps, text(&mut output)))
    }

    #[test]
    fn it_sleeps_between_what_it_prints() {
        let sleeps = |text: &str, ns| vec![(text.to_owned(), ns)];
        let hello = || "hello\n".to_owned();
        assert_eq!(run("sleep 2 && echo hello"), Some((sleeps("", 2_000_000_000), hello())));
        assert_eq!(run("echo a;sleep 0.25s;echo hello;"), Some((sleeps("a\n", 250_000_000), hello())));
        assert_eq!(run("exit 3; sleep 1"), Some((vec![], String::new())));
        assert_eq!(run("sleep 1.5m").map(|(sleeps, _)| sleeps[0].1), Some(90_000_000_000));
    }

    #[test]
    fn a_command_runs_by_the_status_of_the_last_that_ran() {
        for (command, printed) in [
            ("true && echo a || echo b", "a\n"),
            ("false && echo a || echo b", "b\n"),
            ("false || echo a && echo b", "a\nb\n"),
            ("true || echo a && echo b", "b\n"),
            ("false && exit; echo a; true && exit 1; echo b", "a\n"),
        ] {
            assert_eq!(run(command), Some((vec![], printed.to_owned())), "{command}");
        }
    }

    #[test]
    fn what_may_mean_something_else_to_a_shell_gets_one() {
        const COMMANDS: &str = r#"
            ; echo a;; | && echo | echo a && | echo a || ; echo b | echo a & | (echo a) | ! true
            ls | if true | exec echo | A=1 | A=1 true | sleep | sleep 1 2 | sleep 1e3 | sleep .5 | sleep 5. | sleep -1
            sleep 0.1234567891 | sleep 99999999999999999999 | sleep s | exit 256 | exit -1 | exit a | exit 1 2
            echo a > b | echo $HOME | echo "$HOME" | echo `id` | echo * | echo a? | echo [a] | echo {a,b} | echo ~
            echo # a | echo =ls | echo 'a | echo "a | echo a\b | echo 'a\nb' | echo -e a | echo -n -n a
            printf | printf -- a | printf %d 1 | printf '%s' a b | printf '\x41' | printf %"#;
        let more = ["", ";", "echo a | cat", "echo a\nb", "echo \"a\\\nb\""];
        for command in COMMANDS.lines().flat_map(|line| line.split(" | ")).chain(more) {
            assert_eq!(run(command.trim()), None, "{command:?}");
        }
        assert_eq!(run(&format!("echo {}", "a".repeat(Script::BYTES_MAX))), None);
    }

    /// Words that are near to what is taken, on both sides.
    fn word() -> impl Strategy<Value = String> {
        let plain = select(vec!["a", "b-c", "-n", "é", "x=1", "50%", "hi!", "0", "7", ";", "&&"]);
        let quoted =
            select(vec!["%s", "%s\\n", "a\\tb", "%%", "c  d", "it", "\\\\", "", "$", "é!", "#", "*"]);
        prop_oneof![
            3 => plain.prop_map(str::to_owned),
            1 => quoted.clone().prop_map(|text| format!("'{text}'")),
            1 => quoted.clone().prop_map(|text| format!("\"{text}\"")),
            1 => (quoted.clone(), quoted).prop_map(|(one, other)| format!("-'{one}'\"{other}\"+")),
        ]
    }

    fn command() -> impl Strategy<Value = String> {
        let name =
            select(vec!["echo", "'echo'", "printf", "true", "false", ":", "exit", "sleep 0", "echo -n"]);
        (name, vec(word(), 0..4)).prop_map(|(name, words)| format!("{name} {}", words.join(" ")))
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*", name in select(vec!["sleep ", "echo ", "printf ", "exit ", ""])) {
            let _ = run(&format!("{name}{text}"));
        }
    }

    proptest! {
        // Each starts two shells.
        #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_taken_prints_what_shells_print(
            first in command(), rest in vec((select(vec!["; ", " && ", "||"]), command()), 0..4),
        ) {
            let command = rest.iter().fold(first, |line, (join, command)| line + join + command);
            if let Some((sleeps, last)) = run(&command) {
                let printed: String = sleeps.into_iter().map(|(text, _)| text).chain([last]).collect();
                for shell in ["sh", "bash"] {
                    let output = std::process::Command::new(shell).args(["-c", &command]).output();
                    let output = output.expect("a shell");
                    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                    prop_assert_eq!(text(&output.stdout), printed.clone(), "{} -c {:?}", shell, &command);
                    prop_assert_eq!(text(&output.stderr), "", "{} -c {:?}", shell, &command);
                }
            }
        }
    }
}
