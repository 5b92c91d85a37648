// Conformance of a WHEP server, asked over HTTP alone: draft-ietf-wish-whep, with sections as in its editors' copy of April
// 2026, which has §4.2 "URL Discoverability". The extensions are in whep-extensions.test.js.
//
//   node --test conformance/whep.test.js                                   asks uringcast, which is started for it
//   WHEP_ENDPOINT=https://… WHEP_TOKEN=… node --test conformance/whep.test.js    asks any other server
//
// A server that wants a publisher first gets one by WHIP_ENDPOINT and WHIP_TOKEN, as far as a session without media is one.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { attribute, fragment, freshCredentials, links, offer, request, sections, sessionLevel, Target } from './http.js';
import { is4xx, JSON_TYPE, startTarget } from './whep.js';

const SDP = { 'Content-Type': 'application/sdp' };
const CANDIDATE = 'a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host';
const PLAY = offer('browser-play');

const target = await startTarget();

const mediaType = (answer) => (answer.headers['content-type'] ?? '').split(';')[0].trim().toLowerCase();
const directions = (sdp) => sections(sdp).map((section) => section.match(/^a=(sendonly|recvonly|sendrecv|inactive)\r?$/m)?.[1]);
const attributes = (section, key) => [...section.matchAll(new RegExp(`^a=${key}:(.*?)\r?$`, 'gm'))].map(([, value]) => value);

describe('HTTP usage', () => {
  test('§4.1 a GET on the endpoint is answered 2xx without content', async () => {
    const answer = await target.request(target.endpoint);
    assert.ok(answer.status >= 200 && answer.status < 300, answer.what);
    assert.equal(answer.text, '');
  });

  test('§4.1 a GET on the session URL is answered 2xx without content', async (t) => {
    const session = await target.open(t, PLAY);
    const answer = await session.request({ method: 'GET' });
    assert.ok(answer.status >= 200 && answer.status < 300, answer.what);
    assert.equal(answer.text, '');
  });

  test('§4.2 a HEAD on the endpoint is answered 200 with Content-Type: application/sdp and no body', async () => {
    const answer = await target.request(target.endpoint, { method: 'HEAD' });
    assert.equal(answer.status, 200, answer.what);
    assert.equal(mediaType(answer), 'application/sdp');
    assert.equal(answer.text, '');
  });

  test('§4.2 HEAD and GET on the endpoint have the same Content-Type', async () => {
    const [head, get] = [await target.request(target.endpoint, { method: 'HEAD' }), await target.request(target.endpoint)];
    assert.equal(mediaType(get), mediaType(head), get.what);
  });

  test('§4.1 errors that carry details carry them as application/problem+json (RFC 9457)', async () => {
    const answer = await target.post('no SDP at all');
    is4xx(answer);
    if (mediaType(answer) === 'application/problem+json') assert.equal(answer.json().status ?? answer.status, answer.status);
  });
});

