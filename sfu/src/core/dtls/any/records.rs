//! Which records of a datagram OpenSSL may see.
//!
//! Before the handshake has ended everything is plaintext that anybody could have written who can forge the client's address,
//! and OpenSSL gives a session up for a malformed message. What no client means is thus dropped here, record by record
//! (RFC 6347 §4.1.2.7 asks for the same), and so are plaintext alerts.

/// Bytes of a record's header (RFC 6347 §4.1).
const RECORD_HEADER_BYTES: usize = 13;
/// Bytes of a handshake fragment's header (RFC 6347 §4.2.2).
const FRAGMENT_HEADER_BYTES: usize = 12;
/// Bytes of a handshake message; the largest is a certificate, and a chain of three with keys of 4096 bits has 6 KiB.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// Handshake types of RFC 5246 §7.4 and RFC 6347 §4.3.2, without HelloRequest: ClientHello, ServerHello, HelloVerifyRequest,
/// NewSessionTicket, Certificate, ServerKeyExchange, CertificateRequest, ServerHelloDone, CertificateVerify,
/// ClientKeyExchange, Finished.
const HANDSHAKE_TYPES: [u8; 11] = [1, 2, 3, 4, 11, 12, 13, 14, 15, 16, 20];
const FATAL: u8 = 2;

/// Appends the records of `datagram` that may be seen to `admitted`. Returns the number of a plaintext fatal alert, if there
/// is one.
pub fn admit(mut datagram: &[u8], admitted: &mut Vec<u8>) -> Option<u8> {
    let mut alert = None;
    while let Some((record, rest)) = split_record(datagram) {
        let (header, body) = record.split_at(RECORD_HEADER_BYTES);
        let is_plaintext = header[3..5] == [0, 0];
        match (header[0], body) {
            _ if !is_plaintext => admitted.extend_from_slice(record),
            (CHANGE_CIPHER_SPEC, [1]) => admitted.extend_from_slice(record),
            (HANDSHAKE, fragments) if are_fragments(fragments) => admitted.extend_from_slice(record),
            (ALERT, [FATAL, description]) => alert = Some(*description),
            _ => {}
        }
        datagram = rest;
    }
    alert
}

/// The first record and what follows it; `None` if it is truncated or not of DTLS.
fn split_record(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let header = datagram.get(..RECORD_HEADER_BYTES)?;
    let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
    (header[1] == 0xfe).then(|| datagram.split_at_checked(RECORD_HEADER_BYTES + length)).flatten()
}

/// Whether this is a row of well-formed fragments of handshake messages.
fn are_fragments(mut body: &[u8]) -> bool {
    while !body.is_empty() {
        let Some((header, rest)) = body.split_at_checked(FRAGMENT_HEADER_BYTES) else { return false };
        let number = |at: usize| {
            usize::from(header[at]) << 16 | usize::from(header[at + 1]) << 8 | usize::from(header[at + 2])
        };
        let (message, offset, fragment) = (number(1), number(6), number(9));
        let fits = message <= MESSAGE_BYTES_MAX && offset + fragment <= message;
        match rest.split_at_checked(fragment) {
            Some((_, rest)) if fits && HANDSHAKE_TYPES.contains(&header[0]) => body = rest,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 1];
        record.extend((body.len() as u16).to_be_bytes());
        record.extend(body);
        record
    }

    /// A fragment of a ClientHello of 40 bytes.
    fn fragment(offset: u8, length: u8) -> Vec<u8> {
        let mut fragment = vec![1, 0, 0, 40, 0, 0, 0, 0, offset, 0, 0, length];
        fragment.extend(vec![7; usize::from(length)]);
        fragment
    }

    fn admitted(datagram: &[u8]) -> (Vec<u8>, Option<u8>) {
        let mut admitted = Vec::new();
        let alert = admit(datagram, &mut admitted);
        (admitted, alert)
    }

    #[test]
    fn a_handshake_passes_whole_and_in_fragments() {
        let two = [fragment(0, 10), fragment(10, 30)].concat();
        let datagram = [
            record(HANDSHAKE, 0, &fragment(0, 40)),
            record(HANDSHAKE, 0, &two),
            record(CHANGE_CIPHER_SPEC, 0, &[1]),
            record(HANDSHAKE, 1, &[9; 40]),
            record(ALERT, 1, &[9; 30]),
        ];
        assert_eq!(admitted(&datagram.concat()), (datagram.concat(), None));
    }

    #[test]
    fn what_is_malformed_or_in_clear_is_left_out_and_the_rest_passes() {
        let good = record(HANDSHAKE, 0, &fragment(0, 40));
        let mut unknown_type = fragment(0, 10);
        unknown_type[0] = 99;
        let mut huge = fragment(0, 10);
        huge[1] = 0xff;
        let bad = [
            record(HANDSHAKE, 0, &unknown_type),
            record(HANDSHAKE, 0, &huge),
            record(HANDSHAKE, 0, &fragment(35, 10)),
            record(HANDSHAKE, 0, &fragment(0, 20)[..25]),
            record(HANDSHAKE, 0, &[1; 5]),
            record(CHANGE_CIPHER_SPEC, 0, &[2]),
            record(23, 0, b"in clear"),
            record(ALERT, 0, &[1, 0]),
        ];
        for bad in bad {
            assert_eq!(admitted(&[bad, good.clone()].concat()), (good.clone(), None));
        }
    }

    #[test]
    fn a_plaintext_alert_is_told_but_does_not_pass() {
        assert_eq!(admitted(&record(ALERT, 0, &[FATAL, 40])), (vec![], Some(40)));
    }

    #[test]
    fn a_truncated_datagram_passes_as_far_as_it_is_whole() {
        let datagram = [record(HANDSHAKE, 0, &fragment(0, 40)), record(HANDSHAKE, 1, &[9; 40])].concat();
        let first = RECORD_HEADER_BYTES + FRAGMENT_HEADER_BYTES + 40;
        for length in 0..datagram.len() {
            let expected = if length < first { 0 } else { first };
            assert_eq!(admitted(&datagram[..length]).0.len(), expected);
        }
    }
}
