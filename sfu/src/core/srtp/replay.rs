//! Which indices were seen already (RFC 3711 §3.3.2).

/// The last 128 indices of one SSRC, the newest in bit 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ReplayWindow {
    highest: u32,
    seen: u128,
}

impl ReplayWindow {
    /// Whether `index` is new. One that fell out of the window is not.
    pub(super) fn is_fresh(&self, index: u32) -> bool {
        match self.highest.checked_sub(index) {
            None => true,
            Some(age) => age < u128::BITS && self.seen & (1 << age) == 0,
        }
    }

    /// Notes a fresh index, once its packet is known to be authentic.
    pub(super) fn mark(&mut self, index: u32) {
        match self.highest.checked_sub(index) {
            None => {
                self.seen = self.seen.checked_shl(index - self.highest).unwrap_or(0) | 1;
                self.highest = index;
            }
            Some(age) => self.seen |= 1_u128.checked_shl(age).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_fresh_once() {
        let mut window = ReplayWindow::default();
        for index in [0, 5, 3, 5000, 4999, (1 << 31) - 1] {
            assert!(window.is_fresh(index), "{index}");
            window.mark(index);
            assert!(!window.is_fresh(index), "{index}");
        }
    }

    #[test]
    fn what_fell_out_of_the_window_is_not_fresh() {
        let mut window = ReplayWindow::default();
        window.mark(1000);
        assert!(window.is_fresh(1000 - 127));
        assert!(!window.is_fresh(1000 - 128));
        window.mark(1000 - 128);
        assert!(window.is_fresh(1000 - 127), "marking an old index changes nothing");
        window.mark(1127);
        assert!(!window.is_fresh(1000), "the bit moved with the window");
        window.mark(1128);
        assert!(!window.is_fresh(1000), "now it is out");
    }

    /// Against the plain definition: a set of everything marked.
    #[test]
    fn the_window_agrees_with_a_set() {
        let mut random = 1_u64;
        let (mut window, mut marked, mut highest) =
            (ReplayWindow::default(), std::collections::HashSet::new(), 0);
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let index = (highest + (random >> 56) as u32).saturating_sub(200);
            let fresh = !marked.contains(&index) && index + 128 > highest;
            assert_eq!(window.is_fresh(index), fresh, "{index} under {highest}");
            if fresh {
                window.mark(index);
                marked.insert(index);
                highest = highest.max(index);
            }
        }
        assert!(highest > 1000, "the walk went somewhere: {highest}");
    }
}
