// Browsers whose address changes in mid-stream, as behind a NAT that forgets them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium, firefox } from './helpers/browsers.js';
import { assertMoves, testPicturePlays } from './helpers/frames.js';
import { LossyPath } from './helpers/lossy.js';
import { Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { publish, received, watch } from './helpers/streams.js';

const { server, studio, ...browsers } = await stage({ server: Server.start, studio: chromium, Chromium: chromium, Firefox: firefox });

const frames = async (page) => (await received(page)).framesDecoded;

/** The picture moves on, in the session that it was in. */
async function playsOn(page) {
  const before = await frames(page);
  await until(async () => (await frames(page)) > before + 60, 'the picture goes on', 30_000);
  await assertMoves(page);
  assert.equal(page.posts, 1, 'in the same session');
}

for (const name of ['Chromium', 'Firefox']) {
  test(`${name} watches on from a new port`, async () => {
    const path = await LossyPath.open(server, 0);
    const source = await publish(studio, server, `watched-by-${name}`, { codec: 'VP8' });
    const page = await watch(browsers[name], server, `watched-by-${name}`, { before: path.detour });
    await testPicturePlays(page);
    await path.rebind();
    await sleep(1000);
    await playsOn(page);
    await source.close();
    await page.close();
    path.close();
  });

  test(`${name} publishes on from a new port`, async () => {
    const path = await LossyPath.open(server, 0);
    const source = await publish(browsers[name], server, `published-by-${name}`, { codec: 'VP8', before: path.detour });
    const page = await watch(studio, server, `published-by-${name}`);
    await testPicturePlays(page);
    await path.rebind();
    await sleep(1000);
    await playsOn(page);
    await source.close();
    await page.close();
    path.close();
  });
}
