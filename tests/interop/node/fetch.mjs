// Node's own fetch.

import { JSON_TYPE, call, play } from "./scenario.mjs";

const post = (url, body, headers = {}) =>
  fetch(url, { method: "POST", headers: { ...JSON_TYPE, ...headers }, body });

const load = (id) => JSON.stringify(call(id, "actor.load", { id: 0 }));

await play({
  async keepsItsConnectionAfterAGet({ http }) {
    const seen = [];
    for (let round = 0; round < 5; round++) {
      seen.push((await fetch(`${http}/healthz`).then(async (got) => (await got.text(), got))).status);
      seen.push((await (await post(http, load(round))).json()).id);
    }
    return seen;
  },

  async postsABatch({ http }) {
    const reply = await post(http, `[${[1, 2, 3].map(load).join(",")}]`);
    return { status: reply.status, ids: (await reply.json()).map(({ id }) => id) };
  },

  async postsANotification({ http }) {
    const reply = await post(http, JSON.stringify({ jsonrpc: "2.0", method: "actor.load", params: { id: 0 } }));
    return { status: reply.status, text: await reply.text() };
  },

  async postsTogether({ http }) {
    const replies = await Promise.all([...Array(50).keys()].map((id) => post(http, load(id))));
    return Promise.all(replies.map(async (reply) => (await reply.json()).id));
  },

  async streamsABody({ http }) {
    const parts = load(7).match(/.{1,9}/g).map((part) => new TextEncoder().encode(part));
    const body = new ReadableStream({
      async pull(controller) {
        const part = parts.shift();
        if (part === undefined) return controller.close();
        controller.enqueue(part);
        await new Promise((resolve) => setTimeout(resolve, 2));
      },
    });
    const reply = await fetch(http, { method: "POST", headers: JSON_TYPE, body, duplex: "half" });
    return { status: reply.status, id: (await reply.json()).id };
  },

  async readsTheStatusOfABodyThatIsTooLarge({ http, bytes }) {
    const refused = await post(http, "x".repeat(bytes));
    const next = await post(http, load(1));
    return { status: refused.status, error: (await refused.json()).error.code, next: (await next.json()).id };
  },

  async compressesItsBody({ http, encoding }) {
    const compressed = new Blob([load(7)]).stream().pipeThrough(new CompressionStream(encoding));
    const reply = await post(http, await new Response(compressed).arrayBuffer(), { "content-encoding": encoding });
    return { status: reply.status, accepts: reply.headers.get("accept-encoding"), body: await reply.json() };
  },

  // JavaScript's slice cuts a character outside the first plane in two.
  async sendsHalfACharacter({ http, job }) {
    const half = { ...job, job: { ...job.job, script: "😀".slice(0, 1) } };
    const reply = await post(http, JSON.stringify([call(1, "job.create", half), call(2, "actor.load", { id: 0 })]));
    return (await reply.json()).map(({ id, error }) => [id, error?.code ?? null]);
  },

  async leavesAJobTake({ http, take }) {
    const controller = new AbortController();
    const taking = fetch(http, {
      method: "POST",
      headers: JSON_TYPE,
      body: JSON.stringify(call(1, "job.take", take)),
      signal: controller.signal,
    });
    setTimeout(() => controller.abort(), 500);
    return taking.then(() => "answered", (error) => error.name);
  },
});
