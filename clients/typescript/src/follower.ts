// Events as an asynchronous iterator that survives lost connections.

import {
  InvalidParams,
  NotFound,
  type EventSubscriptions,
  type FlowEventNotice,
  type FlowSubscribeParams,
  type MethodName,
} from "./api.js";
import { Signal, type Channel, type Subscription } from "./channel.js";
import { isTransient, pauseAfter, rpcError } from "./errors.js";
import type { Reply } from "./ledger.js";
import { ConnectionLost, NoReply } from "./rpc.js";
import { after, type Timer } from "./timers.js";

const LATER = 4; // as pauseAfter counts: a second or so
const ENDED: readonly (string | undefined)[] = ["Finished", "Error"];
const DELETED = "Deleted";

interface Subscribed {
  subscription: string;
  missed?: boolean;
  /** Where it begins. */
  last_event?: string;
}

export interface FollowOptions {
  /** Events that may wait to be fetched. 1,000. */
  buffer?: number;
  /** Ends it. */
  signal?: AbortSignal;
}

/**
 * `for await (const event of …)`: events in order, none twice.
 *
 * Up to `buffer` events wait here. When they are not fetched as fast as they come, the subscription is given up, and
 * taken up again where it ended once they are: a slow reader neither holds up calls nor fills memory. Only how long the
 * coordinator keeps events bounds how far behind one may be; see `missed`.
 */
export class Follower<M extends keyof EventSubscriptions>
  implements AsyncIterableIterator<EventSubscriptions[M]["event"]>, Subscription
{
  /** The id of the last event given out: the `after` of a later follower. undefined: where it begins by itself. */
  last: string | undefined;
  /** Events were no longer kept when they should have been read. */
  missed = false;
  /** What is followed is known to be gone. */
  deleted = false;

  protected subscription: string | undefined;
  protected buffer: Reply[] = [];
  protected isClosed = false;
  protected readonly changed = new Signal();
  #subscribedBefore = false;
  readonly #limit: number;

  constructor(
    protected readonly channel: Channel,
    protected readonly method: M,
    protected readonly params: EventSubscriptions[M]["params"],
    protected readonly options: FollowOptions = {},
  ) {
    this.last = params.after;
    this.#limit = options.buffer ?? 1000;
    options.signal?.addEventListener("abort", () => this.close(), { once: true });
    if (options.signal?.aborted === true) this.isClosed = true;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next event. Throws RpcError if there is nothing to be followed, CannotConnect and Closed. */
  async next(): Promise<IteratorResult<EventSubscriptions[M]["event"], undefined>> {
    while (!this.isClosed) {
      const params = this.buffer.shift();
      if (params !== undefined) return { done: false, value: this.#give(params) };
      if (this.subscription === undefined) await this.#subscribe();
      else if (!(await this.looked())) await this.changed.wait();
    }
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<EventSubscriptions[M]["event"], undefined>> {
    this.close();
    return { done: true, value: undefined };
  }

  /** Want no more events. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.buffer = [];
    this.#unsubscribe();
    this.changed.tell();
  }

  // -- what kinds of them do differently

  /** Whether something was found out while there was nothing to give; else the next change is awaited. */
  protected async looked(): Promise<boolean> {
    return false;
  }

  protected given(event: FlowEventNotice): void {
    // The last event of what is followed itself.
    if (event.status === DELETED && this.method.startsWith(`${event.kind}.`)) this.gone();
  }

  protected subscribed(): void {}

  protected gone(): void {
    this.deleted = true;
    if (this.subscription !== undefined) {
      this.channel.detach(this);
      this.channel.unroute(this.subscription);
      this.subscription = undefined;
    }
    this.close();
  }

  // -- as the channel sees it

  resume(): void {
    // It subscribes again when its reader asks for more.
  }

  suspend(): void {
    this.subscription = undefined;
    this.channel.detach(this);
    this.changed.tell();
  }

  end(): void {
    this.suspend();
  }

  #give(params: Reply): EventSubscriptions[M]["event"] {
    const event = params as unknown as FlowEventNotice;
    this.missed ||= event.missed === true;
    this.last = event.event_id;
    this.given(event);
    return event as EventSubscriptions[M]["event"];
  }

  async #subscribe(): Promise<void> {
    for (let failures = 0; ; failures++) {
      try {
        await this.#ask();
        this.subscribed();
        return;
      } catch (error) {
        if (error instanceof ConnectionLost) {
          await this.channel.ready();
        } else if (!this.#subscribedBefore) {
          throw error;
        } else if (error instanceof NotFound) {
          return this.gone();
        } else if (error instanceof InvalidParams) {
          // The store has lost what we have read last, or it is another one of this id.
          this.last = undefined;
          this.missed = true;
        } else if (isTransient(error)) {
          await new Promise((resolve) => setTimeout(resolve, pauseAfter(failures)));
        } else {
          throw error;
        }
      }
      if (this.isClosed) return;
    }
  }

  #ask(): Promise<void> {
    return new Promise((resolve, reject) => {
      let timer: Timer | undefined;
      const { after: _, ...params } = this.params;
      const entry = this.channel.post(
        this.method,
        { ...params, ...(this.last === undefined ? {} : { after: this.last }), batch: true },
        (outcome) => {
          clearTimeout(timer);
          if (outcome instanceof Error) reject(outcome);
          else if ("result" in outcome) resolve(this.#accept(outcome["result"] as Subscribed));
          else reject(rpcError(outcome["error"]));
        },
        { resend: false },
      );
      timer = after(this.channel.timeoutMs, () => {
        // If it was sent it may be in force, under an unknown name.
        if (entry.wasSent) this.channel.drop(`it did not answer ${this.method}`);
        else this.channel.abandon(entry);
        reject(new NoReply(`${this.method} was not answered in time`, entry.wasSent));
      });
    });
  }

  #accept({ subscription, missed, last_event }: Subscribed): void {
    this.last ??= last_event;
    this.missed ||= missed === true;
    this.#subscribedBefore = true;
    this.subscription = subscription;
    this.channel.attach(this);
    this.channel.route(subscription, (_, params) => this.#notified(params));
    if (this.isClosed) this.#unsubscribe();
  }

  #notified(params: Reply): void {
    if (this.buffer.length < this.#limit) this.buffer.push(params);
    else this.#unsubscribe();
    this.changed.tell();
  }

  #unsubscribe(): void {
    if (this.subscription === undefined) return;
    this.channel.detach(this);
    this.channel.unsubscribe(this.method.replace(/subscribe$/, "unsubscribe") as MethodName, this.subscription);
    this.subscription = undefined;
  }
}

