// Camera to screen through the pages, as a person would do it.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { chromium, firefox, open } from './helpers/browsers.js';
import { assertMoves, assertTone, difference, loudest, thumbnailOf } from './helpers/frames.js';
import { Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { says, watch } from './helpers/streams.js';

// Chromium's fake camera moves slowly, so two moments a fraction of a second apart are nearly the same picture.
const SAME_PICTURE_MAX = 12;
const FAKE_MICROPHONE_HZ = 400;
const FAKE_FIREFOX_HZ = 1000;

const { server, studio, audience, fox } = await stage({ server: Server.start, studio: chromium, audience: chromium, fox: firefox });
let camera;

before(async () => {
  camera = await open(studio, `${server.url}/publish/demo`);
  await says(camera, 'ready');
  await camera.click('#start');
  await says(camera, 'live');
});

async function assertShowsTheCamera(page) {
  await says(page, 'playing', 20_000);
  await assertMoves(page);
  const same = async () => difference(await thumbnailOf(camera), await thumbnailOf(page)) < SAME_PICTURE_MAX;
  await until(same, 'the viewer sees what the camera shows');
  const sound = await until(async () => {
    const tone = await loudest(page);
    return tone.level > 0.02 && tone;
  }, 'the microphone is heard');
  assert.ok(Math.abs(sound.hz - FAKE_MICROPHONE_HZ) < 60, `the beep has its pitch: ${JSON.stringify(sound)}`);
}

test('what Chromium publishes from /publish plays in another Chromium at /watch', async () => {
  const page = await watch(audience, server, 'demo');
  await assertShowsTheCamera(page);
  assert.deepEqual(page.problems, []);
  await page.close();
});

test('Firefox plays the same stream', async () => {
  const page = await watch(fox, server, 'demo');
  await assertShowsTheCamera(page);
  assert.deepEqual(page.problems, []);
  await page.close();
});

test('what Firefox publishes plays in Chromium', async () => {
  const source = await open(fox, `${server.url}/publish/fox`);
  await says(source, 'ready', 15_000);
  await source.click('#start');
  await says(source, 'live');
  const page = await watch(audience, server, 'fox');
  await says(page, 'playing', 20_000);
  await assertMoves(page);
  await assertTone(page, FAKE_FIREFOX_HZ);
  assert.deepEqual([source.problems, page.problems], [[], []]);
  await source.close();
  await page.close();
  await until(async () => (await server.streams()).length === 1, 'a closed page is a stream less');
});

test('the publish page shows size, rate and codec while live, and the link to watch', async () => {
  await until(async () => /\d+ × \d+ · .*bit\/s · \w+/.test(await camera.$eval('#stats', (e) => e.textContent)), 'numbers are shown');
  assert.equal(await camera.$eval('#link', (e) => e.href), `${server.url}/watch/demo`);
  assert.deepEqual(camera.problems, []);
});

test('the first page lists the live stream and leads to it', async () => {
  const page = await open(audience, `${server.url}/`);
  const link = await page.waitForSelector('#streams a');
  assert.equal(await link.evaluate((e) => e.getAttribute('href')), '/watch/demo');
  await link.click();
  await says(page, 'playing', 20_000);
  const [stream] = await server.streams();
  assert.equal(stream.name, 'demo');
  await until(async () => (await server.streams())[0].viewers === 1, 'the viewer is counted');
  assert.deepEqual(page.problems, []);
  await page.close();
  await until(async () => (await server.streams())[0].viewers === 0, 'a closed page is a viewer less', 40_000);
});

test('the first page takes the names that the server takes', async () => {
  const page = await open(audience, `${server.url}/`);
  const takes = (name) =>
    page.$eval('input[name=name]', (input, value) => ((input.value = value), input.checkValidity()), name);
  for (const name of ['demo', ' demo ', '_a', '-', 'A.b_c-9', 'x'.repeat(64)]) assert.ok(await takes(name), name);
  for (const name of ['my stream', '.hidden', 'a/b', 'für', '?', ' ']) assert.ok(!(await takes(name)), name);
  await page.close();
});

test('a page that may not open cameras says what to do, and is done loading', async () => {
  const page = await open(audience, 'about:blank');
  await page.evaluateOnNewDocument(() => Object.defineProperty(Navigator.prototype, 'mediaDevices', { value: undefined }));
  await page.goto(`${server.url}/publish/unsafe`, { waitUntil: 'load', timeout: 10_000 });
  await says(page, /https/);
  await page.close();
});

test('a second publisher is told that the name is taken', async () => {
  const page = await open(audience, `${server.url}/publish/demo`);
  await says(page, 'ready');
  await page.click('#start');
  await says(page, /^failed: .+/);
  await page.close();
});

test('stop ends the stream at once', async () => {
  const page = await watch(audience, server, 'demo');
  await says(page, 'playing', 20_000);
  await camera.click('#stop');
  await says(camera, 'stopped');
  await says(page, 'waiting for the publisher');
  await until(async () => (await server.streams()).every(({ name }) => name !== 'demo'), 'the stream is not listed');
  await page.close();
});
