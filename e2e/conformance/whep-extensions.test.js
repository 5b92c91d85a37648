// Conformance of a WHEP server's extensions, asked over HTTP alone: "Server Sent Events extension" and "Video Layer Selection
// extension" of the core extensions (webrtc-http-egress-events, draft-ietf-wish-whep-02). How to ask another server than
// uringcast: see whep.test.js. Tests of an extension that a server has not are skipped.
import assert from 'node:assert/strict';
import http from 'node:http';
import https from 'node:https';
import { describe, test } from 'node:test';
import { links, offer, request, sections } from './http.js';
import { is4xx, JSON_TYPE, startTarget } from './whep.js';

const EXTENSION = 'urn:ietf:params:whep:ext:core:';
const PLAY = offer('browser-play');

const target = await startTarget();

/** The URL of an extension of a session, or undefined where the server has it not. */
const extension = (session, name) => {
  const link = links(session.answer).find(({ rel }) => rel === EXTENSION + name);
  return link && { ...link, url: new URL(link.target, session.url).href };
};

/** An open event stream: what came, line by line. */
class Events {
  #call;
  lines = [];
  ended = false;

  static open(url, headers = {}) {
    const events = new Events();
    const { get } = url.startsWith('https:') ? https : http;
    return new Promise((resolve, reject) => {
      events.#call = get(url, { headers: { Accept: 'text/event-stream', ...headers }, agent: false, rejectUnauthorized: false }, (answer) => {
        Object.assign(events, { status: answer.statusCode, headers: answer.headers });
        let text = '';
        answer.on('data', (part) => {
          text += part;
          events.lines = text.split(/\r?\n/).slice(0, -1);
        });
        answer.on('close', () => (events.ended = true));
        answer.on('error', () => {});
        resolve(events);
      });
      events.#call.on('error', reject);
    });
  }

  close() {
    this.#call.destroy();
  }

  /** The whole events so far: `[{event, data: [lines]}]`. */
  get all() {
    const blocks = this.lines.join('\n').split(/\n\n/).filter((block) => /^data:/m.test(block));
    const field = (block, name) => [...block.matchAll(new RegExp(`^${name}: ?(.*)$`, 'gm'))].map(([, value]) => value);
    return blocks.map((block) => ({ event: field(block, 'event')[0], data: field(block, 'data') }));
  }

  /** Waits until `look` finds something. */
  async until(look, what) {
    for (const end = Date.now() + 10_000; Date.now() < end; ) {
      const found = look(this);
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`never came: ${what}; came: ${this.lines.join(' | ')}`);
  }
}

