// Streams with one track, and each video codec that a browser sends.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chromium, firefox } from './helpers/browsers.js';
import { assertTestPicture, assertTone, testPicturePlays } from './helpers/frames.js';
import { Server } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { publish, received, says, startPublisher, stopPublisher, TONE_HZ, watch } from './helpers/streams.js';

const { server, studio, audience } = await stage({ server: Server.start, studio: chromium, audience: chromium });

test('an audio-only stream is heard', async () => {
  const source = await publish(studio, server, 'radio', { video: false });
  const page = await watch(audience, server, 'radio');
  await says(page, 'playing');
  await assertTone(page, TONE_HZ);
  await source.close();
  await page.close();
});

test('a video-only stream is seen', async () => {
  const source = await publish(studio, server, 'silent', { audio: false });
  const page = await watch(audience, server, 'silent');
  await testPicturePlays(page);
  await says(page, 'playing');
  await source.close();
  await page.close();
});

for (const codec of ['VP8', 'VP9', 'AV1', 'H264']) {
  test(`${codec} plays from Chromium to Chromium`, async () => {
    const source = await publish(studio, server, codec, { codec });
    const page = await watch(audience, server, codec);
    await testPicturePlays(page);
    await assertTestPicture(page);
    await assertTone(page, TONE_HZ);
    assert.equal((await received(page)).videoCodec, `video/${codec}`);
    await source.close();
    await page.close();
  });
}

// Makes a page's offers lack one codec, as those of a browser do that was built without it.
const WITHOUT = (codec) => `
  const native = RTCPeerConnection.prototype.addTransceiver;
  RTCPeerConnection.prototype.addTransceiver = function (kind, init) {
    const transceiver = native.call(this, kind, init);
    if (kind === 'video') {
      const { codecs } = RTCRtpReceiver.getCapabilities('video');
      transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => mimeType !== 'video/${codec}'));
    }
    return transceiver;
  };`;

test('a viewer whose browser lacks the codec reads why in words', async () => {
  const source = await publish(studio, server, 'future', { codec: 'AV1' });
  const page = await watch(audience, server, 'future', { before: WITHOUT('AV1') });
  const words = await says(page, /AV1/);
  assert.doesNotMatch(words, /undefined|null|Error/);
  await source.close();
  await page.close();
});

test('a viewer who came first is told so too, and plays when the publisher changes to a codec it has', async () => {
  const page = await watch(audience, server, 'changing', { before: WITHOUT('AV1') });
  await says(page, 'waiting for the publisher');
  const source = await publish(studio, server, 'changing', { codec: 'AV1' });
  await says(page, /AV1/, 15_000);
  await stopPublisher(source);
  await startPublisher(source, 'changing', { codec: 'VP8' });
  await testPicturePlays(page, 15_000);
  await source.close();
  await page.close();
});

test('Firefox without H.264 reads why in words', async (t) => {
  const fox = await firefox();
  t.after(() => fox.close());
  const source = await publish(studio, server, 'h264', { codec: 'H264' });
  const page = await watch(fox, server, 'h264');
  await says(page, /H264/);
  await source.close();
});

// Makes a page's offers hold a data channel beside the media, as those of MediaMTX's player do.
const WITH_DATA_CHANNEL = `
  const native = RTCPeerConnection.prototype.createOffer;
  RTCPeerConnection.prototype.createOffer = function (...options) {
    this.createDataChannel('');
    return native.apply(this, options);
  };`;

for (const [name, launch] of Object.entries({ Chromium: chromium, Firefox: firefox })) {
  test(`${name} plays though its offer holds a data channel, which nothing here has`, async () => {
    const source = await publish(studio, server, `channel-${name}`);
    const browser = await launch();
    const page = await watch(browser, server, `channel-${name}`, { before: WITH_DATA_CHANNEL });
    await testPicturePlays(page, 20_000);
    await assertTestPicture(page);
    await assertTone(page, TONE_HZ);
    const descriptions = ({ localDescription, remoteDescription }) => [localDescription.sdp, remoteDescription.sdp];
    const [offer, answer] = await page.evaluate(`(${descriptions})(connections.at(-1))`);
    assert.match(offer, /webrtc-datachannel/);
    assert.match(answer, /^m=application 0 /m);
    await browser.close();
    await source.close();
  });
}
