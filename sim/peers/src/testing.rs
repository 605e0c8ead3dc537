//! What the tests of the line formats share.

/// Calls `parse` with 40,000 lines: one of `seeds` after the other, with three bytes changed, and at times
/// cut short.
pub(crate) fn for_damaged(seeds: &[&[u8]], mut parse: impl FnMut(&[u8])) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..40_000 {
        let mut line = seeds[round % seeds.len()].to_vec();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (state >> 33) as usize % line.len();
            line[at] = (state >> 24) as u8;
            if state & 7 == 0 {
                line.truncate(at.max(1));
            }
        }
        parse(&line);
    }
}
