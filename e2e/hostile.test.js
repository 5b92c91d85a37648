// Strangers throw datagrams at the media ports while somebody watches.
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { chromium } from './helpers/browsers.js';
import { assertTestPicture, assertTone, testPicturePlays } from './helpers/frames.js';
import { Server } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { publish, received, TONE_HZ, watch } from './helpers/streams.js';

const EACH = 2000; // datagrams of each kind
const PAUSE_EVERY = 50; // so that a burst fits the socket's buffer and every one is counted

const { server, studio, audience } = await stage({ server: Server.start, studio: chromium, audience: chromium });

// A small generator with a seed (mulberry32), so that a failure can be run again.
function random(seed) {
  let a = seed;
  return (below) => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const bytes = (rand, length) => Buffer.from(Array.from({ length }, () => rand(256)));

// A binding request (RFC 8489 §5) from a ufrag that nobody has.
function stun(rand) {
  const name = Buffer.from('nobody00:stranger');
  const padded = Buffer.concat([name, Buffer.alloc(3)]);
  const user = Buffer.concat([Buffer.from([0x00, 0x06, 0x00, name.length]), padded]);
  const integrity = Buffer.concat([Buffer.from([0x00, 0x08, 0x00, 20]), bytes(rand, 20)]);
  const body = Buffer.concat([user, integrity]);
  const head = Buffer.from([0x00, 0x01, 0x00, body.length, 0x21, 0x12, 0xa4, 0x42]);
  return Buffer.concat([head, bytes(rand, 12), body]);
}

const KINDS = {
  garbage: (rand) => bytes(rand, 1 + rand(1400)),
  'truncated STUN': (rand) => stun(rand).subarray(0, 1 + rand(40)),
  'STUN for an unknown ufrag': stun,
  'DTLS client hello': (rand) => Buffer.concat([Buffer.from([22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200, 1]), bytes(rand, 199)]),
  RTP: (rand) => Buffer.concat([Buffer.from([0x80, 96 + rand(30)]), bytes(rand, 10 + rand(1200))]),
  RTCP: (rand) => Buffer.concat([Buffer.from([0x81, 200 + rand(7)]), bytes(rand, 6 + rand(200))]),
};

async function flood(make, ports, rand) {
  const socket = createSocket('udp4');
  const send = promisify(socket.send.bind(socket));
  for (let i = 0; i < EACH; i += 1) {
    await send(make(rand), ports[i % ports.length], '127.0.0.1');
    if (i % PAUSE_EVERY === 0) await sleep(2);
  }
  socket.close();
}

async function drops() {
  const all = await server.metrics();
  return new Map([...all].filter(([series]) => series.startsWith('uringcast_dropped_packets_total')));
}

const total = (series) => [...series.values()].reduce((a, b) => a + b, 0);

test('hostile datagrams are dropped and counted by reason, and the picture is undisturbed', async () => {
  await publish(studio, server, 'calm');
  const page = await watch(audience, server, 'calm');
  await testPicturePlays(page);
  const [start, dropsBefore] = [await received(page), await drops()];

  const rand = random(20_260_101);
  for (const [kind, make] of Object.entries(KINDS)) {
    const watching = assertTestPicture(page, { ms: 1500 });
    await flood(make, server.udpPorts, rand);
    await watching.catch((error) => assert.fail(`during ${kind}: ${error.message}`));
  }

  await assertTone(page, TONE_HZ);
  const end = await received(page);
  assert.equal(end.packetsLost, start.packetsLost, 'no packet was lost');
  assert.ok(end.freezesSeconds - start.freezesSeconds < 0.5, `the picture did not freeze: ${JSON.stringify([start, end])}`);

  await sleep(1500); // counters are copied out once a second
  const dropsAfter = await drops();
  const sent = EACH * Object.keys(KINDS).length;
  const counted = total(dropsAfter) - total(dropsBefore);
  assert.ok(counted >= sent * 0.95, `${counted} of ${sent} were counted: ${JSON.stringify([...dropsAfter])}`);
  const reasons = [...dropsAfter].filter(([series, value]) => value > (dropsBefore.get(series) ?? 0));
  assert.ok(reasons.length >= 3, `reasons are told apart: ${JSON.stringify(reasons)}`);
});
