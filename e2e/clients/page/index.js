// What the tests call in a page: the clients by name, and what has arrived whichever of them plays.
import * as cloudflare from './cloudflare.js';
import * as eyevinn from './eyevinn.js';
import * as plain from './plain.js';
import * as whipWhep from './whip-whep.js';

// Each has `publish` and `play`, which resolve with what can `end` the session.
const clients = { cloudflare, eyevinn, plain, whipWhep };
const connections = [];
let session;

const Native = RTCPeerConnection;
window.RTCPeerConnection = class extends Native {
  constructor(...args) {
    super(...args);
    connections.push(this);
  }
};

const CAMERA = { audio: true, video: { width: 640, height: 360, frameRate: 20 } };

/** Publishes the camera and the microphone. */
export async function publish(client, url, options) {
  session = await clients[client].publish(url, await navigator.mediaDevices.getUserMedia(CAMERA), options);
}

/** Plays in the page's video element. */
export async function play(client, url) {
  session = await clients[client].play(url, document.querySelector('video'));
}

/** Ends the session as the client does it. */
export const end = () => session.end();

/** Restarts ICE by the client's own call. */
export const restart = () => session.restart();

/** The server's ICE user names: that of its last answer, and that which media is sent to. */
export async function userNames() {
  const pc = connections.at(-1);
  const stats = await pc.getStats();
  const { selectedCandidatePairId } = [...stats.values()].find(({ type }) => type === 'transport');
  const { remoteCandidateId } = stats.get(selectedCandidatePairId);
  const [, answered] = pc.remoteDescription.sdp.match(/a=ice-ufrag:(\S+)/);
  return { answered, used: stats.get(remoteCandidateId).usernameFragment };
}

/** The video codecs that this browser plays. */
export const codecs = () => RTCRtpReceiver.getCapabilities('video').codecs.map(({ mimeType }) => mimeType.split('/')[1]);

/** Decoded frames, and milliseconds of sound that was not made up to fill gaps. */
export async function received() {
  const reports = (await Promise.all(connections.map((pc) => pc.getStats()))).flatMap((stats) => [...stats.values()]);
  const sum = (key) => reports.filter(({ type }) => type === 'inbound-rtp').reduce((total, report) => total + (report[key] ?? 0), 0);
  return { frames: sum('framesDecoded'), soundMs: (sum('totalSamplesReceived') - sum('concealedSamples')) / 48 };
}
