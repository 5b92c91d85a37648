import { Publisher } from '/client/uringcast.js';
import { TOKEN_NEEDED, askToken, pathTo, savedToken, statsInWords, streamName } from '/client/page.js';

const WORDS = {
  idle: 'ready',
  connecting: 'connecting',
  live: 'live',
  reconnecting: 'reconnecting',
  stopped: 'stopped',
  failed: 'failed',
};
// What getUserMedia's errors (Media Capture §10.2) mean for the person in front of the page.
const DEVICE_ERRORS = {
  NotAllowedError: 'The browser may not use the camera or microphone. Allow it beside the address bar and choose again.',
  NotFoundError: 'No camera or microphone was found. Plug one in and choose again.',
  NotReadableError: 'The camera or microphone is in use by another program. Close that program and choose again.',
};
const INSECURE = 'Browsers open cameras only on safe pages. Use https://, or http://localhost on this machine.';

const ui = Object.fromEntries(
  ['stage', 'video', 'state', 'start', 'stop', 'stats', 'camera', 'microphone', 'size', 'codec', 'link', 'copy'].map((id) => [
    id,
    document.getElementById(id),
  ]),
);
const KINDS = { camera: 'video', microphone: 'audio' };
const name = streamName();
const stream = new MediaStream();
let publisher = null;

document.title = `${name} · uringcast`;
document.querySelector('#name').textContent = name;
ui.link.href = ui.link.textContent = new URL(pathTo('watch', name), location);

const running = () => publisher !== null && !['stopped', 'failed'].includes(publisher.state);

function say(state, words) {
  ui.stage.dataset.state = state;
  ui.state.textContent = words;
}

function showState() {
  const { state, error } = publisher ?? { state: 'idle', error: null };
  if (error) say(state, error.status === 401 ? TOKEN_NEEDED : `${WORDS[state]}: ${error.detail}`);
  else say(state, WORDS[state]);
  ui.start.hidden = running();
  ui.start.disabled = stream.getTracks().length === 0;
  ui.stop.hidden = !running();
  ui.size.disabled = ui.codec.disabled = running();
  for (const [id, kind] of Object.entries(KINDS)) {
    // A session keeps the kinds it began with; only the device behind each may change.
    ui[id].disabled = running() && !stream.getTracks().some((track) => track.kind === kind);
    ui[id].querySelector('[value=none]')?.toggleAttribute('disabled', running());
  }
}

async function listDevices() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  for (const [id, kind] of Object.entries(KINDS)) {
    const present = stream.getTracks().find((track) => track.kind === kind)?.getSettings().deviceId;
    const options = devices
      .filter((device) => device.kind === `${kind}input`)
      .map(({ label, deviceId }, i) => new Option(label || `${id} ${i + 1}`, deviceId, false, deviceId === present));
    ui[id].replaceChildren(...options, new Option(`no ${id}`, 'none', false, present === undefined));
  }
}

function constraints(kind, deviceId) {
  const device = deviceId ? { deviceId: { exact: deviceId } } : {};
  if (kind === 'audio') return { audio: { ...device, channelCount: { ideal: 2 } } };
  const height = Number(ui.size.value);
  return { video: { ...device, width: { ideal: (height * 16) / 9 }, height: { ideal: height }, frameRate: { ideal: 30 } } };
}

async function use(track) {
  const old = stream.getTracks().find(({ kind }) => kind === track.kind);
  if (running()) await publisher.replaceTrack(track);
  else {
    if (old) stream.removeTrack(old);
    stream.addTrack(track);
    // Not before: the page would not be done loading until a camera is open.
    ui.video.srcObject ??= stream;
  }
  old?.stop();
}

function drop(kind) {
  for (const track of stream.getTracks().filter((each) => each.kind === kind)) {
    track.stop();
    stream.removeTrack(track);
  }
}

// Opens one device, or both in one question when nothing was chosen yet.
async function open(wanted) {
  const opened = await navigator.mediaDevices.getUserMedia(wanted);
  for (const track of opened.getTracks()) await use(track);
}

async function openFirst() {
  if (!navigator.mediaDevices) return say('failed', INSECURE);
  const devices = await navigator.mediaDevices.enumerateDevices();
  const has = (kind) => devices.some((device) => device.kind === `${kind}input`);
  const wanted = { ...(has('video') && constraints('video')), ...(has('audio') && constraints('audio')) };
  await attempt(() => open(Object.keys(wanted).length > 0 ? wanted : { video: true, audio: true }));
}

// Runs what opens devices, and says what became of it.
async function attempt(work) {
  const error = await work().then(() => null, (reason) => reason);
  await listDevices();
  showState();
  if (error) say(running() ? publisher.state : 'failed', DEVICE_ERRORS[error.name] ?? error.message);
}

const choose = (id) =>
  attempt(async () => {
    const deviceId = ui[id].value;
    if (deviceId === 'none') drop(KINDS[id]);
    else await open(constraints(KINDS[id], deviceId));
  });

function start() {
  publisher = new Publisher({
    url: `/${encodeURIComponent(name)}/whip`,
    token: savedToken(),
    stream,
    codec: ui.codec.value || null,
  });
  publisher.addEventListener('change', async () => {
    showState();
    if (publisher.state === 'failed' && publisher.error.status === 401 && (await askToken(publisher.token))) start();
  });
  publisher.start();
}

ui.start.addEventListener('click', start);
ui.stop.addEventListener('click', () => publisher.stop());
ui.camera.addEventListener('change', () => choose('camera'));
ui.microphone.addEventListener('change', () => choose('microphone'));
ui.size.addEventListener('change', () => ui.camera.value !== 'none' && choose('camera'));
ui.copy.hidden = !navigator.clipboard;
ui.copy.addEventListener('click', async () => {
  await navigator.clipboard.writeText(ui.link.href);
  ui.copy.textContent = 'Copied';
  setTimeout(() => (ui.copy.textContent = 'Copy link'), 2000);
});
navigator.mediaDevices?.addEventListener('devicechange', listDevices);

setInterval(async () => {
  ui.stats.textContent = publisher?.state === 'live' ? statsInWords(await publisher.stats()) : '';
}, 1000);

openFirst();
