// A connection that is made again whenever it is lost, and the calls and subscriptions on it.

import { PlatformSocket } from "#websocket";

import { InvalidRequest, type MethodName, type Methods } from "./api.js";
import { forWebSocket, parseAddress, shown } from "./address.js";
import { pauseAfter, rpcError } from "./errors.js";
import { Ledger, type Entry, type Finish, type Limits, type Reply } from "./ledger.js";
import { logInByKey, logInByToken, tokenOf, type Credentials } from "./login.js";
import { Aborted, CannotConnect, ClientError, Closed, NoReply, isObject, type CallOptions } from "./rpc.js";
import { FARTHEST_MS, after, type Timer } from "./timers.js";
import type { Socket, SocketClass, SocketOptions } from "./websocket/socket.js";

const SUBPROTOCOL = "herocoordinator.v1";
const MESSAGE_TOO_BIG = 1009;
const LOGIN_ENDED = "auth.ended";
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024; // sent and not accepted; beyond that calls wait here
const LOOK_AGAIN_MS = 10;
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const HEADER_VALUE = /^(?! )[\t\x20-\x7e\x80-\xff]*(?<! )$/;

export interface ConnectOptions extends Partial<Limits>, SocketOptions {
  /** What to log in with on each connection, where callers log in. */
  credentials?: Credentials;
  /** Milliseconds until a call fails with NoReply, unless it gives its own. 60,000. */
  timeoutMs?: number;
  /** Milliseconds without a connection after which every call fails with CannotConnect. Infinity. */
  giveUpAfterMs?: number;
  /** Milliseconds one attempt to connect may take, and the login after it. 10,000. */
  connectTimeoutMs?: number;
  /**
   * Milliseconds of silence after which the coordinator is asked whether it is there; after as long again it counts as
   * gone. 20,000.
   */
  keepaliveMs?: number;
  /** Used in place of the platform's own. */
  WebSocket?: SocketClass;
  /** Called when a connection is made, and when it is lost. */
  onConnect?: () => void;
  onDisconnect?: (why: string) => void;
}

/** Something that lives on a connection and is brought back on the next one. */
export interface Subscription {
  /** There is a new connection, on which nothing was sent yet. */
  resume(): void;
  /** The connection is gone. */
  suspend(): void;
  /** There will be no other one. */
  end(error: Error): void;
}

export type Notified = (method: string, params: Reply) => void;

interface Closing {
  code: number;
  reason: string;
}

/** A socket that is open, until it is closed. */
class Link {
  onMessage: (message: unknown) => void = () => undefined;

  private constructor(
    readonly socket: Socket,
    readonly closed: Promise<Closing>,
    /** Count it as closed, although its peer may be too far away to say so. */
    readonly abandon: (closing: Closing) => void,
  ) {}

  static async open(socket: Socket, timeoutMs: number): Promise<Link> {
    let link: Link | undefined;
    let trouble = "it does not answer the WebSocket handshake";
    let abandon: (closing: Closing) => void = () => undefined;
    const closed = new Promise<Closing>((resolve) => (abandon = resolve));
    socket.onclose = abandon;
    socket.onerror = (event: { message?: string }) => (trouble = event.message ?? "the connection has failed");
    socket.onmessage = (event: { data: unknown }) => {
      if (link !== undefined) receive(link, event.data);
    };
    const opened = new Promise<boolean>((resolve) => {
      socket.onopen = () => resolve(true);
      void closed.then(() => resolve(false));
    });
    if ((await within(opened, timeoutMs)) !== true) {
      socket.close();
      throw new CannotConnect(trouble);
    }
    return (link = new Link(socket, closed, abandon));
  }

  /** One call and its result, while nothing else is on the connection. */
  async ask(method: string, params: object, timeoutMs: number): Promise<unknown> {
    const answered = new Promise<unknown>((resolve) => {
      this.onMessage = resolve;
      void this.closed.then(() => resolve(undefined));
    });
    this.socket.send(JSON.stringify({ jsonrpc: "2.0", id: 0, method, params }));
    const reply = await within(answered, timeoutMs);
    if (!isObject(reply)) throw new ClientError("it does not answer the login");
    if ("result" in reply) return reply["result"];
    throw rpcError(reply["error"]);
  }
}

function receive(link: Link, data: unknown): void {
  try {
    link.onMessage(JSON.parse(String(data)));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    link.socket.close(1007, "not JSON");
  }
}

