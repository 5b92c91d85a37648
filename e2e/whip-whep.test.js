// The reference client restarts ICE by PATCH while it publishes or plays.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chromium } from './helpers/browsers.js';
import { BlockedUdp } from './helpers/firewall.js';
import { Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { Pages } from './matrix/pages.js';

const NEW_FRAMES = 20;
// Chromium leaves a better pair of addresses only when that is dead, and whip-whep can be told one address in a restart.
const ONE_ADDRESS = ['--bind', '10.77.0.1'];

const { server, pages, browser } = await stage({ server: () => Server.start({ args: ONE_ADDRESS }), pages: Pages.start, browser: chromium });

const framesOf = async (client) => (await client.received()).frames;

async function moreFrames(client) {
  const before = await framesOf(client);
  await until(async () => (await framesOf(client)) >= before + NEW_FRAMES, 'the picture goes on');
}

const userNames = (client) => client.page.evaluate(() => clients.userNames());

async function restarts(client) {
  const before = await userNames(client);
  assert.equal(before.used, before.answered);
  await client.page.evaluate(() => clients.restart());
  const { answered } = await userNames(client);
  assert.notEqual(answered, before.answered, 'the server has a new ICE user name');
  await until(async () => (await userNames(client)).used === answered, 'media has moved to the new ICE session');
}

async function bothRestart(stream) {
  const publisher = await pages.start(browser, 'publish', 'whipWhep', `${server.url}/${stream}/whip`);
  const isLive = ({ name, codecs }) => name === stream && codecs.includes('VP8');
  await until(async () => (await server.streams()).some(isLive), 'the stream is live', 20_000);
  const player = await pages.start(browser, 'play', 'whipWhep', `${server.url}/${stream}/whep`);
  await moreFrames(player);
  for (const client of [publisher, player, publisher, player]) {
    await restarts(client);
    await moreFrames(player);
  }
  await player.stop();
  await publisher.stop();
}

test('whip-whep restarts ICE as publisher and as player, twice each, and the picture goes on', () => bothRestart('again'));

test('whip-whep restarts ICE where UDP is blocked as well', async (t) => {
  const network = await BlockedUdp.open(server);
  t.after(() => network.close());
  await bothRestart('over-tcp');
});
