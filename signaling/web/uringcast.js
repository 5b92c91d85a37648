// Publish by WHIP (RFC 9725) and watch by WHEP from a browser. No dependencies, no build step:
//
//   import { Publisher, Viewer } from '/client/uringcast.js';
//   const viewer = new Viewer({ url: '/demo/whep', video: document.querySelector('video') });
//   viewer.addEventListener('change', () => console.log(viewer.state, viewer.error?.detail));
//   viewer.start();
//
// Both classes are EventTargets that fire `change` whenever `state` or `error` does, and both come back by
// themselves after a lost network or a restarted server. A Viewer also fires `active`, `inactive`, `layers`, `viewercount`
// and `reconnect` when the server says so (WHEP's server-sent events); what it said is in the event's `detail`.

const POLL_MS = 2000; // asks whether the session still exists, only while no media flows
const TICK_MS = 300; // looks at the statistics for new frames
const SILENT_MS = 1500; // no frame and no sound for so long: the publisher is gone
const RESTART_MS = 1000; // a network that is gone for so long may be another one: ICE is restarted
const DISCONNECTED_MS = 4000; // ICE rarely recovers after this; a new session is quicker
const CODEC_RETRY_MS = 5000; // the publisher may come back with a codec that plays here
const BACKOFF_MS = [500, 1000, 2000, 4000, 8000];
const START_KBPS = 1500; // what the publisher's encoder begins with; congestion control takes it from there
const SETTLED_MS = 10000; // a session that lasted so long starts the back-off anew
const EVENTS = ['active', 'inactive', 'layers', 'viewercount', 'reconnect'];
// Browsers open six HTTP/1.1 connections to a host, for all tabs together, and an event stream takes one for good. Over
// HTTPS there is HTTP/2, where it takes none.
const PLAIN_STREAMS_MAX = 2;

// What a status means when the server gave no words of its own.
const WORDS = {
  0: 'The server does not answer.',
  401: 'This stream asks for a token.',
  403: 'This token is not valid for this stream.',
  404: 'The server does not know this stream.',
  409: 'Somebody else is publishing under this name.',
  415: 'The server did not accept SDP. Is this a WHIP or WHEP address?',
  422: 'The server and this browser have no codec in common.',
  503: 'The server takes no new sessions at the moment.',
};

/** A refused request or a lost session. `detail` says in words what happened; `status` is 0 if nothing answered. */
export class Problem extends Error {
  constructor(status, detail, retryAfterMs = null) {
    super(detail ?? WORDS[status] ?? `The server answered with status ${status}.`);
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }

  get detail() {
    return this.message;
  }

  /** Wraps what a browser throws. */
  static of(error) {
    return error instanceof Problem ? error : new Problem(null, error.message);
  }

  /** Reads an error response, whose body is `application/problem+json` (RFC 9457) if it comes from uringcast. */
  static async from(response) {
    const json = response.headers.get('Content-Type')?.startsWith('application/problem+json');
    const problem = json ? await response.json().catch(() => ({})) : {};
    const wait = retryAfter(response.headers.get('Retry-After'));
    return new Problem(response.status, problem.detail ?? problem.title, wait);
  }
}

function retryAfter(header) {
  if (!header) return null;
  const seconds = Number(header);
  const ms = Number.isNaN(seconds) ? Date.parse(header) - Date.now() : seconds * 1000;
  return Number.isNaN(ms) ? null : Math.max(ms, 0);
}

async function request(url, token, options) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  let response;
  try {
    response = await fetch(url, { cache: 'no-store', ...options, headers });
  } catch {
    throw new Problem(0);
  }
  if (!response.ok) throw await Problem.from(response);
  return response;
}

