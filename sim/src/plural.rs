//! Counts in sentences.

/// Returns "1 vector", "2 vectors", "1 mismatch", "0 mismatches".
pub(crate) fn counted(count: impl TryInto<u64>, one: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    let end = match count {
        1 => "",
        _ if one.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{count} {one}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_all_else_is_many() {
        for (count, one, text) in [
            (0, "vector", "0 vectors"),
            (1, "vector", "1 vector"),
            (2, "vector", "2 vectors"),
            (1, "more mismatch", "1 more mismatch"),
            (2, "mismatch", "2 mismatches"),
        ] {
            assert_eq!(counted(count, one), text);
        }
        assert_eq!(counted(3_usize, "line"), "3 lines");
    }
}
