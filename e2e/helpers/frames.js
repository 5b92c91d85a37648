// What was sent and what arrived, by decoded pixels and samples. The functions under "in the page" run in browsers.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from './server.js';

/** Longest way of a frame from the publisher's canvas to the viewer's screen that still counts as live. */
const LIVE_MS = 1000;
/** Mean error per colour channel (0–255) that lossy coding at a low bit rate may cause. */
const COLOUR_ERROR_MAX = 40;

// ---- in the page -------------------------------------------------------------------------------------------------

/**
 * Makes a stream whose every frame carries the time at which it was drawn: 20 bits of milliseconds as black and white
 * blocks, the same bits inverted below, and under them a colour that follows from the time. The sound is one tone.
 */
export function makeTestStream({ video, audio, toneHz, fps }) {
  const stream = new MediaStream();
  if (video) {
    const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 360 });
    const g = canvas.getContext('2d', { alpha: false });
    const draw = () => {
      const stamp = Date.now() % 2 ** 20;
      for (let bit = 0; bit < 20; bit += 1) {
        const on = (stamp >> bit) & 1;
        const [x, y] = [(bit % 10) * 64, Math.floor(bit / 10) * 64];
        g.fillStyle = on ? '#fff' : '#000';
        g.fillRect(x, y, 64, 64);
        g.fillStyle = on ? '#000' : '#fff';
        g.fillRect(x, y + 128, 64, 64);
      }
      g.fillStyle = `hsl(${(stamp / 20) % 360} 80% 50%)`;
      g.fillRect(0, 256, 640, 104);
    };
    draw();
    setInterval(draw, 1000 / fps);
    stream.addTrack(canvas.captureStream(fps).getVideoTracks()[0]);
  }
  if (audio) {
    const context = new AudioContext();
    const tone = new OscillatorNode(context, { frequency: toneHz });
    const out = context.createMediaStreamDestination();
    tone.connect(new GainNode(context, { gain: 0.3 })).connect(out);
    tone.start();
    stream.addTrack(out.stream.getAudioTracks()[0]);
  }
  return stream;
}

/** Looks at the playing video for `ms` and returns one reading for each new picture. */
function readTestPictures(ms) {
  const video = document.querySelector('#video');
  const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 360 });
  const g = canvas.getContext('2d', { alpha: false, willReadFrequently: true });
  const pixel = (x, y) => [...g.getImageData(x, y, 1, 1).data.slice(0, 3)];
  const light = (x, y) => pixel(x, y).reduce((a, b) => a + b) > 384;

  const read = () => {
    g.drawImage(video, 0, 0, 640, 360);
    let stamp = 0;
    let sound = true;
    for (let bit = 0; bit < 20; bit += 1) {
      const [x, y] = [(bit % 10) * 64 + 32, Math.floor(bit / 10) * 64 + 32];
      if (light(x, y)) stamp |= 1 << bit;
      if (light(x, y) === light(x, y + 128)) sound = false;
    }
    const seen = pixel(320, 308);
    const latencyMs = ((Date.now() % 2 ** 20) - stamp + 2 ** 20) % 2 ** 20;
    g.fillStyle = `hsl(${(stamp / 20) % 360} 80% 50%)`;
    g.fillRect(0, 0, 1, 1);
    const colourError = pixel(0, 0).reduce((sum, value, i) => sum + Math.abs(value - seen[i]) / 3, 0);
    return { stamp, whole: sound, latencyMs, colourError };
  };

  return new Promise((resolve) => {
    const readings = [];
    const timer = setInterval(() => {
      if (video.readyState < 2) return;
      const reading = read();
      if (reading.stamp !== readings.at(-1)?.stamp) readings.push(reading);
    }, 25);
    setTimeout(() => (clearInterval(timer), resolve(readings)), ms);
  });
}

/** The picture of `#video` as 64 × 36 pixels, one array of r, g, b; null while there is none. */
function thumbnail() {
  const video = document.querySelector('#video');
  if (video.readyState < 2 || video.videoWidth === 0) return null;
  const canvas = Object.assign(document.createElement('canvas'), { width: 64, height: 36 });
  const g = canvas.getContext('2d', { willReadFrequently: true });
  g.drawImage(video, 0, 0, 64, 36);
  return [...g.getImageData(0, 0, 64, 36).data].filter((_, i) => i % 4 !== 3);
}

