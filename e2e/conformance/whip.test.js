// RFC 9725 as a client without media sees it. Ask another server with WHIP_ENDPOINT=URL [WHIP_TOKEN=…] node --test.
// Names say the section and what it demands; "beyond the RFC" marks what deployed clients need besides.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { until } from '../helpers/server.js';
import { attribute, fragment, freshCredentials, links, offer, request, sections, sessionLevel, Target } from './http.js';

const PUBLISH = offer('browser-publish');
const CANDIDATE = 'a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1';
const END = 'a=end-of-candidates';
const PREFLIGHT = { Origin: 'https://app.example', 'Access-Control-Request-Method': 'POST', 'Access-Control-Request-Headers': 'authorization,content-type' };
const ICE_SERVERS = ['--ice-server', 'stun:stun.example.com:3478', '--ice-server', 'turn:turn.example.com?transport=udp', '--turn-secret', 'for-tests'];

let target;

before(async () => {
  target = await Target.start('whip', { args: ['--strict-etag', ...ICE_SERVERS] });
});

after(() => target?.stop());

const is2xx = (answer) => assert.ok(answer.status >= 200 && answer.status < 300, answer.what);
const is4xx = (answer) => assert.ok(answer.status >= 400 && answer.status < 500, answer.what);
const is = (answer, ...statuses) => assert.ok(statuses.includes(answer.status), `${statuses.join(' or ')} wanted: ${answer.what}`);
const names = (header) => (header ?? '').toLowerCase().split(',').map((name) => name.trim());

// A fragment must leave the session as it was.
async function assertUnharmed(session) {
  is2xx(await session.request({ method: 'GET' }));
  is(await session.patch(fragment(PUBLISH, [CANDIDATE])), 204);
}

// §4.1 HTTP usage

test('RFC 9725 §4.1: GET on the endpoint MUST be answered 2xx without content', async () => {
  const answer = await target.request(target.endpoint);
  is2xx(answer);
  assert.equal(answer.text, '');
});

test('RFC 9725 §4.1: GET on the session MUST be answered 2xx without content', async (t) => {
  const session = await target.open(t, PUBLISH);
  const answer = await session.request({ method: 'GET' });
  is2xx(answer);
  assert.equal(answer.text, '');
});

test('RFC 9725 §4.1: errors MAY carry problem details, which are then those of RFC 9457', async (t) => {
  const answer = await target.post('no offer');
  is4xx(answer);
  if (answer.headers['content-type'] !== 'application/problem+json') return t.skip('this server sends none');
  const problem = answer.json();
  assert.equal(problem.status, answer.status);
  assert.ok(problem.title.length > 0 && problem.detail.length > 0);
});

// §4.2 Ingest session setup

test('RFC 9725 §4.2: POST of an offer MUST be answered 201 with an SDP answer and the Location of the session', async (t) => {
  const session = await target.open(t, PUBLISH);
  assert.equal(session.answer.status, 201);
  assert.equal(session.answer.headers['content-type'].split(';')[0], 'application/sdp');
  assert.ok(session.sdp.startsWith('v=0\r\n'), session.sdp);
  assert.equal(sections(session.sdp).length, sections(PUBLISH).length);
  is2xx(await session.request({ method: 'GET' }));
});

test('RFC 9429 §5.3.1: the answer repeats mids and media kinds in the order of the offer', async (t) => {
  const { sdp } = await target.open(t, PUBLISH);
  const shape = (text) => sections(text).map((section) => [section.split(' ')[0], attribute(section, 'mid')]);
  assert.deepEqual(shape(sdp), shape(PUBLISH));
});

test('RFC 9110 §8.3.1: a media type keeps its meaning with parameters and in capitals', async (t) => {
  for (const type of ['application/sdp; charset=utf-8', 'Application/SDP']) {
    await (await target.open(t, PUBLISH, { 'Content-Type': type })).delete();
  }
});

