//! Lanes between cores: crossbeam's `ArrayQueue` (many producers) against a `rtrb` ring (one), with the mesh's packets.
//!
//! Each is used as a worker would: packets are moved in and moved out; `rtrb` can also publish a batch at once and let the
//! consumer read in place.

use bench::inputs;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossbeam::queue::ArrayQueue;
use rtrb::{Consumer, Producer, RingBuffer};
use sfu::mesh::MeshPacket;
use std::hint::black_box;
use std::thread;

/// Packets that a lane holds: 0.4 MB, so that ring and packets stay in a core's own cache.
const CAPACITY: usize = 256;
/// Packets of a batch: what a loop turn brings under load.
const BATCH: usize = 32;
/// Packets of one transfer between threads: long enough that starting the thread does not count.
const TRANSFER: usize = 1 << 17;

/// A lane with both its ends.
trait Lane: Sized {
    type In: Input + Send;
    type Out: Output + Send;

    fn open() -> (Self::In, Self::Out);
}

trait Input {
    /// Pushes up to `count` copies of `packet`; says how many found room.
    fn push(&mut self, packet: &MeshPacket, count: usize) -> usize;
}

trait Output {
    /// Takes out what is there, at most `count`, and looks at each.
    fn pop(&mut self, count: usize) -> usize;
}

/// Crossbeam, packet by packet.
struct Array;

impl Lane for Array {
    type In = std::sync::Arc<ArrayQueue<MeshPacket>>;
    type Out = std::sync::Arc<ArrayQueue<MeshPacket>>;

    fn open() -> (Self::In, Self::Out) {
        let queue = std::sync::Arc::new(ArrayQueue::new(CAPACITY));
        (queue.clone(), queue)
    }
}

impl Input for std::sync::Arc<ArrayQueue<MeshPacket>> {
    fn push(&mut self, packet: &MeshPacket, count: usize) -> usize {
        (0..count).take_while(|_| ArrayQueue::push(self, *packet).is_ok()).count()
    }
}

impl Output for std::sync::Arc<ArrayQueue<MeshPacket>> {
    fn pop(&mut self, count: usize) -> usize {
        (0..count).map_while(|_| ArrayQueue::pop(self)).map(|packet| look(&packet)).count()
    }
}

/// `rtrb`, packet by packet.
struct Ring;

struct RingIn(Producer<MeshPacket>);
struct RingOut(Consumer<MeshPacket>);

impl Lane for Ring {
    type In = RingIn;
    type Out = RingOut;

    fn open() -> (RingIn, RingOut) {
        let (producer, consumer) = RingBuffer::new(CAPACITY);
        (RingIn(producer), RingOut(consumer))
    }
}

impl Input for RingIn {
    fn push(&mut self, packet: &MeshPacket, count: usize) -> usize {
        (0..count).take_while(|_| self.0.push(*packet).is_ok()).count()
    }
}

impl Output for RingOut {
    fn pop(&mut self, count: usize) -> usize {
        (0..count).map_while(|_| self.0.pop().ok()).map(|packet| look(&packet)).count()
    }
}

/// `rtrb`, a batch published at once and read in place.
struct RingBatches;

struct BatchIn(Producer<MeshPacket>);
struct BatchOut(Consumer<MeshPacket>);

impl Lane for RingBatches {
    type In = BatchIn;
    type Out = BatchOut;

    fn open() -> (BatchIn, BatchOut) {
        let (producer, consumer) = RingBuffer::new(CAPACITY);
        (BatchIn(producer), BatchOut(consumer))
    }
}

impl Input for BatchIn {
    fn push(&mut self, packet: &MeshPacket, count: usize) -> usize {
        let room = self.0.slots().min(count);
        self.0
            .write_chunk_uninit(room)
            .map_or(0, |chunk| chunk.fill_from_iter(std::iter::repeat_n(*packet, room)))
    }
}

impl Output for BatchOut {
    fn pop(&mut self, count: usize) -> usize {
        let there = self.0.slots().min(count);
        let Ok(chunk) = self.0.read_chunk(there) else { return 0 };
        let (first, second) = chunk.as_slices();
        first.iter().chain(second).for_each(look);
        chunk.commit_all();
        there
    }
}

/// The least that a consumer does: it reads the packet.
fn look(packet: &MeshPacket) {
    black_box(packet);
}

fn on_one_thread<L: Lane>(c: &mut Criterion, name: &str, packet: &MeshPacket) {
    let (mut input, mut output) = L::open();
    let mut group = c.benchmark_group("lane, one thread, batches of 32");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function(name, |b| {
        b.iter(|| (input.push(black_box(packet), BATCH), output.pop(BATCH)));
    });
    group.finish();
}

fn across_threads<L: Lane>(c: &mut Criterion, name: &str, packet: &MeshPacket) {
    let mut group = c.benchmark_group("lane, two threads");
    group.throughput(Throughput::Elements(TRANSFER as u64)).sample_size(10);
    group.bench_function(name, |b| b.iter(|| transfer::<L>(packet)));
    group.finish();
}

/// Brings packets to another thread.
fn transfer<L: Lane>(packet: &MeshPacket) {
    let (mut input, mut output) = L::open();
    thread::scope(|scope| {
        scope.spawn(move || all_of(TRANSFER, |count| output.pop(count)));
        all_of(TRANSFER, |count| input.push(packet, count));
    });
}

/// Repeats `step`, which is given the size of a batch and says how much it did, until all is done.
fn all_of(packets: usize, mut step: impl FnMut(usize) -> usize) {
    let mut done = 0;
    while done < packets {
        match step(BATCH.min(packets - done)) {
            // The other side may wait for this core.
            0 => thread::yield_now(),
            moved => done += moved,
        }
    }
}

fn lanes(c: &mut Criterion) {
    let Some(packet) = MeshPacket::copy_of(&inputs::packet(), false) else { return };
    on_one_thread::<Array>(c, "crossbeam ArrayQueue", &packet);
    on_one_thread::<Ring>(c, "rtrb", &packet);
    on_one_thread::<RingBatches>(c, "rtrb, batch in place", &packet);
    across_threads::<Array>(c, "crossbeam ArrayQueue", &packet);
    across_threads::<Ring>(c, "rtrb", &packet);
    across_threads::<RingBatches>(c, "rtrb, batch in place", &packet);
}

criterion_group!(benches, lanes);
criterion_main!(benches);