function checkHeaders(headers: { [name: string]: string } = {}): void {
  for (const [name, value] of Object.entries(headers)) {
    if (!HEADER_NAME.test(name) || !HEADER_VALUE.test(value))
      throw new TypeError(`the header ${JSON.stringify(name)} cannot be sent: it has a character that none may have`);
  }
}

async function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  let timer: Timer | undefined;
  const late = new Promise<undefined>((resolve) => (timer = after(timeoutMs, () => resolve(undefined))));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The half of the client that knows no method. */
export class Channel {
  readonly timeoutMs: number;
  /** How many connections there were so far. */
  connections = 0;

  readonly #address: URL;
  readonly #options: ConnectOptions;
  readonly #Socket: SocketClass;
  readonly #ledger: Ledger;
  readonly #connectTimeoutMs: number;
  readonly #keepaliveMs: number;
  readonly #subscriptions = new Set<Subscription>();
  readonly #routes = new Map<string, Notified>();
  #link: Link | undefined;
  #socket: Socket | undefined; // of the link, or of the attempt to make one
  #ended: Error | undefined;
  #trouble = "it has not answered yet";
  #lastReceived = 0;
  #wasUseful = false; // whether anything came over the last connection
  #isFlushing = false;
  #lookingAgain: Timer | undefined; // whether the socket has sent what it was given
  #changed = new Signal();

  constructor(url: string, options: ConnectOptions = {}) {
    const Class = options.WebSocket ?? PlatformSocket;
    if (Class === undefined) throw new TypeError("there is no WebSocket here: give one as the option `WebSocket`");
    this.#Socket = Class;
    this.#address = forWebSocket(parseAddress(url));
    checkHeaders(options.headers);
    this.#options = options;
    const { maxInFlight = 1024, maxBatchLength = 1000, maxFrameBytes = 1024 * 1024 } = options;
    this.#ledger = new Ledger({ maxInFlight, maxBatchLength, maxFrameBytes });
    this.timeoutMs = options.timeoutMs ?? 60_000;
    this.#connectTimeoutMs = options.connectTimeoutMs ?? 10_000;
    this.#keepaliveMs = options.keepaliveMs ?? 20_000;
    void this.#keepConnected();
  }

  // -- state

  get connected(): boolean {
    return this.#link !== undefined;
  }

  /** Wait until there is a connection. Throws CannotConnect once the client has given up, Closed once it is closed. */
  async ready(signal?: AbortSignal): Promise<void> {
    while (this.#link === undefined) {
      if (this.#ended !== undefined) throw this.#ended;
      await this.#changed.wait(signal);
    }
  }

  /** Close the connection. Calls that wait fail with Closed. */
  close(): void {
    this.#end(new Closed("the client has been closed"));
    this.#socket?.close();
  }

  #end(error: Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#ledger.failAll(error);
    for (const subscription of [...this.#subscriptions]) subscription.end(error);
    this.#changed.tell();
  }

  // -- calls

  /** Call a method and return its result. What is called at the same moment goes to the coordinator as one batch. */
  call<M extends MethodName>(
    method: M,
    params: Methods[M]["params"],
    options?: CallOptions,
  ): Promise<Methods[M]["result"]>;
  call(method: string, params?: unknown, options?: CallOptions): Promise<unknown>;
  call(method: string, params: unknown = {}, options: CallOptions = {}): Promise<unknown> {
    return this.#make(method, params, options, true);
  }

  /** Send a notification: nobody will say whether it had an effect. Done once it is on its way. */
  async notify<M extends MethodName>(
    method: M,
    params: Methods[M]["params"],
    options: CallOptions = {},
  ): Promise<void> {
    await this.#make(method, params, options, false);
  }

  /** Call many at once. Each outcome is a result, or the error in its place. */
  async callMany<const C extends readonly (readonly [MethodName, unknown])[]>(
    calls: C,
    options: CallOptions = {},
  ): Promise<{
    -readonly [I in keyof C]: C[I] extends readonly [infer M extends MethodName, unknown]
      ? Methods[M]["result"] | ClientError
      : never;
  }> {
    const made = calls.map(([method, params]) =>
      this.#make(method, params, options, true).catch((error: unknown) => {
        if (error instanceof ClientError) return error;
        throw error;
      }),
    );
    return (await Promise.all(made)) as never;
  }

