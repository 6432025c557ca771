// A runner's assignments as an asynchronous iterator that survives lost connections.

import {
  StaleToken,
  type Assignment,
  type AssignmentNotice,
  type AttemptOutcome,
  type CancelNotice,
  type LogStream,
  type Logged,
  type RunnerSubscribeParams,
} from "./api.js";
import { Signal, type Channel, type Subscription } from "./channel.js";
import { isTransient, pauseAfter, rpcError } from "./errors.js";
import type { Reply } from "./ledger.js";
import { ConnectionLost, NoReply, randomName } from "./rpc.js";
import { after, type Timer } from "./timers.js";

const UNSUBSCRIBE_TIMEOUT_MS = 5000;
const LOST = "the attempt was lost while its runner was not connected";

/** The params that name an attempt in a call. */
export interface AttemptName {
  context_id: number;
  caller_id: number;
  id: number;
  token: string;
}

export function nameOf(assignment: Assignment): AttemptName {
  const { context_id, token, job } = assignment;
  return { context_id, caller_id: job.caller_id, id: job.id, token };
}

/** Run this, or stop that attempt: its outcome is no longer wanted. */
export type RunnerNotice = { kind: "job"; assignment: AssignmentNotice } | { kind: "cancel"; notice: CancelNotice };

/**
 * `for await (const item of subscription)`: what the coordinator tells a runner.
 *
 * After a lost connection it subscribes again under the same session with the tokens it holds: those of assignments
 * that came and were neither finished nor failed nor cancelled. Tokens that were lost come as cancels.
 *
 * The coordinator sends at most `capacity` unfinished assignments, so what waits here is bounded by that and by the
 * cancels of what was given out.
 */
export class RunnerSubscription implements AsyncIterableIterator<RunnerNotice>, Subscription {
  /** Seconds without a heartbeat or a log line after which an attempt is lost. */
  lease: number;
  readonly session: string;

  readonly #params: RunnerSubscribeParams;
  readonly #held = new Map<string, AttemptName>();
  readonly #reporting = new Set<string>();
  #waiting: RunnerNotice[] = [];
  #subscription: string | undefined;
  #subscribedBefore = false;
  #failures = 0;
  #error: Error | undefined;
  #ended = false;
  readonly #changed = new Signal();

  constructor(
    private readonly channel: Channel,
    params: RunnerSubscribeParams,
  ) {
    this.session = params.session || randomName();
    this.lease = params.lease ?? 30;
    this.#params = { ...params, session: this.session };
    channel.attach(this);
  }

