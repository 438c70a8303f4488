//! Deterministic choices: the same handle or question always gives the same data.

/// Returns a 64-bit hash (FNV-1a) that is the same in every process and on every platform.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A stream of pseudo-random choices (`SplitMix64`).
#[derive(Debug, Clone)]
pub(crate) struct Choices(u64);

impl Choices {
    /// Creates the choices of a text, such as a handle.
    pub(crate) fn of(text: &str) -> Self {
        Self(hash(text.as_bytes()))
    }

    /// Creates the choices of one aspect, independent of those drawn for other aspects.
    pub(crate) fn aspect(&self, name: &str) -> Self {
        Self(self.0 ^ hash(name.as_bytes()).rotate_left(17))
    }

    /// Draws the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Draws a number in `low..=high`.
    #[expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "the span of two i64 in order fits u64")]
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = high.wrapping_sub(low) as u64;
        if span == u64::MAX { self.next() as i64 } else { low.wrapping_add((self.next() % (span + 1)) as i64) }
    }

    /// Draws true in `percent` of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    /// Draws an index below `length`, 0 for an empty list.
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below a usize")]
    pub(crate) fn index(&mut self, length: usize) -> usize {
        (self.next() % (length.max(1) as u64)) as usize
    }

    /// Draws one of the texts.
    pub(crate) fn pick<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts.get(self.index(texts.len())).copied().unwrap_or_default()
    }

    /// Draws up to `count` different texts in random order.
    pub(crate) fn sample<'a>(&mut self, texts: &[&'a str], count: usize) -> Vec<&'a str> {
        let mut left = texts.to_vec();
        self.shuffle(&mut left);
        left.truncate(count);
        left
    }

    /// Shuffles a list in place.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let other = self.index(last + 1);
            list.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_always_draws_the_same_numbers() {
        let draw = |text: &str| {
            (0..5)
                .map({
                    let mut choices = Choices::of(text);
                    move |_| choices.between(0, 1_000_000)
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(draw("nike"), draw("nike"));
        assert_ne!(draw("nike"), draw("nikf"));
    }

    #[test]
    fn ranges_are_inclusive_and_samples_have_no_repeats() {
        let mut choices = Choices::of("x");
        let drawn: Vec<i64> = (0..500).map(|_| choices.between(-1, 1)).collect();
        assert!([-1, 0, 1].iter().all(|n| drawn.contains(n)) && drawn.iter().all(|n| (-1..=1).contains(n)));
        let sample = choices.sample(&["a", "b", "c"], 3);
        assert!(["a", "b", "c"].iter().all(|text| sample.contains(text)));
    }
}
