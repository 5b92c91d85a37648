// What the tests of one file share: a server, and browsers beside it.
import { after } from 'node:test';

const end = (prop) => (prop.close ? prop.close() : prop.stop());

/**
 * Calls all of `{name: start}` at once and gives back `{name: what was started}`. After the last test of the file everything
 * ends, the first named last; if something does not start, the rest ends at once.
 */
export async function stage(starters) {
  const settled = await Promise.allSettled(Object.values(starters).map((start) => start()));
  const props = settled.filter(({ status }) => status === 'fulfilled').map(({ value }) => value);
  const strike = async () => {
    for (const prop of props.reverse()) await end(prop);
  };
  const failed = settled.find(({ status }) => status === 'rejected');
  if (failed) {
    await strike();
    throw failed.reason;
  }
  after(strike);
  return Object.fromEntries(Object.keys(starters).map((name, index) => [name, settled[index].value]));
}
