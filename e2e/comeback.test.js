// Publishers come, go and come back; the viewer's page needs no hand.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from './helpers/browsers.js';
import { assertTestPicture, assertTone, testPicturePlays } from './helpers/frames.js';
import { Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { publish, says, startPublisher, stopPublisher, studioPage, TONE_HZ, watch } from './helpers/streams.js';

const BACK_MS = 2000; // from the publisher being live again to new pictures
const FREE_MS = 10_000; // a publisher that vanished loses its name after 3 s of silence

const { server, audience } = await stage({ server: Server.start, audience: chromium });

async function assertBackInTime(page) {
  const began = Date.now();
  await testPicturePlays(page, BACK_MS);
  await says(page, 'playing', 2000);
  return Date.now() - began;
}

test('a viewer who comes first waits, and plays when the publisher comes', async (t) => {
  const studio = await chromium();
  t.after(() => studio.close());
  const page = await watch(audience, server, 'early');
  await says(page, 'waiting for the publisher');
  await sleep(2500); // still waiting, in the same session
  await says(page, 'waiting for the publisher', 500);
  await publish(studio, server, 'early');
  await assertBackInTime(page);
  await assertTone(page, TONE_HZ);
  assert.deepEqual(page.problems, []);
  await page.close();
});

test('a publisher stops and starts again: the same viewer session plays on', async (t) => {
  const studio = await chromium();
  t.after(() => studio.close());
  const source = await publish(studio, server, 'again');
  const page = await watch(audience, server, 'again');
  await testPicturePlays(page);
  await stopPublisher(source);
  await says(page, 'waiting for the publisher');
  await startPublisher(source, 'again');
  await assertBackInTime(page);
  await assertTone(page, TONE_HZ);
  assert.equal(page.posts, 1, 'the viewer needed no new session');
  await page.close();
});

test('a killed browser is replaced by a new one: the same viewer session plays on', async (t) => {
  const doomed = await chromium();
  t.after(() => doomed.close());
  await publish(doomed, server, 'killed');
  const page = await watch(audience, server, 'killed');
  await testPicturePlays(page);
  doomed.process().kill('SIGKILL');
  await says(page, 'waiting for the publisher');
  const studio = await chromium();
  t.after(() => studio.close());
  const source = await studioPage(studio, server);
  const live = () => startPublisher(source, 'killed').then(() => true);
  await until(live, 'the name is free again', FREE_MS);
  await assertBackInTime(page);
  assert.equal(page.posts, 1, 'the viewer needed no new session');
  await assertTestPicture(page);
  await page.close();
});
