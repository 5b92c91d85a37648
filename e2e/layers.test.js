// A publisher with two simulcast layers, and viewers who choose between them on the watch page.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chromium } from './helpers/browsers.js';
import { Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { says, studioPage, watch } from './helpers/streams.js';

const { server, studio, audience } = await stage({ server: Server.start, studio: chromium, audience: chromium });

/** Opens a page that publishes the test picture in full and at a quarter of its width. */
async function publishLayers(browser, name) {
  const page = await studioPage(browser, server);
  await page.evaluate(async (url) => {
    const stream = makeTestStream({ video: true, audio: false, fps: 20 });
    const pc = (window.pc = new RTCPeerConnection());
    const sendEncodings = [{ rid: 'l', scaleResolutionDownBy: 4, maxBitrate: 150_000 }, { rid: 'h', maxBitrate: 1_000_000 }];
    pc.addTransceiver(stream.getVideoTracks()[0], { direction: 'sendonly', streams: [stream], sendEncodings });
    await pc.setLocalDescription();
    const headers = { 'Content-Type': 'application/sdp' };
    const response = await fetch(url, { method: 'POST', headers, body: pc.localDescription.sdp });
    await pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
  }, `/${name}/whip`);
  return page;
}

const width = (page) => page.$eval('#video', (video) => video.videoWidth);
const menu = (page) => page.$$eval('#layer option', (options) => options.map(({ value }) => value));

test('a viewer picks a layer from the menu, and gives the choice back', async () => {
  const source = await publishLayers(studio, 'layers');
  const page = await watch(audience, server, 'layers');
  await says(page, 'playing', 20_000);
  await until(async () => (await menu(page)).length === 3, 'both layers are in the menu', 20_000);
  assert.deepEqual((await menu(page)).toSorted(), ['', 'h', 'l']);
  assert.equal(await page.$eval('#layer', (element) => element.hidden), false);
  await page.select('#layer', 'l');
  await until(async () => (await width(page)) === 160, 'the small picture');
  await page.select('#layer', 'h');
  await until(async () => (await width(page)) === 640, 'the large picture');
  await page.select('#layer', 'l');
  await until(async () => (await width(page)) === 160, 'the small picture again');
  await page.select('#layer', '');
  await until(async () => (await width(page)) === 640, 'what the server chooses');
  assert.equal(page.posts, 1);
  assert.deepEqual(page.problems, []);
  await Promise.all([page.close(), source.close()]);
});
