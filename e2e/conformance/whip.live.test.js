// RFC 9725 with a client that is connected: what needs ICE, DTLS and media. Chromium plays the client.
// Ask another server with WHIP_ENDPOINT=URL [WHIP_TOKEN=…] node --test; CHROMIUM names the browser.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { chromium, open } from '../helpers/browsers.js';
import { makeTestStream } from '../helpers/frames.js';
import { until } from '../helpers/server.js';
import { attribute, fragment, freshCredentials, request, sections, sessionLevel, Target } from './http.js';
import { checkIsAnswered } from './stun.js';

const CONSENT_MS = 30_000; // RFC 7675 §5.1
const PATIENCE_MS = 15_000;

let target, stage, browser;

before(async () => {
  // A page of an origin of its own: everything goes across origins, as with a web application.
  stage = createServer((_, answer) => answer.setHeader('Content-Type', 'text/html').end('<!doctype html>')).listen(0, '127.0.0.1');
  await once(stage, 'listening');
  [target, browser] = await Promise.all([Target.start('whip', { args: ['--strict-etag'] }), chromium()]);
});

after(async () => {
  await browser?.close();
  await target?.stop();
  stage.close();
});

// In the page: publishes as a WHIP client without any library does, and leaves what a test asks for in `window.client`.
async function publishInPage({ endpoint, authorization }) {
  const fetchText = async (url, method, headers, body) => {
    const answer = await fetch(url, { method, headers: { ...authorization, ...headers }, body });
    const named = (name) => answer.headers.get(name);
    return { status: answer.status, etag: named('etag'), location: named('location'), type: named('content-type'), text: await answer.text() };
  };
  const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  const stream = window.makeTestStream({ video: true, audio: true, toneHz: 440, fps: 20 });
  for (const track of stream.getTracks()) pc.addTransceiver(track, { direction: 'sendonly', streams: [stream] });
  await pc.setLocalDescription();
  const created = await fetchText(endpoint, 'POST', { 'Content-Type': 'application/sdp' }, pc.localDescription.sdp);
  if (created.status !== 201) throw new Error(`${created.status} ${created.text}`);
  await pc.setRemoteDescription({ type: 'answer', sdp: created.text });
  const url = new URL(created.location, endpoint).href;
  const FRAGMENT = { 'Content-Type': 'application/trickle-ice-sdpfrag' };

  // RFC 9725 §4.3.3: new credentials and all candidates, in one PATCH.
  const restart = async (star) => {
    const offer = await pc.createOffer({ iceRestart: true });
    await pc.setLocalDescription(offer);
    if (pc.iceGatheringState !== 'complete') {
      await new Promise((done) => pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && done()));
    }
    const tagged = pc.localDescription.sdp.split(/^(?=m=)/m)[1].split('\r\n');
    const wanted = tagged.filter((line) => /^(m=|a=(mid|ice-ufrag|ice-pwd|candidate|end-of-candidates))/.test(line));
    const answer = await fetchText(url, 'PATCH', { ...FRAGMENT, 'If-Match': star }, wanted.map((line) => `${line}\r\n`).join(''));
    if (answer.status !== 200) {
      await pc.setLocalDescription({ type: 'rollback' });
      return answer;
    }
    const read = (key) => answer.text.match(new RegExp(`^a=${key}:(.*)\r\n`, 'm'))[1];
    const sdp = created.text
      .replaceAll(/a=ice-ufrag:.*\r\n/g, `a=ice-ufrag:${read('ice-ufrag')}\r\n`)
      .replaceAll(/a=ice-pwd:.*\r\n/g, `a=ice-pwd:${read('ice-pwd')}\r\n`)
      .replaceAll(/a=candidate:.*\r\n/g, '')
      .replace(/a=end-of-candidates\r\n/, answer.text.match(/a=candidate:.*\r\n/g).join('') + 'a=end-of-candidates\r\n');
    await pc.setRemoteDescription({ type: 'answer', sdp });
    return answer;
  };
  const pair = async () => {
    const stats = await pc.getStats();
    const transport = [...stats.values()].find(({ type }) => type === 'transport');
    const { id, responsesReceived } = stats.get(transport?.selectedCandidatePairId) ?? {};
    const local = stats.get(stats.get(id)?.localCandidateId);
    return { ufrag: local?.usernameFragment, responsesReceived };
  };
  const ufrag = () => pc.localDescription.sdp.match(/^a=ice-ufrag:(.*)\r$/m)[1];
  // What the server says that it has received, by its receiver reports.
  const heard = async () => {
    const reports = [...(await pc.getStats()).values()].filter(({ type }) => type === 'remote-inbound-rtp');
    return Math.max(0, ...reports.map(({ timestamp }) => timestamp));
  };
  window.client = { pc, url, created, restart, pair, ufrag, heard, fetchText };
}

