// What every script here shares: it plays the scenario that the first argument names, with the second one (JSON) as
// what it is given, and prints as JSON what the client saw.

export const JSON_TYPE = { "content-type": "application/json" };
const TIMEOUT_MS = 30_000;

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

export function call(id, method, params) {
  return { jsonrpc: "2.0", id, method, params };
}

// Collects what arrives; `until(count)` waits for so many.
export class Inbox {
  constructor() {
    this.items = [];
    this.waiting = [];
  }

  add(item) {
    this.items.push(item);
    this.waiting = this.waiting.filter(({ count, resolve }) => {
      if (this.items.length < count) return true;
      resolve(this.items);
      return false;
    });
  }

  until(count) {
    if (this.items.length >= count) return Promise.resolve(this.items);
    return new Promise((resolve) => this.waiting.push({ count, resolve }));
  }
}
