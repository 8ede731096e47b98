//! Chance, from one place: the system's generator, or in a simulation the run's seed.
//!
//! Not for keys: what must stay secret for years comes from the cryptographic library.

/// `N` random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// A random number.
pub fn number() -> u64 {
    u64::from_be_bytes(bytes())
}

/// A fraction in `[0, 1)`, with 53 random bits.
pub fn fraction() -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    let bits = (number() >> 11) as f64;
    bits / 9_007_199_254_740_992.0
}

/// Puts `items` into a random order (Fisher and Yates).
pub fn shuffle<T>(items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let among = last as u64 + 1;
        let chosen = usize::try_from(number() % among).unwrap_or(0);
        items.swap(last, chosen);
    }
}

/// Fills `bytes`.
#[cfg(not(virtflow_sim))]
pub fn fill(bytes: &mut [u8]) {
    rand::fill(bytes);
}

/// Fills `bytes`.
#[cfg(virtflow_sim)]
pub fn fill(bytes: &mut [u8]) {
    crate::simulated::fill(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_everything() {
        let mut items: Vec<u32> = (0..100).collect();
        shuffle(&mut items);
        items.sort_unstable();
        assert!(items.into_iter().eq(0..100));
    }

    #[test]
    fn fractions_lie_below_one() {
        assert!((0..1000).all(|_| (0.0..1.0).contains(&fraction())));
    }
}