describe('playback session set up', () => {
  test('§4.3.1 an accepted offer is answered 201, application/sdp, with a Location', async (t) => {
    const { answer, sdp } = await target.open(t, PLAY);
    assert.equal(answer.status, 201, answer.what);
    assert.equal(mediaType(answer), 'application/sdp');
    assert.ok(answer.headers.location, 'Location');
    assert.ok(sdp.startsWith('v=0\r\n'), sdp.slice(0, 20));
  });

  test('§4.3.1 the answer has the m-sections of the offer, in their order (RFC 9429 §5.3.1)', async (t) => {
    const { sdp } = await target.open(t, PLAY);
    const kinds = (text) => sections(text).map((section) => section.match(/^m=(\w+)/)[1]);
    assert.deepEqual(kinds(sdp), kinds(PLAY));
    assert.deepEqual(sections(sdp).map((section) => attribute(section, 'mid')), sections(PLAY).map((section) => attribute(section, 'mid')));
  });

  test('§4.3.1 an answer has no payload type that was not offered', async (t) => {
    const { sdp } = await target.open(t, PLAY);
    const payloads = (text) => sections(text).map((section) => section.match(/^m=\w+ \d+ \S+ (.*?)\r?\n/)[1].split(' '));
    const offered = payloads(PLAY);
    payloads(sdp).forEach((answered, index) => answered.forEach((pt) => assert.ok(offered[index].includes(pt), `${pt} in section ${index}`)));
  });

  test('§4.3.4 another content type is refused with 4xx', async () => {
    for (const type of ['text/plain', 'application/json', 'application/trickle-ice-sdpfrag'])
      is4xx(await target.post(PLAY, { 'Content-Type': type }));
  });

  test('§4.3.4 a malformed offer is refused with 4xx', async () => {
    // An empty body is none: to some servers it is the wish for an offer of theirs (§4.3.2).
    for (const body of ['hello', '{}', 'v=0\r\n', PLAY.slice(0, 300)]) is4xx(await target.post(body));
  });

  test('§4.3.5 the answer is sendonly', async (t) => {
    const { sdp } = await target.open(t, PLAY);
    assert.deepEqual(directions(sdp), ['sendonly', 'sendonly']);
  });

  test('§4.3.5 an offer with sendrecv may be used, and its answer is sendonly', async (t) => {
    const { sdp } = await target.open(t, PLAY.replaceAll('a=recvonly', 'a=sendrecv'));
    assert.deepEqual(directions(sdp), ['sendonly', 'sendonly']);
  });

  for (const direction of ['sendonly', 'inactive'])
    test(`§4.3.5 an offer with ${direction} must not be used and is refused with 4xx`, async () => {
      is4xx(await target.post(PLAY.replaceAll('a=recvonly', `a=${direction}`)));
    });

  test('§4.3.2 a counter-offer is 406 with an SDP offer that sends, and a Location', async (t) => {
    const answer = await target.post(PLAY);
    const url = answer.headers.location && new URL(answer.headers.location, target.endpoint).href;
    t.after(() => url && target.request(url, { method: 'DELETE' }));
    if (answer.status !== 406) return assert.equal(answer.status, 201, answer.what);
    assert.equal(mediaType(answer), 'application/sdp');
    assert.ok(url, 'Location');
    directions(answer.text).forEach((direction) => assert.ok(['sendonly', 'sendrecv'].includes(direction), direction));
    const until = answer.headers['content-type'].match(/valid-until="([^"]*)"/)?.[1];
    if (until) assert.ok(Date.parse(until) > Date.now(), until);
  });
});

describe('session management', () => {
  test('§4.3.8 without a publisher the server waits, or refuses with 409 and Retry-After in seconds', async (t) => {
    const nobody = new URL(target.endpoint);
    if (target.ours) nobody.pathname = '/nobody-publishes-this/whep';
    const answer = await target.post(PLAY, {}, nobody.href);
    const url = answer.headers.location && new URL(answer.headers.location, nobody).href;
    t.after(() => url && target.request(url, { method: 'DELETE' }));
    if (answer.status === 409) assert.match(answer.headers['retry-after'] ?? '', /^\d+$/, answer.what);
    else assert.ok([201, 406].includes(answer.status), answer.what);
  });

  test('§4.3.8 a server that requires a publisher refuses with 409 and Retry-After in seconds', { skip: process.env.WHEP_ENDPOINT && 'the other server decides' }, async () => {
    const strict = await Target.start('whep', { args: ['--no-publisher', 'refuse'] });
    try {
      const answer = await strict.post(PLAY);
      assert.equal(answer.status, 409, answer.what);
      assert.match(answer.headers['retry-after'] ?? '', /^\d+$/);
    } finally {
      await strict.stop();
    }
  });

  test('§4.4 a DELETE on the session URL is answered 200, and the session is gone', async (t) => {
    const session = await target.open(t, PLAY);
    assert.equal((await session.delete()).status, 200);
    is4xx(await session.request({ method: 'GET' }));
    is4xx(await session.delete());
  });

  test('§4.4 a DELETE needs no entity tag and heeds none', async (t) => {
    const session = await target.open(t, PLAY);
    assert.equal((await session.delete({ 'If-Match': '"of another session"' })).status, 200);
  });

  test('§4.4 an OPTIONS on the endpoint is answered 200 with Accept-Post: application/sdp', async () => {
    const answer = await target.request(target.endpoint, { method: 'OPTIONS' });
    assert.equal(answer.status, 200, answer.what);
    assert.match(answer.headers['accept-post'] ?? '', /application\/sdp/);
  });

  test('§4.4 a preflight is answered 2xx without a token and allows what players send', async () => {
    const headers = {
      Origin: 'https://player.example',
      'Access-Control-Request-Method': 'POST',
      'Access-Control-Request-Headers': 'authorization,content-type',
    };
    const answer = await request(target.endpoint, { method: 'OPTIONS', headers });
    assert.ok(answer.status >= 200 && answer.status < 300, answer.what);
    assert.ok(['*', headers.Origin].includes(answer.headers['access-control-allow-origin']), 'the origin is allowed');
    for (const name of ['authorization', 'content-type', 'if-match'])
      assert.ok((answer.headers['access-control-allow-headers'] ?? '').toLowerCase().includes(name), `${name} is allowed`);
    for (const method of ['POST', 'PATCH', 'DELETE'])
      assert.ok((answer.headers['access-control-allow-methods'] ?? '').includes(method), `${method} is allowed`);
  });

  test('§4.4 a web page can read the answers: Location, ETag and Link are exposed', async (t) => {
    const { answer } = await target.open(t, PLAY, { Origin: 'https://player.example' });
    const exposed = (answer.headers['access-control-expose-headers'] ?? '').toLowerCase();
    for (const name of ['location', 'etag', 'link']) assert.ok(exposed.includes(name), `${name} is exposed`);
  });

  test('§4.4 methods that mean nothing on a session URL are refused with 4xx', async (t) => {
    const session = await target.open(t, PLAY);
    is4xx(await session.request({ method: 'PUT', headers: SDP, body: PLAY }));
    is4xx(await session.request({ method: 'POST', headers: JSON_TYPE, body: '{"muted":true}' }));
    assert.equal((await session.delete()).status, 200, 'it has done the session no harm');
  });
});

