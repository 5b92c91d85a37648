/** CRC-32 of ISO 3309, which STUN's FINGERPRINT uses (RFC 8489 §14.7). Node has one of its own only from 22 on. */
export function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