test('RFC 9725 §4.2: a POST with another content type, or with none, MUST be refused with 4xx', async () => {
  for (const type of ['text/plain', 'application/json', 'application/trickle-ice-sdpfrag']) is4xx(await target.post(PUBLISH, { 'Content-Type': type }));
  is4xx(await target.request(target.endpoint, { method: 'POST', body: PUBLISH }));
});

test('RFC 9725 §4.2: a malformed offer MUST be refused with 4xx', async () => {
  const broken = ['', 'hello', 'v=0\r\n', PUBLISH.slice(0, 300), PUBLISH.replaceAll('m=', 'x='), PUBLISH.replaceAll(/a=ice-ufrag.*\r\n/g, ''), PUBLISH.replaceAll(/a=fingerprint.*\r\n/g, '')];
  for (const body of broken) is4xx(await target.post(body));
});

test('RFC 9725 §4.2: the direction in the answer MUST be recvonly, for sendonly and for sendrecv', async (t) => {
  for (const direction of ['sendonly', 'sendrecv']) {
    const session = await target.open(t, PUBLISH.replaceAll('a=sendonly', `a=${direction}`));
    for (const section of sections(session.sdp)) assert.match(section, /^a=recvonly\r$/m);
    assert.doesNotMatch(session.sdp, /^a=(sendonly|sendrecv|inactive)\r$/m);
    await session.delete();
  }
});

test('RFC 9725 §4.2: offers with inactive or recvonly, which clients MUST NOT make, are refused with 4xx', async () => {
  for (const direction of ['inactive', 'recvonly']) is4xx(await target.post(PUBLISH.replaceAll('a=sendonly', `a=${direction}`)));
});

test('RFC 9725 §4.2: the 200 to OPTIONS SHOULD carry Accept-Post: application/sdp', async () => {
  const answer = await target.request(target.endpoint, { method: 'OPTIONS' });
  is(answer, 200);
  assert.equal(answer.headers['accept-post'], 'application/sdp');
});

test('RFC 9725 §4.2: OPTIONS MUST let web pages of other origins POST, PATCH and DELETE', async (t) => {
  const session = await target.open(t, PUBLISH);
  for (const [url, method] of [[target.endpoint, 'POST'], [session.url, 'PATCH'], [session.url, 'DELETE']]) {
    const answer = await request(url, { method: 'OPTIONS', headers: { ...PREFLIGHT, 'Access-Control-Request-Method': method } });
    is2xx(answer);
    assert.ok(['*', PREFLIGHT.Origin].includes(answer.headers['access-control-allow-origin']), answer.what);
    assert.ok(names(answer.headers['access-control-allow-methods']).includes(method.toLowerCase()), method);
    // The Fetch standard excepts Authorization from a * here.
    for (const name of ['authorization', 'content-type', 'if-match']) assert.ok(names(answer.headers['access-control-allow-headers']).includes(name), name);
  }
});

test('Fetch standard, CORS protocol: scripts may read Location, ETag and Link of a 201', async (t) => {
  const { answer } = await target.open(t, PUBLISH, { Origin: 'https://app.example' });
  assert.ok(['*', 'https://app.example'].includes(answer.headers['access-control-allow-origin']));
  for (const name of ['location', 'etag', 'link']) assert.ok(names(answer.headers['access-control-expose-headers']).includes(name), name);
});

test('RFC 5789 §3.1: OPTIONS on a session that takes PATCH SHOULD name the format in Accept-Patch', async (t) => {
  const session = await target.open(t, PUBLISH);
  const answer = await session.request({ method: 'OPTIONS' });
  is(answer, 200);
  assert.match(answer.headers['accept-patch'] ?? '', /application\/trickle-ice-sdpfrag/);
});

test('RFC 9110 §9.3.2: HEAD is answered as GET, without content', async (t) => {
  const session = await target.open(t, PUBLISH);
  for (const url of [target.endpoint, session.url]) {
    const [get, head] = [await target.request(url), await target.request(url, { method: 'HEAD' })];
    is(head, get.status);
    assert.equal(head.text, '');
  }
});

test('RFC 9725 §4.2: DELETE MUST remove the session, and is answered 200 as in figure 1', async (t) => {
  const session = await target.open(t, PUBLISH);
  is(await session.delete(), 200);
  is(await session.request({ method: 'GET' }), 404);
  is(await session.delete(), 404);
});