export interface FlowFollowOptions extends FollowOptions {
  /** Go on after the flow's end, because it may be tried again. */
  forever?: boolean;
}

/**
 * A flow's events. They end after the one that says the flow is Finished or in Error, or at once if that was before
 * `after`; and when the flow is deleted, then after an event of the status Deleted if that comes through.
 */
export class FlowFollower extends Follower<"flow.subscribe"> {
  #mayBeOver = true;
  readonly #forever: boolean;

  constructor(channel: Channel, params: FlowSubscribeParams, options: FlowFollowOptions = {}) {
    super(channel, "flow.subscribe", params, options);
    this.#forever = options.forever ?? false;
  }

  protected override subscribed(): void {
    this.#mayBeOver = true;
  }

  protected override given(event: FlowEventNotice): void {
    super.given(event);
    if (event.kind === "flow" && !this.deleted) this.#mayBeOver = ENDED.includes(event.status);
  }

  protected override async looked(): Promise<boolean> {
    if (!this.#mayBeOver || this.#forever) return false;
    const { context_id, id } = this.params;
    const [flow, page] = await this.channel.callMany([
      ["flow.load", { context_id, id }],
      ["flow.events", { context_id, id, limit: 1, ...(this.last === undefined ? {} : { after: this.last }) }],
    ]);
    if (this.isClosed || this.buffer.length > 0) return true;
    if (flow instanceof NotFound || page instanceof NotFound) {
      this.gone();
    } else if (flow instanceof Error || page instanceof Error) {
      const error = flow instanceof Error ? flow : page;
      if (!isTransient(error)) throw error;
      await new Promise((resolve) => setTimeout(resolve, pauseAfter(LATER)));
    } else if (!ENDED.includes(flow.status)) {
      this.#mayBeOver = false; // until it says so itself
    } else if (page.events.length === 0) {
      this.close();
    } else if (this.subscription !== undefined) {
      return false; // they are on their way here
    }
    return true;
  }
}
