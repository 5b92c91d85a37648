// Playing by answering the server's offer, as the WHEP draft's second mode has it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chromium, firefox, open } from './helpers/browsers.js';
import { assertTone, testPicturePlays } from './helpers/frames.js';
import { Server } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { publish, received, startPublisher, stopPublisher, TONE_HZ } from './helpers/streams.js';

const { server, studio, audience } = await stage({ server: Server.start, studio: chromium, audience: chromium });

/** Asks for an offer with this query and body, answers it, and plays: `{offered, answered, session}`. */
async function play(page, name, { query = '', body = '' } = {}) {
  return page.evaluate(
    async ({ url, body }) => {
      const headers = { 'Content-Type': 'application/sdp' };
      const response = await fetch(url, { method: 'POST', headers, body });
      const session = response.headers.get('Location');
      const connection = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
      window.connections = [connection];
      const video = Object.assign(document.createElement('video'), { id: 'video', autoplay: true, muted: true, playsInline: true });
      connection.addEventListener('track', ({ streams: [stream] }) => (video.srcObject = stream));
      await connection.setRemoteDescription({ type: 'offer', sdp: await response.text() });
      await connection.setLocalDescription();
      const { status } = await fetch(session, { method: 'PATCH', headers, body: connection.localDescription.sdp });
      document.body.append(video);
      return { offered: response.status, answered: status, session };
    },
    { url: `/${name}/whep${query}`, body },
  );
}

test('Chromium plays the offer that an empty POST gets', async () => {
  const source = await publish(studio, server, 'asked');
  const page = await open(audience, `${server.url}/`);
  const { offered, answered, session } = await play(page, 'asked');
  assert.deepEqual([offered, answered], [201, 204]);
  await testPicturePlays(page);
  await page.$eval('#video', (video) => (video.muted = false));
  await assertTone(page, TONE_HZ);
  assert.equal(await page.evaluate(async (url) => (await fetch(url, { method: 'DELETE' })).status, session), 200);
  await page.close();
  await source.close();
});

test('a 406 holds an offer of the codec that is published', async () => {
  const source = await publish(studio, server, 'refused', { codec: 'H264' });
  const page = await open(audience, `${server.url}/`);
  const body = await page.evaluate(async () => {
    const connection = new RTCPeerConnection();
    connection.addTransceiver('video', { direction: 'recvonly' });
    return (await connection.createOffer()).sdp;
  });
  const { offered, answered } = await play(page, 'refused', { query: '?offer=server', body });
  assert.deepEqual([offered, answered], [406, 204]);
  await testPicturePlays(page);
  assert.equal((await received(page)).videoCodec, 'video/H264');
  await page.close();
  await source.close();
});

test('whoever answered before there was a publisher plays whatever is published then', async () => {
  const page = await open(audience, `${server.url}/`);
  assert.equal((await play(page, 'early')).answered, 204);
  const source = await publish(studio, server, 'early', { codec: 'VP9' });
  await testPicturePlays(page);
  await stopPublisher(source);
  await startPublisher(source, 'early', { codec: 'H264' });
  await testPicturePlays(page);
  await page.close();
  await source.close();
});

test('Firefox plays the offer, too', async () => {
  const browser = await firefox();
  try {
    const source = await publish(studio, server, 'fox', { codec: 'VP8' });
    const page = await open(browser, `${server.url}/`);
    assert.equal((await play(page, 'fox')).answered, 204);
    await testPicturePlays(page);
    await source.close();
  } finally {
    await browser.close();
  }
});
