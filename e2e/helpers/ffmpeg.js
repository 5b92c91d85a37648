// ffmpeg with the whip muxer, from the Python wheel that `ops/test` installs.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
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

/** Runs ffmpeg with these arguments until stopped. */
export function startFfmpeg(args) {
  const child = spawn(FFMPEG, args, { stdio: ['pipe', 'ignore', 'pipe'] });
  let log = '';
  child.stderr.on('data', (data) => (log += data));
  return {
    log: () => log,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGINT'); // ffmpeg then ends its session by DELETE
      const late = setTimeout(() => child.kill('SIGKILL'), 5000);
      await ended;
      clearTimeout(late);
    },
  };
}

/** The first picture of the test card as a thumbnail. */
export async function colourBars() {
  const args = ['-v', 'error', '-f', 'lavfi', '-i', CARD, '-frames:v', '1', '-s', '64x36', '-pix_fmt', 'rgb24', '-f', 'rawvideo', '-'];
  const { stdout } = await promisify(execFile)(FFMPEG, args, { encoding: 'buffer' });
  return [...stdout];
}