describe('server-sent events extension', () => {
  /** A session and the URL where its event streams are made; skips the test where there is none. */
  async function entry(t) {
    const session = await target.open(t, PLAY);
    const link = extension(session, 'server-sent-events');
    if (!link) t.skip('the server has no such extension');
    return link && { session, ...link, known: link.events?.split(',') ?? ['active'] };
  }

  const create = (url, events) => target.request(url, { method: 'POST', headers: JSON_TYPE, body: JSON.stringify(events) });

  /** The URL of a new event stream. */
  async function stream({ url, known }, events = known) {
    const answer = await create(url, events);
    assert.equal(answer.status, 201, answer.what);
    assert.ok(answer.headers.location, 'Location');
    return new URL(answer.headers.location, url).href;
  }

  test('the 201 names the entry point in a Link, and the events in its attribute', async (t) => {
    const made = await entry(t);
    if (!made) return;
    assert.match(made.url, /^https?:/);
    if (made.events) for (const name of made.known) assert.match(name, /^[a-z0-9]+$/);
  });

  test('a POST of event names is answered 201 with a Location, under an unguessable URL', async (t) => {
    const made = await entry(t);
    if (!made) return;
    const [one, other] = [await stream(made), await stream(made)];
    assert.notEqual(one, other);
    assert.ok(Math.max(...new URL(one).pathname.split('/').map(({ length }) => length)) >= 16, one);
  });

  test('a POST without body subscribes to everything', async (t) => {
    const made = await entry(t);
    if (!made) return;
    assert.equal((await target.request(made.url, { method: 'POST' })).status, 201);
  });

  test('an event that is not advertised is refused with 400', async (t) => {
    const made = await entry(t);
    if (!made) return;
    for (const events of [['no-such-event'], [...made.known, 'no-such-event']]) {
      const answer = await create(made.url, events);
      assert.equal(answer.status, 400, answer.what);
      assert.equal(answer.headers.location, undefined, 'nothing was created');
    }
  });

  test('a body that is no JSON array of names is refused with 4xx', async (t) => {
    const made = await entry(t);
    if (!made) return;
    for (const body of ['{', '{}', '"active"', '[1]'])
      is4xx(await target.request(made.url, { method: 'POST', headers: JSON_TYPE, body }));
  });

  test('a GET is an open text/event-stream of named events, each with one line of JSON', async (t) => {
    const made = await entry(t);
    if (!made) return;
    const events = await Events.open(await stream(made));
    t.after(() => events.close());
    assert.equal(events.status, 200);
    assert.match(events.headers['content-type'] ?? '', /^text\/event-stream/);
    if (made.known.includes('viewercount')) await events.until(({ all }) => all.length > 0, 'an event');
    for (const { event, data } of events.all) {
      assert.ok(made.known.includes(event), event);
      assert.equal(data.length, 1, 'one data line');
      if (event !== 'scte35') assert.equal(typeof JSON.parse(data[0]), 'object');
    }
    assert.equal(events.ended, false);
  });

  test('a GET needs no Authorization, which an EventSource cannot send, and other origins may read it', async (t) => {
    const made = await entry(t);
    if (!made) return;
    const events = await Events.open(await stream(made), { Origin: 'https://player.example' });
    t.after(() => events.close());
    assert.equal(events.status, 200);
    assert.ok(['*', 'https://player.example'].includes(events.headers['access-control-allow-origin']));
  });

  // Nobody here has media, and who has none need not be counted: what connected players count is in e2e/events.test.js.
  test('viewercount is a number, and comes first and alone where nothing else was asked for', async (t) => {
    const made = await entry(t);
    if (!made) return;
    if (!made.known.includes('viewercount')) return t.skip('no such event');
    const events = await Events.open(await stream(made, ['viewercount']));
    t.after(() => events.close());
    const count = ({ all }) => all.map(({ data }) => JSON.parse(data[0]).viewercount).at(-1);
    await events.until((now) => Number.isInteger(count(now)) && count(now) >= 0, 'a first count');
    assert.ok(events.all.every(({ event }) => event === 'viewercount'), 'and nothing that was not asked for');
  });

  test('inactive is not the first event of a stream that nobody publishes', async (t) => {
    const made = await entry(t);
    if (!made || !made.known.includes('inactive')) return;
    const events = await Events.open(await stream(made));
    t.after(() => events.close());
    if (made.known.includes('viewercount')) await events.until(({ all }) => all.length > 0, 'an event');
    assert.notEqual(events.all[0]?.event, 'inactive');
  });

  test('a stream that broke off can be read again', async (t) => {
    const made = await entry(t);
    if (!made) return;
    const url = await stream(made);
    (await Events.open(url)).close();
    const again = await Events.open(url, { 'Last-Event-ID': '1' });
    t.after(() => again.close());
    assert.equal(again.status, 200);
  });

  test('a DELETE ends the stream, and later GETs are answered 404', async (t) => {
    const made = await entry(t);
    if (!made) return;
    const url = await stream(made);
    const events = await Events.open(url);
    const answer = await target.request(url, { method: 'DELETE' });
    assert.ok(answer.status >= 200 && answer.status < 300, answer.what);
    await events.until(({ ended }) => ended, 'the end');
    assert.equal((await request(url)).status, 404);
    assert.equal((await made.session.request({ method: 'GET' })).status < 300, true, 'the session goes on');
  });

  test('all streams end with the session', async (t) => {
    const made = await entry(t);
    if (!made) return;
    const urls = [await stream(made), await stream(made)];
    const open = await Promise.all(urls.map((url) => Events.open(url)));
    assert.equal((await made.session.delete()).status, 200);
    await Promise.all(open.map((events) => events.until(({ ended }) => ended, 'the end')));
    for (const url of urls) assert.equal((await request(url)).status, 404);
    is4xx(await create(made.url, made.known));
  });

  test('the number of streams of a session is bounded', async (t) => {
    const made = await entry(t);
    if (!made) return;
    const statuses = [];
    for (let tries = 0; tries < 100 && (statuses.at(-1) ?? 201) === 201; tries += 1) statuses.push((await create(made.url, made.known)).status);
    assert.ok(statuses.at(-1) >= 400, `${statuses.length} streams and still more`);
  });
});

