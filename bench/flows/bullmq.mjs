// BullMQ's FlowProducer and Worker: node bullmq.mjs SOCKET rate FLOWS | latency JOBS; prints its figures as one line of JSON.
import { FlowProducer, Queue, Worker } from 'bullmq';

const [socket, what, amount] = process.argv.slice(2);
const connection = { path: socket, maxRetriesPerRequest: null };
const count = Number(amount);
const jobs = what === 'rate' ? count * 5 : count;
const sent = new Map();
const waits = [];
let done = 0;
let finished;
const end = new Promise((resolve) => { finished = resolve; });

const work = async (job) => {
  if (what === 'latency') waits.push(performance.now() - sent.get(job.data.i));
  return { a: '1' };
};
const worker = new Worker('bench', work, { connection, concurrency: 100 });
worker.on('completed', () => { if (++done === jobs) finished(); });
await worker.waitUntilReady();

if (what === 'rate') {
  const producer = new FlowProducer({ connection });
  const children = [0, 1, 2, 3].map((i) => ({ name: 'child', queueName: 'bench', data: { i } }));
  const family = { name: 'parent', queueName: 'bench', data: {}, children };
  const began = performance.now();
  let next = 0;
  const lane = async () => {
    while (next < count) {
      const some = Math.min(20, count - next);
      next += some;
      await producer.addBulk(Array.from({ length: some }, () => family));
    }
  };
  await Promise.all(Array.from({ length: 20 }, lane));
  await end;
  console.log(JSON.stringify({ jobs_per_s: jobs / ((performance.now() - began) / 1000) }));
} else {
  const queue = new Queue('bench', { connection });
  await queue.waitUntilReady();
  for (let i = 0; i < count; i++) {
    sent.set(i, performance.now());
    await queue.add('one', { i });
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await end;
  waits.sort((a, b) => a - b);
  console.log(JSON.stringify({ p50_ms: waits[count >> 1], p99_ms: waits[Math.floor(count * 0.99)] }));
}
process.exit(0);
