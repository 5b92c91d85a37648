// Programs that run beside a test until they are stopped.
import { spawn } from 'node:child_process';
import { once } from 'node:events';

const LATE_MS = 5000;

/** Starts a program; `log()` is what it has said so far, `output()` what of it was meant for machines. */
export function startProcess(command, args, { env = {} } = {}) {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  let [log, output] = ['', ''];
  child.stdout.on('data', (data) => ((output += data), (log += data)));
  child.stderr.on('data', (data) => (log += data));
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  return {
    log: () => log,
    output: () => output,
    hasEnded,
    /** Asks it to end its session, as Ctrl-C does, and returns its exit code: null if it did not listen. */
    async stop() {
      if (hasEnded()) return child.exitCode;
      const ended = once(child, 'exit');
      child.kill('SIGINT');
      const late = setTimeout(() => child.kill('SIGKILL'), LATE_MS);
      await ended;
      clearTimeout(late);
      return child.exitCode;
    },
  };
}