/** The URLs of a 201's WHEP extensions by the last word of their names: `{layer, 'server-sent-events'}`. */
function extensions(response) {
  const links = (response.headers.get('Link') ?? '').matchAll(/<([^>]+)>[^<]*?rel="?urn:ietf:params:whep:ext:core:([\w-]+)/g);
  return Object.fromEntries([...links].map(([, url, name]) => [name, new URL(url, response.url).href]));
}

/** The body of an ICE restart: the new credentials of an offer, for its first m-section (RFC 9725 §4.3.3). */
function restartFragment(sdp) {
  const [kind, mid] = [/^m=(\w+)/m, /^a=mid:(.*)$/m].map((line) => sdp.match(line)[1]);
  const [ufrag, pwd] = ['ice-ufrag', 'ice-pwd'].map((key) => sdp.match(new RegExp(`^a=${key}:.*$`, 'm'))[0]);
  return [ufrag, pwd, `m=${kind} 9 UDP/TLS/RTP/SAVPF 0`, `a=mid:${mid}`, ''].join('\r\n');
}

/**
 * An answer with the credentials of a restart's reply in place of its own. Its candidates stay beside those of the reply: the
 * server is where it was, and some clients understand one candidate there, so servers may send no more.
 */
function restarted(answer, reply) {
  const credentials = ['ice-ufrag', 'ice-pwd'].map((key) => [key, reply.match(new RegExp(`^a=${key}:(.*)$`, 'm'))[1]]);
  const candidates = [...reply.matchAll(/^a=candidate:.*$/gm)].map(([line]) => `${line}\r\n`);
  const renew = (sdp, [key, value]) => sdp.replace(new RegExp(`^a=${key}:.*$`, 'gm'), `a=${key}:${value}`);
  const renewed = credentials.reduce(renew, answer);
  const [session, first, ...others] = renewed.split(/^(?=m=)/m);
  return [session, first, ...candidates.filter((line) => !answer.includes(line)), ...others].join('');
}

const sleep = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });

/** What Publisher and Viewer share: one HTTP session at a time, and the way back to a new one. */
class Session extends EventTarget {
  /** 'idle', 'connecting', 'live' (Publisher), 'playing', 'waiting' (Viewer), 'reconnecting', 'stopped' or 'failed'. */
  state = 'idle';
  /** The {@link Problem} behind the state, or null. */
  error = null;
  /** The RTCPeerConnection of the present session, or null. */
  connection = null;
  #location = null;
  #answer = null;
  #stop = null;
  #seen = { units: 0, at: -Infinity };
  #before = { bytes: 0, at: 0 };

  constructor({ url, token = null }) {
    super();
    this.url = new URL(url, location.href).href;
    this.token = token;
  }

