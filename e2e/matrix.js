// Prints which client plays what another one publishes, and why where it does not: node e2e/matrix.js [PUBLISHER…]
// Those that were not asked for show as crosses.
import { Matrix } from './matrix/matrix.js';
import { players } from './matrix/players.js';
import { mediaOf, publishers } from './matrix/publishers.js';
import { table } from './matrix/table.js';
import { versions } from './matrix/versions.js';

const wanted = process.argv.slice(2);
const chosen = publishers.filter(({ client }) => wanted.length === 0 || wanted.includes(client));

const matrix = await Matrix.start();
const complain = (what) => (error) => console.error(`${what}: ${error.message}\n`);

for (const publisher of chosen) {
  const what = `${publisher.client} ${mediaOf(publisher)}`;
  const stream = await matrix.publish(publisher).catch(complain(what));
  if (!stream) continue;
  const fitting = players.filter((player) => matrix.fits(publisher, player));
  await Promise.all(fitting.map((player) => matrix.play(publisher, player, stream).catch(complain(`${what} → ${player.client}`))));
  await stream.stop().catch(complain(what));
}
console.log(table(matrix));
console.log(`\n${await versions(matrix)}`);
await matrix.stop();
