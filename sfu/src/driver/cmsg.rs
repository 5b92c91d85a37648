//! The two control messages of UDP, both a segment size: UDP_SEGMENT goes to the kernel, UDP_GRO comes from it.

const WORD: usize = size_of::<usize>();
/// The kernel's `struct cmsghdr`: length (a word), level, type.
pub(super) const CONTROL_HEADER: usize = WORD + 2 * size_of::<libc::c_int>();
/// Room for the UDP_SEGMENT message: a 16-bit number, padded to a word.
pub(super) const SEGMENT_ROOM: usize = CONTROL_HEADER + size_of::<u16>().next_multiple_of(WORD);
/// Room for the UDP_GRO message: an `int`, padded to a word.
pub(super) const GRO_ROOM: usize = CONTROL_HEADER + size_of::<libc::c_int>().next_multiple_of(WORD);

/// The message that makes the kernel cut what it is given into datagrams of `segment` bytes.
pub(super) fn encode_segment(segment: u16) -> [u8; SEGMENT_ROOM] {
    const DATA_END: usize = CONTROL_HEADER + size_of::<u16>();
    let mut control = [0; SEGMENT_ROOM];
    control[..WORD].copy_from_slice(&DATA_END.to_ne_bytes());
    control[WORD..WORD + 4].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
    control[WORD + 4..CONTROL_HEADER].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
    control[CONTROL_HEADER..DATA_END].copy_from_slice(&segment.to_ne_bytes());
    control
}

/// The size of the datagrams that UDP_GRO put together; none if there is a single one.
pub(super) fn decode_gro(mut control: &[u8]) -> Option<usize> {
    loop {
        let (length, rest) = control.split_first_chunk::<WORD>()?;
        let (level, rest) = rest.split_first_chunk::<4>()?;
        let (kind, data) = rest.split_first_chunk::<4>()?;
        if (i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind)) == (libc::SOL_UDP, libc::UDP_GRO) {
            let size = i32::from_ne_bytes(*data.first_chunk()?);
            return usize::try_from(size).ok().filter(|size| *size > 0);
        }
        let length = usize::from_ne_bytes(*length).max(CONTROL_HEADER);
        control = control.get(length.checked_next_multiple_of(WORD)?..)?;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A control message with an `int`, as the kernel writes it.
    pub(in crate::driver) fn with_int(level: i32, kind: i32, value: i32) -> Vec<u8> {
        let mut bytes = (CONTROL_HEADER + 4).to_ne_bytes().to_vec();
        for word in [level, kind, value, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn the_segment_size_is_found_behind_another_control_message() {
        let mark = with_int(libc::SOL_SOCKET, libc::SO_MARK, 9);
        let both = [mark, with_int(libc::SOL_UDP, libc::UDP_GRO, 1200)].concat();
        assert_eq!(decode_gro(&both), Some(1200));
        let endless = [0; CONTROL_HEADER];
        assert_eq!(decode_gro(&endless), None);
    }

    #[test]
    fn the_bytes_are_those_of_the_macros_of_the_c_library() {
        // SAFETY: this computes a size from a size and touches no memory.
        let length = unsafe { libc::CMSG_LEN(2) };
        assert_eq!(encode_segment(1200)[..WORD], (length as usize).to_ne_bytes());
        // SAFETY: the same.
        assert_eq!(SEGMENT_ROOM, unsafe { libc::CMSG_SPACE(2) } as usize);
        // SAFETY: the same.
        assert_eq!(GRO_ROOM, unsafe { libc::CMSG_SPACE(4) } as usize);
    }
}
