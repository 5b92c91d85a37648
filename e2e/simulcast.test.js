// Simulcast from a browser: its viewers are given the best layer that it sends.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chromium, firefox } from './helpers/browsers.js';
import { testPicturePlays } from './helpers/frames.js';
import { Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { received, startPublisher, studioPage, watch } from './helpers/streams.js';

const { server, audience, ...studios } = await stage({ server: Server.start, audience: chromium, Chromium: chromium, Firefox: firefox });

// Makes a page publish its video in two sizes; of one as small as the test picture Chromium sends no third.
function sendTwoLayers() {
  const native = RTCPeerConnection.prototype.addTransceiver;
  RTCPeerConnection.prototype.addTransceiver = function (track, init) {
    if (track.kind !== 'video') return native.call(this, track, init);
    const sendEncodings = [
      { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 300_000 },
      { rid: 'f', maxBitrate: 1_000_000 },
    ];
    const transceiver = native.call(this, track, { ...init, sendEncodings });
    window.videoSender = transceiver.sender;
    return transceiver;
  };
}

/** Sends these layers and no others. */
const send = (page, rids) =>
  page.evaluate(async (rids) => {
    const parameters = window.videoSender.getParameters();
    for (const encoding of parameters.encodings) encoding.active = rids.includes(encoding.rid);
    await window.videoSender.setParameters(parameters);
  }, rids);

const widthBecomes = (page, width) =>
  until(
    async () => {
      const seen = await page.$eval('#video', (video) => video.videoWidth);
      if (seen === width) return true;
      throw new Error(`the picture is ${seen} wide`);
    },
    `the picture is ${width} wide`,
    20_000,
  );

for (const [name, codec] of [['Chromium', 'VP8'], ['Chromium', 'H264'], ['Firefox', 'VP8']]) {
  test(`viewers follow ${codec} layers as ${name} stops and resumes them`, async () => {
    const source = await studioPage(studios[name], server);
    await source.evaluate(sendTwoLayers);
    await startPublisher(source, name + codec, { codec });
    const page = await watch(audience, server, name + codec);
    await widthBecomes(page, 640);
    await testPicturePlays(page);
    await send(source, ['h']);
    await widthBecomes(page, 320);
    await testPicturePlays(page);
    await send(source, ['h', 'f']);
    await widthBecomes(page, 640);
    await testPicturePlays(page);
    const { freezesSeconds } = await received(page);
    assert.ok(freezesSeconds < 5, `it stood still for ${freezesSeconds} s`);
    assert.equal(page.posts, 1, 'all in one session');
    await source.close();
    await page.close();
  });
}
