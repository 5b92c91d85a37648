// What the two WHEP suites share: whom they ask, and the publisher that a server may want before it lets anybody watch.
import assert from 'node:assert/strict';
import { stage } from '../helpers/stage.js';
import { offer, request, Target } from './http.js';

export const JSON_TYPE = { 'Content-Type': 'application/json' };

export const is4xx = ({ status, what }) => assert.ok(status >= 400 && status < 500, what);

/** Who is asked, until the last test is over. */
export async function startTarget() {
  const { target } = await stage({ target: () => Target.start('whep'), publisher: startPublisher });
  return target;
}

// Publishes to WHIP_ENDPOINT with WHIP_TOKEN, if there is one: a session without media.
async function startPublisher() {
  const { WHIP_ENDPOINT: endpoint, WHIP_TOKEN: token } = process.env;
  if (!endpoint) return { stop: () => {} };
  const authorization = token && { Authorization: `Bearer ${token}` };
  const headers = { 'Content-Type': 'application/sdp', ...authorization };
  const answer = await request(endpoint, { method: 'POST', headers, body: offer('browser-publish') });
  assert.equal(answer.status, 201, answer.what);
  const session = new URL(answer.headers.location, endpoint).href;
  return { stop: () => request(session, { method: 'DELETE', headers: authorization ?? {} }) };
}