  /** Connects, and stays connected until `stop()`. Resolves when stopped or failed. */
  async start() {
    if (this.#stop) return;
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    addEventListener('pagehide', () => this.stop(), { signal });
    this._set('connecting');
    for (let tries = 0; !signal.aborted; tries += 1) {
      const began = performance.now();
      const problem = await this.#session(signal).catch(Problem.of);
      if (signal.aborted) return;
      if (performance.now() - began > SETTLED_MS) tries = 0;
      const delay = this.#delay(problem, tries);
      if (delay === null) {
        this.#stop.abort();
        this.#stop = null;
        return this._set('failed', problem);
      }
      this._set(this._stateAfter(problem), problem);
      await sleep(delay, signal);
    }
  }

  /** Ends the session at the server too. Works while the page is being closed. */
  stop() {
    if (!this.#stop) return;
    this.#stop.abort();
    this.#stop = null;
    this.#close();
    this._set('stopped');
  }

  /** What flows now: `{kbps, width, height, fps, codec}`; null while there is no session. */
  async stats() {
    if (!this.connection) return null;
    const all = [...(await this.connection.getStats()).values()];
    const rtp = all.filter((report) => report.type === this._rtpType);
    const video = rtp.find((report) => report.kind === 'video');
    const bytes = rtp.reduce((sum, report) => sum + (report.bytesSent ?? report.bytesReceived ?? 0), 0);
    const at = performance.now();
    const kbps = Math.max(0, ((bytes - this.#before.bytes) * 8) / (at - this.#before.at));
    this.#before = { bytes, at };
    const codec = all.find((report) => report.id === (video ?? rtp[0])?.codecId)?.mimeType.split('/')[1];
    return { kbps, width: video?.frameWidth, height: video?.frameHeight, fps: video?.framesPerSecond, codec };
  }

  /** Whether anything came lately that shows the other side to be there. */
  get _flowing() {
    return performance.now() - this.#seen.at < SILENT_MS;
  }

  // For subclasses to change: the offer before it is sent, the answer before it is used, what to do with the 201 until
  // `signal` aborts, what to do every TICK_MS.
  _offer(sdp) {
    return sdp;
  }

  _answer(sdp) {
    return sdp;
  }

  _joined() {}

  _ticked() {}

  // Ends the present session with this Problem; #session replaces it.
  _leave() {}

  _set(state, error = null) {
    if (state === this.state && error === this.error) return;
    this.state = state;
    this.error = error;
    this.dispatchEvent(new Event('change'));
  }

  // One session from offer to loss; throws or resolves with the Problem that ended it.
  async #session(signal) {
    const pc = new RTCPeerConnection();
    this.connection = pc;
    this.#seen = { units: 0, at: -Infinity };
    try {
      this._prepare(pc);
      const { sdp } = await pc.createOffer();
      await pc.setLocalDescription({ type: 'offer', sdp: this._offer(sdp) });
      // The server is ICE-lite with every candidate in its answer, so nothing is gained by gathering first.
      const response = await request(this.url, this.token, {
        method: 'POST',
        headers: { 'Content-Type': 'application/sdp' },
        body: pc.localDescription.sdp,
      });
      const url = new URL(response.headers.get('Location'), response.url).href;
      if (signal.aborted) return void this.#remove(url);
      this.#location = url;
      this.#answer = this._answer(await response.text());
      await pc.setRemoteDescription({ type: 'answer', sdp: this.#answer });
      const lost = new AbortController();
      signal.addEventListener('abort', () => lost.abort(), { signal: lost.signal });
      this._joined(response, lost.signal);
      return await this.#lost(pc, lost.signal).finally(() => lost.abort());
    } finally {
      pc.close();
      if (this.connection === pc) this.#close();
    }
  }

  // Resolves with the Problem when this session will carry no more media, or when `signal` aborts.
  #lost(pc, signal) {
    return new Promise((resolve, reject) => {
      let words = 'No media came through. Is UDP to the server open?';
      let timers = [];
      const ended = () => resolve(new Problem(0, words));
      this._leave = resolve;
      const restart = async () => {
        const problem = await this.#restart(pc).then(() => null, Problem.of);
        // Without an answer the network may still come back; with a refusal a new session is the only way.
        if (problem?.status) ended();
        if (problem || signal.aborted) return;
        if (pc.connectionState !== 'connected') arm([ended, DISCONNECTED_MS]);
      };
      const arm = (...alarms) => {
        timers.forEach(clearTimeout);
        timers = alarms.map(([act, ms]) => setTimeout(act, ms));
      };
      const changed = () => {
        const state = pc.connectionState;
        if (state === 'connected') {
          words = 'The connection was lost.';
          arm();
        }
        if (state === 'disconnected') arm([restart, RESTART_MS], [ended, DISCONNECTED_MS]);
        if (state === 'failed') ended();
        this._connectionChanged(pc);
      };
      pc.addEventListener('connectionstatechange', changed, { signal });
      const { transport } = pc.getSenders()[0];
      transport.addEventListener('statechange', () => transport.state === 'closed' && ended(), { signal });
      const tick = setInterval(() => this.#tick(pc).catch(reject), TICK_MS);
      const poll = setInterval(() => this._flowing || this.#ask().catch(resolve), POLL_MS);
      signal.addEventListener('abort', () => {
        [tick, poll].forEach(clearInterval);
        arm();
        ended();
      });
    });
  }

  // New paths for the same session: the picture goes on without another join.
  async #restart(pc) {
    const offer = await pc.createOffer({ iceRestart: true });
    await pc.setLocalDescription(offer);
    const response = await request(this.#location, this.token, {
      method: 'PATCH',
      headers: { 'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': '*' },
      body: restartFragment(pc.localDescription.sdp),
    });
    this.#answer = restarted(this.#answer, await response.text());
    await pc.setRemoteDescription({ type: 'answer', sdp: this.#answer });
  }

  async #tick(pc) {
    const reports = [...(await pc.getStats()).values()];
    if (this.connection !== pc) return;
    const units = reports.reduce((sum, report) => sum + this._units(report), 0);
    if (units > this.#seen.units) this.#seen = { units, at: performance.now() };
    this._ticked(pc);
  }

  // Rejects if the server says that the session is gone. Silence says nothing: media may outlive a restarted server.
  async #ask() {
    await request(this.#location, this.token, { method: 'GET' }).catch((problem) => {
      if (problem.status === 404 || problem.status === 410) throw new Problem(0, 'The server has ended the session.');
    });
  }

  #close() {
    this.connection?.close();
    this.connection = null;
    if (this.#location) this.#remove(this.#location);
    this.#location = null;
  }

  #remove(url) {
    request(url, this.token, { method: 'DELETE', keepalive: true }).catch(() => {});
  }

  // How long to wait before the next try; null if trying again would not help.
  #delay(problem, tries) {
    const { status, retryAfterMs } = problem;
    const passing = status === 0 || status >= 500 || [408, 410, 425, 429].includes(status) || this._passing(problem);
    if (!passing) return null;
    const backoff = BACKOFF_MS[Math.min(tries, BACKOFF_MS.length - 1)] * (0.8 + 0.4 * Math.random());
    return Math.max(retryAfterMs ?? 0, status === 422 ? CODEC_RETRY_MS : backoff);
  }
}

/** Sends a MediaStream by WHIP. */
export class Publisher extends Session {
  _rtpType = 'outbound-rtp';
  #wasLive = false;

  /**
   * @param {object} options
   * @param {string} options.url WHIP endpoint
   * @param {string} [options.token] bearer token
   * @param {MediaStream} options.stream at most one audio and one video track
   * @param {string} [options.codec] the only video codec to offer: 'H264', 'VP8', 'VP9' or 'AV1'; all by default
   */
  constructor({ stream, codec = null, ...options }) {
    super(options);
    this.stream = stream;
    this.codec = codec;
  }

  /** Sends this track instead of the present one of its kind, without a new session. */
  async replaceTrack(track) {
    const old = this.stream.getTracks().find(({ kind }) => kind === track.kind);
    if (!old) throw new Error(`this session has no ${track.kind}`);
    const sender = this.connection?.getSenders().find((each) => each.track === old);
    await sender?.replaceTrack(track);
    this.stream.removeTrack(old);
    this.stream.addTrack(track);
  }

  _prepare(pc) {
    for (const track of this.stream.getTracks()) {
      const transceiver = pc.addTransceiver(track, { direction: 'sendonly', streams: [this.stream] });
      if (this.codec && track.kind === 'video') transceiver.setCodecPreferences(only(this.codec));
    }
  }

  // Chromium begins at 300 kbit/s and a quarter of the height, and takes half a minute to grow from there.
  _answer(sdp) {
    const start = `x-google-start-bitrate=${START_KBPS}`;
    const codecs = [...sdp.matchAll(/^a=rtpmap:(\d+) (?:VP8|VP9|AV1|H264)\/90000/gm)];
    return codecs.reduce((text, [line, pt]) => {
      const fmtp = new RegExp(`^a=fmtp:${pt} .*`, 'm');
      return fmtp.test(text) ? text.replace(fmtp, `$&;${start}`) : text.replace(line, `${line}\r\na=fmtp:${pt} ${start}`);
    }, sdp);
  }

  _connectionChanged(pc) {
    if (pc.connectionState === 'connected') {
      this.#wasLive = true;
      this._set('live');
    }
    if (pc.connectionState === 'disconnected') this._set('reconnecting');
  }

  // The server's RTCP and its answers to ICE checks.
  _units(report) {
    return report.type === 'candidate-pair' ? (report.bytesReceived ?? 0) : 0;
  }

  // After a break the old session may still hold the name for a moment, or a restarted server not know it yet.
  _passing({ status }) {
    return this.#wasLive && (status === 404 || status === 409);
  }

  _stateAfter() {
    return 'reconnecting';
  }
}

function only(codec) {
  const helpers = ['video/rtx', 'video/red', 'video/ulpfec'];
  const mine = `video/${codec}`.toLowerCase();
  const codecs = RTCRtpSender.getCapabilities('video').codecs;
  const wanted = codecs.filter(({ mimeType }) => mimeType.toLowerCase() === mine);
  if (wanted.length === 0) throw new Problem(422, `This browser cannot send ${codec}.`);
  return [...wanted, ...codecs.filter(({ mimeType }) => helpers.includes(mimeType.toLowerCase()))];
}

/** Receives a stream by WHEP and plays it in a video element. */
export class Viewer extends Session {
  static #plainStreams = 0;
  _rtpType = 'inbound-rtp';
  /** How many watch, or null while the server has not said. */
  viewers = null;
  /** Whether somebody publishes, or null while the server has not said. */
  active = null;
  /** The publisher's simulcast layers `{rid, bitrate, width, height}`, the largest first; empty if there are none to choose from. */
  layers = [];
  /** What `selectLayer` chose, or null for the choice of the server. */
  choice = null;
  #layerUrl = null;

  /**
   * @param {object} options
   * @param {string} options.url WHEP endpoint
   * @param {string} [options.token] bearer token
   * @param {HTMLVideoElement} [options.video] where to play; without it use `stream`
   */
  constructor({ video = null, ...options }) {
    super(options);
    this.video = video;
    /** What arrives: a MediaStream that gains its tracks when their first packets come. */
    this.stream = new MediaStream();
  }

  /**
   * Chooses what to be sent of a simulcast stream: `{rid}` of one of `layers`, or no more than `{maxWidth, maxHeight}`;
   * nothing to leave it to the server. Holds for later sessions too. Throws a Problem if the server refuses.
   */
  async selectLayer(choice = null) {
    this.choice = choice;
    if (!this.#layerUrl) return;
    const body = JSON.stringify(choice ?? {});
    await request(this.#layerUrl, this.token, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
  }

  _joined(response, signal) {
    const { layer = null, 'server-sent-events': events } = extensions(response);
    this.#layerUrl = layer;
    if (this.choice) this.selectLayer(this.choice).catch(() => {}); // the layers may be others now
    if (events) this.#subscribe(events, signal).catch(() => {}); // the picture comes without
    signal.addEventListener('abort', () => this.#forget());
  }

  #forget() {
    this.#layerUrl = null;
    Object.assign(this, { viewers: null, active: null, layers: [] });
  }

  async #subscribe(url, signal) {
    if (url.startsWith('http:')) {
      if (Viewer.#plainStreams >= PLAIN_STREAMS_MAX) return;
      Viewer.#plainStreams += 1;
      signal.addEventListener('abort', () => (Viewer.#plainStreams -= 1));
    }
    const headers = { 'Content-Type': 'application/json' };
    const response = await request(url, this.token, { method: 'POST', headers, body: JSON.stringify(EVENTS) });
    this.#listen(new URL(response.headers.get('Location'), response.url), signal);
  }

  // Tabs that nobody sees do not listen.
  #listen(url, signal) {
    let source = null;
    const listen = () => {
      source?.close();
      if (signal.aborted || document.hidden) return;
      source = new EventSource(url);
      for (const name of EVENTS) source.addEventListener(name, ({ data }) => this.#told(name, JSON.parse(data)));
    };
    document.addEventListener('visibilitychange', listen, { signal });
    signal.addEventListener('abort', listen);
    listen();
  }

  #told(name, detail) {
    if (name === 'active' || name === 'inactive') this.active = name === 'active';
    if (name === 'viewercount') this.viewers = detail.viewercount;
    if (name === 'layers') this.layers = (Object.values(detail)[0] ?? []).toSorted((a, b) => (b.height ?? 0) - (a.height ?? 0));
    this.dispatchEvent(new CustomEvent(name, { detail }));
    if (name === 'reconnect') this.#reconnect(detail);
  }

  // A token is for the server that it was meant for.
  #reconnect({ url }) {
    const next = new URL(url ?? this.url, this.url);
    if (!this.token || next.origin === new URL(this.url).origin) this.url = next.href;
    this._leave(new Problem(0, 'The server asked to connect anew.'));
  }

  _prepare(pc) {
    this.stream = new MediaStream();
    for (const kind of ['video', 'audio']) {
      const { track } = pc.addTransceiver(kind, { direction: 'recvonly' }).receiver;
      // A track that never gets a packet would keep the element from playing the other one.
      track.addEventListener('unmute', () => this.#play(track));
    }
  }

  // Opus is mono for a receiver that does not ask for stereo (RFC 7587 §6.1).
  _offer(sdp) {
    const opus = sdp.match(/a=rtpmap:(\d+) opus\/48000\/2/i)?.[1];
    return sdp.replace(new RegExp(`^a=fmtp:${opus} (?!.*\\bstereo=).*$`, 'm'), (line) => `${line};stereo=1`);
  }

  async #play(track) {
    this.stream.addTrack(track);
    if (!this.video) return;
    if (this.video.srcObject !== this.stream) this.video.srcObject = this.stream;
    try {
      await this.video.play();
    } catch (error) {
      if (error.name !== 'NotAllowedError') return;
      // Browsers let a page speak only after a click; a silent picture is always allowed.
      this.video.muted = true;
      await this.video.play().catch(() => {});
    }
  }

  _connectionChanged(pc) {
    if (pc.connectionState === 'connected' && this.state !== 'playing') this._set('waiting');
  }

  // Frames that were decoded and sound that left the jitter buffer; mere packets do not count.
  _units(report) {
    return report.type === 'inbound-rtp' ? (report.framesDecoded ?? report.jitterBufferEmittedCount ?? 0) : 0;
  }

  _ticked(pc) {
    if (this._flowing) this._set('playing');
    else if (this.state === 'playing') this._set(pc.connectionState === 'connected' ? 'waiting' : 'reconnecting');
  }

  // Not live yet, not here any more, or in a codec that does not play here: each may change.
  _passing({ status }) {
    return [404, 409, 422].includes(status);
  }

  _stateAfter({ status }) {
    return [404, 409, 422].includes(status) ? 'waiting' : 'reconnecting';
  }
}
