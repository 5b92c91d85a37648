// A lossy network path to the server: a UDP relay in front of each media port, which loses RTP on its way to the viewers.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

/** The address that browsers use in the tests' network namespace. */
const ADDRESS = '10.77.0.1';

// A small random generator (mulberry32), so that a run can be repeated.
function seeded(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const isRtp = (datagram) => datagram[0] >> 6 === 2 && (datagram[1] < 192 || datagram[1] > 223);

export class LossyPath {
  lost = 0;
  passed = 0;
  #sockets = [];
  #ports = {};
  #known = new Set();
  #severed = new Set();
  #clients = [];

  /** Relays to each of the server's media ports; `loss` is a share of 1. */
  static async open(server, loss, seed = 1) {
    const path = new LossyPath();
    const random = seeded(seed);
    for (const port of server.udpPorts) path.#ports[port] = await path.#relay(port, () => random() < loss);
    return path;
  }

  async #bind() {
    const socket = createSocket('udp4').bind(0, ADDRESS);
    this.#sockets.push(socket);
    await once(socket, 'listening');
    return socket;
  }

  // The server sees each client on a port of its own.
  async #relay(port, loses) {
    const front = await this.#bind();
    const clients = new Map();
    this.#clients.push(clients);
    front.on('message', async (datagram, { address, port: from }) => {
      const client = `${address}:${from}`;
      if (this.#severed.has(client)) return;
      this.#known.add(client);
      if (!clients.has(client)) clients.set(client, this.#client(front, address, from, loses));
      (await clients.get(client)).send(datagram, port, ADDRESS);
    });
    return front.address().port;
  }

  async #client(front, address, port, loses) {
    const back = await this.#bind();
    back.on('message', (datagram) => {
      if (this.#severed.has(`${address}:${port}`)) return;
      if (isRtp(datagram) && loses()) {
        this.lost += 1;
        return;
      }
      this.passed += 1;
      front.send(datagram, port, address);
    });
    return back;
  }

  /** As when a NAT forgets its clients: each has a new port from now on, and what is sent to the old one is lost. */
  async rebind() {
    for (const clients of this.#clients) {
      const old = [...clients.values()];
      clients.clear();
      for (const socket of old) (await socket).removeAllListeners('message');
    }
  }

  /** Runs in a page before its scripts: answers lead to the relays, and to nothing else. */
  get detour() {
    return `{
      const ports = ${JSON.stringify(this.#ports)};
      const native = RTCPeerConnection.prototype.setRemoteDescription;
      RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
        const lines = sdp.split('\\r\\n').flatMap((line) => {
          const candidate = /^(a=candidate:\\S+ 1 udp .* )${ADDRESS.replaceAll('.', '\\.')} (\\d+)( typ host.*)$/.exec(line);
          if (candidate) return [candidate[1] + '${ADDRESS} ' + ports[candidate[2]] + candidate[3]];
          return line.startsWith('a=candidate:') ? [] : [line];
        });
        return native.call(this, { type, sdp: lines.join('\\r\\n') });
      };
    }`;
  }

  /** As when a client's network is gone: nothing leaves from the ports that it has now, and nothing gets there. */
  sever() {
    this.#known.forEach((client) => this.#severed.add(client));
  }

  close() {
    this.#sockets.forEach((socket) => socket.close());
  }
}
