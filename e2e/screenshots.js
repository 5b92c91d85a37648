// Makes the pictures in docs/: node e2e/screenshots.js
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { chromium, newPage } from './helpers/browsers.js';
import { FFMPEG } from './helpers/ffmpeg.js';
import { ROOT, Server } from './helpers/server.js';
import { says } from './helpers/streams.js';

const DOCS = join(ROOT, 'docs');

// Something nicer than the browser's green test picture for the camera to look at.
async function scene(folder) {
  const file = join(folder, 'scene.mjpeg');
  const colours = 'c0=0x1b2a6b:c1=0xe5484d:c2=0xffb224:c3=0x12a594';
  const picture = ['-f', 'lavfi', '-i', `gradients=size=1280x720:rate=20:speed=0.02:type=spiral:seed=7:n=4:${colours}`];
  await promisify(execFile)(FFMPEG, ['-v', 'error', ...picture, '-t', '4', '-pix_fmt', 'yuvj420p', '-c:v', 'mjpeg', '-q:v', '3', file]);
  return file;
}

const folder = await mkdtemp(join(tmpdir(), 'uringcast-screenshots-'));
const server = await Server.start();
const browser = await chromium(`--use-file-for-fake-video-capture=${await scene(folder)}`);

async function tab(path, scheme, height) {
  const page = await newPage(browser);
  await page.setViewport({ width: 900, height });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
  await page.goto(server.url + path);
  return page;
}

async function picture(page, name) {
  await page.bringToFront();
  await sleep(1500);
  await page.screenshot({ path: join(DOCS, `${name}.png`) });
}

try {
  await mkdir(DOCS, { recursive: true });
  const publish = await tab('/publish/demo', 'light', 900);
  await says(publish, 'ready');
  await publish.click('#start');
  await says(publish, 'live');
  const watch = await tab('/watch/demo', 'dark', 610);
  await says(watch, 'playing', 20_000);
  await sleep(8000); // until the rate has grown and the picture is sharp
  await publish.$eval('#camera option', (option) => (option.textContent = 'Camera')); // it has a file's name
  await publish.$eval('#microphone option', (option) => (option.textContent = 'Microphone'));
  await picture(publish, 'publish');
  await picture(watch, 'watch');
} finally {
  await browser.close();
  await server.stop();
  await rm(folder, { recursive: true });
}
