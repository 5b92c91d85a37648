//! How long a train the kernel takes (UDP_SEGMENT), and on which sockets it takes any.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::outgoing::Outgoing;
use super::slots::SendSlots;
use super::spare::TRAIN_BYTES_MAX;
use super::user_data::SocketIndex;

/// Segments tried, most first: the limits of newer and of older kernels.
const SEGMENTS_TRIED: [usize; 2] = [128, 64];
/// A datagram over loopback takes microseconds.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// A segment that fits every path: the smallest MTU of IPv6 (RFC 8200 section 5) less the headers of IPv6 and UDP.
const SEGMENT_FITS_ALWAYS: usize = 1280 - 40 - 8;

pub use crate::core::egress::TrainLimits;

impl TrainLimits {
    /// Datagrams leave one by one.
    const NONE: Self = Self { segments: 1, bytes: TRAIN_BYTES_MAX };

    /// Asks the kernel, by sending trains to a socket of our own on 127.0.0.1.
    pub(super) fn probe() -> Self {
        let mut tried = SEGMENTS_TRIED.into_iter();
        let found = tried.find_map(|segments| match takes(segments) {
            Ok(false) => None,
            Ok(true) => Some(Self { segments, ..Self::NONE }),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "UDP_SEGMENT could not be tried, so datagrams are sent one by one, at several times the cost: let this \
                     process send to 127.0.0.1 (`ip link set lo up`) and restart"
                );
                Some(Self::NONE)
            }
        });
        found.unwrap_or_else(|| {
            tracing::warn!(
                "this kernel has no UDP_SEGMENT: datagrams are sent one by one, at several times the cost"
            );
            Self::NONE
        })
    }
}

/// Whether the kernel cuts the longest train of `segments` datagrams.
fn takes(segments: usize) -> io::Result<bool> {
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    receiver.connect(sender.local_addr()?)?;
    receiver.set_read_timeout(Some(PROBE_PATIENCE))?;
    let segment = TRAIN_BYTES_MAX.div_ceil(segments);
    let train =
        Outgoing::train(SocketIndex::new(0), receiver.local_addr()?, segment, vec![0; TRAIN_BYTES_MAX]);
    if let Err(error) = send_now(&sender, train) {
        let refused = Refusal::of(error.raw_os_error().unwrap_or(0), segment).is_some();
        return if refused { Ok(false) } else { Err(error) };
    }
    // A kernel that does not know the control message ignores it and sends one large datagram.
    let first = receiver.recv(&mut vec![0; TRAIN_BYTES_MAX])?;
    Ok(first == segment)
}

/// Sends by the same message that the ring is given.
fn send_now(sender: &UdpSocket, outgoing: Outgoing) -> io::Result<()> {
    let mut slots = SendSlots::new(1);
    let slot = slots.claim(outgoing).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let (_, message) = slots.message(slot);
    // SAFETY: the message and all it points to are in the slot, which lives to the end of this function; the kernel reads
    // them within the call only.
    let result = unsafe { libc::sendmsg(sender.as_raw_fd(), message, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What the kernel holds against a train whose datagrams it may take one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// This train's size: its segments do not fit into the MTU.
    Size,
    /// Perhaps trains as such, on the way that this socket's datagrams take: a NIC without checksum offload, an old driver.
    /// Sure if a datagram of the train then goes out alone; else the receiver was at fault, for example one with port 0.
    Trains,
}

impl Refusal {
    /// None if the error would meet single datagrams as well.
    pub(super) fn of(errno: i32, segment: usize) -> Option<Self> {
        match errno {
            libc::EMSGSIZE => Some(Self::Size),
            // What kernels before 6.14 answer where later ones say EMSGSIZE.
            libc::EINVAL if segment > SEGMENT_FITS_ALWAYS => Some(Self::Size),
            libc::EIO | libc::EINVAL | libc::EOPNOTSUPP => Some(Self::Trains),
            _ => None,
        }
    }
}

/// The limits of each socket.
pub(super) struct Trains {
    limits: TrainLimits,
    off: Box<[bool]>,
}

impl Trains {
    pub(super) fn new(limits: TrainLimits, sockets: u16) -> Self {
        Self { limits, off: vec![false; sockets.into()].into() }
    }

    /// What a send on `socket` may carry now.
    pub(super) fn of(&self, socket: SocketIndex) -> TrainLimits {
        if self.off[usize::from(socket.get())] { TrainLimits::NONE } else { self.limits }
    }

    /// What a send on the best of the sockets may carry now.
    pub(super) fn best(&self) -> TrainLimits {
        if self.off.iter().all(|off| *off) { TrainLimits::NONE } else { self.limits }
    }

    /// No more trains on `socket`. True if there were some until now.
    pub(super) fn switch_off(&mut self, socket: SocketIndex) -> bool {
        !mem::replace(&mut self.off[usize::from(socket.get())], true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_cuts_trains() {
        let limits = TrainLimits::probe();
        assert!(SEGMENTS_TRIED.contains(&limits.segments), "{limits:?}");
        assert_eq!(limits.bytes, TRAIN_BYTES_MAX);
    }

    #[test]
    fn a_train_of_more_segments_than_any_kernel_takes_is_refused() {
        assert!(!takes(SEGMENTS_TRIED[0] + 1).expect("loopback works"));
    }

    #[test]
    fn errors_that_single_datagrams_meet_as_well_are_no_refusal() {
        for errno in [libc::ENETUNREACH, libc::EPERM, libc::ECONNREFUSED, libc::EAFNOSUPPORT, libc::ENOBUFS] {
            assert_eq!(Refusal::of(errno, 1200), None);
        }
    }

    #[test]
    fn a_segment_that_fits_every_path_is_not_blamed_for_its_size() {
        assert_eq!(Refusal::of(libc::EINVAL, SEGMENT_FITS_ALWAYS), Some(Refusal::Trains));
        assert_eq!(Refusal::of(libc::EINVAL, SEGMENT_FITS_ALWAYS + 1), Some(Refusal::Size));
        assert_eq!(Refusal::of(libc::EMSGSIZE, 100), Some(Refusal::Size));
        for errno in [libc::EIO, libc::EOPNOTSUPP] {
            assert_eq!(Refusal::of(errno, 9000), Some(Refusal::Trains));
        }
    }

    #[test]
    fn trains_are_gone_when_the_last_socket_has_none() {
        let limits = TrainLimits { segments: 64, bytes: TRAIN_BYTES_MAX };
        let mut trains = Trains::new(limits, 2);
        let [first, second] = [0, 1].map(SocketIndex::new);
        assert!(trains.switch_off(first) && !trains.switch_off(first));
        assert_eq!((trains.of(first), trains.of(second), trains.best()), (TrainLimits::NONE, limits, limits));
        trains.switch_off(second);
        assert_eq!(trains.best(), TrainLimits::NONE);
    }
}
