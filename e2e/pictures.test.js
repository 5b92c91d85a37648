// Browsers tell new VP8 pictures from old ones by their numbers, which begin anew with each publisher and each simulcast layer.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { chromium } from './helpers/browsers.js';
import { startPython } from './helpers/python.js';
import { Server, until } from './helpers/server.js';
import { received, watch } from './helpers/streams.js';

const PICTURES = 130;
// What may be lost while the viewer's encryption and jitter buffer start.
const LOST_MAX = 20;

let server, browser;

before(async () => {
  [server, browser] = await Promise.all([Server.start(), chromium()]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

test('a viewer sees every picture of a publisher who numbers them lower than the one before', async () => {
  const page = await watch(browser, server, 'numbers');
  const decoded = async () => (await received(page)).framesDecoded ?? 0;
  const publish = async (pictureId, tl0PicIdx) => {
    const [before, url] = [await decoded(), `${server.url}/numbers/whip`];
    const publisher = startPython('aiortc_pictures.py', url, String(pictureId), String(tl0PicIdx), String(PICTURES));
    const areSeen = async () => (await decoded()) >= before + PICTURES - LOST_MAX;
    await until(areSeen, 'its pictures are seen', 20_000).finally(publisher.stop);
  };
  await publish(10_000, 100);
  await publish(5_000, 190); // a picture id and a TL0PICIDX that were passed not long ago
  assert.equal(page.posts, 1);
  assert.deepEqual(page.problems, []);
});
