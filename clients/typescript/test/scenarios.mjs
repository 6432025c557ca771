// What the tests in tests/clients have the client do.

import { createServer } from "node:net";

import {
  Aborted,
  ClientError,
  ConnectionLost,
  Failure,
  HttpClient,
  InvalidParams,
  NoReply,
  NotFound,
  RpcError,
  RunnerService,
  WebSocketRequired,
  connect,
} from "herocoordinator-client";

import { play, proxied, sleep, until } from "./play.mjs";

const CALLER = 7;

const context = (id) => ({ context: { id, admins: [CALLER], readers: [], executors: [CALLER] } });
const runner = (id) => ({ id, pubkey: "k", address: "::1", topic: `runner${id}`, local: true });
const job = (context_id, id, more = {}) => ({
  id,
  caller_id: CALLER,
  context_id,
  script: "",
  script_type: "V",
  timeout: 0,
  retries: 0,
  env_vars: {},
  prerequisites: [],
  depends: [],
  ...more,
});
const flowOf = (context_id, jobs, id = 1) => ({
  context_id,
  flow: { id, caller_id: CALLER, context_id, jobs: jobs.map((one) => one.id), env_vars: {} },
  jobs,
});

const failure = (promise) =>
  promise.then(
    () => "nothing",
    (error) => error,
  );
const quiet = { onLog: () => undefined, signals: false };
const runnerOf = (url, contextId) => ({ ...quiet, url, contextId, runnerId: 3, scriptTypes: ["V"] });

async function noNumbers(client, id) {
  const failures = [];
  for (const number of [NaN, Infinity, -Infinity]) {
    const failed = await failure(client.call("context.load", { id: number }));
    failures.push([failed instanceof TypeError, failed.message]);
  }
  return { failures, created: (await client.context.create(context(id))).id };
}

async function calls(client, id) {
  const created = await client.context.create(context(id));
  const missing = await failure(client.job.load({ context_id: id, caller_id: CALLER, id: 404 }));
  const wrong = await failure(client.context.load({ id: "1" }));
  const outcomes = await client.callMany([
    ["context.load", { id }],
    ["flow.load", { context_id: id, id: 404 }],
    ["context.load", { id }],
  ]);
  const unknown = await failure(client.call("no.method"));
  return {
    created: created.id,
    missing: [missing instanceof NotFound, missing instanceof RpcError, missing.code, missing.data.ids, missing.name],
    wrong: [wrong instanceof InvalidParams, wrong.data[0].loc, wrong.message],
    outcomes: outcomes.map((outcome) => (outcome instanceof ClientError ? outcome.name : outcome.id)),
    unknown: unknown.name,
  };
}

