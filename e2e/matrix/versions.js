// Which versions of the clients take part.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { FFMPEG } from '../helpers/ffmpeg.js';
import { ROOT } from '../helpers/server.js';

const read = (path) => readFile(`${ROOT}/e2e/${path}`, 'utf8');
const firstLine = async (command, ...args) => (await promisify(execFile)(command, args)).stdout.split('\n')[0];
const numberIn = (text) => text.match(/\d+(\.\d+)+/)[0];

const pinned = {
  pip: async (name) => `${name} ${numberIn((await read('requirements.txt')).match(new RegExp(`^${name}==.*`, 'm'))[0])}`,
  npm: async (name) => `${name} ${JSON.parse(await read('package.json')).dependencies[name]}`,
  cargo: async (name) => `${name} ${numberIn((await read('gstreamer/Cargo.toml')).match(new RegExp(`^${name} = .*`, 'm'))[0])}`,
};

/** One line for people. */
export async function versions({ browsers }) {
  const list = await Promise.all([
    ...Object.entries(browsers).map(async ([name, browser]) => `${name} ${numberIn(await browser.version())}`),
    firstLine(FFMPEG, '-version').then((line) => `ffmpeg ${numberIn(line)}`),
    firstLine('pkg-config', '--modversion', 'gstreamer-1.0').then((version) => `GStreamer ${version}`),
    ...['gst-plugin-webrtchttp', 'gst-plugin-webrtc'].map(pinned.cargo),
    ...['libdatachannel-py', 'aiortc'].map(pinned.pip),
    ...['whip-whep', '@eyevinn/whip-web-client', '@eyevinn/webrtc-player'].map(pinned.npm),
  ]);
  return list.join(', ');
}
