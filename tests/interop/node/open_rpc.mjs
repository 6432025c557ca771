// @open-rpc/client-js, the client of those who read our rpc.discover.

import { Client, HTTPTransport, RequestManager, WebSocketTransport } from "@open-rpc/client-js";

import { Inbox, play } from "./scenario.mjs";

const over = (transport) => new Client(new RequestManager([transport]));
const transports = { http: ({ http }) => new HTTPTransport(http), ws: ({ ws }) => new WebSocketTransport(ws) };

await play({
  async calls(given) {
    const client = over(transports[given.transport](given));
    const error = await client.request({ method: "actor.load", params: { id: 0 } }).catch((error) => error);
    const contexts = await client.request({ method: "context.list", params: {} });
    return { code: error.code, contexts: Array.isArray(contexts.items) };
  },

  async batches(given) {
    const client = over(transports[given.transport](given));
    client.startBatch();
    const answers = [1, 2, 3].map((id) => client.request({ method: "context.list", params: {} }).then(() => id));
    client.stopBatch();
    return Promise.all(answers);
  },

  async discovers(given) {
    const client = over(transports[given.transport](given));
    return (await client.request({ method: "rpc.discover", params: [] })).openrpc;
  },

  async subscribes({ ws, runner, subscription, submission }) {
    const client = over(new WebSocketTransport(ws));
    const inbox = new Inbox();
    client.onNotification(({ method, params }) => method === "runner.job" && inbox.add(params));
    await client.request({ method: "runner.create", params: runner });
    await client.request({ method: "runner.subscribe", params: subscription });
    await client.request({ method: "flow.submit", params: submission });
    return (await inbox.until(submission.jobs.length)).map(({ job }) => job.id);
  },
});
