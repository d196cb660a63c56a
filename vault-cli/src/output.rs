//! The only file that prints. Standard output is data; standard error is for people.

use core::fmt::Write as _;
use core::ops::ControlFlow;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rustix::fs::{OFlags, fcntl_getfl, fstat, stat};
use serde_json::{Value, json};
use vault_core::Kind;
use vault_core::rotate::Step;

use crate::failure::Failure;

/// Where a command's words go.
pub(crate) struct Output {
    json: bool,
    bar: Option<ProgressBar>,
    /// The reader of standard output went away. That is no error: what is being done goes on, and
    /// how it ends decides the exit status.
    gone: bool,
    /// The last step that was told is that a replica is waited for.
    waits: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, bar: None, gone: false, waits: false }
    }

    /// Whether `--json` was given.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Refuses to write data where nobody gets it: to a standard output that is closed. In its place the
    /// language's runtime has opened the null device for reading and writing.
    pub(crate) fn refuse_closed(&self) -> Result<(), Failure> {
        let stdout = io::stdout();
        let both_ways = fcntl_getfl(&stdout).is_ok_and(|flags| flags.contains(OFlags::RDWR));
        let null = fstat(&stdout).and_then(|one| Ok((one, stat("/dev/null")?)));
        match null {
            Ok((one, null)) if both_ways && one.st_rdev == null.st_rdev && one.st_mode == null.st_mode => {
                Err(Failure {
                    kind: Kind::Io,
                    message: "standard output is closed, and nobody gets what this command writes".to_owned(),
                    hint: None,
                })
            }
            _ => Ok(()),
        }
    }

    /// A result: the object for `--json`, the text otherwise.
    pub(crate) fn result(&mut self, text: &str, object: Value) -> Result<(), Failure> {
        if self.json {
            let mut object = object;
            if let Value::Object(fields) = &mut object {
                fields.insert("schema_version".to_owned(), json!(1));
            }
            self.line(&ascii(&object.to_string()))
        } else if text.is_empty() {
            Ok(())
        } else {
            self.line(&lines(text))
        }
    }

    /// One line of data.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Exact bytes of data.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.write_all(bytes).and_then(|()| self.flush()).map_err(|error| Failure::stdout(&error))
    }

    /// Whether what does nothing but write to standard output may end: nobody reads it any more.
    pub(crate) fn flow(&self) -> ControlFlow<()> {
        if self.gone { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// The result of a write to standard output, where a reader that went away is none of ours.
    fn unless_gone<T>(&mut self, written: io::Result<T>, done: T) -> io::Result<T> {
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(done)
            }
            other => other,
        }
    }

    /// A word to people beside the data.
    pub(crate) fn note(&mut self, text: &str) {
        // Nobody to tell is no error.
        let _ = writeln!(io::stderr(), "vault: {}", lines(text));
    }

    /// How far a run is: a bar on a terminal, a line for each batch elsewhere.
    pub(crate) fn step(&mut self, step: Step<'_>) {
        let waited = core::mem::replace(&mut self.waits, step.replica_lag.is_some());
        let waits = step
            .replica_lag
            .map_or_else(String::new, |lag| format!(", waits for a replica that is {:.1} s behind", lag.as_secs_f64()));
        if io::stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| {
                let style = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner());
                let bar = ProgressBar::new_spinner().with_style(style);
                bar.enable_steady_tick(Duration::from_millis(200));
                bar
            });
            bar.set_message(format!(
                "{}: pass {}, {} rows, {} rewritten{waits}",
                one_line(step.column),
                step.pass,
                step.rows,
                step.rewritten
            ));
        } else if !(waited && self.waits) {
            let _ = writeln!(
                io::stderr(),
                "{}: pass {}, {} rows, {} rewritten{waits}",
                one_line(step.column),
                step.pass,
                step.rows,
                step.rewritten
            );
        }
    }

    /// Ends a progress bar.
    pub(crate) fn done(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Tells why a command failed; returns its exit status.
    pub(crate) fn failure(&mut self, failure: &Failure) -> u8 {
        self.done();
        let mut stderr = io::stderr();
        let told = if self.json {
            let error = json!({
                "schema_version": 1,
                "error": { "kind": failure.kind.as_str(), "message": failure.message, "hint": failure.hint },
            });
            writeln!(stderr, "{}", ascii(&error.to_string()))
        } else {
            writeln!(stderr, "vault: error: {}", lines(&failure.message)).and_then(|()| match &failure.hint {
                Some(hint) => writeln!(stderr, "vault: hint: {}", lines(hint)),
                None => Ok(()),
            })
        };
        // Nobody to tell is no further error.
        let _ = told;
        failure.kind.exit_code()
    }
}

/// A text of one line that does nothing to a terminal, whatever a database or a file put into it.
pub(crate) fn one_line(text: &str) -> String {
    escaped(text, |_| false)
}

/// The same of lines that a command composed.
fn lines(text: &str) -> String {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// A JSON text in ASCII, which means the same.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\x7f' {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// What would be obeyed, turned round or not seen is written as Rust does it.
fn escaped(text: &str, kept: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let unseen = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
        if (c.is_control() || unseen) && !kept(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Where what a child prints goes on to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stream {
    Out,
    Err,
}

impl Stream {
    /// Writes at once: what is printed may be a question that somebody waits for.
    pub(crate) fn pass(self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Out => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Self::Err => io::stderr().write_all(bytes),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gone {
            return Ok(bytes.len());
        }
        let written = io::stdout().lock().write(bytes);
        self.unless_gone(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gone {
            return Ok(());
        }
        let flushed = io::stdout().lock().flush();
        self.unless_gone(flushed, ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let evil = "a\u{1b}]0;x\u{7}\u{9b}31m\u{202e}b\r\u{7f}\u{2028}\u{200b}\u{feff}ä\n\tz";
        let shown = lines(evil);
        assert_eq!(shown, "a\\u{1b}]0;x\\u{7}\\u{9b}31m\\u{202e}b\\r\\u{7f}\\u{2028}\\u{200b}\\u{feff}ä\n\tz");
        assert!(one_line(evil).ends_with("ä\\n\\tz"));
        let value = json!({ "x": evil, "é": "\u{1f511}" });
        let text = ascii(&value.to_string());
        assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