await play({
  async refusesWhatIsNoNumber({ ws, http, id }) {
    const overHttp = await noNumbers(new HttpClient(http), id);
    const client = await connect(ws);
    try {
      return { overHttp, overWebSocket: await noNumbers(client, id) };
    } finally {
      await client.close();
    }
  },

  async callsOverWebSocket({ ws, id }) {
    const client = connect(ws);
    const seen = await calls(client, id);
    client.close();
    return { ...seen, closed: (await failure(client.context.load({ id }))).name };
  },

  async callsOverHttp({ http, id }) {
    const client = new HttpClient(http);
    const refused = await failure(client.flow.subscribe({ context_id: id, id: 1 }));
    return { ...(await calls(client, id)), refused: refused instanceof WebSocketRequired };
  },

  // Through the HTTP port, with texts of each length that a frame writes in another way.
  async sendsLargeAndSmall({ http, id }) {
    const client = connect(http);
    await client.context.create(context(id));
    const sizes = [0, 100, 126, 65_000, 70_000, 600_000];
    const scripts = await Promise.all(
      sizes.map(async (size, at) => {
        const script = "é".repeat(size / 2);
        const { script: stored } = await client.job.create({ context_id: id, job: job(id, at + 1, { script }) });
        return stored === script;
      }),
    );
    const tooLarge = await failure(
      client.job.create({ context_id: id, job: job(id, 99, { script: "x".repeat(2 ** 20) }) }),
    );
    const log = { context_id: id, caller_id: 7, id: 404, token: "none", lines: Array(1000).fill("y") };
    const logs = await Promise.all(Array.from({ length: 100 }, () => failure(client.job.log(log))));
    return { scripts, tooLarge: tooLarge.name, short: [...new Set(logs.map((error) => error.name))] };
  },

  async keepsLimits({ ws, id }) {
    const proxy = await proxied(ws);
    const client = connect(proxy.url, { maxInFlight: 3, maxBatchLength: 2 });
    await client.context.create(context(id));
    await client.runner.create({ context_id: id, runner: runner(3) });
    const take = { context_id: id, runner_id: 3, script_types: ["V"], wait: 20 };
    const late = await failure(client.job.take(take, { timeoutMs: 100, alone: true }));
    const giveUp = new AbortController();
    const abandoned = failure(client.job.take(take, { signal: giveUp.signal, alone: true }));
    await sleep(50);
    giveUp.abort("no longer wanted");
    const loads = await Promise.all(Array.from({ length: 50 }, () => client.context.load({ id })));
    return {
      late: [late instanceof NoReply, late.mayHaveBeenApplied],
      abandoned: (await abandoned) instanceof Aborted,
      loads: loads.length,
    };
  },

  async reconnects({ ws, id }) {
    const proxy = await proxied(ws);
    const seen = [];
    const client = connect(proxy.url, { onConnect: () => seen.push("on"), onDisconnect: () => seen.push("off") });
    await client.context.create(context(id));
    await client.runner.create({ context_id: id, runner: runner(3) });
    const cutting = setInterval(proxy.cut, 150);
    const created = [];
    for (let at = 1; at <= 300; at += 10) {
      const ids = Array.from({ length: 10 }, (_, more) => at + more);
      const jobs = await Promise.all(ids.map((own) => client.job.create({ context_id: id, job: job(id, own) })));
      created.push(...jobs.map((one) => one.id));
      await sleep(20);
    }
    clearInterval(cutting);
    await client.ready();
    const waiting = failure(
      client.job.take({ context_id: id, runner_id: 3, script_types: ["Osis"], wait: 20 }, { resend: false }),
    );
    const before = proxy.toServer;
    await until(() => proxy.toServer > before);
    proxy.cut();
    return {
      created: created.length === 300 && created.every((own, at) => own === at + 1),
      connections: client.connections > 2,
      alternates: seen.every((what, at) => what === (at % 2 === 0 ? "on" : "off")),
      lost: (await waiting) instanceof ConnectionLost,
    };
  },

  // A peer that says nothing any more is given up, although the connection stays.
  async noticesSilence({ ws, id }) {
    const proxy = await proxied(ws);
    const client = connect(proxy.url, { keepaliveMs: 150 });
    await client.context.create(context(id));
    await sleep(600);
    const quietly = client.connections;
    proxy.stalled = true;
    const loading = client.context.load({ id });
    const tooLate = Date.now() + 100 * 150; // the coordinator itself ends such a connection much later
    await until(() => !client.connected || Date.now() > tooLate);
    const noticed = !client.connected;
    proxy.stalled = false;
    return { quietly, noticed, loaded: (await loading).id, connections: client.connections };
  },

  // What comes in pieces is heard, long before it is a message.
  async waitsForASlowReply({ ws, id }) {
    const proxy = await proxied(ws);
    const client = connect(proxy.url, { keepaliveMs: 150 });
    await client.context.create(context(id));
    await client.job.create({ context_id: id, job: job(id, 1, { script: "x".repeat(800_000) }) });
    proxy.pauseMs = 100;
    const { script } = await client.job.load({ context_id: id, caller_id: CALLER, id: 1 });
    return { length: script.length, connections: client.connections };
  },

  // However many calls wait for it, one timer looks whether the socket has room again.
  async looksOnceForRoom({ ws, id }) {
    const proxy = await proxied(ws);
    const client = connect(proxy.url, { maxInFlight: 10_000 });
    await client.context.create(context(id));
    proxy.deaf = true;
    const load = () => void failure(client.call("context.load", { id, more: "x".repeat(500_000) }));
    for (let at = 0; at < 40; at++) load();
    await sleep(200);
    for (let at = 0; at < 300; at++) (load(), await null);
    const { setTimeout: original } = globalThis;
    let looks = 0;
    globalThis.setTimeout = (act, ms, ...more) => (ms === 10 && (looks += 1), original(act, ms, ...more));
    await sleep(300);
    globalThis.setTimeout = original;
    client.close();
    return looks;
  },

  // Times beyond what a timer takes, of which the platforms make 1 ms.
  async waitsAsLongAsItIsTold({ ws, http, id }) {
    const warnings = [];
    process.on("warning", ({ name }) => warnings.push(name));
    await new HttpClient(http).context.create(context(id));
    await new HttpClient(http, { timeoutMs: 3e9 }).context.load({ id });
    await connect(ws).flow.submit(flowOf(id, [job(id, 1)]));
    const seen = [];
    for (const option of ["timeoutMs", "connectTimeoutMs", "keepaliveMs"]) {
      for (const ms of [Infinity, 3e9]) {
        const client = connect(ws, { [option]: ms });
        await client.context.load({ id }, { timeoutMs: ms });
        const { value } = await client.followFlow({ context_id: id, id: 1 }).next();
        seen.push([value.status, client.connections]);
        client.close();
      }
    }
    return { seen, warnings };
  },

  // A peer that accepts connections and says nothing: nobody has to wait for it.
  async closesWhileItConnects() {
    const accepted = [];
    const server = createServer((socket) => accepted.push(socket));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const client = connect(`ws://127.0.0.1:${server.address().port}`, { connectTimeoutMs: 50_000 });
    await until(() => accepted.length > 0);
    client.close();
    const ended = new Promise((resolve) => accepted[0].on("close", () => resolve("closed")).resume());
    return await Promise.race([ended, sleep(10_000)]);
  },

  async refusesHeaders() {
    const headers = [{ x: "a\nb" }, { x: "\u20ac" }, { "x y": "1" }, { "": "1" }, { x: " 1" }];
    return headers.map((given) => {
      try {
        connect("ws://127.0.0.1:1", { headers: given }).close();
        return "nothing";
      } catch (error) {
        return error.message;
      }
    });
  },

  // Every event once and in order, whatever happens to the connection and however slowly they are read.
  async followsThroughCuts({ ws, id }) {
    const proxy = await proxied(ws);
    const client = connect(proxy.url);
    const direct = connect(ws);
    await direct.context.create(context(id));
    const jobs = Array.from({ length: 40 }, (_, at) => job(id, at + 1, { depends: at === 0 ? [] : [at] }));
    await direct.flow.submit(flowOf(id, jobs));
    const service = new RunnerService({
      ...runnerOf(ws, id),
      run: ({ log }) => log("here"),
    });
    const serving = service.serve();
    const cutting = setInterval(proxy.cut, 100);
    const events = [];
    const follower = client.followFlow({ context_id: id, id: 1 }, { buffer: 5 });
    for await (const event of follower) events.push(event);
    clearInterval(cutting);
    service.stop();
    await serving;
    const { events: kept } = await direct.flow.events({ context_id: id, id: 1, limit: 1000 });
    return {
      same:
        JSON.stringify(events.map((event) => event.event_id)) === JSON.stringify(kept.map((event) => event.event_id)),
      finished: events.filter((event) => event.kind === "job" && event.status === "Finished").length,
      last: events.at(-1).status,
      missed: follower.missed,
      resumed: client.connections > 1,
    };
  },

  async followsWhatHasEnded({ ws, id }) {
    const client = connect(ws);
    await client.context.create(context(id));
    await client.flow.submit(flowOf(id, [job(id, 1)]));
    await client.flow.cancel({ context_id: id, id: 1 });
    const statuses = [];
    for await (const event of client.followFlow({ context_id: id, id: 1 })) statuses.push(event.status);
    await client.flow.submit(flowOf(id, [job(id, 2)], 2));
    const deleted = client.followFlow({ context_id: id, id: 2 }, { forever: true });
    await deleted.next();
    await client.flow.cancel({ context_id: id, id: 2 });
    await client.flow.delete({ context_id: id, id: 2 });
    for await (const event of deleted) statuses.push(event.status);
    const nothing = await failure(client.followFlow({ context_id: id, id: 404 }).next());
    return { statuses, deleted: deleted.deleted, nothing: nothing.name };
  },

  // All flows of a context, from now on, through lost connections.
  async followsAContext({ ws, id }) {
    const proxy = await proxied(ws);
    const client = connect(proxy.url);
    await client.context.create(context(id));
    await client.flow.submit(flowOf(id, [job(id, 100)], 100));
    const following = client.follow("context.subscribe", { context_id: id });
    const first = following.next();
    await until(() => following.last !== undefined);
    const seen = [];
    for (let flow = 1; flow <= 5; flow++) {
      await client.flow.submit(flowOf(id, [job(id, flow)], flow));
      await client.flow.cancel({ context_id: id, id: flow });
      proxy.cut();
    }
    seen.push((await first).value);
    while (seen.at(-1).flow_id !== 5 || seen.at(-1).status !== "Error" || seen.at(-1).kind !== "flow") {
      seen.push((await following.next()).value);
    }
    following.close();
    return {
      flows: seen.filter((event) => event.kind === "flow").map((event) => [event.flow_id, event.status]),
      missed: following.missed,
      resumed: client.connections > 1,
    };
  },

  async logsIn({ ws, http, id, operator, key }) {
    const admin = connect(ws, { credentials: { token: operator } });
    await admin.actor.create({ actor: { id, pubkey: key.public, address: [] } });
    await admin.context.create({ context: { id, admins: [id], readers: [], executors: [] } });
    const byKey = { principal: `actor:${id}`, key: key.pem };
    const proxy = await proxied(ws);
    const client = connect(ws, { credentials: byKey });
    const { token } = await client.token.create({ label: "a program" });
    const distant = connect(proxy.url, { credentials: { token: () => token } });
    const first = await distant.auth.whoami();
    proxy.cut();
    const again = await distant.auth.whoami();
    const stranger = await failure(
      connect(ws, { credentials: { token: "hc_no" }, timeoutMs: 500 }).context.load({ id }),
    );
    return {
      byKey: (await client.auth.whoami()).principal,
      byToken: [first.principal, again.principal, distant.connections],
      overHttp: (await new HttpClient(http, { credentials: byKey }).auth.whoami()).principal,
      overHttpByToken: (await new HttpClient(http, { credentials: { token } }).context.load({ id })).id,
      stranger: [stranger.name, stranger.message.includes("cannot log in")],
    };
  },

  async speaksTls({ ws, id, ca }) {
    const client = connect(ws, { tls: { ca } });
    const distrustful = connect(ws, { giveUpAfterMs: 0 });
    return {
      created: (await client.context.create(context(id))).id,
      why: (await failure(distrustful.context.load({ id }))).message,
    };
  },

  async refusesAddresses() {
    const why = (url) => {
      try {
        connect(url).close();
        return "fine";
      } catch (error) {
        return error.message;
      }
    };
    return ["ws://user:secret@host", "ftp://host", "host"].map(why);
  },

  async saysWhyThereIsNoConnection({ http, closed }) {
    const of = async (url) => {
      const client = connect(url, { giveUpAfterMs: 0 });
      return (await failure(client.context.load({ id: 1 }))).message;
    };
    return [
      await of(closed),
      await of(`${http}/nowhere/ws`),
      (await failure(new HttpClient(closed.replace("ws", "http")).context.load({ id: 1 }))).name,
    ];
  },

  // -- runners

  async stopsWhatIsCancelled({ ws, id }) {
    const client = connect(ws);
    await client.context.create(context(id));
    const reasons = [];
    const service = new RunnerService({
      ...runnerOf(ws, id),
      capacity: 2,
      async run({ signal, log, assignment }) {
        await log("begun");
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        reasons.push([assignment.job.id, signal.reason.message]);
        await log("stopping");
        return { partly: "done" };
      },
    });
    const serving = service.serve();
    await client.flow.submit(flowOf(id, [job(id, 1)]));
    await until(
      async () =>
        (await client.job.tail({ context_id: id, caller_id: CALLER, id: 1 })).reports?.length > 0 ||
        (await client.flow.status({ context_id: id, id: 1 })).counts.Started === 1,
    );
    await sleep(300);
    await client.flow.cancel({ context_id: id, id: 1, reason: "no longer needed" });
    await client.flow.submit(flowOf(id, [job(id, 2, { timeout: 1 })], 2));
    for await (const _ of client.followFlow({ context_id: id, id: 2 }));
    await until(
      async () => (await client.job.load({ context_id: id, caller_id: CALLER, id: 1 })).result.partly === "done",
    );
    service.stop();
    await serving;
    const late = await client.job.load({ context_id: id, caller_id: CALLER, id: 2 });
    const [event] = (await client.flow.events({ context_id: id, id: 2, limit: 1000 })).events.filter(
      (one) => one.reason,
    );
    return { reasons, late: [late.status, late.result], why: event.reason };
  },

  // Cut off for longer than the lease, work is told to stop before another runner may begin.
  async stopsWhenCutOff({ ws, id }) {
    const direct = connect(ws);
    await direct.context.create(context(id));
    const proxy = await proxied(ws);
    const begun = [];
    const ended = [];
    const run =
      (name) =>
      async ({ signal, assignment }) => {
        begun.push([name, Date.now(), assignment.attempt]);
        if (name === "other") return { by: name };
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        ended.push(Date.now());
        return { by: name };
      };
    const common = { ...quiet, contextId: id, scriptTypes: ["V"], lease: 2 };
    const near = new RunnerService({
      ...common,
      url: proxy.url,
      runnerId: 3,
      run: run("cut off"),
      keepaliveMs: 60_000,
    });
    const nearServing = near.serve();
    await direct.flow.submit(flowOf(id, [job(id, 1)]));
    await until(() => begun.length === 1);
    const other = new RunnerService({ ...common, url: ws, runnerId: 4, run: run("other") });
    const otherServing = other.serve();
    await sleep(500);
    proxy.stalled = true;
    for await (const _ of direct.followFlow({ context_id: id, id: 1 }));
    proxy.stalled = false;
    proxy.cut();
    other.stop();
    near.stop();
    await Promise.all([otherServing, nearServing]);
    return {
      result: (await direct.job.load({ context_id: id, caller_id: CALLER, id: 1 })).result,
      begun: begun.map(([name]) => name),
      stoppedBefore: ended.length === 1 && ended[0] < begun[1][1],
    };
  },

  async runsManyAtOnce({ ws, id }) {
    const client = connect(ws);
    await client.context.create(context(id));
    let [running, most] = [0, 0];
    const service = new RunnerService({
      ...runnerOf(ws, id),
      capacity: 3,
      async run({ script, inputs, log }) {
        most = Math.max(most, ++running);
        await sleep(20);
        running -= 1;
        if (script === "fail") throw new RangeError("too far");
        if (script === "talk") for (let at = 0; at < 3000; at++) await log(`line ${at}`);
        if (script === "huge") return { huge: "x".repeat(1_100_000) };
        return { seen: Object.keys(inputs).join() };
      },
    });
    const serving = service.serve();
    const jobs = [1, 2, 3, 4, 5, 6].map((own) => job(id, own));
    await client.flow.submit(flowOf(id, [...jobs, job(id, 7, { depends: [2, 3], script: "talk" })]));
    await client.flow.submit(flowOf(id, [job(id, 8, { script: "fail" })], 2));
    await client.flow.submit(flowOf(id, [job(id, 9, { script: "huge" })], 3));
    const reasons = [];
    const lines = [];
    for (const flow of [1, 2, 3]) {
      for await (const event of client.followFlow({ context_id: id, id: flow })) {
        if (event.kind === "job" && event.reason) reasons.push(event.reason);
        if (event.kind === "log") lines.push(...event.lines);
      }
    }
    service.stop();
    await serving;
    return {
      most,
      seen: (await client.job.load({ context_id: id, caller_id: CALLER, id: 7 })).result,
      lines: lines.length === 3000 && lines.every((line, at) => line === `line ${at}`),
      reasons,
    };
  },

  // What is cut where a call has no room for more, and what is no text.
  async tellsWholeCharacters({ ws, id }) {
    const client = connect(ws);
    await client.context.create(context(id));
    const long = `x${"\u{1f600}".repeat(20_000)}`;
    const service = new RunnerService({
      ...runnerOf(ws, id),
      async run({ log }) {
        await log(`${long}\nhalf \ud83d`);
        throw new Failure(`${long}\ud83d`);
      },
    });
    const serving = service.serve();
    await client.flow.submit(flowOf(id, [job(id, 1)]));
    const lines = [];
    let reason;
    for await (const event of client.followFlow({ context_id: id, id: 1 })) {
      if (event.kind === "job" && event.reason) reason = event.reason;
      if (event.kind === "log") lines.push(...event.lines);
    }
    service.stop();
    await serving;
    return {
      lines: lines.slice(0, -1).join("") === long,
      last: lines.at(-1),
      reason: long.startsWith(reason) && reason.length > 9000,
    };
  },

  async leavesAtOnce({ ws, id }) {
    const client = connect(ws);
    await client.context.create(context(id));
    let begun = false;
    const service = new RunnerService({
      ...runnerOf(ws, id),
      run: () => ((begun = true), new Promise(() => undefined)),
    });
    const serving = service.serve();
    await client.flow.submit(flowOf(id, [job(id, 1)]));
    await until(() => begun);
    service.stop();
    service.stop();
    await serving;
    const { jobs } = await client.flow.status({ context_id: id, id: 1 });
    return { status: jobs[0].status, lost: jobs[0].lost };
  },
});
