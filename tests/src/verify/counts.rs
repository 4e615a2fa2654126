//! How many tests a log tells of.

use std::ops::AddAssign;

/// Tests that passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Held.
    pub passed: u64,
    /// Did not hold.
    pub failed: u64,
}

impl Counts {
    /// One thing that held.
    pub const PASSED: Self = Self {
        passed: 1,
        failed: 0,
    };
    /// One thing that did not.
    pub const FAILED: Self = Self {
        passed: 0,
        failed: 1,
    };

    /// Sums the result lines of the test programs whose output is in `log`
    /// (`test result: ok. 12 passed; 0 failed; ...`).
    #[must_use]
    pub fn in_log(log: &str) -> Self {
        let mut sum = Self::default();
        for line in log.lines() {
            if let Some(result) = line.trim().strip_prefix("test result: ") {
                sum += Self {
                    passed: number_before(result, " passed"),
                    failed: number_before(result, " failed"),
                };
            }
        }
        sum
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

fn number_before(text: &str, word: &str) -> u64 {
    let before = text.split(word).next().unwrap_or_default();
    let number = before.rsplit(' ').next().unwrap_or_default();
    number.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed_and_nothing_else() {
        let log = "running 3 tests\ntest a ... ok\n\
                   test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.03s\n\
                   noise: 7 passed\n\
                   test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(
            Counts::in_log(log),
            Counts {
                passed: 13,
                failed: 2
            }
        );
        assert_eq!(
            Counts::in_log("error: could not compile"),
            Counts::default()
        );
    }
}
