// What viewers are told while they watch: who is there, and whether anybody publishes.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { chromium, open } from './helpers/browsers.js';
import { freeTcpPort, Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { publish, says, startPublisher, stopPublisher, watch } from './helpers/streams.js';

const { server, studio, audience } = await stage({ server: Server.start, studio: chromium, audience: chromium });

const shows = (page, id, words, timeoutMs) =>
  until(async () => {
    const text = await page.$eval(`#${id}`, (element) => element.textContent);
    return words.test(text) || Promise.reject(new Error(`#${id} says "${text}"`));
  }, `#${id} says ${words}`, timeoutMs);

test('the watch page says how many watch, and that the publisher has gone', async () => {
  const source = await publish(studio, server, 'counted');
  const page = await watch(audience, server, 'counted');
  await says(page, 'playing', 20_000);
  await shows(page, 'viewers', /^1 watching$/);
  const second = await watch(studio, server, 'counted'); // its own window: a page that nobody sees does not listen
  await shows(page, 'viewers', /^2 watching$/);
  await second.close();
  await shows(page, 'viewers', /^1 watching$/);
  await stopPublisher(source);
  await says(page, 'waiting for the publisher');
  await shows(page, 'stats', /^The publisher has gone\./);
  await startPublisher(source, 'counted');
  await says(page, 'playing');
  await shows(page, 'stats', /bit\/s/);
  assert.equal(await page.$eval('#layer', (element) => element.hidden), true, 'there is no layer to choose');
  assert.equal(page.posts, 1);
  assert.deepEqual([page.problems, source.problems], [[], []]);
  await Promise.all([page.close(), source.close()]);
});

test('a viewer who came first hears when a publisher comes', async () => {
  const page = await open(audience, `${server.url}/`);
  await page.evaluate(async () => {
    const { Viewer } = await import('/client/uringcast.js');
    window.told = [];
    window.viewer = new Viewer({ url: '/early/whep' });
    for (const name of ['active', 'inactive', 'viewercount'])
      viewer.addEventListener(name, ({ detail }) => told.push([name, detail]));
    viewer.start();
  });
  const told = () => page.evaluate(() => window.told);
  const counted = async () => (await told()).some(([, { viewercount }]) => viewercount === 1);
  await until(counted, 'it is counted once it is connected');
  const counts = (await told()).length;
  assert.ok((await told()).every(([name]) => name === 'viewercount'), 'no inactive before any active');
  const source = await publish(studio, server, 'early');
  await until(async () => (await told()).length === counts + 1, 'the publisher is announced');
  await stopPublisher(source);
  await until(async () => (await told()).length === counts + 2, 'and that it has gone');
  assert.deepEqual((await told()).slice(counts), [['active', {}], ['inactive', {}]]);
  assert.deepEqual(await page.evaluate(() => [viewer.viewers, viewer.active, viewer.layers]), [1, false, []]);
  await Promise.all([page.close(), source.close()]);
});

// Eight viewers on one page; resolves when all wait for their publisher.
async function eightWait(browser, url) {
  const page = await open(browser, `${url}/`);
  const states = await page.evaluate(async () => {
    const { Viewer } = await import('/client/uringcast.js');
    window.viewers = Array.from({ length: 8 }, () => new Viewer({ url: '/many/whep' }));
    viewers.forEach((viewer) => viewer.start());
    const waiting = () => viewers.every(({ state }) => state === 'waiting');
    for (let tries = 0; tries < 100 && !waiting(); tries += 1) await new Promise((resolve) => setTimeout(resolve, 100));
    return viewers.map(({ state }) => state);
  });
  assert.deepEqual(states, Array(8).fill('waiting'));
  return page;
}

const eventStreams = async (of) => (await of.metrics()).get('uringcast_event_streams');

test('many viewers on one page leave the browser connections for other requests', async () => {
  await until(async () => (await eventStreams(server)) === 0, 'nobody listens');
  const page = await eightWait(audience, server.url);
  assert.equal(await eventStreams(server), 2);
  await page.close();
});

test('over https, where event streams share one connection, all of them listen', async (t) => {
  const port = await freeTcpPort();
  const secure = await Server.start({ args: ['--https', `127.0.0.1:${port}`, '--tls-self-signed'] });
  const browser = await chromium('--ignore-certificate-errors');
  t.after(() => Promise.all([browser.close(), secure.stop()]));
  const page = await eightWait(browser, `https://127.0.0.1:${port}`);
  await until(async () => (await eventStreams(secure)) === 8, 'all of them listen');
  const counts = () => page.evaluate(() => viewers.map((each) => each.viewers));
  await until(async () => (await counts()).every((count) => count === 8), 'all of them hear how many they are');
  await page.close();
  await until(async () => (await eventStreams(secure)) === 0, 'a closed page listens no more');
});

test('a viewer is sent away before the server ends, and is back as soon as the server is', async (t) => {
  const mortal = await Server.start();
  t.after(() => mortal.stop());
  const page = await open(audience, `${mortal.url}/`);
  await page.evaluate(async () => {
    const { Viewer } = await import('/client/uringcast.js');
    window.viewer = new Viewer({ url: '/mortal/whep' });
    viewer.addEventListener('reconnect', ({ detail }) => (window.sentTo = detail));
    viewer.start();
  });
  const isThere = () => page.evaluate(() => viewer.state === 'waiting' && viewer.viewers === 1);
  await until(isThere, 'the viewer is there');
  await mortal.stop();
  assert.deepEqual(await page.evaluate(() => window.sentTo), { url: `${mortal.url}/mortal/whep` });
  await mortal.launch();
  await until(isThere, 'the viewer is back', 20_000);
  assert.deepEqual(page.problems, []);
  await page.close();
});

// whip-whep hands every event on from `onmessage`, which named events do not reach. Its `eventSource` has them all.
test('whip-whep opens the event stream, and listeners on it hear of publisher and viewers', async () => {
  const library = await readFile(new URL('node_modules/whip-whep/whep.js', import.meta.url), 'utf8');
  const page = await open(audience, `${server.url}/`);
  await page.evaluate(`(() => { ${library.replace('export class', 'class')}; window.WHEPClient = WHEPClient; })()`);
  await page.evaluate(async () => {
    const pc = new RTCPeerConnection();
    pc.addTransceiver('audio', { direction: 'recvonly' });
    pc.addTransceiver('video', { direction: 'recvonly' });
    window.client = new WHEPClient();
    await client.view(pc, '/reference/whep'.replace(/^/, location.origin));
  });
  await page.waitForFunction(() => client.eventSource);
  await page.evaluate(() => {
    window.told = [];
    for (const name of ['active', 'viewercount']) client.eventSource.addEventListener(name, ({ data }) => told.push([name, JSON.parse(data)]));
  });
  const source = await publish(studio, server, 'reference');
  const heard = async (name, data) => (await page.evaluate(() => window.told)).some((each) => JSON.stringify(each) === JSON.stringify([name, data]));
  await until(() => heard('active', {}), 'the publisher is announced');
  const second = await watch(audience, server, 'reference');
  await until(() => heard('viewercount', { viewercount: 2 }), 'the viewers are counted');
  await page.evaluate(async () => {
    await client.selectLayer({ mediaId: '1', maxHeight: 360 });
    await client.unselectLayer();
    await client.mute({ muted: true });
    await client.stop();
  });
  const requests = [...(await server.metrics())].filter(([name]) => name.startsWith('uringcast_http_requests_total'));
  const answered = (code, route) => requests.find(([name]) => name.includes(`code="${code}",route="${route}"`))?.[1];
  assert.equal(answered(200, 'layer'), 2, 'a choice and its end');
  assert.equal(answered(405, 'session'), 1, 'mute is no part of WHEP');
  assert.deepEqual(page.problems, []);
  await Promise.all([page.close(), second.close(), source.close()]);
});

test('an event that a browser is dispatching cannot be dispatched again, so an unnamed one would not reach whip-whep', async () => {
  const page = await open(audience, `${server.url}/`);
  const error = await page.evaluate(
    () =>
      new Promise((resolve) => {
        const [from, to] = [new EventTarget(), new EventTarget()];
        from.addEventListener('message', (event) => {
          try {
            to.dispatchEvent(event);
          } catch ({ name }) {
            resolve(name);
          }
        });
        from.dispatchEvent(new MessageEvent('message'));
        resolve('none');
      }),
  );
  assert.equal(error, 'InvalidStateError');
  await page.close();
});
