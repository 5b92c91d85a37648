//! Captured offers, damaged at random from a fixed seed: never a panic, and what is accepted is right.

use super::{answer_to, captured, plan_for};
use sfu::core::plan::Role;

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
                match plan_for(&text, role) {
                    Ok(plan) => {
                        assert_eq!(plan.validate(), Ok(()), "{name}, round {round}");
                        check_shape(&answer_to(&text, role).unwrap());
                        accepted += 1;
                    }
                    Err(error) => {
                        assert!([400, 413, 422].contains(&error.status()), "{error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(accepted > 1_000 && refused > 1_000, "{accepted} accepted, {refused} refused: no test of both");
}

/// What holds for the answer to any offer at all.
fn check_shape(answer: &str) {
    assert!(answer.starts_with("v=0\r\n") && answer.ends_with("\r\n") && answer.is_ascii());
    assert!(!answer.replace("\r\n", "").contains(['\r', '\n']));
    let count = |line: &str| answer.lines().filter(|candidate| *candidate == line).count();
    let sections = answer.lines().filter(|line| line.starts_with("m=")).count();
    assert!((1..=2).contains(&sections));
    assert_eq!(count("a=rtcp-mux-only"), sections);
    assert!((1..=sections).contains(&count("a=end-of-candidates")));
    assert!(answer.len() <= 8192, "{}", answer.len());
}
