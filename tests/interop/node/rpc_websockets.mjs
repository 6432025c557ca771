// rpc-websockets: calls, and notifications as events of its client.

import { Client } from "rpc-websockets";

import { Inbox, play } from "./scenario.mjs";

async function open(url) {
  const client = new Client(url, { reconnect: false });
  await new Promise((resolve, reject) => client.on("open", resolve).on("error", reject));
  return client;
}

await play({
  async calls({ ws }) {
    const client = await open(ws);
    const error = await client.call("actor.load", { id: 0 }).catch((error) => error);
    const contexts = await client.call("context.list", {});
    return { code: error.code, contexts: Array.isArray(contexts.items) };
  },

  async notifies({ ws, job, ids }) {
    const client = await open(ws);
    await client.notify("job.create", job);
    return (await client.call("job.load", ids)).id;
  },

  async subscribes({ ws, runner, subscription, submission }) {
    const client = await open(ws);
    const inbox = new Inbox();
    client.on("runner.job", (params) => inbox.add(params));
    await client.call("runner.create", runner);
    await client.call("runner.subscribe", subscription);
    await client.call("flow.submit", submission);
    return (await inbox.until(submission.jobs.length)).map(({ job }) => job.id);
  },
});
