// Publishing the test picture from one page and watching it on another.
import { newPage, open } from './browsers.js';
import { makeTestStream } from './frames.js';
import { until } from './server.js';

export const TONE_HZ = 660;

/** Opens a page from which `startPublisher` can send the test picture. */
export async function studioPage(browser, server, { before } = {}) {
  const page = await newPage(browser);
  if (before) await page.evaluateOnNewDocument(before);
  await page.goto(`${server.url}/`, { waitUntil: 'domcontentloaded' });
  await page.evaluate(`window.makeTestStream = ${makeTestStream}`);
  return page;
}

/** Opens a page that publishes the test picture and tone; resolves when it is live. */
export async function publish(browser, server, name, options = {}) {
  const page = await studioPage(browser, server, options);
  await startPublisher(page, name, options);
  return page;
}

/** Starts publishing, or starts it again; resolves when live. */
export async function startPublisher(page, name, { codec = null, video = true, audio = true, toneHz = TONE_HZ, fps = 20 } = {}) {
  const started = { name, codec, settings: { video, audio, toneHz, fps } };
  await page.evaluate(async ({ name, codec, settings }) => {
    const { Publisher } = await import('/client/uringcast.js');
    window.publisher = new Publisher({ url: `/${name}/whip`, stream: window.makeTestStream(settings), codec });
    window.publisher.start();
  }, started);
  const look = () => page.evaluate(() => ({ state: publisher.state, detail: publisher.error?.detail }));
  const settled = async () => {
    const now = await look();
    return ['live', 'failed'].includes(now.state) && now;
  };
  const { state, detail } = await until(settled, `${name} is live`);
  if (state === 'failed') throw new Error(`publishing failed: ${detail}`);
}

export const stopPublisher = (page) => page.evaluate(() => publisher.stop());

// Keeps every RTCPeerConnection where a test can ask it for statistics.
function keepConnections() {
  const Native = RTCPeerConnection;
  window.connections = [];
  window.RTCPeerConnection = class extends Native {
    constructor(...args) {
      super(...args);
      window.connections.push(this);
    }
  };
}

/** Opens the watch page. `page.session` is the session URL, `page.posts` counts its offers. */
export async function watch(browser, server, name, { before } = {}) {
  const page = await newPage(browser);
  page.posts = 0;
  page.on('response', (response) => {
    if (response.request().method() !== 'POST' || !response.url().endsWith('/whep')) return;
    page.posts += 1;
    if (response.status() === 201) page.session = new URL(response.headers().location, response.url()).href;
  });
  await page.evaluateOnNewDocument(keepConnections);
  if (before) await page.evaluateOnNewDocument(before);
  await page.goto(`${server.url}/watch/${name}`, { waitUntil: 'domcontentloaded' });
  return page;
}

export const stateOf = (page) => page.$eval('#state', (element) => element.textContent);

/** Waits until the state line of a page says this. */
export const says = (page, words, timeoutMs = 10_000) =>
  until(
    async () => {
      const text = await stateOf(page);
      if (words instanceof RegExp ? words.test(text) : text === words) return text;
      throw new Error(`the page says "${text}"`);
    },
    `the page says ${words}`,
    timeoutMs,
  );

/** Sums what the newest connection of a page received: `{packetsLost, framesDecoded, freezesSeconds, …}`. */
export const received = (page) =>
  page.evaluate(async () => {
    const all = [...(await window.connections.at(-1).getStats()).values()].filter(({ type }) => type === 'inbound-rtp');
    const sum = (kind, key) => all.filter((r) => r.kind === kind).reduce((total, r) => total + (r[key] ?? 0), 0);
    const codec = (kind) => all.find((r) => r.kind === kind)?.codecId;
    return {
      packetsLost: sum('video', 'packetsLost') + sum('audio', 'packetsLost'),
      framesDecoded: sum('video', 'framesDecoded'),
      freezesSeconds: sum('video', 'totalFreezesDuration'),
      audioEnergy: sum('audio', 'totalAudioEnergy'),
      videoCodec: codec('video') && (await window.connections.at(-1).getStats()).get(codec('video'))?.mimeType,
    };
  });