test('RFC 9110 §15.5.5: every method on an unknown session is answered 404', async (t) => {
  const session = await target.open(t, PUBLISH);
  await session.delete();
  for (const method of ['GET', 'HEAD', 'DELETE']) is(await session.request({ method }), 404);
  is(await session.patch(fragment(PUBLISH, [CANDIDATE])), 404);
});

test('RFC 9110 §15.5.6: a method that means nothing is answered 405 with Allow', async (t) => {
  const session = await target.open(t, PUBLISH);
  for (const [url, method, some] of [[target.endpoint, 'PUT', 'POST'], [target.endpoint, 'DELETE', 'POST'], [session.url, 'PUT', 'PATCH']]) {
    const answer = await target.request(url, { method });
    is(answer, 405);
    assert.ok(names(answer.headers.allow).includes(some.toLowerCase()), `${method}: ${answer.headers.allow}`);
  }
});

test('RFC 9110 §15.5.14: a body that is too large is answered 413', async () => {
  is(await target.post(PUBLISH + 'a=x\r\n'.repeat(100_000)), 413);
});

test('RFC 9725 §3: there is no renegotiation, so POST and PUT of an offer to the session are answered 405', async (t) => {
  const session = await target.open(t, PUBLISH);
  for (const method of ['POST', 'PUT']) is(await session.request({ method, headers: { 'Content-Type': 'application/sdp' }, body: PUBLISH }), 405);
  await assertUnharmed(session);
});

// §4.3.1 HTTP PATCH request usage

test('RFC 9725 §4.3: sessions are RECOMMENDED to support trickle ICE', async (t) => {
  const session = await target.open(t, PUBLISH);
  is2xx(await session.patch(fragment(PUBLISH, [CANDIDATE])));
});

test('RFC 9725 §4.3.1: a PATCH with another content type MUST be refused with 4xx', async (t) => {
  const session = await target.open(t, PUBLISH);
  for (const type of ['application/sdp', 'application/json', 'text/plain']) is4xx(await session.patch(fragment(PUBLISH, [CANDIDATE]), { 'Content-Type': type, 'If-Match': session.etag }));
  is4xx(await session.request({ method: 'PATCH', headers: { 'If-Match': session.etag }, body: fragment(PUBLISH) }));
  await assertUnharmed(session);
});

test('RFC 9725 §4.3.1: a PATCH with a malformed fragment MUST be refused with 4xx', async (t) => {
  const session = await target.open(t, PUBLISH);
  for (const body of ['', 'hello', '{"candidate": 1}', 'candidate=1\r\n', 'a=ice-ufrag:\r\n', 'm=audio\r\n']) is4xx(await session.patch(body));
  await assertUnharmed(session);
});

test('RFC 9725 §4.3.1: what is not supported of trickle and restart MUST be answered 422, never 405 or 501', async (t) => {
  const session = await target.open(t, PUBLISH);
  is(await session.patch(fragment(PUBLISH, [CANDIDATE])), 204, 422);
  // 409: it is supported, and this session has never been connected.
  is(await session.patch(fragment(PUBLISH, [], freshCredentials()), { 'If-Match': '*' }), 200, 409, 422);
});

test('RFC 9725 §4.3.1: the 201 MUST have a strong entity tag, unique for each ICE session', async (t) => {
  const tags = [];
  for (let i = 0; i < 3; i += 1) {
    const session = await target.open(t, PUBLISH);
    assert.match(session.etag ?? '', /^"[\x21\x23-\x7e]+"$/);
    tags.push(session.etag);
    await session.delete();
  }
  assert.equal(new Set(tags).size, tags.length);
});

test('RFC 9725 §4.3.1, RFC 6585 §3: a PATCH without If-Match MUST be answered 428', async (t) => {
  const session = await target.open(t, PUBLISH);
  is(await session.patch(fragment(PUBLISH, [CANDIDATE]), {}), 428);
  is(await session.patch(fragment(PUBLISH, [CANDIDATE], freshCredentials()), {}), 428);
  await assertUnharmed(session);
});

