// Calls over HTTP, by fetch: for one call, or where there is no WebSocket.

import { NotLoggedIn, bind, type Api, type MethodName, type Methods } from "./api.js";
import { forHttp, parseAddress, shown } from "./address.js";
import { rpcError } from "./errors.js";
import { encoded } from "./json.js";
import { logInByKey, tokenOf, type Credentials } from "./login.js";
import { Aborted, CannotConnect, ClientError, NoReply, RpcError, isObject, type CallOptions } from "./rpc.js";
import { after } from "./timers.js";

export interface HttpOptions {
  credentials?: Credentials;
  /** Sent with each request. */
  headers?: { [name: string]: string };
  /** Milliseconds until a call fails with NoReply, unless it gives its own. 60,000. */
  timeoutMs?: number;
  /** Used in place of the platform's own. */
  fetch?: typeof globalThis.fetch;
}

// Its methods are those of the API; subscriptions need a WebSocket.
export interface HttpClient extends Api {}

/** Calls over HTTP. A call is sent once: after an error of the connection it may have been applied. */
export class HttpClient {
  readonly #url: URL;
  readonly #options: HttpOptions;
  #token: Promise<string | undefined> | undefined;

  constructor(url: string, options: HttpOptions = {}) {
    this.#url = forHttp(parseAddress(url));
    this.#options = options;
    Object.assign(
      this,
      bind((method, params, callOptions) => this.call(method, params, callOptions)),
    );
  }

  call<M extends MethodName>(
    method: M,
    params: Methods[M]["params"],
    options?: CallOptions,
  ): Promise<Methods[M]["result"]>;
  call(method: string, params?: unknown, options?: CallOptions): Promise<unknown>;
  async call(method: string, params: unknown = {}, options: CallOptions = {}): Promise<unknown> {
    return resultOf(await this.#exchange({ jsonrpc: "2.0", id: 1, method, params }, options));
  }

  /** Call many in one batch. Each outcome is a result, or the error in its place. */
  async callMany<const C extends readonly (readonly [MethodName, unknown])[]>(
    calls: C,
    options: CallOptions = {},
  ): Promise<{
    -readonly [I in keyof C]: C[I] extends readonly [infer M extends MethodName, unknown]
      ? Methods[M]["result"] | ClientError
      : never;
  }> {
    if (calls.length === 0) return [] as never;
    const batch = calls.map(([method, params], id) => ({ jsonrpc: "2.0", id, method, params }));
    const replies = await this.#exchange(batch, options);
    if (!Array.isArray(replies)) throw rpcError(isObject(replies) ? replies["error"] : undefined);
    const byId = new Map(replies.filter(isObject).map((reply) => [reply["id"], reply]));
    return calls.map((_, id) => outcomeOf(byId.get(id))) as never;
  }

  async #exchange(message: unknown, options: CallOptions): Promise<unknown> {
    const reply = await this.#post(message, options, await this.#shownToken(options));
    if (this.#options.credentials === undefined || !isNotLoggedIn(reply)) return reply;
    this.#token = undefined; // what a login gave has ended
    return this.#post(message, options, await this.#shownToken(options));
  }

  #shownToken(options: CallOptions): Promise<string | undefined> {
    const { credentials } = this.#options;
    if (credentials === undefined) return Promise.resolve(undefined);
    const ask = async (method: string, params: object) =>
      resultOf(await this.#post({ jsonrpc: "2.0", id: 1, method, params }, options, undefined));
    const logIn = async () =>
      (await tokenOf(credentials)) ?? (await logInByKey(credentials, ask, this.#url.host))?.token;
    this.#token ??= logIn().catch((error: unknown) => {
      this.#token = undefined;
      throw error;
    });
    return this.#token;
  }

  async #post(message: unknown, options: CallOptions, token: string | undefined): Promise<unknown> {
    const { timeoutMs = this.#options.timeoutMs ?? 60_000, signal } = options;
    const given = new AbortController();
    const giveUp = () => given.abort();
    const timer = after(timeoutMs, giveUp);
    signal?.addEventListener("abort", giveUp, { once: true });
    if (signal?.aborted === true) giveUp();
    const where = shown(this.#url);
    const body = encoded(message);
    try {
      const response = await (this.#options.fetch ?? globalThis.fetch)(this.#url, {
        method: "POST",
        headers: {
          ...this.#options.headers,
          "content-type": "application/json",
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        },
        body,
        signal: given.signal,
      });
      const text = await response.text();
      const reply = parsed(text);
      if (reply === undefined)
        throw new CannotConnect(`no connection to ${where}: it answered ${response.status}, which is no JSON-RPC`);
      return reply;
    } catch (error) {
      if (error instanceof ClientError) throw error;
      if (signal?.aborted === true) throw new Aborted(String(signal.reason));
      if (given.signal.aborted) throw new NoReply(`${where} did not answer within ${timeoutMs} ms`, true);
      throw new CannotConnect(`no connection to ${where}: ${reasonOf(error)}`, { cause: error });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", giveUp);
    }
  }
}

function parsed(text: string): unknown {
  try {
    const reply: unknown = JSON.parse(text);
    return Array.isArray(reply) || (isObject(reply) && ("result" in reply || "error" in reply)) ? reply : undefined;
  } catch {
    return undefined;
  }
}

function outcomeOf(reply: { [member: string]: unknown } | undefined): unknown {
  return reply !== undefined && "result" in reply ? reply["result"] : rpcError(reply?.["error"]);
}

function resultOf(reply: unknown): unknown {
  const outcome = outcomeOf(isObject(reply) ? reply : undefined);
  if (outcome instanceof RpcError) throw outcome;
  return outcome;
}

function isNotLoggedIn(reply: unknown): boolean {
  return isObject(reply) && isObject(reply["error"]) && reply["error"]["code"] === NotLoggedIn.code;
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error
    ? cause.message || String((cause as { code?: string }).code ?? cause.name)
    : String(cause);
}
