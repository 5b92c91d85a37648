// Real clients publish and play: every stream of `matrix/publishers.js` in every player that has its codec.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ROOT } from './helpers/server.js';
import { Matrix } from './matrix/matrix.js';
import { players } from './matrix/players.js';
import { mediaOf, publishers } from './matrix/publishers.js';
import { table } from './matrix/table.js';

let matrix;

before(async () => {
  matrix = await Matrix.start();
});

after(() => matrix?.stop());

for (const publisher of publishers) {
  test(`${publisher.client} publishes ${mediaOf(publisher)}`, { concurrency: true }, async (t) => {
    const stream = await matrix.publish(publisher);
    const fitting = players.filter((player) => matrix.fits(publisher, player));
    await Promise.all(fitting.map((player) => t.test(`${player.client} plays it`, () => matrix.play(publisher, player, stream))));
    await stream.stop();
  });
}

test('README shows the table that has just come out', async () => {
  const readme = await readFile(join(ROOT, 'README.md'), 'utf8');
  const now = table(matrix);
  assert.ok(readme.includes(now), `README.md has another table than this:\n\n${now}\n`);
});
