// Browsers on a network that blocks UDP publish and watch over TCP.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { chromium, firefox } from './helpers/browsers.js';
import { BlockedUdp } from './helpers/firewall.js';
import { assertTestPicture, assertTone, testPicturePlays } from './helpers/frames.js';
import { Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { publish, TONE_HZ, watch } from './helpers/streams.js';

const { server, ...browsers } = await stage({ server: Server.start, Chromium: chromium, Firefox: firefox });
let network;

before(async () => {
  network = await BlockedUdp.open(server);
});

after(() => network?.close());

const metric = async (name) => (await server.metrics()).get(name);

/** The protocol of the pair on which the newest connection of a page receives. */
const protocolOf = (page) =>
  page.evaluate(async () => {
    const all = [...(await window.connections.at(-1).getStats()).values()];
    const pairs = all.filter(({ type, bytesReceived }) => type === 'candidate-pair' && bytesReceived > 0);
    const ids = new Set(pairs.map(({ localCandidateId }) => localCandidateId));
    return [...new Set(all.filter(({ id }) => ids.has(id)).map(({ protocol }) => protocol))].join();
  });

for (const [publisher, viewer] of [['Chromium', 'Firefox'], ['Firefox', 'Chromium']]) {
  test(`without UDP ${publisher} publishes and ${viewer} watches over TCP`, async (t) => {
    const stream = `${publisher}-${viewer}`;
    const source = await publish(browsers[publisher], server, stream, { codec: 'VP8' });
    t.after(() => source.close());
    const page = await watch(browsers[viewer], server, stream);
    t.after(() => page.close());
    await testPicturePlays(page, 20_000);
    await assertTestPicture(page);
    // Firefox sends silence from a page that nobody has clicked on.
    if (publisher === 'Chromium') await assertTone(page, TONE_HZ);
    assert.equal(await protocolOf(page), 'tcp');
    assert.ok((await metric('uringcast_tcp_connections')) >= 2);
    assert.ok((await network.dropped()) > 0, 'the firewall met UDP');
  });
}

test('a viewer whose UDP is blocked in mid-stream comes back over TCP', async (t) => {
  await network.close();
  const source = await publish(browsers.Chromium, server, 'mid-stream', { codec: 'VP8' });
  t.after(() => source.close());
  const page = await watch(browsers.Firefox, server, 'mid-stream');
  t.after(() => page.close());
  await testPicturePlays(page, 20_000);
  assert.equal(await protocolOf(page), 'udp', 'UDP is preferred where it works');
  network = await BlockedUdp.open(server);
  await until(async () => (await protocolOf(page)) === 'tcp', 'the picture comes over TCP', 60_000);
  await testPicturePlays(page, 20_000);
});

test('the connections of sessions that ended are closed', async () => {
  const closed = async () => (await metric('uringcast_tcp_connections')) === 0;
  await until(closed, 'no connection is left', 45_000);
});
