// ffmpeg's own WHIP stack publishes H.264 and Opus.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chromium } from './helpers/browsers.js';
import { colourBars, publishWithFfmpeg } from './helpers/ffmpeg.js';
import { assertMoves, assertTone, difference, thumbnailOf } from './helpers/frames.js';
import { Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { received, says, watch } from './helpers/streams.js';

const SINE_HZ = 440; // lavfi's default

const { server, browser } = await stage({ server: Server.start, browser: chromium });

for (const { name, flags } of [
  { name: 'passive', flags: [] },
  { name: 'active', flags: ['-whip_flags', 'dtls_active'] },
]) {
  test(`Chromium plays what ffmpeg publishes as the ${name} DTLS side`, async () => {
    const ffmpeg = publishWithFfmpeg(`${server.url}/${name}/whip`, flags);
    try {
      const codecs = async () => (await server.streams()).find((stream) => stream.name === name)?.codecs.toSorted();
      const both = async () => (await codecs())?.length === 2;
      await until(both, 'ffmpeg is live', 15_000).catch((error) => assert.fail(`${error.message}\n${ffmpeg.log()}`));
      assert.match((await codecs()).join(' '), /H264.* opus/i);
      const page = await watch(browser, server, name);
      await says(page, 'playing', 20_000);
      await assertMoves(page);
      await assertTone(page, SINE_HZ);
      // Small numbers and a moving pattern cover a part of the bars, so this is not an exact match.
      const bars = await colourBars();
      await until(async () => difference(await thumbnailOf(page), bars) < 30, 'the test card is the one that was sent');
      assert.equal((await received(page)).videoCodec, 'video/H264');
      await page.close();
    } finally {
      await ffmpeg.stop();
    }
  });
}
