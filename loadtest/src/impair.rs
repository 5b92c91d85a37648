//! A bad network in user space: loss, delay, jitter, reordering and a rate limit, the same for the same seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// A rate limit's queue holds this much time of it; what comes to a full queue is dropped.
const QUEUE: Duration = Duration::from_millis(200);
/// A reordered datagram lets those of the next so much time pass.
const OVERTAKEN_BY: Duration = Duration::from_millis(10);
/// Longest delay, jitter.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// What the network does, written as in `loss=1%,delay=20ms,jitter=5ms,reorder=0.5%,rate=3mbit`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Impairments {
    /// Share of datagrams that vanish, 0 to 1.
    pub loss: f64,
    /// All of them come so much later.
    pub delay: Duration,
    /// And up to so much later again, evenly spread; their order stays.
    pub jitter: Duration,
    /// Share of datagrams that those after them overtake, 0 to 1.
    pub reorder: f64,
    /// Bits per second of UDP payload.
    pub rate: Option<f64>,
}

impl FromStr for Impairments {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Impairments::default();
        for part in text.split(',') {
            let (name, value) = part
                .split_once('=')
                .ok_or(format!("\"{part}\" has no =; write such as loss=1%,delay=20ms"))?;
            match name.trim() {
                "loss" => all.loss = share(value)?,
                "delay" => all.delay = time(value)?,
                "jitter" => all.jitter = time(value)?,
                "reorder" => all.reorder = share(value)?,
                "rate" => all.rate = Some(rate(value)?),
                _ => return Err(format!("no \"{name}\"; there are loss, delay, jitter, reorder and rate")),
            }
        }
        Ok(all)
    }
}

fn number(text: &str, unit: &str) -> Option<f64> {
    let number: f64 = text.trim().strip_suffix(unit)?.trim().parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

fn share(text: &str) -> Result<f64, String> {
    let share = number(text, "%").filter(|percent| *percent <= 100.0).map(|percent| percent / 100.0);
    share.ok_or(format!("\"{text}\" is no share from 0% to 100%"))
}

fn time(text: &str) -> Result<Duration, String> {
    let ms = number(text, "ms").filter(|ms| *ms <= MAX_DELAY.as_secs_f64() * 1000.0);
    ms.map(|ms| Duration::from_secs_f64(ms / 1000.0))
        .ok_or(format!("\"{text}\" is no time from 0ms to 10000ms"))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = number(text, "mbit").map(|mbit| mbit * 1e6).or(number(text, "kbit").map(|kbit| kbit * 1e3));
    rate.filter(|rate| *rate >= 1000.0).ok_or(format!("\"{text}\" is no rate such as 3mbit or 500kbit"))
}

/// One direction of one peer's network.
pub struct Link {
    impairments: Impairments,
    random: SplitMix,
    /// When the rate limit has sent everything that it took.
    free: Option<Instant>,
    /// When the last one that was not reordered comes out.
    last_due: Option<Instant>,
    held: BinaryHeap<Reverse<Held>>,
    taken: u64,
}

/// A datagram on its way.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: Instant,
    /// Keeps the order of those that are due at once.
    number: u64,
    address: SocketAddr,
    bytes: Vec<u8>,
}

impl Link {
    /// The same `seed` gives the same fate to the first, second, … datagram.
    pub fn new(impairments: Impairments, seed: u64) -> Link {
        let random = SplitMix(seed);
        Link { impairments, random, free: None, last_due: None, held: BinaryHeap::new(), taken: 0 }
    }

    /// Takes a datagram; says whether it may go on at once. Else it is dropped, or comes out of
    /// [`Self::release`].
    pub fn take(&mut self, bytes: &[u8], address: SocketAddr, now: Instant) -> bool {
        // Always three draws, so that one fate does not shift the next.
        let [loss, jitter, reorder] = [(); 3].map(|()| self.random.share());
        if loss < self.impairments.loss {
            return false;
        }
        let Some(sent) = self.through_rate_limit(bytes.len(), now) else { return false };
        let mut due = sent + self.impairments.delay + self.impairments.jitter.mul_f64(jitter);
        if reorder < self.impairments.reorder {
            due += OVERTAKEN_BY;
        } else {
            due = due.max(self.last_due.unwrap_or(due));
            self.last_due = Some(due);
        }
        if due <= now && self.next_due().is_none_or(|held| held > now) {
            return true;
        }
        self.taken += 1;
        self.held.push(Reverse(Held { due, number: self.taken, address, bytes: bytes.to_vec() }));
        false
    }

