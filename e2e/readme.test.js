// What README.md and the first screen tell people to do works as it is written.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { chromium, newPage } from './helpers/browsers.js';
import { startFfmpeg } from './helpers/ffmpeg.js';
import { assertMoves, assertTone } from './helpers/frames.js';
import { BINARY, ROOT, Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { says, watch } from './helpers/streams.js';

const DEFAULT_URL = 'http://127.0.0.1:8080';

const { server, browser } = await stage({ server: Server.start, browser: chromium });
const readme = await readFile(join(ROOT, 'README.md'), 'utf8');

// The indented command that begins with this word, on one line.
function command(word) {
  const lines = readme.match(new RegExp(`^    ${word} (?:.*\\\\\\n)*.*$`, 'm'));
  assert.ok(lines, `README has a ${word} command`);
  return lines[0].replaceAll('\\\n', ' ').trim().split(/\s+/);
}

test('the first screen names pages that are there', async () => {
  for (const [label, path] of [['Publish', '/publish/demo'], ['Watch', '/watch/demo']]) {
    const [, url] = server.log.match(new RegExp(`${label}\\s+(http\\S+)`)) ?? assert.fail(`no ${label} in ${server.log}`);
    assert.equal(url, server.url + path);
    assert.equal((await fetch(url)).headers.get('Content-Type'), 'text/html; charset=utf-8');
  }
});

test('the ffmpeg command plays', async (t) => {
  const [, ...args] = command('ffmpeg').map((arg) => arg.replace(DEFAULT_URL, server.url));
  assert.ok(args.at(-1).startsWith(server.url), `the command publishes to ${DEFAULT_URL}`);
  const ffmpeg = startFfmpeg(args);
  t.after(() => ffmpeg.stop());
  const page = await watch(browser, server, 'demo');
  await says(page, 'playing', 20_000);
  await assertMoves(page);
  await assertTone(page, 440);
  await page.close();
});

test('the lines for an own page publish and play on a page of another origin', async (t) => {
  const [lines] = readme.match(/^    import \{ Publisher, Viewer \}.*\n(?:\n|    .*\n)*/m);
  const script = lines.replaceAll(DEFAULT_URL, server.url).replaceAll('/demo/', '/own/');
  const html = `<!doctype html><title>Elsewhere</title><video id="video" muted></video><script type="module">
    ${script}
    Object.assign(window, { publisher, viewer });
  </script>`;
  const elsewhere = createServer((_, response) => response.setHeader('Content-Type', 'text/html').end(html)).listen(0, '127.0.0.1');
  await once(elsewhere, 'listening');
  t.after(() => elsewhere.close());

  const page = await newPage(browser);
  await page.goto(`http://127.0.0.1:${elsewhere.address().port}/`);
  await until(() => page.evaluate(() => window.viewer?.state === 'playing'), 'the page plays what it publishes', 20_000);
  await assertMoves(page);
  assert.deepEqual(page.problems, []);
  await page.evaluate(() => viewer.stop());
  const gone = async () => (await server.streams()).some(({ name, viewers }) => name === 'own' && viewers === 0);
  await until(gone, 'the session was deleted across origins');
});

test('every flag in README is one of the program', async () => {
  const { stdout } = await promisify(execFile)(BINARY, ['--help']);
  const others = ['--release', '--enable-muxer'];
  for (const flag of new Set(readme.match(/(?<=[\s`])--[a-z][a-z-]*/g)))
    assert.ok(others.includes(flag) || stdout.includes(`${flag} `) || stdout.includes(`${flag}[`), `${flag} is in --help`);
});

test('check says that this host is ready', async () => {
  const args = ['check', '--http', '127.0.0.1:0', '--udp-port', '31000', '--state-dir', server.stateDir];
  const { stdout } = await promisify(execFile)(BINARY, args);
  assert.match(stdout, /candidates .*127\.0\.0\.1:31000/);
});
