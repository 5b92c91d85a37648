// What came out, as a table for README.md.
import { players } from './players.js';
import { mediaOf, publishers } from './publishers.js';

// A dash where the player lacks the codec, a cross also where the publisher did not come so far.
function cell(matrix, publisher, player) {
  if (!matrix.fits(publisher, player)) return '–';
  const outcome = matrix.outcomes.find((each) => each.publisher === publisher && each.player === player);
  return outcome?.plays ? '✓' : '✗';
}

/** The table in Markdown, publishers down and players across. */
export function table(matrix) {
  const head = ['Published by ↓ played by →', ...players.map(({ client }) => client)];
  const rows = publishers.map((publisher) => [
    `${publisher.client}, ${mediaOf(publisher)}`,
    ...players.map((player) => cell(matrix, publisher, player)),
  ]);
  const rule = head.map((_, i) => (i === 0 ? '---' : ':---:'));
  return [head, rule, ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
