// Browsers behind a path that loses packets.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium, firefox } from './helpers/browsers.js';
import { assertTestPicture, testPicturePlays } from './helpers/frames.js';
import { LossyPath } from './helpers/lossy.js';
import { Server } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { publish, received, watch } from './helpers/streams.js';

const WATCHED_MS = 8000;
const FPS = 20;

const { server, studio, ...browsers } = await stage({ server: Server.start, studio: chromium, Chromium: chromium, Firefox: firefox });

const sentAgain = async () => (await server.metrics()).get('uringcast_retransmitted_packets_total');

for (const [name, codec] of [['Chromium', 'H264'], ['Chromium', 'VP8'], ['Firefox', 'VP8']]) {
  for (const percent of [1, 5]) {
    test(`${name} plays ${codec} with ${percent} % of its packets lost`, async () => {
      const path = await LossyPath.open(server, percent / 100, percent);
      const stream = `${name}-${codec}-${percent}`;
      const source = await publish(studio, server, stream, { codec, fps: FPS });
      const page = await watch(browsers[name], server, stream, { before: path.detour });
      await testPicturePlays(page, 15_000);
      const start = await received(page);
      const before = await sentAgain();
      await sleep(WATCHED_MS);
      const end = await received(page);
      assert.ok(path.lost > 0, `nothing was lost of ${path.passed} datagrams`);
      const frames = end.framesDecoded - start.framesDecoded;
      const sent = (FPS * WATCHED_MS) / 1000;
      assert.ok(frames >= 0.8 * sent, `${frames} of ${sent} frames were decoded; ${path.lost} packets were lost`);
      await assertTestPicture(page);
      // Of one lost packet in a hundred all may be audio, which is not sent again.
      if (percent > 1) assert.ok((await sentAgain()) > before, 'what was lost was sent again');
      await source.close();
      await page.close();
      path.close();
    });
  }
}