describe('trickle ICE and ICE restarts', () => {
  test('§4.5.1 a PATCH of another content type is refused with 4xx', async (t) => {
    const session = await target.open(t, PLAY);
    is4xx(await session.patch(fragment(PLAY, [CANDIDATE]), { 'Content-Type': 'text/plain', 'If-Match': session.etag ?? '*' }));
  });

  test('§4.5.1 a malformed fragment is refused with 4xx', async (t) => {
    const session = await target.open(t, PLAY);
    for (const body of ['', 'hello', '{"candidate":""}']) is4xx(await session.patch(body, { 'If-Match': session.etag ?? '*' }));
  });

  test('§4.5.1 the entity tag of the 201 is strong, and another one for each session', async (t) => {
    const [one, other] = [await target.open(t, PLAY), await target.open(t, PLAY)];
    if (one.etag === undefined) return assert.equal(other.etag, undefined);
    assert.match(one.etag, /^"[^"]+"$/);
    assert.notEqual(one.etag, other.etag);
  });

  test('§4.5.1 a PATCH for another ICE session is refused with 412', async (t) => {
    const session = await target.open(t, PLAY);
    if (!session.etag) return t.skip('no entity tags');
    const answer = await session.patch(fragment(PLAY, [CANDIDATE], freshCredentials()), { 'If-Match': '"of another session"' });
    assert.equal(answer.status, 412, answer.what);
  });

  // Servers may be lenient with candidates for the very ICE session that lives: the reference player has no If-Match.
  test('§4.5.1 candidates whose If-Match is missing are refused with 428, or forgiven', async (t) => {
    const session = await target.open(t, PLAY);
    const answer = await session.patch(fragment(PLAY, [CANDIDATE]), {});
    assert.ok([204, 428].includes(answer.status), answer.what);
  });

  test('§4.5.2 a PATCH of candidates is answered 204 without body and ETag, or 422 where trickle is not supported', async (t) => {
    const session = await target.open(t, PLAY);
    const answer = await session.patch(fragment(PLAY, [CANDIDATE, 'a=end-of-candidates']));
    assert.ok([204, 422].includes(answer.status), answer.what);
    assert.equal(answer.text.length > 0 && answer.status === 204, false);
    if (answer.status === 204) assert.equal(answer.headers.etag, undefined);
  });

  test('§4.5.2 candidates of unknown transports or unresolvable addresses are dropped silently', async (t) => {
    const session = await target.open(t, PLAY);
    const strange = [
      'a=candidate:1 1 carrier-pigeon 2122260223 192.0.2.1 61764 typ host',
      'a=candidate:2 1 udp 2122260223 0b0e1fc8-0000-4000-8000-000000000000.local 61764 typ host',
      'a=candidate:3 2 tcp 1518280447 192.0.2.1 9 typ host tcptype active',
    ];
    const answer = await session.patch(fragment(PLAY, [...strange, CANDIDATE]));
    assert.ok([204, 422].includes(answer.status), answer.what);
  });

  test('§4.5.1 candidates may come after the end of candidates, and at once with others', async (t) => {
    const session = await target.open(t, PLAY);
    const bodies = [['a=end-of-candidates'], [CANDIDATE], [CANDIDATE]].map((lines) => fragment(PLAY, lines));
    const answers = await Promise.all(bodies.map((body) => session.patch(body)));
    assert.ok(answers.every(({ status }) => [204, 422].includes(status)), answers.map(({ what }) => what).join());
  });

  test('§4.5.3 an ICE restart is answered 200 with new credentials and a new entity tag, or an error that leaves the session', async (t) => {
    const session = await target.open(t, PLAY);
    const answer = await session.patch(fragment(PLAY, [], freshCredentials()), { 'If-Match': '*' });
    if (answer.status !== 200) {
      is4xx(answer);
      return assert.equal((await session.delete()).status, 200, 'the session is still there');
    }
    assert.equal(mediaType(answer), 'application/trickle-ice-sdpfrag');
    for (const key of ['ice-ufrag', 'ice-pwd']) {
      assert.ok(attribute(answer.text, key), `${key} in ${answer.text}`);
      assert.notEqual(attribute(answer.text, key), attribute(session.sdp, key), `${key} is new`);
    }
    assert.match(answer.headers.etag ?? '', /^"[^"]+"$/);
    assert.notEqual(answer.headers.etag, session.etag);
    assert.equal(/^a=ice-lite\r?$/m.test(answer.text), /^a=ice-lite\r?$/m.test(session.sdp), 'ice-lite as before');
  });
});

