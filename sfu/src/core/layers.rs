//! The simulcast layers of a publisher, and which of them a viewer is to be sent.

use super::plan::{Epoch, LAYERS_MAX, RID_BYTES_MAX};
use crate::control::protocol::{Layer, LayerChoice};
use std::cmp::Reverse;

/// A simulcast layer: the place of its rid in the publisher's plan. 0 without simulcast, and for audio.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct LayerIndex(pub u8);

/// A set of layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerSet(u8);

const _: () = assert!(LAYERS_MAX <= 8, "a layer set is one u8");

impl LayerSet {
    /// The set of one layer.
    pub fn of(layer: LayerIndex) -> LayerSet {
        LayerSet(1 << layer.0)
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `layer` is in it.
    pub fn contains(self, layer: LayerIndex) -> bool {
        self.0 & (1 << layer.0) != 0
    }

    /// What is in either.
    pub fn with(self, other: LayerSet) -> LayerSet {
        LayerSet(self.0 | other.0)
    }

    /// What is in this one and not in `other`.
    pub fn without(self, other: LayerSet) -> LayerSet {
        LayerSet(self.0 & !other.0)
    }

    /// The layers in it.
    pub fn iter(self) -> impl Iterator<Item = LayerIndex> {
        (0..LAYERS_MAX as u8).map(LayerIndex).filter(move |layer| self.contains(*layer))
    }
}

/// The name of a layer (RFC 8852), filled up with zeros.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rid([u8; RID_BYTES_MAX]);

impl Rid {
    /// `None` for one that no plan can have.
    pub fn new(rid: &str) -> Option<Rid> {
        let mut bytes = [0; RID_BYTES_MAX];
        bytes.get_mut(..rid.len())?.copy_from_slice(rid.as_bytes());
        Some(Rid(bytes))
    }
}

impl std::fmt::Display for Rid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().filter(|byte| **byte != 0).try_for_each(|byte| write!(f, "{}", char::from(*byte)))
    }
}

/// A layer as it was measured last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerState {
    /// Its name.
    pub rid: Rid,
    /// It is sent now. What else is known of one that is not is from when it was.
    pub is_active: bool,
    /// Bits of RTP payload a second; 0 until it was sent for a second.
    pub bitrate_bps: u32,
    /// Width and height in pixels; 0 = not known.
    pub size: (u16, u16),
}

/// All layers of one publisher, by [`LayerIndex`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerTable {
    /// Whose they are.
    pub epoch: Epoch,
    /// At most [`LAYERS_MAX`].
    pub layers: Vec<LayerState>,
}

/// What a viewer wants; without constraints the best there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// This layer. While it is not sent the next lower one. A name that the publisher does not have is no constraint.
    rid: Option<Rid>,
    /// Else the best that is not wider and not higher, or the lowest if all are. A layer of unknown size fits.
    max_size: (Option<u16>, Option<u16>),
}

impl From<LayerChoice> for Wish {
    fn from(choice: LayerChoice) -> Wish {
        Wish {
            rid: choice.rid.as_deref().and_then(Rid::new),
            max_size: (choice.max_width, choice.max_height),
        }
    }
}

impl Wish {
    fn fits(&self, layer: &LayerState) -> bool {
        let within = |size: u16, max: Option<u16>| max.is_none_or(|max| size <= max);
        within(layer.size.0, self.max_size.0) && within(layer.size.1, self.max_size.1)
    }
}

impl LayerTable {
    /// The layer that a viewer with this wish is to be sent; `None` if nothing is sent. An estimate of the viewer's bandwidth
    /// would be one more constraint here.
    pub fn desired(&self, wish: &Wish) -> Option<LayerIndex> {
        let named = wish.rid.and_then(|rid| self.layers.iter().position(|layer| layer.rid == rid));
        match named {
            Some(index) if self.layers[index].is_active => Some(index),
            Some(index) => {
                let lower = |candidate: &usize| self.rank(*candidate) < self.rank(index);
                self.active().filter(lower).max_by_key(|index| self.rank(*index)).or_else(|| self.lowest())
            }
            None => {
                let fitting = self.active().filter(|index| wish.fits(&self.layers[*index]));
                fitting.max_by_key(|index| self.rank(*index)).or_else(|| self.lowest())
            }
        }
        .map(|index| LayerIndex(index as u8))
    }

    /// What a viewer without a wish is sent.
    pub fn automatic(&self) -> Option<LayerIndex> {
        self.desired(&Wish::default())
    }

    /// The layers that are sent, for signaling.
    pub fn report(&self) -> Vec<Layer> {
        let layer = |index: usize| {
            let LayerState { rid, bitrate_bps, size: (width, height), .. } = self.layers[index];
            Layer { rid: rid.to_string(), bitrate_bps, width, height }
        };
        self.active().map(layer).collect()
    }

    fn active(&self) -> impl Iterator<Item = usize> {
        (0..self.layers.len()).filter(|index| self.layers[*index].is_active)
    }