test('RFC 9725 §4.3.1, RFC 9110 §13.1.1: a PATCH whose If-Match does not match MUST be answered 412', async (t) => {
  const session = await target.open(t, PUBLISH);
  for (const tag of ['"another"', '"another", "and-another"', `W/${session.etag}`]) is(await session.patch(fragment(PUBLISH, [CANDIDATE]), { 'If-Match': tag }), 412);
  await assertUnharmed(session);
});

test('RFC 9110 §13.1.1: If-Match may be a list, of which one tag must match', async (t) => {
  const session = await target.open(t, PUBLISH);
  is(await session.patch(fragment(PUBLISH, [CANDIDATE]), { 'If-Match': `"another", ${session.etag}` }), 204);
});

test('RFC 9725 §4.3.1: entity tags on a DELETE MUST be ignored', async (t) => {
  for (const tag of ['"another"', '*', 'nonsense']) {
    const session = await target.open(t, PUBLISH);
    is2xx(await session.delete({ 'If-Match': tag }));
  }
});

test('beyond the RFC: a request header ETag stands in for If-Match (@eyevinn/whip-web-client)', async (t) => {
  const session = await target.open(t, PUBLISH);
  is(await session.patch(fragment(PUBLISH, [CANDIDATE]), { ETag: session.etag }), 204);
});

// §4.3.2 Trickle ICE

test('RFC 9725 §4.3.2: a PATCH with candidates MUST be answered 204 without body and without ETag', async (t) => {
  const session = await target.open(t, PUBLISH);
  const answer = await session.patch(fragment(PUBLISH, [CANDIDATE, END]));
  assert.deepEqual([answer.status, answer.text, answer.headers.etag], [204, '', undefined]);
});

test('RFC 9725 §4.3.2: a candidate of an unsupported transport or unresolvable address MUST be dropped silently', async (t) => {
  const session = await target.open(t, PUBLISH);
  const odd = [
    'a=candidate:1 1 udp 2122260223 3b3f2a90-1111-4222-8333-944455556666.local 61764 typ host',
    'a=candidate:2 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active',
    'a=candidate:3 1 sctp 1518280447 192.0.2.1 9 typ host',
    'a=candidate:4 2 UDP 2122260222 192.0.2.1 61765 typ host',
    'a=candidate:5 1 udp 1 does-not-exist.invalid 9 typ host',
  ];
  for (const candidate of odd) is(await session.patch(fragment(PUBLISH, [candidate])), 204);
  is(await session.patch(fragment(PUBLISH, [...odd, CANDIDATE])), 204);
});

test('RFC 9725 §4.3.2: the answer SHALL hold all candidates of the server', async (t) => {
  const { sdp } = await target.open(t, PUBLISH);
  // The offerer-tagged m-section is the one whose transport the group uses; simple clients read the first alone.
  assert.match(sections(sdp)[0], /^a=candidate:\S+ 1 udp \d+ \S+ \d+ typ host/im);
});

test('RFC 9725 §4.3.2: offers with an empty list of candidates, and with a full one, are accepted', async (t) => {
  assert.doesNotMatch(PUBLISH, /a=candidate/);
  await (await target.open(t, PUBLISH)).delete();
  assert.match(offer('gstreamer-publish'), /a=candidate/);
  await (await target.open(t, offer('gstreamer-publish'))).delete();
});

test('RFC 8840 §4.4: credentials may stand at the session or at the media level', async (t) => {
  const session = await target.open(t, PUBLISH);
  const credentials = `a=ice-ufrag:${attribute(PUBLISH, 'ice-ufrag')}\r\na=ice-pwd:${attribute(PUBLISH, 'ice-pwd')}\r\n`;
  const media = 'm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n';
  for (const body of [credentials + media, media + credentials, `a=ice-options:trickle ice2\r\na=group:BUNDLE 0 1\r\n${media}${credentials}`]) is(await session.patch(`${body}${CANDIDATE}\r\n${END}\r\n`), 204);
});

