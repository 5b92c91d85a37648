// One connectivity check of ICE (RFC 8445 §7.2.2), sent from a socket of its own.
import { createHmac, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { crc32 } from './crc32.js';

const COOKIE = Buffer.from([0x21, 0x12, 0xa4, 0x42]);
const HEADER_BYTES = 20;
const BINDING_REQUEST = 0x0001;
const BINDING_SUCCESS = 0x0101;
/** A check is sent so many times at most, so far apart: a busy server may lose one. */
const [TRIES, WAIT_MS] = [3, 300];

function attribute(type, value) {
  const head = Buffer.alloc(4);
  head.writeUInt16BE(type, 0);
  head.writeUInt16BE(value.length, 2);
  return Buffer.concat([head, value, Buffer.alloc((4 - (value.length % 4)) % 4)]);
}

const number = (bytes, value) => {
  const buffer = Buffer.alloc(bytes);
  buffer.writeUIntBE(value, bytes - Math.min(bytes, 4), Math.min(bytes, 4));
  return buffer;
};

// The header tells the length of what follows it, `more` bytes of which are still to come (RFC 8489 §14.5, §14.7).
function message(transaction, attributes, more = 0) {
  const body = Buffer.concat(attributes);
  return Buffer.concat([number(2, BINDING_REQUEST), number(2, body.length + more), COOKIE, transaction, body]);
}

function check(username, pwd, transaction) {
  const attributes = [
    attribute(0x0006, Buffer.from(username)), // USERNAME
    attribute(0x0024, number(4, 1)), // PRIORITY
    attribute(0x802a, randomBytes(8)), // ICE-CONTROLLING
  ];
  const integrity = createHmac('sha1', pwd).update(message(transaction, attributes, 24)).digest();
  attributes.push(attribute(0x0008, integrity)); // MESSAGE-INTEGRITY
  const fingerprint = (crc32(message(transaction, attributes, 8)) ^ 0x5354554e) >>> 0;
  return message(transaction, [...attributes, attribute(0x8028, number(4, fingerprint))]); // FINGERPRINT
}

/** Whether a server answers a check with these credentials by a success response. */
export async function checkIsAnswered({ address, port, username, pwd }) {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  const transaction = randomBytes(12);
  let answered = false;
  socket.on('message', (data) => {
    const ours = data.length >= HEADER_BYTES && data.subarray(8, HEADER_BYTES).equals(transaction);
    answered ||= ours && data.readUInt16BE(0) === BINDING_SUCCESS;
    socket.emit('answer');
  });
  try {
    for (let i = 0; i < TRIES && !answered; i += 1) {
      socket.send(check(username, pwd, transaction), port, address);
      await once(socket, 'answer', { signal: AbortSignal.timeout(WAIT_MS) }).catch(() => {});
    }
    return answered;
  } finally {
    socket.close();
  }
}