  #make(method: string, params: unknown, options: CallOptions, answered: boolean): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const { signal, resend = true, alone = false, timeoutMs = this.timeoutMs } = options;
      if (signal?.aborted === true) return reject(new Aborted(String(signal.reason)));
      let timer: Timer | undefined;
      const giveUp = () => end(new Aborted(String(signal?.reason)));
      const end = (outcome: Reply | Error) => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", giveUp);
        this.#ledger.abandon(entry);
        if (outcome instanceof Error) reject(outcome);
        else if ("result" in outcome) resolve(outcome["result"]);
        else reject(rpcError(outcome["error"]));
        this.flushSoon(); // there is room for others
      };
      const entry = this.post(method, params, end, { resend, alone, answered });
      signal?.addEventListener("abort", giveUp, { once: true });
      timer = after(timeoutMs, () => end(new NoReply(this.#whyNoReply(), entry.wasSent)));
    });
  }

  /** Line a call up without waiting; `finish` gets its outcome before any later message is looked at. */
  post(
    method: string,
    params: unknown,
    finish: Finish,
    how: { resend?: boolean; alone?: boolean; first?: boolean; answered?: boolean } = {},
  ): Entry {
    if (this.#ended !== undefined) throw this.#ended;
    const entry = this.#ledger.put(method, params, finish, how);
    this.flushSoon();
    return entry;
  }

  /** Nobody waits for its outcome any more. */
  abandon(entry: Entry): void {
    this.#ledger.abandon(entry);
  }

  #whyNoReply(): string {
    const where = shown(this.#address);
    return this.connected ? `${where} did not answer in time` : `no connection to ${where}: ${this.#trouble}`;
  }

  /** Send what gathers until the running code is done, in as few messages as it fits. */
  flushSoon(): void {
    if (this.#isFlushing || this.#link === undefined) return;
    this.#isFlushing = true;
    queueMicrotask(() => {
      this.#isFlushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    const link = this.#link;
    while (link !== undefined && this.#link === link) {
      if (link.socket.bufferedAmount > MAX_BUFFERED_BYTES) {
        this.#lookingAgain ??= setTimeout(() => {
          this.#lookingAgain = undefined;
          this.flushSoon();
        }, LOOK_AGAIN_MS);
        return;
      }
      const text = this.#ledger.take();
      if (text === undefined) return;
      link.socket.send(text);
    }
  }

  // -- subscriptions

  /** Have it resumed on every new connection, beginning with the present one if there is one. */
  attach(subscription: Subscription): void {
    this.#subscriptions.add(subscription);
    if (this.#ended !== undefined) subscription.end(this.#ended);
    else if (this.connected) subscription.resume();
  }

  detach(subscription: Subscription): void {
    this.#subscriptions.delete(subscription);
  }

  /** Give the notifications of this subscription to `notified`, while the present connection lasts. */
  route(subscription: string, notified: Notified): void {
    this.#routes.set(subscription, notified);
  }

  /** Ignore its notifications from now on. */
  unroute(subscription: string): void {
    this.#routes.delete(subscription);
  }

  /** End a subscription without waiting for the answer. */
  unsubscribe(method: string, subscription: string): void {
    if (this.#routes.delete(subscription) && this.#ended === undefined) {
      this.post(method, { subscription }, () => undefined, { resend: false });
    }
  }

  /** Give the connection up, and make another one. */
  drop(why: string): void {
    this.#trouble = why;
    const link = this.#link;
    if (link !== undefined) {
      this.#lost(link, why);
      link.abandon({ code: 1006, reason: why });
      link.socket.close();
    }
  }

  // -- the connection

  async #keepConnected(): Promise<void> {
    const { giveUpAfterMs = Infinity } = this.#options;
    let lastConnected = performance.now();
    let failures = 0;
    while (this.#ended === undefined) {
      const before = this.connections;
      this.#wasUseful = false;
      try {
        const socket = new this.#Socket(this.#address.href, [SUBPROTOCOL], this.#socketOptions());
        this.#socket = socket;
        const link = await Link.open(socket, this.#connectTimeoutMs);
        try {
          await this.#logIn(link);
          await this.#converse(link);
        } finally {
          link.socket.close();
        }
      } catch (error) {
        this.#trouble = error instanceof Error ? error.message : String(error);
      }
      const now = performance.now();
      if (this.connections > before) lastConnected = now;
      if (this.#wasUseful) failures = 0;
      if (this.#ended !== undefined) return;
      if (now - lastConnected >= giveUpAfterMs) {
        return this.#end(new CannotConnect(`no connection to ${shown(this.#address)}: ${this.#trouble}`));
      }
      await this.#sleep(Math.min(pauseAfter(failures++), lastConnected + giveUpAfterMs - now));
    }
  }

  #socketOptions(): SocketOptions {
    const { headers, tls } = this.#options;
    return { ...(headers ? { headers } : {}), ...(tls ? { tls } : {}) };
  }

  async #logIn(link: Link): Promise<void> {
    const { credentials } = this.#options;
    if (credentials === undefined) return;
    const ask = (method: string, params: object) => link.ask(method, params, this.#connectTimeoutMs);
    try {
      const token = await tokenOf(credentials);
      if (token === undefined) await logInByKey(credentials, ask, this.#address.host);
      else await logInByToken(token, ask);
    } catch (error) {
      throw new ClientError(`cannot log in: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  /** Use a connection until it ends. */
  async #converse(link: Link): Promise<void> {
    if (this.#ended !== undefined) return;
    link.onMessage = (message) => this.#received(message);
    this.#link = link;
    this.#lastReceived = performance.now();
    this.connections += 1;
    for (const subscription of [...this.#subscriptions]) subscription.resume();
    this.#options.onConnect?.();
    this.#changed.tell();
    this.flushSoon();
    const watch = setInterval(() => this.#watch(link), Math.min(Math.max(this.#keepaliveMs / 4, 1), FARTHEST_MS));
    const { code, reason } = await link.closed;
    clearInterval(watch);
    if (this.#link !== link) return;
    const why = `closed with ${code} ${reason}`.trim();
    if (code === MESSAGE_TOO_BIG) {
      // Sent again, the same message would end the next connection too.
      this.#ledger.settle(
        { error: { code: InvalidRequest.code, message: "Invalid Request", data: { detail: why } } },
        true,
      );
    }
    this.#lost(link, why);
  }

  #lost(link: Link, why: string): void {
    if (this.#link !== link) return;
    this.#link = undefined;
    this.#trouble = why;
    this.#routes.clear();
    this.#ledger.connectionLost(why);
    for (const subscription of [...this.#subscriptions]) subscription.suspend();
    this.#options.onDisconnect?.(why);
    this.#changed.tell();
  }

  #received(message: unknown): void {
    this.#lastReceived = performance.now();
    this.#wasUseful = true;
    const isSingle = !Array.isArray(message);
    for (const item of isSingle ? [message] : message) {
      if (!isObject(item)) continue;
      if (typeof item["method"] === "string") this.#notified(item["method"], item["params"]);
      else this.#ledger.settle(item, isSingle);
    }
    this.flushSoon();
  }

  #notified(method: string, params: unknown): void {
    if (method === LOGIN_ENDED) {
      // What is asked for on the next connection says why.
      this.drop(
        isObject(params) && "subscription" in params
          ? "the coordinator has ended a subscription"
          : "the login has ended",
      );
    } else if (isObject(params)) {
      this.#routes.get(String(params["subscription"]))?.(method, params);
    }
  }

  /** A browser's WebSocket cannot ping, so a small call does. */
  #watch(link: Link): void {
    const silence = performance.now() - Math.max(this.#lastReceived, link.socket.lastReceived ?? 0);
    if (silence >= 2 * this.#keepaliveMs) {
      if (this.#link === link) this.drop("the coordinator is silent");
    } else if (silence >= this.#keepaliveMs) {
      link.socket.send('{"jsonrpc":"2.0","id":"keepalive","method":"auth.whoami","params":{}}');
    }
  }

  async #sleep(ms: number): Promise<void> {
    const ends = performance.now() + ms;
    while (this.#ended === undefined && performance.now() < ends) {
      const woken = new AbortController();
      const timer = setTimeout(() => woken.abort(), ends - performance.now());
      await this.#changed.wait(woken.signal).catch(() => undefined);
      clearTimeout(timer);
    }
  }
}

/** Wakes all who wait for a change. */
export class Signal {
  #waiting: (() => void)[] = [];

  tell(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  /** Throws Aborted. */
  wait(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(new Aborted(String(signal.reason)));
      const giveUp = () => {
        this.#waiting = this.#waiting.filter((other) => other !== wake);
        reject(new Aborted(String(signal?.reason)));
      };
      const wake = () => {
        signal?.removeEventListener("abort", giveUp);
        resolve();
      };
      this.#waiting.push(wake);
      signal?.addEventListener("abort", giveUp, { once: true });
    });
  }
}