/** A page that publishes and is connected; `page.session` is its URL. */
async function publish(t, on = browser) {
  const page = await open(on, `http://127.0.0.1:${stage.address().port}/`);
  t.after(async () => {
    await page.close().catch(() => {});
    await target.request(page.session, { method: 'DELETE' });
  });
  await page.evaluate(`window.makeTestStream = ${makeTestStream}`);
  await page.evaluate(publishInPage, { endpoint: target.endpoint, authorization: target.authorization });
  Object.assign(page, await page.evaluate(() => ({ session: client.url, etag: client.created.etag, answer: client.created.text })));
  await until(() => page.evaluate(() => client.pc.connectionState === 'connected'), 'the client is connected', PATIENCE_MS);
  return page;
}

// The whole fragment of a restart that has no candidates yet.
const bare = ({ ufrag, pwd }) => `a=ice-ufrag:${ufrag}\r\na=ice-pwd:${pwd}\r\n`;

const statusOf = async (page) => (await target.request(page.session)).status;
const isHeard = async (page) => {
  const last = await page.evaluate(() => client.heard());
  return until(() => page.evaluate((last) => client.heard().then((now) => now > last), last), 'media is received and reported', PATIENCE_MS);
};
const patch = (page, body, headers) => target.request(page.session, { method: 'PATCH', headers: { 'Content-Type': 'application/trickle-ice-sdpfrag', ...headers }, body });

for (const star of ['*', '"*"']) {
  test(`RFC 9725 §4.3.3: a restart with If-Match: ${star} is answered 200 with a fragment of new credentials and a new strong ETag`, async (t) => {
    const page = await publish(t);
    const answer = await page.evaluate((star) => client.restart(star), star);
    assert.deepEqual([answer.status, answer.type], [200, 'application/trickle-ice-sdpfrag'], answer.text);
    assert.match(answer.etag, /^"[\x21\x23-\x7e]+"$/);
    assert.notEqual(answer.etag, page.etag);
    for (const key of ['ice-ufrag', 'ice-pwd']) assert.notEqual(attribute(answer.text, key), attribute(page.answer, key), key);
    assert.match(attribute(answer.text, 'ice-ufrag'), /^[0-9a-zA-Z+/]{4,256}$/);
    assert.match(attribute(answer.text, 'ice-pwd'), /^[0-9a-zA-Z+/]{22,256}$/);
    // whip-whep joins several candidates with commas and looks for CRLF.
    assert.equal(answer.text.match(/^a=candidate:.* udp .* typ host/gim)?.length, 1, answer.text);
    assert.ok(answer.text.endsWith('\r\n') && !/[^\r]\n/.test(answer.text));
  });
}

test('RFC 9725 §4.3.3: after a restart checks go on with the new credentials, and media goes on', async (t) => {
  const page = await publish(t);
  await isHeard(page);
  const before = await page.evaluate(() => client.ufrag());
  assert.equal((await page.evaluate(() => client.restart('*'))).status, 200);
  const moved = async () => {
    const [{ ufrag, responsesReceived }, now] = await page.evaluate(async () => [await client.pair(), client.ufrag()]);
    return now !== before && ufrag === now && responsesReceived > 0;
  };
  await until(moved, 'the selected pair is one of the new ICE session', PATIENCE_MS);
  await isHeard(page);
  assert.equal(await page.evaluate(() => client.pc.connectionState), 'connected');
  const dtls = await page.evaluate(() => client.pc.getSenders()[0].transport.state);
  assert.equal(dtls, 'connected', 'DTLS was not made anew');
});