describe('WebRTC constraints', () => {
  test('§4.6.1 all sections are bundled, with rtcp-mux and rtcp-mux-only', async (t) => {
    const { sdp } = await target.open(t, PLAY);
    const mids = sections(sdp).map((section) => attribute(section, 'mid'));
    assert.equal(attribute(sessionLevel(sdp), 'group'), `BUNDLE ${mids.join(' ')}`);
    for (const section of sections(sdp)) {
      assert.match(section, /^a=rtcp-mux\r?$/m);
      assert.match(section, /^a=rtcp-mux-only\r?$/m);
    }
  });

  test('§4.6.2 all sections belong to one MediaStream', async (t) => {
    const { sdp } = await target.open(t, PLAY);
    const streams = sections(sdp).map((section) => attributes(section, 'msid').map((msid) => msid.split(' ')[0]));
    assert.equal(new Set(streams.flat()).size, 1, JSON.stringify(streams));
    assert.ok(streams.every(({ length }) => length === 1), 'one track in each section');
  });

  test('§4.6.3 the answer carries ICE credentials and every candidate, as there is no other way for them', async (t) => {
    const { sdp } = await target.open(t, PLAY);
    assert.ok(attribute(sdp, 'ice-ufrag').length >= 4 && attribute(sdp, 'ice-pwd').length >= 22);
    assert.ok(attributes(sdp, 'candidate').length >= 1);
  });

  test('§4.6 a DTLS fingerprint and one side of the handshake are named', async (t) => {
    const { sdp } = await target.open(t, PLAY);
    assert.match(attribute(sdp, 'fingerprint') ?? '', /^sha-\d+ ([0-9A-F]{2}:)+[0-9A-F]{2}$/i);
    assert.match(attribute(sdp, 'setup') ?? '', /^(active|passive)$/);
  });
});

describe('redirects, STUN and TURN, authentication', () => {
  test('§4.7 a POST is never redirected with 301 or 302, and with 307 only to somewhere', async (t) => {
    const answer = await target.post(PLAY);
    const url = answer.headers.location && new URL(answer.headers.location, target.endpoint).href;
    t.after(() => url && answer.status === 201 && target.request(url, { method: 'DELETE' }));
    assert.ok([201, 307, 406].includes(answer.status), answer.what);
    assert.ok(url, 'Location');
  });

  test('§4.8 STUN and TURN servers, where there are any, come as Link rel="ice-server"', async (t) => {
    const { answer } = await target.open(t, PLAY);
    const servers = links(answer).filter(({ rel }) => rel === 'ice-server');
    if (servers.length === 0) return t.skip('the server names none');
    for (const { target: server } of servers) assert.match(server, /^(stun|turn)s?:/);
  });

  test('§4.9 a token that is missing or wrong is refused with 401 and a Bearer challenge', async (t) => {
    if (!target.token) return t.skip('the endpoint asks for no token');
    for (const headers of [SDP, { ...SDP, Authorization: 'Bearer wrong-wrong-wrong-wrong' }]) {
      const answer = await request(target.endpoint, { method: 'POST', headers, body: PLAY });
      assert.ok([401, 403].includes(answer.status), answer.what);
      if (answer.status === 401) assert.match(answer.headers['www-authenticate'] ?? '', /^Bearer/i);
    }
  });

  test('§5 session URLs cannot be guessed', async (t) => {
    const [one, other] = [await target.open(t, PLAY), await target.open(t, PLAY)];
    assert.notEqual(one.url, other.url);
    const guesses = new URL(one.url).pathname.split('/').map((part) => part.replaceAll(/[^\w]/g, '').length);
    assert.ok(Math.max(...guesses) >= 16, one.url);
  });
});