test('beyond the RFC: the fragments of deployed clients are read', async (t) => {
  const session = await target.open(t, PUBLISH);
  const credentials = `a=ice-ufrag:${attribute(PUBLISH, 'ice-ufrag')}\r\na=ice-pwd:${attribute(PUBLISH, 'ice-pwd')}\r\n`;
  const media = (mid) => `m=audio 9 RTP/AVP 0\r\na=mid:${mid}\r\n`;
  const bodies = [
    `${credentials}${media(0)}a=\r\n`,
    `${credentials}${media(0)}a=candidate:\r\n`,
    `${credentials}${media(0)}a=candidate:1 0 UDP 2122260223 [2001:db8::1] 61764 typ host\r\n`,
    `${media(0)}${credentials}${CANDIDATE}\r\n${media(1)}${credentials}${CANDIDATE}\r\n`,
    `${credentials}${CANDIDATE}\r\n`.replaceAll('\r\n', '\n'),
    credentials,
  ];
  for (const body of bodies) is(await session.patch(body), 204);
});

test('RFC 9725 §4.3.1: overlapping PATCH requests are handled in any order', async (t) => {
  const session = await target.open(t, PUBLISH);
  is(await session.patch(fragment(PUBLISH, [END])), 204);
  const candidates = Array.from({ length: 8 }, (_, i) => CANDIDATE.replace('61764', 61764 + i));
  const answers = await Promise.all(candidates.map((candidate) => session.patch(fragment(PUBLISH, [candidate]))));
  answers.forEach((answer) => is(answer, 204));
});

// §4.3.3 ICE restarts; the others need a client that is connected

test('RFC 9725 §4.3.3: new credentials MUST be taken as an ICE restart, not as candidates', async (t) => {
  const session = await target.open(t, PUBLISH);
  const answer = await session.patch(fragment(PUBLISH, [CANDIDATE], freshCredentials()), { 'If-Match': '*' });
  assert.notEqual(answer.status, 204, answer.what);
});

test('RFC 9725 §4.3.3: a restart that cannot be satisfied is answered with an error, and MUST NOT end the session', async (t) => {
  const session = await target.open(t, PUBLISH);
  const { ufrag } = freshCredentials();
  is4xx(await session.patch(`a=ice-ufrag:${ufrag}\r\n`, { 'If-Match': '*' }));
  is4xx(await session.patch(`a=ice-ufrag:${ufrag}\r\na=ice-pwd:short\r\n`, { 'If-Match': '*' }));
  await assertUnharmed(session);
});

test('beyond the RFC: a restart before the session is connected is answered 409, and leaves it as it was', async (t) => {
  const session = await target.open(t, PUBLISH);
  for (const star of ['*', '"*"']) is(await session.patch(fragment(PUBLISH, [], freshCredentials()), { 'If-Match': star }), 409);
  await assertUnharmed(session);
});

// §4.4 WebRTC constraints

test('RFC 9725 §4.4.1: the answer SHALL bundle all sections and multiplex RTCP in each', async (t) => {
  for (const name of ['browser-publish', 'gstreamer-publish', 'ffmpeg-publish']) {
    const session = await target.open(t, offer(name));
    const mids = sections(session.sdp).map((section) => attribute(section, 'mid'));
    const groups = sessionLevel(session.sdp).match(/^a=group:BUNDLE .*$/gm);
    assert.deepEqual(groups?.map((group) => group.trim().split(' ').slice(1)), [mids]);
    for (const section of sections(session.sdp)) assert.match(section, /^a=rtcp-mux\r$/m);
    await session.delete();
  }
});

test('RFC 9725 §4.4.1: rtcp-mux-only MUST stand in every bundled section of the answer', async (t) => {
  const { sdp } = await target.open(t, PUBLISH);
  for (const section of sections(sdp)) assert.match(section, /^a=rtcp-mux-only\r$/m);
});

test('beyond the RFC: offers without rtcp-mux-only, as browsers and OBS make them, are accepted', async (t) => {
  assert.doesNotMatch(PUBLISH, /rtcp-mux-only/);
  await target.open(t, PUBLISH);
});

