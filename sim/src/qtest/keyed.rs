//! QEMU's way to write an option's value: `name,key=value,key=value`, with `,,` for a comma.

use super::options::OptionError;

/// The value of one option, its keys taken one by one.
#[derive(Debug)]
pub(super) struct Keyed {
    option: String,
    pairs: Vec<(String, String)>,
}

impl Keyed {
    /// Reads `text`. What stands first without a `=` is the value of `implied`; elsewhere it is `on`.
    pub(super) fn new(option: &str, text: &str, implied: &str) -> Self {
        let mut parts = vec![String::new()];
        let mut rest = text.chars().peekable();
        while let Some(next) = rest.next() {
            match parts.last_mut() {
                Some(last) if next != ',' || rest.next_if_eq(&',').is_some() => last.push(next),
                _ => parts.push(String::new()),
            }
        }
        let pair = |(index, part): (usize, String)| match part.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None if index == 0 => (implied.to_owned(), part),
            None => (part, "on".to_owned()),
        };
        let pairs = parts.into_iter().enumerate().map(pair).collect();
        Self { option: option.to_owned(), pairs }
    }

    /// Takes the value of `key`; of several the last, as QEMU does.
    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        let value = self.pairs.iter().rev().find(|(name, _)| name == key)?.1.clone();
        self.pairs.retain(|(name, _)| name != key);
        Some(value)
    }

    pub(super) fn need(&mut self, key: &'static str) -> Result<String, OptionError> {
        let option = self.option.clone();
        self.take(key).ok_or(OptionError::Missing { option, key })
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Result<Option<bool>, OptionError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_str() {
            "on" | "yes" | "true" | "y" => Ok(Some(true)),
            "off" | "no" | "false" | "n" => Ok(Some(false)),
            _ => Err(self.wrong(key, value, "on or off")),
        }
    }

    /// Takes a number of bytes; without a suffix it is in `unit`.
    pub(super) fn size(&mut self, key: &'static str, unit: u64) -> Result<u64, OptionError> {
        let value = self.need(key)?;
        size(&value, unit).ok_or_else(|| self.wrong(key, value, "a size, such as 64M"))
    }

    pub(super) fn wrong(
        &self,
        key: &'static str,
        value: String,
        expected: &'static str,
    ) -> OptionError {
        OptionError::Value { option: self.option.clone(), key, value, expected }
    }

    /// Refuses what nobody took.
    pub(super) fn finish(self) -> Result<(), OptionError> {
        match self.pairs.into_iter().next() {
            None => Ok(()),
            Some((key, _)) => Err(OptionError::Key { option: self.option, key }),
        }
    }
}

fn size(text: &str, unit: u64) -> Option<u64> {
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => unit,
        "b" | "B" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        "t" | "T" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_split_at_single_commas() {
        let mut keyed = Keyed::new("-object", "a,,b,c=d,,e=f,g,c=last", "kind");
        assert_eq!(keyed.take("kind").as_deref(), Some("a,b"));
        assert_eq!(keyed.take("c").as_deref(), Some("last"));
        assert_eq!(keyed.flag("g").unwrap(), Some(true));
        assert_eq!(keyed.flag("h").unwrap(), None);
        keyed.finish().unwrap();
        let odd = Keyed::new("-object", "a,,,b", "kind");
        assert_eq!(odd.finish().unwrap_err().to_string(), "-object: `kind` is not supported here");
    }

    #[test]
    fn a_size_has_a_suffix_or_the_unit_of_its_option() {
        let sizes = [("1", 1 << 20), ("1b", 1), ("4k", 4096), ("1M", 1 << 20), ("2G", 2 << 30)];
        for (text, bytes) in sizes {
            assert_eq!(size(text, 1 << 20), Some(bytes), "{text}");
        }
        for text in ["", "M", "1x", "1MM", "-1", "0x10", "99999999999T"] {
            assert_eq!(size(text, 1), None, "{text}");
        }
    }
}
