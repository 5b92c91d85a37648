// Browsers whose network is gone and comes back as another one: nothing that leaves from their old ports arrives any more.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chromium } from './helpers/browsers.js';
import { testPicturePlays } from './helpers/frames.js';
import { LossyPath } from './helpers/lossy.js';
import { Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { publish, received, watch } from './helpers/streams.js';

const { server, studio, audience } = await stage({ server: Server.start, studio: chromium, audience: chromium });

// The statuses of the page's PATCHes.
function patches(page) {
  const statuses = [];
  page.on('response', (response) => response.request().method() === 'PATCH' && statuses.push(response.status()));
  return statuses;
}

test('the library restarts ICE, and the picture goes on in the same session', async (t) => {
  const path = await LossyPath.open(server, 0);
  t.after(() => path.close());
  const source = await publish(studio, server, 'moved', { codec: 'VP8' });
  const page = await watch(audience, server, 'moved', { before: path.detour });
  await testPicturePlays(page);
  const statuses = patches(page);
  path.sever();
  await until(() => statuses.length > 0, 'ICE is restarted', 30_000);
  assert.deepEqual(statuses, [200]);
  const { framesDecoded } = await received(page);
  await until(async () => (await received(page)).framesDecoded > framesDecoded + 20, 'the picture goes on', 15_000);
  await testPicturePlays(page);
  assert.equal(page.posts, 1, 'in the session that it was in');
  assert.deepEqual(page.problems, []);
  await Promise.all([page.close(), source.close()]);
});

test('where ICE cannot be restarted a new session takes over', async (t) => {
  const path = await LossyPath.open(server, 0);
  t.after(() => path.close());
  const source = await publish(studio, server, 'refused', { codec: 'VP8' });
  const page = await watch(audience, server, 'refused', { before: path.detour });
  await testPicturePlays(page);
  await page.setRequestInterception(true);
  page.on('request', (request) => {
    if (request.method() === 'PATCH') request.respond({ status: 422, contentType: 'application/problem+json', body: '{"detail":"not here"}' });
    else request.continue();
  });
  path.sever();
  await until(() => page.posts === 2, 'a new session', 30_000);
  await testPicturePlays(page);
  assert.deepEqual(page.problems, []);
  await Promise.all([page.close(), source.close()]);
});
