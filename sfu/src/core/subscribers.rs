//! Which other workers are sent which layers of a stream.

use super::codec::MediaKind;
use super::layers::{LayerIndex, LayerSet, LayerTable};
use super::packet::PacketHeader;
use super::plan::LAYERS_MAX;
use crate::control::protocol::WorkerIndex;
use crate::mesh::{Subscription, WorkerSet};

/// The other workers that have viewers of a stream.
#[derive(Debug, Default)]
pub struct Subscribers {
    all: WorkerSet,
    /// What each asked for.
    asked: Vec<(WorkerIndex, Subscription)>,
    /// Who is sent a layer; follows from `asked` and the publisher's layers.
    by_layer: [WorkerSet; LAYERS_MAX],
}

impl Subscribers {
    /// Takes a subscription, of which a worker has one; returns the layers that it has nothing of yet. `table` is the present
    /// publisher's, if it has layers.
    pub fn insert(
        &mut self,
        worker: WorkerIndex,
        subscription: Subscription,
        table: Option<&LayerTable>,
    ) -> LayerSet {
        // Who does not know the layers has nothing, whatever it had before.
        let had = if subscription.epoch.is_none() { LayerSet::default() } else { self.layers_of(worker) };
        self.asked.retain(|(other, _)| *other != worker);
        self.asked.push((worker, subscription));
        self.all.insert(worker);
        self.assign(table);
        self.layers_of(worker).without(had)
    }

    /// Forgets a worker.
    pub fn remove(&mut self, worker: WorkerIndex) {
        self.asked.retain(|(other, _)| *other != worker);
        self.all.remove(worker);
        self.by_layer.iter_mut().for_each(|workers| workers.remove(worker));
    }

    /// The publisher is another one, or its layers have changed.
    pub fn assign(&mut self, table: Option<&LayerTable>) {
        self.by_layer = [WorkerSet::default(); LAYERS_MAX];
        let automatic = table.and_then(LayerTable::automatic).unwrap_or_default();
        for &(worker, Subscription { epoch, layers }) in &self.asked {
            let is_of_table = epoch.is_some() && epoch == table.map(|table| table.epoch);
            let layers = if is_of_table { layers } else { LayerSet::of(automatic) };
            layers.iter().for_each(|layer| self.by_layer[usize::from(layer.0)].insert(worker));
        }
    }

    /// Who is sent a packet with this header.
    pub fn of(&self, header: &PacketHeader) -> WorkerSet {
        match header.kind() {
            MediaKind::Audio => self.all,
            MediaKind::Video => self.by_layer[usize::from(header.source.layer.0)],
        }
    }

    /// All of them.
    pub fn all(&self) -> WorkerSet {
        self.all
    }

    fn layers_of(&self, worker: WorkerIndex) -> LayerSet {
        let layers = (0..LAYERS_MAX).filter(|layer| self.by_layer[*layer].contains(worker));
        layers.fold(LayerSet::default(), |set, layer| set.with(LayerSet::of(LayerIndex(layer as u8))))
    }
}
