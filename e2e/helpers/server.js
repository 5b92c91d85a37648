// Runs the real binary for a test: free ports, its own state directory, its log at hand.
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export const ROOT = new URL('../..', import.meta.url).pathname;
export const BINARY = process.env.URINGCAST_BIN ?? join(ROOT, 'target/release/uringcast');
/** That of a server: our own variable is no key of it. */
const { URINGCAST_BIN: _, ...ENVIRONMENT } = process.env;
const WORKERS = 2;

/** Polls `look` until it returns something true, and returns that. */
export async function until(look, what, timeoutMs = 10_000) {
  const end = Date.now() + timeoutMs;
  let last;
  for (;;) {
    try {
      last = await look();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`timed out after ${timeoutMs} ms: ${what} (last: ${last?.stack ?? JSON.stringify(last)})`);
    await sleep(100);
  }
}

export async function freeTcpPort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

async function udpPortIsFree(port) {
  const socket = createSocket('udp4');
  try {
    socket.bind(port, '127.0.0.1');
    await once(socket, 'listening');
    return true;
  } catch {
    return false;
  } finally {
    socket.close();
  }
}

// The first of as many free UDP ports in a row as there are workers.
async function freeUdpPorts() {
  for (;;) {
    const first = 20_000 + Math.floor(Math.random() * 10_000);
    const free = await Promise.all(Array.from({ length: WORKERS }, (_, i) => udpPortIsFree(first + i)));
    if (free.every(Boolean)) return first;
  }
}

const isAlive = (pid) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

async function childrenOf(pid) {
  const entries = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry));
  const parents = await Promise.all(
    entries.map(async (entry) => {
      const stat = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '');
      return [Number(entry), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])];
    }),
  );
  return parents.filter(([, parent]) => parent === pid).map(([child]) => child);
}

export class Server {
  log = '';
  #process = null;
  #media = new Set();

  /** Starts `uringcast` and waits until it takes sessions. */
  static async start({ args = [] } = {}) {
    if (!existsSync(BINARY)) throw new Error(`no ${BINARY}: run cargo build --release first`);
    const server = new Server();
    server.args = args;
    server.stateDir = await mkdtemp(join(tmpdir(), 'uringcast-e2e-'));
    server.httpPort = await freeTcpPort();
    server.udpPort = await freeUdpPorts();
    server.url = `http://127.0.0.1:${server.httpPort}`;
    await server.launch();
    return server;
  }

  get udpPorts() {
    return Array.from({ length: WORKERS }, (_, i) => this.udpPort + i);
  }

  /** Starts the process (again) with the same ports and state. */
  async launch() {
    const listen = ['--http', `127.0.0.1:${this.httpPort}`, '--udp-port', this.udpPort];
    const args = [...listen, '--workers', WORKERS, '--state-dir', this.stateDir];
    this.#process = spawn(BINARY, [...args, ...this.args].map(String), { stdio: ['ignore', 'pipe', 'pipe'], env: ENVIRONMENT });
    for (const pipe of [this.#process.stdout, this.#process.stderr]) pipe.on('data', (data) => (this.log += data));
    const ready = async () => {
      if (this.#process.exitCode !== null) throw new Error(`uringcast ended with ${this.#process.exitCode}:\n${this.log}`);
      return (await fetch(`${this.url}/readyz`)).ok;
    };
    await until(ready, 'uringcast is ready', 15_000).catch((error) => {
      throw new Error(`${error.message}\n${this.log}`);
    });
    for (const pid of await childrenOf(this.#process.pid)) this.#media.add(pid);
  }

  /** Kills signaling alone, as a crash would. */
  async killSignaling() {
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await ended;
  }

  /** Kills media alone. */
  killMedia() {
    for (const pid of this.#media) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
  }

  /** Whether the media process that was started first is still the one. */
  get mediaIsAlive() {
    return [...this.#media].some(isAlive);
  }

  async stop() {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = once(this.#process, 'exit');
      this.#process.kill('SIGTERM');
      const late = setTimeout(() => this.#process.kill('SIGKILL'), 8000);
      await ended;
      clearTimeout(late);
    }
    this.killMedia();
    await rm(this.stateDir, { recursive: true, force: true });
  }

  /** `/metrics` as a Map from the full series name to its value. */
  async metrics() {
    const response = await fetch(`${this.url}/metrics`);
    if (!response.ok) throw new Error(`/metrics answered ${response.status}: ${await response.text()}`);
    const lines = (await response.text()).split('\n').filter((line) => line && !line.startsWith('#'));
    return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
  }

  async streams() {
    const response = await fetch(`${this.url}/api/v1/streams`);
    if (!response.ok) throw new Error(`the list of streams answered ${response.status}: ${await response.text()}`);
    return (await response.json()).streams;
  }
}
