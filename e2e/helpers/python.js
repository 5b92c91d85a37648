// Clients in Python, with the packages that `ops/test` installs.
import { join } from 'node:path';
import { startProcess } from './process.js';
import { ROOT } from './server.js';

const PYTHON = join(ROOT, '.test-cache/venv/bin/python');

/** Runs a script of `e2e/clients` until stopped; stopping it throws if it failed, be it in its DELETE. */
export function startPython(script, ...args) {
  const process = startProcess(PYTHON, [join(ROOT, 'e2e/clients', script), ...args]);
  const stop = async () => {
    const code = await process.stop();
    if (code !== 0) throw new Error(`${script} ended with ${code}:\n${process.log().slice(-4000)}`);
  };
  return { ...process, stop };
}
