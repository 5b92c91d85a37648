// Whatever a stranger sends over HTTP, the answer is a clear 4xx.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { after, before, test } from 'node:test';
import { chromium, open } from './helpers/browsers.js';
import { Server } from './helpers/server.js';

const SDP = { 'Content-Type': 'application/sdp' };
let server, offer;

before(async () => {
  server = await Server.start();
  const browser = await chromium();
  const page = await open(browser, `${server.url}/`);
  offer = await page.evaluate(async () => {
    const pc = new RTCPeerConnection();
    pc.addTransceiver('audio', { direction: 'sendonly' });
    pc.addTransceiver('video', { direction: 'sendonly' });
    return (await pc.createOffer()).sdp;
  });
  await browser.close();
});

after(() => server?.stop());

async function assertRefused(path, options, statuses) {
  const response = await fetch(server.url + path, { method: 'POST', ...options });
  const text = await response.text();
  const what = `${options.method ?? 'POST'} ${path}: ${response.status} ${text.slice(0, 300)}`;
  assert.ok([statuses].flat().includes(response.status), what);
  assert.equal(response.headers.get('Content-Type'), 'application/problem+json', what);
  const problem = JSON.parse(text);
  assert.equal(problem.status, response.status, what);
  assert.ok(problem.detail.length > 10, what);
}

// Announces a body of so many bytes, sends none of it, and returns the status of the answer.
async function statusOfAnnounced(path, bytes) {
  const call = request(server.url + path, { method: 'POST', headers: { ...SDP, 'Content-Length': bytes } });
  call.flushHeaders();
  const [response] = await once(call, 'response');
  call.on('error', () => {}); // the server closes what it will not read
  call.destroy();
  return response.statusCode;
}

for (const end of ['whip', 'whep']) {
  test(`${end} refuses bodies that are no offer`, async () => {
    const bad = ['hello', 'v=0\r\n', '\0'.repeat(100), offer.slice(0, 300), offer.replaceAll('m=', 'x=')];
    if (end === 'whip') bad.push(''); // a player that sends nothing wants an offer of ours
    for (const body of bad) await assertRefused(`/bad/${end}`, { headers: SDP, body }, [400, 422]);
  });

  test(`${end} refuses other types and too much`, async () => {
    await assertRefused(`/bad/${end}`, { headers: { 'Content-Type': 'text/plain' }, body: offer }, 415);
    await assertRefused(`/bad/${end}`, { headers: { 'Content-Type': 'application/json' }, body: '{}' }, 415);
    await assertRefused(`/bad/${end}`, { headers: SDP, body: offer + 'a=x\r\n'.repeat(5000) }, 413);
    assert.equal(await statusOfAnnounced(`/bad/${end}`, 10_000_000), 413, 'before the body is sent');
  });
}

test('offers in the wrong direction, without a fingerprint or with a poor one are refused', async () => {
  await assertRefused('/bad/whip', { headers: SDP, body: offer.replaceAll('a=sendonly', 'a=recvonly') }, [400, 422]);
  await assertRefused('/bad/whep', { headers: SDP, body: offer }, [400, 422]);
  await assertRefused('/bad/whip', { headers: SDP, body: offer.replace(/a=fingerprint:.*\r\n/g, '') }, [400, 422]);
  await assertRefused('/bad/whip', { headers: SDP, body: offer.replace(/(a=fingerprint:sha-256 )../g, '$1ZZ') }, [400, 422]);
});

test('unknown sessions and paths are 404, wrong methods 405', async () => {
  for (const method of ['GET', 'PATCH', 'DELETE'])
    await assertRefused('/session/0123456789abcdef', { method, headers: method === 'PATCH' ? { 'Content-Type': 'application/trickle-ice-sdpfrag' } : {} }, 404);
  await assertRefused('/no/such/path', { method: 'GET' }, 404);
  await assertRefused('/session/%00', { method: 'GET' }, [400, 404]);
  await assertRefused('/bad/whip', { method: 'PUT', headers: SDP, body: offer }, 405);
});

test('names that are ours or no names at all are refused', async () => {
  for (const name of ['api', 'session', 'publish', 'client', '..%2f..%2fetc', 'a'.repeat(5000)])
    await assertRefused(`/${name}/whip`, { headers: SDP, body: offer }, [400, 404, 405, 414]);
});

test('requests through a proxy or another host name are not open to everybody', async () => {
  await assertRefused('/bad/whip', { headers: { ...SDP, 'X-Forwarded-For': '192.0.2.1' }, body: offer }, 401);
  await assertRefused('/bad/whip', { headers: { ...SDP, Origin: 'https://elsewhere.example' }, body: offer }, 401);
});

test('refusals leave nothing behind', async () => {
  assert.deepEqual(await server.streams(), []);
  const response = await fetch(`${server.url}/good/whip`, { method: 'POST', headers: SDP, body: offer });
  assert.equal(response.status, 201, await response.text());
  const session = new URL(response.headers.get('Location'), response.url);
  assert.equal((await fetch(session, { method: 'DELETE' })).status, 200);
});