    fn lowest(&self) -> Option<usize> {
        self.active().min_by_key(|index| self.rank(*index))
    }

    /// More is better: by size, if that of all layers is known that have been sent, then by bitrate, then as the offer prefers
    /// them (RFC 8853 §5.2). Names say nothing: what is `h` to one client is high, to another half.
    fn rank(&self, index: usize) -> (u32, u32, Reverse<usize>) {
        let was_sent = |layer: &&LayerState| layer.is_active || layer.bitrate_bps > 0;
        let all_sized = self.layers.iter().filter(was_sent).all(|layer| layer.size.0 > 0);
        let LayerState { size: (width, height), bitrate_bps, .. } = self.layers[index];
        let pixels = if all_sized { u32::from(width) * u32::from(height) } else { 0 };
        (pixels, bitrate_bps, Reverse(index))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn layer(rid: &str, kbps: u32, size: (u16, u16)) -> LayerState {
        LayerState { rid: Rid::new(rid).unwrap(), is_active: true, bitrate_bps: kbps * 1_000, size }
    }

    /// From the smallest to the largest, as Chromium offers them.
    fn table() -> LayerTable {
        let layers =
            vec![layer("q", 150, (320, 180)), layer("h", 500, (640, 360)), layer("f", 2_500, (1280, 720))];
        LayerTable { epoch: Epoch(1), layers }
    }

    fn wish(rid: Option<&str>, max_width: Option<u16>, max_height: Option<u16>) -> Wish {
        LayerChoice { rid: rid.map(str::to_owned), max_width, max_height }.into()
    }

    fn chosen(table: &LayerTable, wish: Wish) -> Option<String> {
        table.desired(&wish).map(|layer| table.layers[usize::from(layer.0)].rid.to_string())
    }

    #[test]
    fn the_best_is_the_largest_in_whatever_order_and_by_whatever_name_layers_are_offered() {
        let mut table = table();
        assert_eq!(chosen(&table, Wish::default()).as_deref(), Some("f"));
        table.layers.reverse();
        assert_eq!(chosen(&table, Wish::default()).as_deref(), Some("f"));
        table.layers[0].size = (0, 0);
        assert_eq!(
            chosen(&table, Wish::default()).as_deref(),
            Some("f"),
            "by bitrate while a size is not known"
        );
        table.layers.iter_mut().for_each(|layer| (layer.size, layer.bitrate_bps) = ((0, 0), 0));
        assert_eq!(
            table.automatic(),
            Some(LayerIndex(0)),
            "as the offer prefers them while nothing is known"
        );
    }

    #[test]
    fn a_named_layer_that_is_not_sent_is_replaced_by_the_next_lower_one_and_comes_back() {
        let mut table = table();
        assert_eq!(chosen(&table, wish(Some("f"), None, None)).as_deref(), Some("f"));
        table.layers[2].is_active = false;
        assert_eq!(chosen(&table, wish(Some("f"), None, None)).as_deref(), Some("h"));
        assert_eq!(chosen(&table, Wish::default()).as_deref(), Some("h"));
        table.layers[0].is_active = false;
        assert_eq!(chosen(&table, wish(Some("q"), None, None)).as_deref(), Some("h"), "nothing is lower");
        table.layers[1].is_active = false;
        assert_eq!(chosen(&table, wish(Some("q"), None, None)), None);
    }

    #[test]
    fn limits_are_kept_where_they_can_be_and_names_of_nobody_are_no_constraint() {
        let table = table();
        let limited = |width, height| chosen(&table, wish(None, width, height));
        assert_eq!(limited(Some(640), None).as_deref(), Some("h"));
        assert_eq!(limited(None, Some(719)).as_deref(), Some("h"));
        assert_eq!(limited(Some(1280), Some(180)).as_deref(), Some("q"));
        assert_eq!(limited(Some(16), Some(16)).as_deref(), Some("q"), "the lowest, if all are too large");
        assert_eq!(chosen(&table, wish(Some("x"), None, None)).as_deref(), Some("f"));
        assert_eq!(chosen(&table, wish(Some("much too long"), Some(640), None)).as_deref(), Some("h"));
    }

    #[test]
    fn signaling_is_told_what_is_sent() {
        let mut table = table();
        table.layers[1].is_active = false;
        let told = table.report();
        let rids: Vec<&str> = told.iter().map(|layer| layer.rid.as_str()).collect();
        assert_eq!(rids, ["q", "f"]);
        assert_eq!((told[1].width, told[1].height, told[1].bitrate_bps), (1280, 720, 2_500_000));
    }

    #[test]
    fn sets_hold_the_layers_put_in() {
        let set = LayerSet::of(LayerIndex(0)).with(LayerSet::of(LayerIndex(7)));
        assert_eq!(set.iter().collect::<Vec<_>>(), [LayerIndex(0), LayerIndex(7)]);
        assert!(set.without(set).is_empty() && !set.contains(LayerIndex(3)));
    }
}
