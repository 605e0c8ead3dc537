//! Sizes and counts with suffixes, as arguments.

use std::ops::RangeInclusive;

/// Reads a number of bytes: decimal or after 0x, with k, M, G, T or KiB, MiB, GiB, TiB, all of which
/// count in 1024s, as QEMU's do.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (number, suffix) = split(text)?;
    let unit = match suffix {
        "" | "B" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return Err(format!("`{suffix}` is none of k, M, G, T, KiB, MiB, GiB and TiB")),
    };
    scaled(number, unit)
}

/// Reads a count within `range`: decimal or after 0x, with k, M or G, which count in 1000s.
pub(super) fn count(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<u64, String> + Clone {
    move |text| {
        let (number, suffix) = split(text)?;
        let unit = match suffix {
            "" => 1,
            "k" | "K" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            _ => return Err(format!("`{suffix}` is none of k, M and G")),
        };
        let count = scaled(number, unit)?;
        let (least, most) = (range.start(), range.end());
        let outside = || Err(format!("{count} is not in {least}..={most}"));
        if range.contains(&count) { Ok(count) } else { outside() }
    }
}

/// The number, and what follows it.
fn split(text: &str) -> Result<(u64, &str), String> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
    let end = digits.find(|digit: char| !digit.is_digit(radix)).unwrap_or(digits.len());
    let (digits, suffix) = digits.split_at(end);
    let number = u64::from_str_radix(digits, radix);
    number.map(|number| (number, suffix.trim_start())).map_err(|error| error.to_string())
}

fn scaled(number: u64, unit: u64) -> Result<u64, String> {
    number.checked_mul(unit).ok_or_else(|| "more than 64 bits hold".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_of_bytes_count_in_1024s() {
        for (text, expected) in [
            ("16", 16),
            ("0x10000", 0x1_0000),
            ("64k", 64 << 10),
            ("64K", 64 << 10),
            ("1M", 1 << 20),
            ("1 MiB", 1 << 20),
            ("2GiB", 2 << 30),
            ("1T", 1 << 40),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for wrong in ["", "M", "-1", "1MB", "1.5G", "16777216T", "0xg"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn suffixes_of_counts_count_in_1000s_and_the_range_is_kept() {
        let count = count(1..=4_000_000_000);
        for (text, expected) in [("7", 7), ("20k", 20_000), ("4G", 4_000_000_000)] {
            assert_eq!(count(text), Ok(expected), "{text}");
        }
        for wrong in ["0", "5G", "1KiB", "k"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }
}
