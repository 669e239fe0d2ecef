//! Which shipped rows constants were fitted on: a split by a hash of the row's id, so that it never moves with the file.

/// Of ten parts, those that are fitted on.
const FITTED: u64 = 7;

/// Whether a row of this id is fitted on.
pub fn is_fitted(id: &str) -> bool {
    fnv1a(id) % 10 < FITTED
}

/// FNV-1a, 64 bits, its high half folded in: the low bits alone follow the last characters.
fn fnv1a(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_tenths_and_always_the_same() {
        let share = (0..1000).filter(|i| is_fitted(&format!("row-{i:04}"))).count();
        assert!((650..750).contains(&share), "{share}");
        let first: Vec<bool> = (1..=8).map(|i| is_fitted(&format!("a-{i}"))).collect();
        assert_eq!(first, (1..=8).map(|i| is_fitted(&format!("a-{i}"))).collect::<Vec<_>>());
    }
}
