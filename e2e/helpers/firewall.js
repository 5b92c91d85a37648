// A network that blocks UDP to and from the server's media ports, as those of hotels and offices do.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';

const run = promisify(execFile);
// Debian keeps it where only root looks.
const NFT = existsSync('/usr/sbin/nft') ? '/usr/sbin/nft' : 'nft';
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
    await run(NFT, [lines.join('\n')]);
    return new BlockedUdp();
  }

  /** Datagrams dropped so far. */
  async dropped() {
    const { stdout } = await run(NFT, ['list', 'table', 'inet', TABLE]);
    return [...stdout.matchAll(/counter packets (\d+)/g)].reduce((sum, [, packets]) => sum + Number(packets), 0);
  }

  async close() {
    await run(NFT, ['delete', 'table', 'inet', TABLE]);
  }
}