    /// When the datagram has passed the limit; `None` if its queue is full.
    fn through_rate_limit(&mut self, len: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = self.impairments.rate else { return Some(now) };
        let free = self.free.map_or(now, |free| free.max(now));
        if free - now > QUEUE {
            return None;
        }
        let sent = free + Duration::from_secs_f64(len as f64 * 8.0 / rate);
        self.free = Some(sent);
        Some(sent)
    }

    /// The next datagram that has come through.
    pub fn release(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        let _ = self.held.peek().filter(|Reverse(held)| held.due <= now)?;
        self.held.pop().map(|Reverse(held)| (held.address, held.bytes))
    }

    /// When the next one comes through.
    pub fn next_due(&self) -> Option<Instant> {
        self.held.peek().map(|Reverse(held)| held.due)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to throw dice.
struct SplitMix(u64);

impl SplitMix {
    /// From 0, below 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ bits >> 31) as f64 / u64::MAX as f64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const FROM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    /// Sends a numbered datagram of 1000 bytes each millisecond; returns number and milliseconds at which
    /// each comes out.
    fn fates(text: &str, seed: u64, count: u16) -> Vec<(u16, u64)> {
        let (mut link, start) = (Link::new(text.parse().unwrap(), seed), Instant::now());
        let mut out = Vec::new();
        for ms in 0..u64::from(count) + 1000 {
            let now = start + Duration::from_millis(ms);
            while let Some((_, bytes)) = link.release(now) {
                out.push((u16::from_be_bytes([bytes[0], bytes[1]]), ms));
            }
            let number = ms as u16;
            let mut bytes = vec![0; 1000];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            if number < count && link.take(&bytes, FROM, now) {
                out.push((number, ms));
            }
        }
        out
    }

    #[test]
    fn the_same_seed_gives_the_same_fates_and_another_gives_others() {
        let all = "loss=10%,delay=20ms,jitter=5ms,reorder=2%,rate=20mbit";
        assert_eq!(fates(all, 1, 500), fates(all, 1, 500));
        assert_ne!(fates(all, 1, 500), fates(all, 2, 500));
    }

    #[test]
    fn one_percent_of_loss_is_one_percent() {
        let arrived = fates("loss=1%", 7, 20_000).len();
        assert!((19_700..19_900).contains(&arrived), "{arrived}");
    }

    #[test]
    fn delay_and_jitter_come_late_but_in_order() {
        let fates = fates("delay=20ms,jitter=5ms", 3, 2000);
        assert_eq!(fates.len(), 2000);
        assert!(fates.iter().all(|(number, ms)| (20..=26).contains(&(ms - u64::from(*number)))));
        assert!(fates.is_sorted());
        assert!(fates.iter().any(|(number, ms)| ms - u64::from(*number) >= 24));
    }

    #[test]
    fn half_a_percent_reordered_is_overtaken_and_nothing_else_is() {
        let fates = fates("reorder=0.5%", 5, 20_000);
        let late = fates.iter().filter(|(number, ms)| *ms > u64::from(*number)).count();
        assert!(fates.len() == 20_000 && (60..140).contains(&late), "{late}");
        assert!(fates.iter().all(|(number, ms)| matches!(ms - u64::from(*number), 0 | 10)));
    }

    #[test]
    fn a_rate_limit_lets_its_rate_through_and_queues_200_ms() {
        // 8 Mbit/s are offered, 2 get through; the queue delays what does.
        let fates = fates("rate=2mbit", 1, 4000);
        let early = fates.iter().filter(|(_, ms)| *ms < 4000).count();
        assert!((990..=1010).contains(&early), "{early}");
        let longest = fates.iter().map(|(number, ms)| ms - u64::from(*number)).max().unwrap();
        assert!((195..=210).contains(&longest), "{longest}");
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (text, word) in [
            ("loss", "no ="),
            ("loss=1", "share"),
            ("loss=101%", "share"),
            ("delay=5", "time"),
            ("delay=99999ms", "time"),
            ("rate=0mbit", "rate"),
            ("speed=1%", "reorder"),
        ] {
            assert!(text.parse::<Impairments>().unwrap_err().contains(word), "{text}");
        }
    }
}
