//! Captured offers, damaged at random from a fixed seed: never a panic, and what is accepted is right.

use super::{CounterOffer, captured};
use crate::sdp::invariants::{LOCAL, answer_holds, offer_holds};
use sfu::core::plan::Role;
use std::panic::catch_unwind;

const MUTATIONS_PER_OFFER: u64 = 2_000;

/// SplitMix64: small, and good enough to damage text.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

fn mutate(text: &str, random: &mut Random) -> String {
    let mut text = text.to_owned();
    for _ in 0..=random.below(4) {
        text = match random.below(7) {
            0 | 1 => flip_byte(&text, random),
            2 => edit_lines(&text, random, |lines, at, _| _ = lines.remove(at)),
            3 => edit_lines(&text, random, |lines, at, other| lines.insert(other, lines[at])),
            4 => edit_lines(&text, random, |lines, at, other| lines.swap(at, other)),
            5 => edit_lines(&text, random, |lines, at, _| lines[at] = cut(lines[at])),
            _ => String::from_utf8_lossy(&text.as_bytes()[..random.below(text.len())]).into_owned(),
        };
    }
    text
}

fn flip_byte(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    if bytes.is_empty() {
        return String::new();
    }
    let at = random.below(bytes.len());
    // Digits and separators reach deeper than noise.
    let telling = b"0123456789 :;=/,~-\r\n";
    bytes[at] = match random.below(2) {
        0 => telling[random.below(telling.len())],
        _ => bytes[at] ^ (1 << random.below(8)),
    };
    String::from_utf8_lossy(&bytes).into_owned()
}

fn cut(line: &str) -> &str {
    line.get(..line.len() / 2).unwrap_or_default()
}

fn edit_lines(text: &str, random: &mut Random, edit: impl Fn(&mut Vec<&str>, usize, usize)) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return String::new();
    }
    let (at, other) = (random.below(lines.len()), random.below(lines.len()));
    edit(&mut lines, at, other);
    lines.join("\r\n") + "\r\n"
}

#[test]
fn damaged_offers_never_panic_and_accepted_ones_are_valid() {
    let (mut accepted, mut refused) = (0_u64, 0_u64);
    for (seed, (_, name, text)) in captured().enumerate() {
        let mut random = Random(u64::try_from(seed).unwrap());
        for round in 0..MUTATIONS_PER_OFFER {
            let text = mutate(text, &mut random);
            for role in [Role::Publisher, Role::Viewer] {
                let held = catch_unwind(|| offer_holds(&text, role));
                match held.unwrap_or_else(|_| panic!("{name}, round {round}:\n{text}")) {
                    true => accepted += 1,
                    false => refused += 1,
                }
            }
        }
    }
    assert!(accepted > 1_000 && refused > 1_000, "{accepted} accepted, {refused} refused: no test of both");
}

#[test]
fn damaged_answers_never_panic_and_accept_nothing_that_was_not_offered() {
    let offer = CounterOffer::new(&[], &mut super::counting()).unwrap();
    let good = super::counter_offer::answer_of(&offer.text(&LOCAL));
    let mut random = Random(1);
    let held = (0..MUTATIONS_PER_OFFER).map(|_| answer_holds(&offer, &mutate(&good, &mut random)));
    let accepted = held.filter(|accepted| *accepted).count();
    assert!((100..1_900).contains(&accepted), "{accepted} accepted: no test of both");
}
