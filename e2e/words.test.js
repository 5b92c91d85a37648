// What the pages say when something is missing: a camera, a safe origin, a token.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chromium, newPage, open } from './helpers/browsers.js';
import { Server, until } from './helpers/server.js';
import { stage } from './helpers/stage.js';
import { says } from './helpers/streams.js';

const TOKEN = 'a-token-for-this-test-alone';
// Browsers trust http only on loopback names; this is the same server under a name that they do not trust.
const ELSEWHERE = 'elsewhere.example';

const { server, browser } = await stage({
  server: () => Server.start({ args: ['--api-token', TOKEN] }),
  browser: () => chromium(`--host-resolver-rules=MAP ${ELSEWHERE} 127.0.0.1`),
});

test('a page from an unsafe origin says that cameras need https', async () => {
  const page = await open(browser, `http://${ELSEWHERE}:${server.httpPort}/publish/demo`);
  await says(page, /https/);
  await page.close();
});

test('a person who denies the camera reads how to allow it', async (t) => {
  const strict = await chromium('--deny-permission-prompts', '--use-fake-ui-for-media-stream=deny');
  t.after(() => strict.close());
  const page = await open(strict, `${server.url}/publish/demo`);
  await says(page, /Allow it/);
});

test('a viewer without a token reads whom to ask for one, and plays with it', async () => {
  const page = await newPage(browser);
  await page.setExtraHTTPHeaders({ 'X-Forwarded-For': '192.0.2.1' });
  await page.goto(`${server.url}/watch/demo`);
  const textOf = (selector) => page.$eval(selector, (element) => element.innerText);
  for (const [token, asked] of [['not-the-token-of-this-server', /for it\./], [TOKEN, /is not valid/]]) {
    // The dialog before it may still be there.
    await until(async () => asked.test(await textOf('dialog')), `the page asks for a token: ${asked}`);
    const words = await textOf('body');
    await page.type('dialog input', token);
    await page.click('dialog .main');
    assert.equal(words.match(/token/gi).length, 2, `the heading and the field name it: ${words}`);
    assert.doesNotMatch(words, /STATE_DIR|--open|Bearer/);
  }
  await says(page, 'waiting for the publisher');
  await page.close();
});

test('a list that needs a token asks for it, and keeps it for this tab', async () => {
  const page = await newPage(browser);
  await page.setExtraHTTPHeaders({ 'X-Forwarded-For': '192.0.2.1' }); // as behind a proxy: no longer open to everybody
  await page.goto(`${server.url}/`);
  const input = await page.waitForSelector('dialog input');
  await input.type(TOKEN);
  await page.click('dialog .main');
  await until(() => page.$eval('#note', (e) => e.textContent.startsWith('Nobody is live')), 'the list is shown');
  await page.reload();
  await until(() => page.$eval('#note', (e) => e.textContent.startsWith('Nobody is live')), 'the token was kept');
  await page.close();
});
