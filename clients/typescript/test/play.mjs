// Plays the scenario that the first argument names, with the second one (JSON) as what it is given, and prints as JSON
// what it saw. Beside it: a proxy whose connections can be cut.

import { connect as connectTcp, createServer } from "node:net";

const TIMEOUT_MS = 60_000;

export async function play(scenarios) {
  const [name, given] = process.argv.slice(2);
  const watchdog = setTimeout(() => {
    console.error(`${name} is not done after ${TIMEOUT_MS} ms`);
    process.exit(2);
  }, TIMEOUT_MS);
  const seen = await scenarios[name](JSON.parse(given));
  clearTimeout(watchdog);
  process.stdout.write(JSON.stringify(seen ?? null), () => process.exit(0));
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export async function until(check) {
  while (!(await check())) await sleep(10);
}

/**
 * In front of a coordinator; `cut` ends its connections, `stalled` keeps them and passes nothing on, `deaf` does not read
 * what the client sends, `pauseMs` is waited after each piece for it.
 */
export async function proxied(url) {
  const target = new URL(url);
  const open = new Set();
  const proxy = { connections: 0, stalled: false, deaf: false, pauseMs: 0, toServer: 0 };
  const server = createServer((near) => {
    proxy.connections += 1;
    const far = connectTcp(Number(target.port), target.hostname.replace(/^\[|\]$/g, ""));
    open.add(near).add(far);
    const pass = (from, to, count) => {
      from.on("data", (chunk) => {
        if (count) proxy.toServer += chunk.length;
        if (!proxy.stalled) to.write(chunk);
        if (count ? proxy.deaf : proxy.pauseMs > 0) {
          from.pause();
          setTimeout(() => from.resume(), count ? TIMEOUT_MS : proxy.pauseMs);
        }
      });
      from.on("error", () => undefined);
      from.on("close", () => (open.delete(from), to.destroy()));
    };
    pass(near, far, true);
    pass(far, near, false);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  proxy.url = `ws://127.0.0.1:${server.address().port}`;
  proxy.cut = () => open.forEach((socket) => socket.destroy());
  return proxy;
}