test('RFC 9725 §4.3.3: the answer to a restart MUST repeat ice-lite, ice-options and ice-pacing of the SDP answer', async (t) => {
  const page = await publish(t);
  const answer = await page.evaluate(() => client.restart('*'));
  const ice = (text) => text.match(/^a=ice-(lite|options|pacing).*$/gm)?.map((line) => line.trim()).sort() ?? [];
  assert.deepEqual(ice(answer.text), ice(sessionLevel(page.answer)));
});

test('RFC 9725 §4.3.1: after a restart the old entity tag MUST be answered 412, the new one matches', async (t) => {
  const page = await publish(t);
  const { status, etag } = await page.evaluate(() => client.restart('*'));
  assert.equal(status, 200);
  const section = sections(await page.evaluate(() => client.pc.localDescription.sdp))[0];
  const candidates = section.split('\r\n').filter((line) => /^a=(mid|ice-ufrag|ice-pwd|candidate)/.test(line));
  const body = ['m=audio 9 UDP/TLS/RTP/SAVPF 0', ...candidates].map((line) => `${line}\r\n`).join('');
  assert.equal((await patch(page, body, { 'If-Match': page.etag })).status, 412);
  assert.equal((await patch(page, body, { 'If-Match': etag })).status, 204);
  assert.equal((await patch(page, body, { 'If-Match': '*' })).status, 204, 'credentials that are known restart nothing');
});

test('RFC 9725 §4.3.1: a request of the ICE session before, handled late, restarts nothing', async (t) => {
  const page = await publish(t);
  const before = sections(await page.evaluate(() => client.pc.localDescription.sdp))[0];
  assert.equal((await page.evaluate(() => client.restart('*'))).status, 200);
  const late = bare({ ufrag: attribute(before, 'ice-ufrag'), pwd: attribute(before, 'ice-pwd') });
  for (const tag of ['*', page.etag]) assert.equal((await patch(page, late, { 'If-Match': tag })).status, 412);
  await isHeard(page);
});

test('RFC 9725 §4.3.3: ICE restarts again and again', async (t) => {
  const page = await publish(t);
  const tags = [page.etag];
  for (let i = 0; i < 3; i += 1) {
    const { status, etag, text } = await page.evaluate(() => client.restart('*'));
    assert.equal(status, 200, text);
    tags.push(etag);
    await isHeard(page);
  }
  assert.equal(new Set(tags).size, tags.length);
});

test('RFC 9725 §4.3.3: overlapping restarts leave one ICE session, and another restart repairs what the client took wrong', async (t) => {
  const page = await publish(t);
  await isHeard(page);
  const lost = () => patch(page, bare(freshCredentials()), { 'If-Match': '*' });
  const answers = await Promise.all([lost(), lost(), lost()]);
  // The first is satisfied; one that finds it in progress may be told to wait.
  assert.ok(answers.some(({ status }) => status === 200), answers.map(({ what }) => what).join());
  for (const { status, what } of answers) assert.ok([200, 409].includes(status), what);
  const tags = answers.filter(({ status }) => status === 200).map(({ headers }) => headers.etag);
  assert.equal(new Set(tags).size, tags.length);
  const { status, text } = await page.evaluate(() => client.restart('*'));
  assert.equal(status, 200, text);
  await isHeard(page);
});

test('RFC 8445 §9: once the client is on the new ICE session, checks with the credentials before are not answered', async (t) => {
  const page = await publish(t);
  const theirs = (sdp) => ({ ufrag: attribute(sdp, 'ice-ufrag'), pwd: attribute(sdp, 'ice-pwd') });
  const [client, server] = [theirs(await page.evaluate(() => window.client.pc.localDescription.sdp)), theirs(page.answer)];
  const [, address, port] = page.answer.match(/^a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host/im);
  const isAnswered = () => checkIsAnswered({ address, port: Number(port), username: `${server.ufrag}:${client.ufrag}`, pwd: server.pwd });
  assert.ok(await isAnswered(), 'before the restart they are');
  assert.equal((await page.evaluate(() => window.client.restart('*'))).status, 200);
  await isHeard(page);
  await until(async () => !(await isAnswered()), 'the old credentials are forgotten', PATIENCE_MS);
  await isHeard(page);
});

