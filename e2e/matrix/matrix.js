// Runs publishers against players and keeps what came of it.
import { chromium, firefox } from '../helpers/browsers.js';
import { Server, until } from '../helpers/server.js';
import { Pages } from './pages.js';

/** What must arrive before a cell says that it plays. */
const ENOUGH = { frames: 20, soundMs: 500 };
const LIVE_MS = 15_000;
const PLAYS_MS = 20_000;

export class Matrix {
  /** One entry per cell that was tried: `{publisher, player, plays}`. */
  outcomes = [];
  #streams = 0;

  /** Starts the server, the browsers and the pages. */
  static async start() {
    const matrix = new Matrix();
    const [server, pages, Chromium, Firefox] = await Promise.all([Server.start(), Pages.start(), chromium(), firefox()]);
    Object.assign(matrix, { server, pages, browsers: { Chromium, 'Firefox ESR': Firefox } });
    matrix.codecs = Object.fromEntries(
      await Promise.all(Object.entries(matrix.browsers).map(async ([name, browser]) => [name, await matrix.#codecsOf(browser)])),
    );
    return matrix;
  }

  async #codecsOf(browser) {
    const page = await this.pages.open(browser);
    const codecs = await page.evaluate(() => clients.codecs());
    await page.close();
    return codecs;
  }

  /** Whether a player has the codec that a publisher sends. */
  fits = (publisher, player) => player.codecs(this).includes(publisher.codec);

  /** Starts a publisher; resolves when its stream is live with the codec that it should have. */
  async publish(publisher) {
    const name = `stream-${(this.#streams += 1)}`;
    const client = await publisher.publish(this, `${this.server.url}/${name}/whip`);
    const live = async () => {
      const { codecs } = (await this.server.streams()).find((stream) => stream.name === name) ?? { codecs: [] };
      return codecs.some((codec) => codec.startsWith(publisher.codec)) && codecs.includes('opus');
    };
    await untilOf(client, live, `${publisher.client} is live with ${publisher.codec}`, LIVE_MS);
    return { name, stop: client.stop };
  }

  /** Plays a stream; throws if it does not, or if the client had to complain. The outcome is kept either way. */
  async play(publisher, player, { name }) {
    const outcome = { publisher, player, plays: false };
    this.outcomes.push(outcome);
    const client = await player.play(this, `${this.server.url}/${name}/whep`);
    await untilOf(client, () => this.#enough(client), `${player.client} plays`, PLAYS_MS);
    await client.stop();
    outcome.plays = true;
  }

  async #enough(client) {
    const received = await client.received();
    if (received.frames >= ENOUGH.frames && received.soundMs >= ENOUGH.soundMs) return true;
    throw new Error(`received ${JSON.stringify(received)}`);
  }

  async stop() {
    await Promise.all(Object.values(this.browsers).map((browser) => browser.close()));
    this.pages.stop();
    await this.server.stop();
  }
}

// Like `until`, but gives up when the client has, stops it, and adds what it said to the error.
async function untilOf(client, look, what, timeoutMs) {
  let gaveUp = false;
  const lookAtIt = () => (gaveUp = client.hasEnded?.()) || look();
  try {
    await until(lookAtIt, what, timeoutMs);
    if (gaveUp) throw new Error(`the client ended before this: ${what}`);
  } catch (error) {
    await client.stop().catch(() => {});
    throw new Error(`${error.message}\n${client.log().slice(-4000)}`);
  }
}