test('RFC 9143 §7.2.1: sections with port 0 and bundle-only are accepted', async (t) => {
  const body = offer('gstreamer-publish');
  assert.match(body, /^m=audio 0 /m);
  const { sdp } = await target.open(t, body);
  assert.equal(sections(sdp).filter((section) => /^m=\w+ 0 /.test(section)).length, 0);
});

test('RFC 9725 §4.4.2: offers with several MediaStreams MUST be answered 422 or 400', async () => {
  is(await target.post(PUBLISH.replaceAll('msid:stage camera', 'msid:other camera')), 400, 422);
});

test('RFC 9725 §4.4.2: offers with two tracks of a kind, or with none at all, MUST be answered 422 or 400', async () => {
  const [audio, video] = sections(PUBLISH);
  const twice = (section) => sessionLevel(PUBLISH).replace('BUNDLE 0 1', 'BUNDLE 0 1 2') + audio + video + section.replace(/a=mid:\d/, 'a=mid:2').replaceAll(/^a=ssrc.*\r\n/gm, '');
  is(await target.post(twice(audio)), 400, 422);
  is(await target.post(twice(video)), 400, 422);
  is(await target.post(sessionLevel(PUBLISH).replace(/a=group.*\r\n/, '')), 400, 422);
});

test('RFC 9725 §4.4.2: one track alone is enough, of either kind', async (t) => {
  for (const [index, section] of sections(PUBLISH).entries()) {
    await (await target.open(t, sessionLevel(PUBLISH).replace('BUNDLE 0 1', `BUNDLE ${index}`) + section)).delete();
  }
});

test('beyond the RFC: offers without a=msid, as GStreamer makes them, are accepted', async (t) => {
  const body = offer('gstreamer-publish');
  assert.doesNotMatch(body, /^a=msid:/m);
  await target.open(t, body);
});

test('RFC 9725 §4.4.3: one section that cannot be accepted SHOULD refuse the whole POST with 422 or 400', async () => {
  const unknown = PUBLISH.replace('VP8/90000', 'X-UNKNOWN/90000').replace('H264/90000', 'X-OTHER/90000');
  is(await target.post(unknown), 400, 422);
});

test('RFC 9725 §4.4.4: setup:active SHOULD be supported, or answered 422 or 400', async (t) => {
  const answer = await target.post(PUBLISH.replaceAll('a=setup:actpass', 'a=setup:active'));
  is(answer, 201, 400, 422);
  if (answer.status !== 201) return t.skip('not supported, and said so');
  assert.deepEqual(sections(answer.text).map((section) => attribute(section, 'setup')), ['passive', 'passive']);
  await target.request(new URL(answer.headers.location, target.endpoint).href, { method: 'DELETE' });
});

test('RFC 8842 §5.3: the answer to setup:actpass is active or passive', async (t) => {
  const { sdp } = await target.open(t, PUBLISH);
  for (const section of sections(sdp)) assert.match(attribute(section, 'setup'), /^(active|passive)$/);
});

test('beyond the RFC: setup:passive, as ffmpeg offers it, is answered with active', async (t) => {
  const { sdp } = await target.open(t, offer('ffmpeg-publish'));
  for (const section of sections(sdp)) assert.equal(attribute(section, 'setup'), 'active');
});

test('RFC 9725 §4.4.5: ICE-lite, which a reachable server MAY use, is said at the session level', async (t) => {
  const { sdp } = await target.open(t, PUBLISH);
  if (!/^a=ice-lite\r$/m.test(sdp)) return t.skip('this server uses full ICE');
  assert.match(sessionLevel(sdp), /^a=ice-lite\r$/m);
});

test('RFC 9725 §4.4.1: offers with more than one BUNDLE group are answered 422 or 400; other groups do not count', async (t) => {
  is(await target.post(PUBLISH.replace('a=group:BUNDLE 0 1', 'a=group:BUNDLE 0\r\na=group:BUNDLE 1')), 400, 422);
  await target.open(t, PUBLISH.replace('a=group:BUNDLE 0 1', 'a=group:BUNDLE 0 1\r\na=group:LS 0 1'));
});

