// Signaling dies: media does not notice. Media dies: everybody comes back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from './helpers/browsers.js';
import { assertTestPicture, assertTone, testPicturePlays } from './helpers/frames.js';
import { Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { publish, received, says, TONE_HZ, watch } from './helpers/streams.js';

const { server, studio, audience } = await stage({ server: Server.start, studio: chromium, audience: chromium });

test('the picture goes on while signaling is killed and started again, and old sessions still answer', async () => {
  await publish(studio, server, 'steady');
  const page = await watch(audience, server, 'steady');
  await testPicturePlays(page);
  const before = await received(page);

  await server.killSignaling();
  await assertTestPicture(page, { ms: 3000 });
  await server.launch();
  assert.ok(server.mediaIsAlive, 'the same media process was adopted');
  await assertTestPicture(page, { ms: 2000 });
  await assertTone(page, TONE_HZ);
  await says(page, 'playing', 500);

  const now = await received(page);
  assert.equal(now.packetsLost, before.packetsLost, 'not one packet was lost');
  assert.equal(page.posts, 1, 'the viewer needed no new session');
  const listed = async () => (await server.streams()).some(({ name }) => name === 'steady');
  await until(listed, 'the new process knows the stream');

  const late = await watch(audience, server, 'steady');
  await testPicturePlays(late);
  const answer = await fetch(page.session, { method: 'DELETE' });
  assert.equal(answer.status, 200, await answer.text());
  const gone = await fetch(page.session);
  assert.equal(gone.status, 404);
  await sleep(500);
  await assertTestPicture(late);
});

test('media dies: publisher and viewer come back by themselves', async () => {
  await publish(studio, server, 'phoenix');
  const page = await watch(audience, server, 'phoenix');
  await testPicturePlays(page);
  const posts = page.posts;
  server.killMedia();
  await says(page, 'waiting for the publisher');
  await testPicturePlays(page, 20_000);
  await assertTone(page, TONE_HZ);
  assert.equal(page.posts, posts + 1, 'one new session was enough');
  assert.ok((await fetch(`${server.url}/readyz`)).ok);
});
