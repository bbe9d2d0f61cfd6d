//! stdout and stderr for people: colours where they are wanted, and ASCII where the locale has nothing else.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::LazyLock;

/// Whether the locale is that of C, which has ASCII alone: as setlocale(3) finds it. A user without any locale is taken for
/// one who reads UTF-8, as containers and CI servers have none.
pub(crate) fn is_ascii() -> bool {
    static ASCII: LazyLock<bool> = LazyLock::new(|| {
        let variables = ["LC_ALL", "LC_CTYPE", "LANG"].map(std::env::var_os);
        let given = variables.into_iter().flatten().find(|it| !it.is_empty());
        given.is_some_and(|it| it == "C" || it == "POSIX")
    });
    *ASCII
}

/// A stream of text for people.
#[derive(Debug)]
pub(crate) struct Text<W> {
    inner: W,
    ascii: bool,
}

impl<W: Write> Write for Text<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(bytes) {
            Ok(text) if self.ascii && !text.is_ascii() => {
                self.inner.write_all(ascii(text).as_bytes())?;
                Ok(bytes.len())
            }
            _ => self.inner.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// stdout, for text; what programs read goes to [`std::io::stdout`].
pub(crate) fn stdout() -> Text<anstream::AutoStream<io::Stdout>> {
    Text {
        inner: anstream::stdout(),
        ascii: is_ascii(),
    }
}

/// A line on stderr. A terminal that has gone takes none, and what is done goes on all the same.
pub(crate) fn line(text: Arguments<'_>) {
    let mut stderr = Text {
        inner: anstream::stderr(),
        ascii: is_ascii(),
    };
    let _ = writeln!(stderr, "{text}");
}

/// `eprintln!` for people.
macro_rules! say {
    ($($words:tt)*) => { $crate::say::line(format_args!($($words)*)) };
}
pub(crate) use say;

/// The text in ASCII, as near to it as can be.
fn ascii(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\0'..='\x7f' => plain.push(character),
            '–' | '−' | '‑' | '─' | '━' | '╌' | '┄' => plain.push('-'),
            '—' => plain.push_str("--"),
            '═' => plain.push('='),
            '│' | '┃' | '┆' => plain.push('|'),
            '✓' => plain.push('+'),
            '✗' | '×' => plain.push('x'),
            '▲' => plain.push('^'),
            '‼' => plain.push('!'),
            '·' | '•' => plain.push('.'),
            '→' => plain.push_str("->"),
            '±' => plain.push_str("+-"),
            'µ' | 'μ' => plain.push('u'),
            '“' | '”' | '„' => plain.push('"'),
            '‘' | '’' => plain.push('\''),
            '…' => plain.push_str("..."),
            '≥' => plain.push_str(">="),
            '≤' => plain.push_str("<="),
            'ä' | 'á' => plain.push('a'),
            'é' => plain.push('e'),
            'ö' | 'ó' => plain.push('o'),
            'ü' => plain.push('u'),
            '\u{a0}' | '\u{202f}' => plain.push(' '),
            '\u{2500}'..='\u{257f}' => plain.push('+'),
            _ => plain.push('?'),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_its_meaning_in_ascii() {
        let mut text = Text {
            inner: Vec::new(),
            ascii: true,
        };
        write!(text, "✓ 65 µs ±0.4 % – “so” → 中").unwrap();
        assert_eq!(text.inner, b"+ 65 us +-0.4 % - \"so\" -> ?");
        text.ascii = false;
        text.inner.clear();
        write!(text, "µ").unwrap();
        assert_eq!(text.inner, "µ".as_bytes());
    }
}
