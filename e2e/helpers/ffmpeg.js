// ffmpeg with the whip muxer, from the Python wheel that `ops/test` installs.
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { startProcess } from './process.js';
import { ROOT } from './server.js';

function find() {
  const lib = join(ROOT, '.test-cache/venv/lib');
  for (const python of readdirSync(lib)) {
    const binaries = join(lib, python, 'site-packages/imageio_ffmpeg/binaries');
    const binary = readdirSync(binaries).find((name) => name.startsWith('ffmpeg-'));
    if (binary) return join(binaries, binary);
  }
  throw new Error(`no ffmpeg under ${lib}: run ./ops/test once`);
}

export const FFMPEG = process.env.FFMPEG ?? find();
const CARD = 'testsrc2=size=640x360:rate=30';

/** Publishes the test card and a 440 Hz tone until stopped. */
export function publishWithFfmpeg(url, flags = []) {
  const input = ['-hide_banner', '-re', '-f', 'lavfi', '-i', CARD, '-re', '-f', 'lavfi', '-i', 'sine=frequency=440'];
  const video = ['-c:v', 'libx264', '-profile:v', 'baseline', '-pix_fmt', 'yuv420p', '-bf', '0', '-g', '30', '-preset', 'ultrafast', '-tune', 'zerolatency', '-b:v', '1M'];
  const audio = ['-c:a', 'libopus', '-ar', '48000', '-ac', '2'];
  return startFfmpeg([...input, ...video, ...audio, ...flags, '-f', 'whip', url]);
}

/** Runs ffmpeg with these arguments until stopped; then it ends its session by DELETE. */
export const startFfmpeg = (args) => startProcess(FFMPEG, args);

/** The first picture of the test card as a thumbnail. */
export async function colourBars() {
  const args = ['-v', 'error', '-f', 'lavfi', '-i', CARD, '-frames:v', '1', '-s', '64x36', '-pix_fmt', 'rgb24', '-f', 'rawvideo', '-'];
  const { stdout } = await promisify(execFile)(FFMPEG, args, { encoding: 'buffer' });
  return [...stdout];
}
