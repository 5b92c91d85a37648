// What the conformance suites share: whom they ask, how they ask, and what they read out of the answers.
// Nothing here knows uringcast, except that it is started when no other server is named.
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { Server } from '../helpers/server.js';

const TOKEN = 'the-token-of-the-conformance-suite';
const FRAGMENT = 'application/trickle-ice-sdpfrag';
const TIMEOUT_MS = 20_000;

/** An offer of offers/NAME.sdp with CRLF line ends. */
export const offer = (name) => readFileSync(new URL(`offers/${name}.sdp`, import.meta.url), 'utf8').replaceAll(/\r?\n/g, '\r\n');

/** The value of the first line `a=KEY:VALUE` of an SDP text. */
export const attribute = (sdp, key) => sdp.match(new RegExp(`^a=${key}:(.*?)\r?$`, 'm'))?.[1];

/** The m-sections of an SDP text, each from its m= line on. */
export const sections = (sdp) => sdp.split(/^(?=m=)/m).slice(1);

/** What stands above the first m-section. */
export const sessionLevel = (sdp) => sdp.split(/^(?=m=)/m)[0];

/**
 * One request on a connection of its own. No header is added, no redirect followed.
 * The answer: `{status, headers, all(name), text, json()}`; `headers` has lower-case names.
 */
export function request(url, { method = 'GET', headers = {}, body } = {}) {
  const { request: send } = String(url).startsWith('https:') ? https : http;
  return new Promise((resolve, reject) => {
    const call = send(url, { method, headers, agent: false, rejectUnauthorized: false, timeout: TIMEOUT_MS }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('error', reject);
      answer.on('end', () => {
        const text = Buffer.concat(parts).toString();
        const all = (name) => answer.rawHeaders.filter((_, i) => i % 2 && answer.rawHeaders[i - 1].toLowerCase() === name.toLowerCase());
        resolve({ status: answer.statusCode, headers: answer.headers, all, text, json: () => JSON.parse(text), what: `${method} ${answer.statusCode} ${text.slice(0, 300)}` });
      });
    });
    call.on('timeout', () => call.destroy(new Error(`no answer within ${TIMEOUT_MS} ms: ${method} ${url}`)));
    call.on('error', reject);
    call.end(body);
  });
}

/** The values of the Link headers: `[{target, rel, …parameters}]` (RFC 8288 §3). */
export function links(answer) {
  const values = answer.all('link').flatMap((value) => value.split(/,\s*(?=<)/));
  return values.map((value) => {
    const parameters = [...value.matchAll(/;\s*([\w-]+)="?([^";]*)"?/g)].map(([, name, text]) => [name, text]);
    return { target: value.match(/<([^>]*)>/)?.[1], ...Object.fromEntries(parameters) };
  });
}

/** A fragment as browsers' clients send it (RFC 9725 §4.3): credentials of an offer, one m-line, candidates. */
export function fragment(sdp, candidates = [], { ufrag = attribute(sdp, 'ice-ufrag'), pwd = attribute(sdp, 'ice-pwd') } = {}) {
  const mid = attribute(sdp, 'group').split(' ')[1];
  const lines = [`a=ice-ufrag:${ufrag}`, `a=ice-pwd:${pwd}`, 'm=audio 9 UDP/TLS/RTP/SAVPF 0', `a=mid:${mid}`, ...candidates];
  return lines.map((line) => `${line}\r\n`).join('');
}

/** Fresh ICE credentials, as a client that restarts ICE makes them. */
export const freshCredentials = () => {
  const ice = () => Math.random().toString(36).slice(2).padEnd(11, '0');
  return { ufrag: ice().slice(0, 8), pwd: ice() + ice() + ice() };
};

/** A session that a POST made. */
class Session {
  constructor(target, answer) {
    Object.assign(this, { target, answer, sdp: answer.text, etag: answer.headers.etag });
    this.url = new URL(answer.headers.location, target.endpoint).href;
  }

  request(options) {
    return this.target.request(this.url, options);
  }

  /** PATCHes a fragment; without `headers` it carries the entity tag of the 201. */
  patch(body, headers = { 'If-Match': this.etag }) {
    return this.request({ method: 'PATCH', headers: { 'Content-Type': FRAGMENT, ...headers }, body });
  }

  delete(headers = {}) {
    return this.request({ method: 'DELETE', headers });
  }
}

/** Who is asked: the server of WHIP_ENDPOINT or WHEP_ENDPOINT (with WHIP_TOKEN or WHEP_TOKEN), else uringcast. */
export class Target {
  #server;

  /** `protocol` is whip or whep; `args` are for uringcast, which is started only if no other server is named. */
  static async start(protocol, { args = [] } = {}) {
    const target = new Target();
    const name = protocol.toUpperCase();
    target.endpoint = process.env[`${name}_ENDPOINT`];
    target.token = process.env[`${name}_TOKEN`];
    if (target.endpoint) return target;
    target.#server = await Server.start({ args: ['--bind', '127.0.0.1', '--open=false', '--api-token', TOKEN, ...args] });
    target.endpoint = `${target.#server.url}/conformance/${protocol}`;
    target.token = TOKEN;
    return target;
  }

  /** uringcast, or undefined where another server is asked. */
  get ours() {
    return this.#server;
  }

  stop() {
    return this.#server?.stop();
  }

  get authorization() {
    return this.token ? { Authorization: `Bearer ${this.token}` } : {};
  }

  /** A request with the token, unless `headers` say otherwise. */
  request(url, { headers = {}, ...options } = {}) {
    return request(url, { ...options, headers: { ...this.authorization, ...headers } });
  }

  /** POSTs an offer, and whatever it is answered. */
  post(body, headers = {}, url = this.endpoint) {
    return this.request(url, { method: 'POST', headers: { 'Content-Type': 'application/sdp', ...headers }, body });
  }

  /** POSTs an offer that must be accepted; the session ends with the test `t`. */
  async open(t, body, headers = {}) {
    const answer = await this.post(body, headers);
    if (answer.status !== 201) throw new Error(`the offer was not accepted: ${answer.what}`);
    const session = new Session(this, answer);
    t.after(() => session.delete());
    return session;
  }
}