describe('video layer selection extension', () => {
  async function layer(t) {
    const session = await target.open(t, PLAY);
    const link = extension(session, 'layer');
    if (!link) t.skip('the server has no such extension');
    return link && { session, url: link.url };
  }

  const select = (url, wish) => target.request(url, { method: 'POST', headers: JSON_TYPE, body: JSON.stringify(wish) });

  test('it comes with server-sent events, layers among them', async (t) => {
    const made = await layer(t);
    if (!made) return;
    assert.ok(extension(made.session, 'server-sent-events')?.events?.split(',').includes('layers'));
  });

  test('no constraints mean the choice of the server, and are answered 200', async (t) => {
    const made = await layer(t);
    if (!made) return;
    const video = sections(PLAY).findIndex((section) => section.startsWith('m=video'));
    for (const wish of [{}, { mediaId: String(video) }]) {
      const answer = await select(made.url, wish);
      assert.equal(answer.status, 200, answer.what);
    }
  });

  test('bounds of width and height are answered 200', async (t) => {
    const made = await layer(t);
    if (!made) return;
    const answer = await select(made.url, { maxWidth: 640, maxHeight: 360 });
    assert.equal(answer.status, 200, answer.what);
  });

  test('a rid that is not published is an error', async (t) => {
    const made = await layer(t);
    if (!made) return;
    is4xx(await select(made.url, { rid: 'no-such-layer' }));
    is4xx(await select(made.url, { encodingId: 'no-such-layer' }));
  });

  test('a layer within a layer, of a stream that has none (no SVC), is an error', async (t) => {
    const made = await layer(t);
    if (!made) return;
    for (const wish of [{ spatialLayerId: 1 }, { temporalLayerId: 2 }, { spatialLayerId: 1, temporalLayerId: 1 }])
      is4xx(await select(made.url, wish));
  });

  test('an m-line that is not there is an error', async (t) => {
    const made = await layer(t);
    if (!made) return;
    is4xx(await select(made.url, { mediaId: '17', maxHeight: 360 }));
  });

  test('a body that is no JSON object is refused with 4xx', async (t) => {
    const made = await layer(t);
    if (!made) return;
    for (const body of ['', '{', '[]', '"h"', '{"maxHeight":"low"}'])
      is4xx(await target.request(made.url, { method: 'POST', headers: JSON_TYPE, body }));
    is4xx(await target.request(made.url, { method: 'POST', headers: { 'Content-Type': 'text/plain' }, body: '{}' }));
  });

  test('a DELETE, which the reference player sends, gives the choice back to the server', async (t) => {
    const made = await layer(t);
    if (!made) return;
    const answer = await target.request(made.url, { method: 'DELETE' });
    assert.equal(answer.status, 200, answer.what);
  });

  test('with the session the choice is gone', async (t) => {
    const made = await layer(t);
    if (!made) return;
    assert.equal((await made.session.delete()).status, 200);
    is4xx(await select(made.url, {}));
  });
});
