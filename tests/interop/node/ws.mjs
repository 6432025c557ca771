// ws, the WebSocket of nearly everything on Node.

import WebSocket from "ws";

import { Inbox, call, play } from "./scenario.mjs";

async function open(url, ...more) {
  const socket = new WebSocket(url, ...more);
  const inbox = new Inbox();
  socket.on("message", (data) => inbox.add(JSON.parse(data)));
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  return { socket, inbox, send: (message) => socket.send(JSON.stringify(message)) };
}

await play({
  async callsWithoutWaiting({ ws }) {
    const { inbox, send } = await open(ws);
    for (let id = 0; id < 200; id++) send(call(id, "actor.load", { id: 0 }));
    return (await inbox.until(200)).map(({ id }) => id);
  },

  async sendsABatch({ ws }) {
    const { inbox, send } = await open(ws);
    send([1, 2, 3].map((id) => call(id, "actor.load", { id: 0 })));
    return (await inbox.until(1))[0].map(({ id }) => id);
  },

  async fragmentsAMessage({ ws }) {
    const { socket, inbox, send } = await open(ws);
    const text = JSON.stringify(call(1, "actor.load", { id: 0 }));
    [...text].forEach((letter, at) => socket.send(letter, { fin: at === text.length - 1 }));
    send(call(2, "actor.load", { id: 0 }));
    return (await inbox.until(2)).map(({ id }) => id);
  },

  async offersCompression({ ws }) {
    const { socket, inbox, send } = await open(ws, { perMessageDeflate: true });
    send(call(1, "actor.load", { id: 0 }));
    return { extensions: socket.extensions, id: (await inbox.until(1))[0].id };
  },

  async pings({ ws }) {
    const { socket } = await open(ws);
    const pong = new Promise((resolve) => socket.once("pong", (data) => resolve(data.toString())));
    socket.ping("are you there");
    return pong;
  },

  async closes({ ws }) {
    const { socket } = await open(ws);
    const closed = new Promise((resolve) => socket.once("close", (code, reason) => resolve([code, `${reason}`])));
    socket.close(4001, "done");
    return closed;
  },

  async asksForSubprotocols({ ws, protocols }) {
    const { socket, inbox, send } = await open(ws, protocols);
    send(call(1, "actor.load", { id: 0 }));
    return { protocol: socket.protocol, id: (await inbox.until(1))[0].id };
  },

  async isRefused({ url }) {
    const socket = new WebSocket(url);
    return new Promise((resolve) => socket.once("unexpected-response", (_, reply) => resolve(reply.statusCode)));
  },

  // Each element of what is returned is a frame.
  async subscribes({ ws, runner, subscription, submission }) {
    const { inbox, send } = await open(ws);
    send(call(1, "runner.create", runner));
    await inbox.until(1);
    send(call(2, "runner.subscribe", subscription));
    await inbox.until(2);
    send(call(3, "flow.submit", submission));
    await inbox.until(3 + submission.jobs.length);
    return inbox.items;
  },
});
