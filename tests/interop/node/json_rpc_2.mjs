// json-rpc-2.0, which leaves the transport to its user: over fetch, and over ws.

import { JSONRPCClient, JSONRPCServer, JSONRPCServerAndClient } from "json-rpc-2.0";
import WebSocket from "ws";

import { Inbox, JSON_TYPE, call, play } from "./scenario.mjs";

function overFetch(url) {
  const client = new JSONRPCClient(async (request) => {
    const reply = await fetch(url, { method: "POST", headers: JSON_TYPE, body: JSON.stringify(request) });
    if (reply.status === 200) client.receive(await reply.json());
    else if (request.id !== undefined) throw new Error(reply.statusText);
  });
  return client;
}

// As its README does it: each message is given to receiveAndSend.
async function overWebSocket(url) {
  const socket = new WebSocket(url);
  const both = new JSONRPCServerAndClient(
    new JSONRPCServer(),
    new JSONRPCClient(async (request) => socket.send(JSON.stringify(request))),
  );
  socket.on("message", (data) => both.receiveAndSend(JSON.parse(data)));
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  return both;
}

await play({
  async callsOverHttp({ http }) {
    const client = overFetch(http);
    const error = await client.request("actor.load", { id: 0 }).catch((error) => error);
    return { code: error.code, contexts: Array.isArray((await client.request("context.list", {})).items) };
  },

  async batchesOverHttp({ http }) {
    const calls = [1, 2, 3].map((id) => call(id, "actor.load", { id: 0 }));
    return (await overFetch(http).requestAdvanced(calls)).map(({ id, error }) => [id, error.code]);
  },

  async notifiesOverHttp({ http, job, ids }) {
    const client = overFetch(http);
    await client.notify("job.create", job);
    for (;;) {
      const found = await client.request("job.load", ids).catch(() => null);
      if (found !== null) return found.id;
    }
  },

  async subscribes({ ws, runner, subscription, submission }) {
    const both = await overWebSocket(ws);
    const inbox = new Inbox();
    both.addMethod("runner.job", (params) => inbox.add(params));
    await both.request("runner.create", runner);
    await both.request("runner.subscribe", subscription);
    await both.request("flow.submit", submission);
    return (await inbox.until(submission.jobs.length)).map(({ job }) => job.id);
  },
});