test('RFC 9725 §4.3.3: a restart that cannot be satisfied MUST NOT end the ICE session that there is', async (t) => {
  const page = await publish(t);
  const answer = await patch(page, 'a=ice-ufrag:onlyhalf\r\n', { 'If-Match': '*' });
  assert.ok(answer.status >= 400 && answer.status < 500, answer.what);
  await isHeard(page);
  assert.equal(await page.evaluate(() => client.pc.connectionState), 'connected');
});

test('RFC 9725 §4.3.1: candidates that come when DTLS is up already are taken', async (t) => {
  const page = await publish(t);
  const local = await page.evaluate(() => client.pc.localDescription.sdp);
  const body = fragment(local, ['a=end-of-candidates']);
  assert.equal((await patch(page, body, { 'If-Match': page.etag })).status, 204);
  await isHeard(page);
});

test('RFC 9725 §4.2, RFC 7675 §5.2: DELETE ends ICE and DTLS of the session', async (t) => {
  const page = await publish(t);
  await isHeard(page);
  assert.equal((await target.request(page.session, { method: 'DELETE' })).status, 200);
  // Chromium learns of it by close_notify, long before its checks would fail.
  await until(() => page.evaluate(() => client.pc.getSenders()[0].transport.state === 'closed'), 'DTLS was closed', PATIENCE_MS);
});

test('RFC 9725 §4.2: DTLS teardown by the client ends the session', async (t) => {
  const page = await publish(t);
  await page.evaluate(() => client.pc.close());
  await until(async () => (await statusOf(page)) === 404, 'the session is gone', PATIENCE_MS);
  assert.equal((await target.request(page.session, { method: 'DELETE' })).status, 200, 'a DELETE that follows is not blamed');
});

test('RFC 9725 §4.2, RFC 7675 §5.1: a client that vanishes without a word loses its session when consent expires', async (t) => {
  const doomed = await chromium();
  t.after(() => doomed.close());
  const page = await publish(t, doomed);
  await isHeard(page);
  doomed.process().kill('SIGKILL');
  assert.notEqual(await statusOf(page), 404, 'not at once: its network may only be slow');
  await until(async () => (await statusOf(page)) === 404, 'the session is gone', CONSENT_MS + PATIENCE_MS);
});

test('Fetch standard, HTTP-redirect fetch: a client redirected by 307 from another host publishes with the token in the URL', async (t) => {
  if (!target.ours) return t.skip('how tokens get into URLs is for each server to say (RFC 9725 §4.7.1)');
  const balancer = createServer((_, answer) => {
    answer.setHeader('Access-Control-Allow-Origin', '*');
    answer.setHeader('Access-Control-Allow-Headers', 'Authorization, Content-Type');
    answer.setHeader('Location', `${target.endpoint}?access_token=${target.token}`);
    answer.writeHead(answer.req.method === 'OPTIONS' ? 204 : 307).end();
  });
  balancer.listen(0, '127.0.0.1');
  await once(balancer, 'listening');
  t.after(() => balancer.close());
  const page = await open(browser, `http://127.0.0.1:${stage.address().port}/`);
  t.after(() => page.close());
  await page.evaluate(`window.makeTestStream = ${makeTestStream}`);
  // Another host, so that the browser drops Authorization on its way.
  const endpoint = `http://localhost:${balancer.address().port}/somewhere`;
  await page.evaluate(publishInPage, { endpoint, authorization: target.authorization });
  const session = await page.evaluate(() => client.url);
  t.after(() => request(session, { method: 'DELETE' }));
  assert.equal(new URL(session).host, new URL(target.endpoint).host, 'the Location is absolute');
  await until(() => page.evaluate(() => client.pc.connectionState === 'connected'), 'the client is connected', PATIENCE_MS);
});
