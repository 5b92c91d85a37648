// Pages of another origin than the server's, with every client that runs in a browser.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { build } from 'esbuild';
import { open } from '../helpers/browsers.js';
import { ROOT } from '../helpers/server.js';

const HTML = '<!doctype html><title>Clients</title><video autoplay></video><script src="/clients.js"></script>';
const IN_ONE_FILE = { bundle: true, write: false, format: 'iife', globalName: 'clients', logLevel: 'error' };

export class Pages {
  /** Puts the clients together, libraries and all, and serves them. */
  static async start() {
    const { outputFiles } = await build({ entryPoints: [`${ROOT}/e2e/clients/page/index.js`], ...IN_ONE_FILE });
    const pages = new Pages();
    pages.http = createServer(({ url }, response) => {
      const [type, body] = url === '/clients.js' ? ['text/javascript', outputFiles[0].contents] : ['text/html', HTML];
      response.setHeader('Content-Type', type).end(body);
    }).listen(0, '127.0.0.1');
    await once(pages.http, 'listening');
    return pages;
  }

  /** Opens a page in which `clients` is `e2e/clients/page/index.js`. */
  async open(browser) {
    const page = await open(browser, `http://127.0.0.1:${this.http.address().port}/`);
    page.said = [];
    page.on('console', (message) => page.said.push(message.text()));
    page.on('response', (response) => {
      const [method, status] = [response.request().method(), response.status()];
      if (!response.ok()) page.problems.push(`${method} was answered with ${status}`);
    });
    return page;
  }

  /**
   * Opens a page and lets one of its clients publish or play. Stopping it ends the session as the client does, and
   * throws if the client had an error or a request refused, which most clients hide.
   */
  async start(browser, role, client, url, options) {
    const page = await this.open(browser);
    const log = () => [...page.problems, ...page.said].join('\n');
    try {
      await page.evaluate((role, ...args) => clients[role](...args), role, client, url, options);
    } catch (error) {
      await page.close();
      throw new Error(`${error.message}\n${log()}`);
    }
    return { page, log, received: () => page.evaluate(() => clients.received()), stop: () => end(page, client) };
  }

  stop() {
    this.http.close();
  }
}

async function end(page, client) {
  await page.evaluate(() => clients.end());
  await page.close();
  if (page.problems.length > 0) throw new Error(`${client} had problems: ${page.problems.join(', ')}`);
}