// §4.5 Load balancing and redirections

test('RFC 9725 §4.5: a POST MUST NOT be answered 301 or 302', async (t) => {
  const { answer } = await target.open(t, PUBLISH);
  assert.ok(![301, 302].includes(answer.status));
  const wrong = await target.post('no offer');
  assert.ok(![301, 302].includes(wrong.status), wrong.what);
});

test('Fetch standard, HTTP-redirect fetch: a client that was redirected here comes with Origin: null and is answered all the same', async (t) => {
  const { answer } = await target.open(t, PUBLISH, { Origin: 'null' });
  assert.ok(['*', 'null'].includes(answer.headers['access-control-allow-origin']));
  // Clients resolve a relative Location against the URL that they were redirected from.
  if (target.ours) assert.match(answer.headers.location, /^https?:\/\//);
});

test('RFC 6750 §2: a token in the header and another in the URL are answered 400 invalid_request, the same one twice 201', async (t) => {
  if (!target.ours) return t.skip('how tokens get into URLs is for each server to say (RFC 9725 §4.7.1)');
  const url = (token) => `${target.endpoint}?access_token=${encodeURIComponent(token)}`;
  const answer = await target.post(PUBLISH, {}, url('another'));
  is(answer, 400);
  assert.match(answer.headers['www-authenticate'] ?? '', /error="invalid_request"/);
  const twice = await target.post(PUBLISH, {}, url(target.token));
  is(twice, 201);
  is2xx(await request(twice.headers.location, { method: 'DELETE' }));
});

test('RFC 6750 §2.3: a redirected client, which has lost its Authorization, may have the token in the URL', async (t) => {
  if (!target.ours) return t.skip('how tokens get into URLs is for each server to say (RFC 9725 §4.7.1)');
  const url = `${target.endpoint}?access_token=${encodeURIComponent(target.token)}`;
  const answer = await request(url, { method: 'POST', headers: { 'Content-Type': 'application/sdp', Origin: 'null' }, body: PUBLISH });
  is(answer, 201);
  is2xx(await request(answer.headers.location, { method: 'DELETE' }));
});

test('RFC 6750 §5.3: the query of the endpoint, which may hold a token, is not repeated in Location', async (t) => {
  const answer = await target.post(PUBLISH, {}, `${target.endpoint}?secret=do-not-repeat`);
  is(answer, 201);
  t.after(() => target.request(new URL(answer.headers.location, target.endpoint).href, { method: 'DELETE' }));
  assert.doesNotMatch(answer.headers.location, /do-not-repeat/);
  assert.doesNotMatch(answer.text, /do-not-repeat/);
});

// §4.6 STUN/TURN server configuration

const iceServers = (answer) => links(answer).filter(({ rel }) => rel === 'ice-server');

test('RFC 9725 §4.6: STUN and TURN servers MAY be told by Link in the 201, with username and credential', async (t) => {
  const { answer } = await target.open(t, PUBLISH);
  const servers = iceServers(answer);
  if (servers.length === 0) return t.skip('this server names none');
  for (const { target: url, username, credential } of servers) {
    assert.match(url, /^(stuns?|turns?):[^/]/);
    if (!url.startsWith('turn')) continue;
    assert.ok(username && credential, url);
    assert.doesNotMatch(username + credential, /[,;]/, 'OBS splits at them');
  }
});

test('RFC 9725 §4.6: OPTIONS MAY tell the same servers; a CORS preflight SHOULD NOT', async (t) => {
  const plain = await target.request(target.endpoint, { method: 'OPTIONS' });
  const preflight = await target.request(target.endpoint, { method: 'OPTIONS', headers: PREFLIGHT });
  assert.deepEqual(iceServers(preflight), []);
  const { answer } = await target.open(t, PUBLISH);
  if (iceServers(plain).length === 0) return t.skip('this server tells none on OPTIONS');
  assert.deepEqual(iceServers(plain).map((link) => link.target), iceServers(answer).map((link) => link.target));
});

test('beyond the RFC: OPTIONS tells credentials for TURN to nobody who could not POST', async (t) => {
  const stranger = await request(target.endpoint, { method: 'OPTIONS' });
  is(stranger, 200, 204);
  if (!target.token) return t.skip('needs WHIP_TOKEN: everybody may POST here');
  assert.deepEqual(iceServers(stranger).filter(({ credential }) => credential), []);
});

// §4.7 Authentication and authorization

test('RFC 9725 §4.7, RFC 6750 §3: without a token the answer is 401 with a Bearer challenge', async (t) => {
  if (!target.token) return t.skip('needs WHIP_TOKEN');
  const answer = await request(target.endpoint, { method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: PUBLISH });
  is(answer, 401);
  assert.match(answer.headers['www-authenticate'] ?? '', /^Bearer\b/);
});

test('RFC 6750 §3.1: a wrong token is answered 401 or 403, and Basic is no Bearer', async (t) => {
  if (!target.token) return t.skip('needs WHIP_TOKEN');
  for (const value of ['Bearer wrong', `Bearer ${target.token}x`, `Basic ${target.token}`]) is(await target.post(PUBLISH, { Authorization: value }), 401, 403);
});

test('RFC 9110 §11.1: the scheme Bearer is read without regard to case', async (t) => {
  if (!target.token) return t.skip('needs WHIP_TOKEN');
  await target.open(t, PUBLISH, { Authorization: `bearer ${target.token}` });
});

test('RFC 9725 §4.7.1: preflights carry no token and MUST NOT be refused for that', async (t) => {
  const session = await target.open(t, PUBLISH);
  for (const url of [target.endpoint, session.url]) is2xx(await request(url, { method: 'OPTIONS', headers: PREFLIGHT }));
});

// §4.8 Simulcast, §4.9 extensions, §5 security

test('RFC 9725 §4.8, RFC 8853 §5.3.2: an accepted simulcast offer MUST be answered with its rids to receive', async (t) => {
  const { sdp } = await target.open(t, offer('obs-publish'));
  const video = sections(sdp)[1];
  if (!/^a=simulcast:/m.test(video)) return t.skip('this server accepts no simulcast');
  const wanted = attribute(video, 'simulcast').replace(/^recv /, '').split(';');
  for (const rid of wanted) assert.match(video, new RegExp(`^a=rid:${rid} recv`, 'm'));
  assert.deepEqual(wanted, ['0', '1', '2'], 'OBS gives up unless all layers are accepted');
});

test('RFC 9725 §4.9: extensions MUST be advertised by Link with the prefix urn:ietf:params:whip:ext, and none is required', async (t) => {
  const session = await target.open(t, PUBLISH);
  const extensions = links(session.answer).filter(({ rel }) => rel !== 'ice-server');
  for (const { rel, target: url } of extensions) {
    assert.match(rel, /^urn:ietf:params:whip:ext:/);
    assert.ok(URL.canParse(url, target.endpoint), url);
  }
  await assertUnharmed(session);
});

test('RFC 9725 §5: session URLs SHOULD be unguessable: 96 random bits or more, and never the same', async (t) => {
  const urls = [];
  for (let i = 0; i < 3; i += 1) {
    const session = await target.open(t, PUBLISH);
    urls.push(session.url);
    await session.delete();
  }
  assert.equal(new Set(urls).size, urls.length);
  // Hex digits have 4 bits; where letters and digits mix, count no more.
  for (const url of urls) assert.ok(new URL(url).pathname.replaceAll(/[^0-9a-zA-Z_-]/g, '').length * 4 >= 96, url);
});

test('RFC 9725 §4.5: a server that cannot take sessions MAY answer 503, with Retry-After', async (t) => {
  if (!target.ours) return t.skip('nobody breaks a server that is not ours');
  target.ours.killMedia();
  const answer = await until(async () => {
    const answer = await target.post(PUBLISH);
    if (answer.status === 201) await target.request(answer.headers.location, { method: 'DELETE' });
    return answer.status === 503 && answer;
  }, 'the server says that it takes no sessions');
  assert.match(answer.headers['retry-after'], /^\d+$/);
});
