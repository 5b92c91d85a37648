// The publisher that a WHEP server may want before it lets anybody watch.
import assert from 'node:assert/strict';
import { offer, request } from './http.js';

/** Publishes to WHIP_ENDPOINT with WHIP_TOKEN, if there is one: a session without media. Returns what ends it. */
export async function startPublisher() {
  const { WHIP_ENDPOINT: endpoint, WHIP_TOKEN: token } = process.env;
  if (!endpoint) return () => {};
  const authorization = token && { Authorization: `Bearer ${token}` };
  const headers = { 'Content-Type': 'application/sdp', ...authorization };
  const answer = await request(endpoint, { method: 'POST', headers, body: offer('browser-publish') });
  assert.equal(answer.status, 201, answer.what);
  const session = new URL(answer.headers.location, endpoint).href;
  return () => request(session, { method: 'DELETE', headers: authorization ?? {} });
}
