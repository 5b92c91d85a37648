// One UDP port for all workers: browsers whose datagrams the kernel gives to any of them publish and watch.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chromium, firefox } from './helpers/browsers.js';
import { assertTestPicture, testPicturePlays } from './helpers/frames.js';
import { Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { publish, watch } from './helpers/streams.js';

const { server, ...browsers } = await stage({
  server: () => Server.start({ args: ['--udp-mux'] }),
  Chromium: chromium,
  Firefox: firefox,
});

const metric = async (name) => (await server.metrics()).get(name);
const portsOf = (sdp) => [...sdp.matchAll(/^a=candidate:.* udp \d+ \S+ (\d+)/gim)].map(([, port]) => Number(port));

/** Publishes and watches until a picture came by way of the wrong worker; where a client lands is chance, one in two. */
async function playsByWayOfAnotherWorker(t, publisher, viewer) {
  const seen = new Set();
  for (let take = 0; take < 16; take += 1) {
    const before = await metric('uringcast_handed_over_datagrams_total');
    const stream = `${publisher}-${viewer}-${take}`;
    const source = await publish(browsers[publisher], server, stream, { codec: 'VP8' });
    t.after(() => source.close());
    const page = await watch(browsers[viewer], server, stream);
    t.after(() => page.close());
    await testPicturePlays(page, 20_000);
    await assertTestPicture(page);
    for (const port of portsOf(await page.evaluate(() => connections.at(-1).remoteDescription.sdp))) seen.add(port);
    // A publisher's media would be hundreds of datagrams.
    if ((await metric('uringcast_handed_over_datagrams_total')) > before + 100) return seen;
  }
  return assert.fail('sixteen publishers in a row landed at their own worker');
}

for (const [publisher, viewer] of [['Chromium', 'Firefox'], ['Firefox', 'Chromium']]) {
  test(`${publisher} publishes and ${viewer} watches behind one port`, async (t) => {
    const ports = await playsByWayOfAnotherWorker(t, publisher, viewer);
    assert.deepEqual([...ports], [server.udpPort]);
  });
}

test('the sessions end, and hardly a datagram of theirs found the way to its worker full', async () => {
  await until(async () => (await metric('uringcast_viewers')) === 0, 'all have left', 45_000);
  const [lost, arrived] = [
    await metric('uringcast_dropped_packets_total{reason="handover_full"}'),
    await metric('uringcast_handed_over_datagrams_total'),
  ];
  assert.ok(lost <= arrived / 100, `${lost} of ${arrived}`);
});
