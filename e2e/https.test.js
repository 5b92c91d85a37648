// The pages as strangers see them: https, a name of the server's own, and a browser that wants a click before sound.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chromium, open } from './helpers/browsers.js';
import { assertMoves, loudest } from './helpers/frames.js';
import { freeTcpPort, Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { says } from './helpers/streams.js';

const NAME = 'live.example';
const THERE = [`--host-resolver-rules=MAP ${NAME} 127.0.0.1`, '--ignore-certificate-errors'];

const port = await freeTcpPort();
const url = `https://${NAME}:${port}`;
const { studio, audience } = await stage({
  server: () => Server.start({ args: ['--https', `127.0.0.1:${port}`, '--tls-self-signed', '--open'] }),
  studio: () => chromium(...THERE),
  audience: () => chromium(...THERE, '--autoplay-policy=document-user-activation-required'),
});

// Every other way to look into a page counts as a click of its user.
async function untouched(page, expression) {
  page.devtools ??= await page.createCDPSession();
  const { result } = await page.devtools.send('Runtime.evaluate', { expression, userGesture: false });
  return result.value;
}

test('camera to screen over https; silent until the viewer asks for sound', async () => {
  const camera = await open(studio, `${url}/publish/demo`);
  await says(camera, 'ready');
  await camera.click('#start');
  await says(camera, 'live');

  const page = await open(audience, `${url}/watch/demo`);
  const mutedPicture = '!sound.hidden && video.muted && !video.paused'; // elements by their ids
  await until(() => untouched(page, mutedPicture), 'the picture plays without sound, and a button offers it', 20_000);
  await page.click('#sound');
  await says(page, 'playing');
  await assertMoves(page);
  await until(() => page.$eval('#video', (video) => !video.muted && !video.paused), 'the sound is on');
  await until(async () => (await loudest(page)).level > 0.02, 'the microphone is heard');
  assert.deepEqual([camera.problems, page.problems], [[], []]);
});
