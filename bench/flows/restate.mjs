// Restate: a handler that calls another four times: node restate.mjs DIRECTORY rate FLOWS | latency JOBS; prints its
// figures as one line of JSON. DIRECTORY is that of a restate-server that listens on sockets in it.
import http from 'node:http';
import http2 from 'node:http2';

// Node 20 does not have it, and the SDK needs it.
Promise.withResolvers ??= () => {
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
};
const restate = await import('@restatedev/restate-sdk');

const [directory, what, amount] = process.argv.slice(2);
const count = Number(amount);
const AT_ONCE = 100; // flows that are under way, as BullMQ's concurrency
const START_TIMEOUT = 60_000; // ms

const sent = new Map();
const waits = [];
let finished;
const end = new Promise((resolve) => { finished = resolve; });

const flows = restate.service({
  name: 'flows',
  handlers: {
    parent: async (context) => {
      await restate.RestatePromise.all([0, 1, 2, 3].map((i) => context.serviceClient(flows).child({ i })));
      return { a: '1' };
    },
    child: async () => ({ a: '1' }),
    one: async (_, { i }) => {
      if (waits.push(performance.now() - sent.get(i)) === count) finished();
      return { a: '1' };
    },
  },
});
const services = http2.createServer(restate.createEndpointHandler({ services: [flows] }));
await new Promise((resolve) => { services.listen(0, '127.0.0.1', resolve); });

const agent = new http.Agent({ keepAlive: true, maxSockets: AT_ONCE });
const headers = { 'content-type': 'application/json' };
const post = (socket, path, value) => new Promise((resolve, reject) => {
  const request = http.request({ agent, socketPath: `${directory}/${socket}.sock`, path, method: 'POST', headers });
  request.on('error', reject);
  request.on('response', (response) => {
    let text = '';
    response.setEncoding('utf8');
    response.on('data', (part) => { text += part; });
    response.on('end', () => {
      if (response.statusCode < 300) resolve(text);
      else reject(new Error(`${path}: ${response.statusCode} ${text}`));
    });
  });
  request.end(JSON.stringify(value));
});
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
const answered = async (socket, path, value) => {
  const deadline = performance.now() + START_TIMEOUT;
  for (;;) {
    try {
      return await post(socket, path, value);
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await pause(100);
    }
  }
};
await answered('admin', '/deployments', { uri: `http://127.0.0.1:${services.address().port}` });
await answered('ingress', '/flows/parent', {}); // it works

if (what === 'rate') {
  const began = performance.now();
  let next = 0;
  const lane = async () => {
    while (next < count) {
      next += 1;
      await post('ingress', '/flows/parent', {});
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  console.log(JSON.stringify({ jobs_per_s: (count * 5) / ((performance.now() - began) / 1000) }));
} else {
  for (let i = 0; i < count; i++) {
    sent.set(i, performance.now());
    await post('ingress', '/flows/one/send', { i });
    await pause(10);
  }
  await end;
  waits.sort((a, b) => a - b);
  console.log(JSON.stringify({ p50_ms: waits[count >> 1], p99_ms: waits[Math.floor(count * 0.99)] }));
}
process.exit(0);
