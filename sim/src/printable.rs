//! Text of strangers, fit for a terminal: names in a log, what a QEMU said, names of files.

use std::borrow::Cow;

/// Writes everything that is not printed as itself as an escape: control characters, those that turn
/// the direction of text, and those that combine with others. Line ends stay.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.escape_debug().collect())
}

/// Does the same with JSON, and leaves it the same JSON: such characters are in strings only.
pub(crate) fn printable_json(json: &str) -> Cow<'_, str> {
    escaped(json, |c| {
        let mut units = [0; 2];
        c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
    })
}

fn escaped(text: &str, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if text.chars().all(is_printed) {
        return Cow::Borrowed(text);
    }
    let part = |c: char| if is_printed(c) { c.to_string() } else { escape(c) };
    Cow::Owned(text.chars().map(part).collect())
}

fn is_printed(c: char) -> bool {
    matches!(c, '\n' | '\'' | '"' | '\\') || c.escape_debug().eq([c])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_written_as_an_escape() {
        for (text, shown) in [
            ("plain 'text' \"and\" \\ é 漢\nmore", "plain 'text' \"and\" \\ é 漢\nmore"),
            ("a\u{1b}[2Jb\u{7f}\u{9b}31m", "a\\u{1b}[2Jb\\u{7f}\\u{9b}31m"),
            ("\ttab\rback", "\\ttab\\rback"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
            ("a\u{2028}b\u{200b}", "a\\u{2028}b\\u{200b}"),
        ] {
            assert_eq!(printable(text), shown);
            assert_eq!(printable(shown), shown, "once is enough");
        }
    }

    #[test]
    fn json_stays_the_same_json() {
        let text = "a\u{1b}\u{7f}\u{9b}\u{202e}\u{e0001}\"\\é\n";
        let json = serde_json::to_string(text).unwrap();
        let safe = printable_json(&json);
        assert!(safe.chars().all(|c| !c.is_control()) && !safe.contains('\u{202e}'), "{safe}");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
    }
}
