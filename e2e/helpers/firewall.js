// A network that blocks UDP to and from the server's media ports, as those of hotels and offices do.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);
const TABLE = 'uringcast_e2e';

/** Drops every UDP datagram of the server's media in this network namespace, until `close`. */
export class BlockedUdp {
  static async open(server) {
    const ports = `{ ${server.udpPorts.join(', ')} }`;
    const lines = [
      `add table inet ${TABLE}`,
      `add chain inet ${TABLE} output { type filter hook output priority 0 ; }`,
      ...['sport', 'dport'].map((end) => `add rule inet ${TABLE} output udp ${end} ${ports} counter drop`),
    ];
    await run('nft', [lines.join('\n')]);
    return new BlockedUdp();
  }

  /** Datagrams dropped so far. */
  async dropped() {
    const { stdout } = await run('nft', ['list', 'table', 'inet', TABLE]);
    return [...stdout.matchAll(/counter packets (\d+)/g)].reduce((sum, [, packets]) => sum + Number(packets), 0);
  }

  async close() {
    await run('nft', ['delete', 'table', 'inet', TABLE]);
  }
}