  /** Tokens of the attempts it answers for. */
  get holding(): string[] {
    return [...this.#held.keys()];
  }

  // -- receiving

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next item; the end after `unsubscribe`, when all that came before is given out. Throws if it is refused. */
  async next(): Promise<IteratorResult<RunnerNotice, undefined>> {
    for (;;) {
      const value = this.#waiting.shift();
      if (value !== undefined) return { done: false, value };
      if (this.#error !== undefined) throw this.#error;
      if (this.#ended) return { done: true, value: undefined };
      await this.#changed.wait();
    }
  }

  async return(): Promise<IteratorResult<RunnerNotice, undefined>> {
    this.leave();
    return { done: true, value: undefined };
  }

  /** Wait for the first answer. Throws what it was if it was not a subscription. */
  async ready(): Promise<this> {
    while (!this.#subscribedBefore && !this.#ended) {
      if (this.#error !== undefined) throw this.#error;
      await this.#changed.wait();
    }
    return this;
  }

  // -- answering

  /** The attempt succeeded. Throws StaleToken if it counts as lost or was cancelled. */
  finish(assignment: Assignment, result?: { [name: string]: string }): Promise<AttemptOutcome> {
    return this.#end("job.finish", assignment, result === undefined ? {} : { result });
  }

  /** The attempt failed. `retry` false: there will be no other; `lost`: its runner gave it up. Throws as `finish`. */
  fail(
    assignment: Assignment,
    error: string,
    more: { result?: { [name: string]: string }; retry?: boolean; lost?: boolean } = {},
  ): Promise<AttemptOutcome> {
    return this.#end("job.fail", assignment, { error, ...more });
  }

  /** Keep the lease. Throws StaleToken if the attempt counts as lost or was cancelled. */
  async heartbeat(assignment: Assignment): Promise<void> {
    await this.channel.call("job.heartbeat", nameOf(assignment));
  }

  /** Add to the flow's log, at most 1,000 lines; keeps the lease, too. */
  log(assignment: Assignment, lines: string[], stream: LogStream = "stdout"): Promise<Logged> {
    return this.channel.call("job.log", { ...nameOf(assignment), lines, stream });
  }

  /** Answer for this attempt no longer, because it was reported otherwise. */
  release(token: string): void {
    this.#held.delete(token);
  }

  async #end(method: "job.finish" | "job.fail", assignment: Assignment, more: object): Promise<AttemptOutcome> {
    const { token } = assignment;
    const deadline = performance.now() + this.channel.timeoutMs;
    let wasSent = false;
    this.#reporting.add(token);
    try {
      for (;;) {
        await this.#subscribedAgain(deadline, wasSent);
        try {
          // Sent before the subscription is there it would not free a place, so the channel does not send it again.
          const timeoutMs = Math.max(deadline - performance.now(), 1);
          const params = { ...nameOf(assignment), ...more } as never;
          const outcome: AttemptOutcome = await this.channel.call(method, params, { timeoutMs, resend: false });
          this.release(token);
          return outcome;
        } catch (error) {
          if (!(error instanceof ConnectionLost)) throw error;
          wasSent = true;
        }
      }
    } catch (error) {
      if (error instanceof StaleToken) this.release(token);
      throw error;
    } finally {
      this.#reporting.delete(token);
    }
  }

  async #subscribedAgain(deadline: number, wasSent: boolean): Promise<void> {
    const late = new AbortController();
    const timer = after(Math.max(deadline - performance.now(), 0), () => late.abort());
    try {
      while (this.#subscription === undefined && this.#error === undefined && !this.#ended) {
        await this.#changed.wait(late.signal);
      }
    } catch {
      throw new NoReply("there is no subscription again yet", wasSent);
    } finally {
      clearTimeout(timer);
    }
  }

  // -- subscribing, as the channel sees it

  /** Before anything else on a connection, so that places are freed by what is reported after it. */
  resume(): void {
    const params = { ...this.#params, holding: this.holding, batch: true };
    let timer: Timer | undefined;
    this.channel.post(
      "runner.subscribe",
      params,
      (outcome) => {
        clearTimeout(timer);
        this.#answered(outcome);
      },
      { first: true, resend: false },
    );
    // It may be in force, under an unknown name.
    timer = after(this.channel.timeoutMs, () => this.channel.drop("it did not answer runner.subscribe"));
  }

  suspend(): void {
    this.#subscription = undefined;
  }

  end(error: Error): void {
    this.#error = error;
    this.#changed.tell();
  }

  #answered(outcome: Reply | Error): void {
    if (outcome instanceof ConnectionLost) return;
    if (!(outcome instanceof Error) && "result" in outcome) {
      return this.#subscribed(outcome["result"] as { subscription: string; lease: number; lost: string[] });
    }
    const error = outcome instanceof Error ? outcome : rpcError(outcome["error"]);
    if (this.#subscribedBefore && isTransient(error)) {
      const { connections } = this.channel;
      setTimeout(() => {
        if (this.channel.connected && this.channel.connections === connections && !this.#ended) this.resume();
      }, pauseAfter(this.#failures++));
    } else {
      this.channel.detach(this);
      this.end(error);
    }
  }

  #subscribed({ subscription, lease, lost }: { subscription: string; lease: number; lost: string[] }): void {
    if (this.#ended) return;
    this.#subscription = subscription;
    this.#subscribedBefore = true;
    this.#failures = 0;
    this.lease = lease;
    this.channel.route(subscription, (method, params) => this.#notified(method, params));
    for (const token of lost) {
      const held = this.#held.get(token);
      if (held !== undefined && !this.#reporting.has(token)) this.#cancelled({ ...held, subscription, reason: LOST });
    }
    this.#changed.tell();
  }

  #notified(method: string, params: Reply): void {
    if (method === "runner.job") {
      const assignment = params as unknown as AssignmentNotice;
      this.#held.set(assignment.token, nameOf(assignment));
      this.#waiting.push({ kind: "job", assignment });
    } else if (method === "runner.cancel") {
      this.#cancelled(params as unknown as CancelNotice);
    }
    this.#changed.tell();
  }

  #cancelled(notice: CancelNotice): void {
    if (!this.#held.delete(notice.token)) return; // reported already
    const waiting = this.#waiting.filter((item) => item.kind !== "job" || item.assignment.token !== notice.token);
    // One that was not given out yet is taken back silently.
    if (waiting.length === this.#waiting.length) waiting.push({ kind: "cancel", notice });
    this.#waiting = waiting;
  }

  // -- ending

  /** Want no more assignments. Those given out are still to be finished; a heartbeat tells of those cancelled. */
  async unsubscribe(): Promise<void> {
    this.channel.detach(this);
    const subscription = this.#subscription;
    if (subscription !== undefined && !this.#ended) {
      try {
        // It stays routed until the answer: what was sent before that is ours.
        await this.channel.call(
          "runner.unsubscribe",
          { subscription },
          { timeoutMs: UNSUBSCRIBE_TIMEOUT_MS, resend: false },
        );
        this.channel.unroute(subscription);
      } catch {
        // The connection is gone, and the subscription with it.
      }
    }
    this.#ended = true;
    this.#changed.tell();
  }

  /** Unsubscribe without waiting. What waits here unseen is the runner's until the lease ends. */
  leave(): void {
    this.channel.detach(this);
    if (this.#subscription !== undefined) this.channel.unsubscribe("runner.unsubscribe", this.#subscription);
    this.#ended = true;
    this.#changed.tell();
  }
}
