//! Chance from a seed: the same seed, the same run, on every machine.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Chance from this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, and is no iterator"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = end.max(1) as u64;
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of them, if there is any.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    /// Small as a rule, now and then up to `max`.
    pub fn length(&mut self, max: usize) -> usize {
        let cap = match self.below(8) {
            0..5 => 8,
            5 | 6 => 64,
            _ => max,
        };
        self.below(cap.min(max) + 1)
    }

    /// A number at which something may go wrong.
    pub fn odd_number(&mut self) -> u64 {
        let bits = match self.below(2) {
            0 => [0, 7, 8, 15, 16, 31, 32, 63, 64][self.below(9)],
            _ => u32::try_from(self.below(65)).unwrap_or(0),
        };
        let edge = 1_u64.checked_shl(bits).unwrap_or(0);
        match self.below(5) {
            0 => edge,
            1 => edge.wrapping_sub(1),
            2 => edge.wrapping_add(1),
            3 => edge.wrapping_neg(),
            _ => self.next() >> self.below(64),
        }
    }
}
