// Who waits for what: calls in, messages out; replies in, outcomes out. Knows no socket and no clock.

import { ReplyTooLarge } from "./api.js";
import { encoded } from "./json.js";
import { CallTooLarge, ConnectionLost, isObject } from "./rpc.js";

export type Reply = { [member: string]: unknown };

/** Takes a call's outcome: the reply object, or why there is none. */
export type Finish = (outcome: Reply | Error) => void;

/** A call until its outcome is known. Without `answered` it is a notification. */
export interface Entry {
  readonly key: number;
  readonly text: string;
  /** What it takes of the size of a message: its bytes, or more for its values. */
  readonly weight: number;
  readonly answered: boolean;
  readonly resend: boolean;
  alone: boolean;
  wasSent: boolean;
  /** What was last sent in one message with it, itself included. */
  batch: Entry[];
  readonly finish: Finish;
}

export interface Limits {
  /** Calls sent and unanswered; others wait. */
  maxInFlight: number;
  /** Calls in one message. */
  maxBatchLength: number;
  /** Size of one message. */
  maxFrameBytes: number;
}

const encoder = new TextEncoder();
const SHORT = 4096; // characters of a text that is not worth being measured

/** The bytes of a text in UTF-8, or a little more. */
function sizeOf(text: string): number {
  return text.length <= SHORT ? text.length * 3 : encoder.encode(text).length;
}

const BYTES_A_VALUE = 8; // of what the coordinator takes in a message, for each value

/** No fewer values than the coordinator counts: a string counts as two, a list or an object as four. */
function valuesOf(text: string): number {
  let quotes = 0;
  let beginnings = 1;
  let ends = 0;
  for (let at = 0; at < text.length; at++) {
    const mark = text[at];
    if (mark === '"') quotes++;
    else if (mark === "," || mark === "[" || mark === "{") beginnings++;
    else if (mark === "]" || mark === "}") ends++;
  }
  return Math.max(quotes, beginnings, 4 * ends);
}

export class Ledger {
  readonly #limits: Limits;
  #first = new Map<number, Entry>();
  #unsent = new Map<number, Entry>();
  #sent = new Map<number, Entry>();
  #lastKey = 0;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  /** Line a call up, with `first` before all others. Throws CallTooLarge, and TypeError for what is no JSON. */
  put(
    method: string,
    params: unknown,
    finish: Finish,
    how: { resend?: boolean; alone?: boolean; first?: boolean; answered?: boolean } = {},
  ): Entry {
    const { resend = true, alone = false, first = false, answered = true } = how;
    const key = ++this.#lastKey;
    const text = encoded({ jsonrpc: "2.0", id: answered ? key : undefined, method, params });
    const size = sizeOf(text);
    if (size > this.#limits.maxFrameBytes) {
      throw new CallTooLarge(`${method} takes ${size} bytes; maxFrameBytes is ${this.#limits.maxFrameBytes}`);
    }
    const weight = Math.max(size, BYTES_A_VALUE * valuesOf(text));
    const entry: Entry = { key, text, weight, answered, resend, alone, wasSent: false, batch: [], finish };
    (first ? this.#first : this.#unsent).set(key, entry);
    return entry;
  }

  /** The next message, whose calls now count as sent; undefined while there is none or too many are in flight. */
  take(): string | undefined {
    const { maxInFlight, maxBatchLength, maxFrameBytes } = this.#limits;
    const room = Math.min(maxInFlight - this.#sent.size, maxBatchLength);
    const taken: Entry[] = [];
    let weight = 4 * BYTES_A_VALUE; // the batch itself
    for (const waiting of [this.#first, this.#unsent]) {
      for (const entry of waiting.values()) {
        if (taken.length >= room) break;
        weight += entry.weight + 1;
        if (taken.length > 0 && (entry.alone || taken[0]?.alone === true || weight > maxFrameBytes)) break;
        waiting.delete(entry.key);
        entry.wasSent = true;
        entry.batch = taken;
        taken.push(entry);
        if (entry.answered) this.#sent.set(entry.key, entry);
      }
      if (waiting.size > 0) break;
    }
    if (taken.length === 0) return undefined;
    const text = taken.length === 1 ? (taken[0] as Entry).text : `[${taken.map((entry) => entry.text).join(",")}]`;
    for (const entry of taken) if (!entry.answered) entry.finish({ result: null });
    return text;
  }

  /**
   * Hand a reply to its call.
   *
   * isSingle: it came by itself. If the call was sent in a batch, that is an error about all of it.
   */
  settle(reply: Reply, isSingle: boolean): void {
    const id = reply["id"];
    if (id === null || id === undefined) return this.#settleAll(reply);
    const entry = typeof id === "number" ? this.#sent.get(id) : undefined;
    if (entry === undefined) return; // nobody waits for it any more
    this.#sent.delete(entry.key);
    const { batch } = entry;
    entry.batch = [];
    const error = reply["error"];
    if (error !== undefined && isSingle) {
      for (const other of batch) if (this.#sent.delete(other.key)) other.finish(reply);
    }
    if (isObject(error) && error["code"] === ReplyTooLarge.code && !entry.alone) {
      entry.alone = true; // only because of the company it was sent in
      this.#first.set(entry.key, entry);
      return;
    }
    entry.finish(reply);
  }

  /** An error without an id is about a whole message; it is not said which. */
  #settleAll(reply: Reply): void {
    const sent = this.#sent;
    this.#sent = new Map();
    for (const entry of sent.values()) entry.finish(reply);
  }

  /** Its caller waits no more. */
  abandon(entry: Entry): void {
    for (const waiting of [this.#first, this.#unsent, this.#sent]) waiting.delete(entry.key);
  }

  /** What was not answered is sent again, first and in the same order. */
  connectionLost(why: string): void {
    const sent = [...this.#sent.values()];
    this.#sent = new Map();
    const again = [...sent.filter((entry) => entry.resend), ...this.#first.values(), ...this.#unsent.values()];
    this.#first = new Map();
    this.#unsent = new Map(again.map((entry) => [entry.key, entry]));
    for (const entry of sent) if (!entry.resend) entry.finish(new ConnectionLost(why));
  }

  failAll(error: Error): void {
    const all = [...this.#sent.values(), ...this.#first.values(), ...this.#unsent.values()];
    for (const waiting of [this.#first, this.#unsent, this.#sent]) waiting.clear();
    for (const entry of all) entry.finish(error);
  }
}
