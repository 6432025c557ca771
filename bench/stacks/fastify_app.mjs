// Fastify with @fastify/websocket and ioredis: node fastify_app.mjs SOCKET UPSERT.LUA; prints its port, then serves.
// Messages of a WebSocket are worked on together and answered as they are ready; ioredis pipelines what gathers.
import { readFileSync } from 'node:fs';
import websocket from '@fastify/websocket';
import Ajv from 'ajv';
import Fastify from 'fastify';
import Redis from 'ioredis';

const [path, script] = process.argv.slice(2);
const TEXT = new Set(['script', 'script_type', 'status']); // members kept as they are; the others as JSON
const ORDER = [
  'id', 'caller_id', 'context_id', 'script', 'script_type', 'timeout', 'retries', 'env_vars', 'prerequisites', 'depends',
  'created_at', 'updated_at', 'result', 'status',
];

const redis = new Redis({ path, enableAutoPipelining: true });
redis.defineCommand('upsertJob', { numberOfKeys: 1, lua: readFileSync(script, 'utf8') });

const uint = (maximum) => ({ type: 'integer', minimum: 0, maximum });
const object = (properties, optional = []) => ({
  type: 'object', properties, required: Object.keys(properties).filter((name) => !optional.includes(name)),
});
const uint32 = uint(2 ** 32 - 1);
const text = { type: 'string' };
const map = { type: 'object', additionalProperties: text };
const job = object({
  id: uint32, caller_id: uint32, context_id: uint32, script: text,
  script_type: { enum: ['Osis', 'Sal', 'V', 'Python'] }, timeout: uint32, retries: uint(255), env_vars: map,
  prerequisites: { type: 'array', items: text }, depends: { type: 'array', items: uint32 }, result: map,
}, ['result']);
const call = (method, params) => object({
  jsonrpc: { const: '2.0' }, id: { type: ['integer', 'string', 'null'] }, method: { const: method }, params,
});
const calls = {
  type: 'object', required: ['method'], discriminator: { propertyName: 'method' },
  oneOf: [
    call('job.load', object({ context_id: uint32, caller_id: uint32, id: uint32 })),
    call('job.create', object({ context_id: uint32, job })),
  ],
};
const ajv = new Ajv({ discriminator: true, allowUnionTypes: true });
const isCall = ajv.compile(calls);
const isBatch = ajv.compile({ type: 'array', minItems: 1, items: calls });

// Puts the call's command on a pipeline, or sends it if `on` is the store itself.
const request = (on, { method, params }) => {
  if (method === 'job.load') return on.hgetall(`${params.context_id}:job:${params.caller_id}:${params.id}`);
  const fields = [];
  for (const [name, value] of Object.entries(params.job)) {
    fields.push(name, TEXT.has(name) ? value : JSON.stringify(value));
  }
  return on.upsertJob(`${params.context_id}:job:${params.job.caller_id}:${params.job.id}`, ...fields);
};

const reply = ({ id }, found) => {
  let fields = found;
  if (Array.isArray(found)) {
    fields = {};
    for (let at = 0; at < found.length; at += 2) fields[found[at]] = found[at + 1];
  }
  if (fields.id === undefined) return { jsonrpc: '2.0', id, error: { code: -32001, message: 'Not Found' } };
  const result = {};
  for (const name of ORDER) result[name] = TEXT.has(name) ? fields[name] : JSON.parse(fields[name]);
  return { jsonrpc: '2.0', id, result };
};

const INVALID = { jsonrpc: '2.0', id: null, error: { code: -32600, message: 'Invalid Request' } };
const answer = async (message) => {
  if (!Array.isArray(message)) return isCall(message) ? reply(message, await request(redis, message)) : INVALID;
  if (!isBatch(message)) return INVALID;
  const pipeline = redis.pipeline();
  for (const one of message) request(pipeline, one);
  const found = await pipeline.exec();
  return message.map((one, at) => {
    const [error, fields] = found[at];
    if (error) throw error;
    return reply(one, fields);
  });
};

const app = Fastify();
await app.register(websocket);
app.post('/', (message) => answer(message.body));
app.get('/', { websocket: true }, (socket) => {
  socket.on('message', async (data) => {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      socket.send(JSON.stringify(INVALID));
      return;
    }
    socket.send(JSON.stringify(await answer(message)));
  });
});
await app.listen({ host: '127.0.0.1', port: 0, backlog: 2048 });
console.log(app.server.address().port);
process.on('SIGTERM', () => process.exit(0));