/**
 * Records what `#video` plays for `ms` and returns the loudest moment: its strongest frequency and its level (1 = full
 * scale). A recorder and not an AudioContext does the listening, because Firefox runs none without a sound card.
 */
async function loudestTone(ms) {
  const tracks = document.querySelector('#video').srcObject?.getAudioTracks() ?? [];
  if (tracks.length === 0) return { hz: 0, level: 0 };
  const recorder = new MediaRecorder(new MediaStream(tracks));
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.start();
  await new Promise((resolve) => setTimeout(resolve, ms));
  const stopped = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.stop();
  await stopped;
  const bytes = await new Blob(parts).arrayBuffer();
  const sound = await new OfflineAudioContext(1, 1, 48000).decodeAudioData(bytes);

  const samples = sound.getChannelData(0);
  const size = 4096;
  let window = null;
  let loudest = 0;
  for (let at = 0; at + size <= samples.length; at += size / 2) {
    const part = samples.subarray(at, at + size);
    const energy = part.reduce((sum, x) => sum + x * x, 0);
    if (energy > loudest) [loudest, window] = [energy, part];
  }
  if (!window) return { hz: 0, level: 0 };

  let best = { hz: 0, level: 0 };
  for (let hz = 100; hz <= 2000; hz += 5) {
    let [re, im] = [0, 0];
    const step = (2 * Math.PI * hz) / 48000;
    window.forEach((x, i) => {
      const hann = 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size);
      re += x * hann * Math.cos(step * i);
      im += x * hann * Math.sin(step * i);
    });
    const level = (4 * Math.hypot(re, im)) / size;
    if (level > best.level) best = { hz, level };
  }
  return best;
}

// ---- in the test -------------------------------------------------------------------------------------------------

/** Asserts that the test picture plays live in this page: whole, in its colours, moving, and less than a second old. */
export async function assertTestPicture(page, { ms = 1500 } = {}) {
  const readings = await page.evaluate(readTestPictures, ms);
  const whole = readings.filter((reading) => reading.whole);
  const say = () => JSON.stringify(readings.slice(0, 20));
  assert.ok(whole.length >= 4, `the picture moves: ${whole.length} readable pictures of ${readings.length} in ${ms} ms ${say()}`);
  assert.ok(whole.length >= readings.length * 0.7, `pictures arrive whole: ${whole.length} of ${readings.length} ${say()}`);
  const middle = (pick) => whole.map(pick).sort((a, b) => a - b)[Math.floor(whole.length / 2)];
  assert.ok(middle((r) => r.colourError) < COLOUR_ERROR_MAX, `colours are those that were sent: ${say()}`);
  assert.ok(middle((r) => r.latencyMs) < LIVE_MS, `pictures are live: ${say()}`);
  return { pictures: whole.length, latencyMs: middle((r) => r.latencyMs) };
}

/** Resolves when the test picture plays live in this page. */
export const testPicturePlays = (page, timeoutMs = 15_000) =>
  until(() => assertTestPicture(page, { ms: 700 }), 'the test picture plays', timeoutMs);

/** Asserts that a steady tone is heard in this page. */
export async function assertTone(page, hz, { toleranceHz = 15, timeoutMs = 8000 } = {}) {
  const heard = async () => {
    const tone = await page.evaluate(loudestTone, 400);
    if (tone.level > 0.02 && Math.abs(tone.hz - hz) <= toleranceHz) return tone;
    throw new Error(`heard ${JSON.stringify(tone)}`);
  };
  return until(heard, `a tone of ${hz} Hz is heard`, timeoutMs);
}

/** The strongest frequency in the loudest moment of `ms`; for sounds that are not steady. */
export const loudest = (page, ms = 2500) => page.evaluate(loudestTone, ms);

export const thumbnailOf = (page) => page.evaluate(thumbnail);

/** Mean difference of two thumbnails per colour channel, 0–255. */
export const difference = (a, b) => a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0) / a.length;

/** Asserts that the picture in this page changes. */
export async function assertMoves(page, { timeoutMs = 10_000 } = {}) {
  await until(
    async () => {
      const before = await thumbnailOf(page);
      await sleep(300);
      const after = await thumbnailOf(page);
      return before && after && difference(before, after) > 0.2;
    },
    'the picture moves',
    timeoutMs,
  );
}
