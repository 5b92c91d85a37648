// The outcomes as a table for README.md.
import { players } from './players.js';
import { publishers } from './publishers.js';

const unique = (values) => [...new Set(values)];

// What plays by its name, what does not with a cross; a dash where the player lacks every codec of the publisher.
function cell(outcomes, publisher, player) {
  const here = outcomes.filter((each) => each.publisher === publisher && each.player === player);
  return here.map(({ media, plays }) => (plays ? media : `✗ ${media}`)).join(', ') || '–';
}

/** The table in Markdown, publishers down and players across. */
export function table(outcomes) {
  const across = players.map(({ client }) => client);
  const down = unique(publishers.map(({ client }) => client));
  const rows = down.map((publisher) => [publisher, ...across.map((player) => cell(outcomes, publisher, player))]);
  const lines = [['Publisher ↓ Player →', ...across], ['', ...across].map(() => '---'), ...rows];
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
