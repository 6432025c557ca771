// A runner: everything between the coordinator and the function that does the work.

import {
  NotFound,
  StaleToken,
  type AssignmentNotice,
  type LogStream,
  type RunnerCreate,
  type ScriptType,
} from "./api.js";
import { Signal, type ConnectOptions } from "./channel.js";
import { connect, type Client } from "./client.js";
import { isTransient, pauseAfter } from "./errors.js";
import { pieceOf, wellFormed } from "./json.js";
import { CannotConnect, ClientError, Closed, randomName } from "./rpc.js";
import { nameOf, type RunnerSubscription } from "./runner-subscription.js";
import { after, type Timer } from "./timers.js";

const HEARTBEATS_A_LEASE = 3;
const CONFIRM_AFTER_MS = 250; // the first heartbeat: how long an assignment was on its way nobody knows
const GATHER_MS = 100; // for which lines are gathered before they are sent
const LINES_A_CALL = 1000;
const CHARACTERS_A_CALL = 128 * 1024;
const CHARACTERS_A_LINE = 16 * 1024;
const CROWDED = 256 * 1024; // characters of lines waiting to be sent, at which log() waits
const FULL = 4 * 1024 * 1024; // and beyond which lines are dropped
const LAST_WORDS_MS = 30_000; // in which the outcome of an attempt that was cancelled is still told
const LEAVING_MS = 1000; // to tell of what is given up
const GRACE_MS = 5000; // that work which was told to stop has
const ERROR_CHARACTERS = 10_000;

/** Texts by name. */
export type Result = { [name: string]: string };

/** Thrown by `run`: the attempt has failed. */
export class Failure extends Error {
  override readonly name: string = "Failure";

  /** retry: false if another attempt is of no use. result: what there is all the same. */
  constructor(
    message: string,
    readonly more: { retry?: boolean; result?: Result } = {},
  ) {
    super(message);
  }
}

/** What `run` is given. */
export interface Work {
  /** All that the coordinator has said: the job, its attempt, its lease. */
  readonly assignment: AssignmentNotice;
  readonly script: string;
  /** The job's environment over the flow's. */
  readonly env: Result;
  /** Results of the jobs it depends on, by id. More may be behind `moreInputs`. */
  readonly inputs: { [id: string]: Result };
  /** Aborted when the work is to stop: it was cancelled, lost, took too long, or the runner ends. */
  readonly signal: AbortSignal;
  /**
   * Write to the flow's log. Await it if there is much: it takes until there is room. What is written beyond 4 MiB that
   * are not sent yet is dropped, which a line in the log says.
   */
  log(text: string, stream?: LogStream): Promise<void>;
  /** The results that were too large to come with the assignment, in pages. */
  moreInputs(): AsyncGenerator<{ [id: string]: Result }, void>;
}

export interface RunnerOptions extends ConnectOptions {
  url: string;
  contextId: number;
  runnerId: number;
  scriptTypes: ScriptType[];
  /** Jobs it runs at once. 1. */
  capacity?: number;
  /** Seconds without a word after which an attempt is lost. 30. */
  lease?: number;
  /** The runner's record, which is stored by runner.create. Where callers log in an admin does that. */
  register?: Partial<RunnerCreate>;
  /** Does the work; what it returns is the job's result, and what it throws the reason of its failure. */
  run: (work: Work) => Promise<Result | void> | Result | void;
  /** Whether SIGTERM and SIGINT end it, where there are signals. true. */
  signals?: boolean;
  /** Takes a line about what goes on. console.error. */
  onLog?: (line: string) => void;
}

/** Run jobs until SIGTERM, SIGINT or `stop`. Throws RpcError if the coordinator does not accept this runner. */
export function serveRunner(options: RunnerOptions): Promise<void> {
  return new RunnerService(options).serve();
}

interface Process {
  on(signal: string, handler: () => void): void;
  off(signal: string, handler: () => void): void;
}

export class RunnerService {
  readonly client: Client;
  readonly #options: RunnerOptions;
  readonly #session = randomName();
  readonly #attempts = new Map<string, Attempt>();
  readonly #left = new AbortController();
  readonly #log: (line: string) => void;
  #work: RunnerSubscription | undefined;
  #isStopping = false;
  #changed = new Signal();

  constructor(options: RunnerOptions) {
    this.#options = options;
    this.#log = options.onLog ?? ((line) => console.error(line));
    const keepaliveMs = Math.min(Math.max((options.lease ?? 30) * 1000, 5000), 20_000);
    this.client = connect(options.url, { keepaliveMs, ...options });
  }

  /** Called once: take no more, finish and report what runs. Called again: give up what runs, and leave. */
  stop(): void {
    if (this.#isStopping) this.#left.abort();
    this.#isStopping = true;
    void this.#work?.unsubscribe();
    this.#changed.tell();
  }

  /** Returns when stopped. Throws RpcError if the coordinator does not accept this runner. */
  async serve(): Promise<void> {
    const stop = () => this.stop();
    const host = this.#options.signals === false ? undefined : (globalThis as { process?: Process }).process;
    for (const signal of ["SIGTERM", "SIGINT"]) host?.on?.(signal, stop);
    this.#left.signal.addEventListener("abort", () => {
      for (const attempt of this.#attempts.values()) attempt.leave();
      setTimeout(() => this.client.close(), LEAVING_MS);
    });
    const heart = setInterval(
      () => void this.#beat(),
      (((this.#options.lease ?? 30) * 1000) / HEARTBEATS_A_LEASE) | 0 || 1,
    );
    try {
      for (let failures = 0; !this.#isStopping; failures++) {
        try {
          await this.#subscribeAndWork();
        } catch (error) {
          if (this.#isStopping) return;
          if (!(error instanceof NotFound) && !isTransient(error)) throw error;
          // Not found: it has lost its data or was given another store, so what ran is nobody's any more.
          this.#log(`cannot subscribe, trying again: ${String(error)}`);
          await this.#pause(pauseAfter(failures));
        }
      }
    } finally {
      clearInterval(heart);
      for (const signal of ["SIGTERM", "SIGINT"]) host?.off?.(signal, stop);
      this.client.close();
    }
  }

  async #subscribeAndWork(): Promise<void> {
    const { contextId, runnerId, scriptTypes, capacity = 1, lease = 30, credentials, register } = this.#options;
    if (credentials === undefined || register !== undefined) {
      const record = { pubkey: "none", address: "127.0.0.1", topic: `runner${runnerId}`, local: true, ...register };
      await this.client.runner.create({ context_id: contextId, runner: { ...record, id: runnerId } });
    }
    const work = await this.client.subscribeRunner({
      context_id: contextId,
      runner_id: runnerId,
      script_types: scriptTypes,
      capacity,
      lease,
      session: this.#session,
    });
    this.#work = work;
    if (this.#isStopping) void work.unsubscribe();
    const running = new Set<Promise<void>>();
    try {
      for await (const item of work) {
        if (item.kind === "cancel") {
          this.#attempts.get(item.notice.token)?.giveUp(item.notice.reason, LAST_WORDS_MS);
          continue;
        }
        const attempt: Promise<void> = this.#attempt(item.assignment, work).finally(() => running.delete(attempt));
        running.add(attempt);
      }
    } catch (error) {
      for (const attempt of this.#attempts.values())
        attempt.giveUp("the coordinator does not accept this runner any more", 0);
      throw error;
    } finally {
      await Promise.all(running);
      this.#work = undefined;
    }
  }

  async #attempt(assignment: AssignmentNotice, work: RunnerSubscription): Promise<void> {
    const attempt = new Attempt(assignment, work, this.client, this.#options.run, this.#log);
    this.#attempts.set(assignment.token, attempt);
    if (this.#left.signal.aborted) attempt.leave();
    try {
      await attempt.run();
    } catch (error) {
      this.#log(`job ${assignment.job.id}: ${String(error)}`); // what is wrong with one must not end the others
    } finally {
      this.#attempts.delete(assignment.token);
      work.release(assignment.token);
    }
  }

  /** Keep the leases of all attempts, in one batch; learn which of them count no more. */
  async #beat(): Promise<void> {
    const attempts = [...this.#attempts.values()].filter((attempt) => !attempt.isStopped);
    const sentAt = performance.now();
    const timeoutMs = ((this.#options.lease ?? 30) * 1000) / HEARTBEATS_A_LEASE;
    try {
      const calls = attempts.map((attempt) => ["job.heartbeat", nameOf(attempt.assignment)] as const);
      const outcomes = await this.client.callMany(calls, { timeoutMs });
      attempts.forEach((attempt, at) => attempt.heard(outcomes[at], sentAt));
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
    }
  }

  async #pause(ms: number): Promise<void> {
    const woken = new AbortController();
    const timer = setTimeout(() => woken.abort(), ms);
    await this.#changed.wait(woken.signal).catch(() => undefined);
    clearTimeout(timer);
  }
}

interface Outcome {
  error?: string;
  result?: Result;
  retry?: boolean;
  lost?: boolean;
}

/** One attempt: runs the work, sends its lines, reports its outcome. `run` it once. */
class Attempt {
  readonly #stop = new AbortController();
  readonly #span: number; // ms it may run after the last word that was heard
  readonly #grace: number;
  #mayRunUntil: number;
  #fence: Timer | undefined;
  #patience: Timer | undefined; // with work that was told to stop
  #givesUpAt = Infinity;
  #whyLost: string | undefined;
  #isConfirmed = false;
  #isUnwanted = false;
  #isOver = false; // no more lines will come
  #lines: { stream: LogStream; line: string }[] = [];
  #characters = 0;
  #dropped = 0;
  #abandon: (why: Failure) => void = () => undefined;
  readonly #abandoned: Promise<never>;
  readonly #changed = new Signal();

  constructor(
    readonly assignment: AssignmentNotice,
    private readonly subscription: RunnerSubscription,
    private readonly client: Client,
    private readonly work: RunnerOptions["run"],
    private readonly say: (line: string) => void,
  ) {
    // It must have stopped when the lease ends, for another runner may begin then.
    const lease = assignment.lease * 1000;
    this.#grace = Math.min(GRACE_MS, lease / 8);
    this.#span = lease - Math.min(1000, lease / 20) - this.#grace;
    this.#mayRunUntil = performance.now() + this.#span * 0.9;
    this.#abandoned = new Promise((_, reject) => (this.#abandon = reject));
    this.#abandoned.catch(() => undefined);
    this.#stop.signal.addEventListener("abort", () => this.#abandonAfter(this.#grace));
  }

  #abandonAfter(ms: number): void {
    clearTimeout(this.#patience);
    this.#patience = setTimeout(() => this.#abandon(new Failure("it did not stop when it was told to")), ms);
  }

  get isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Stop the work. What it has written, and its result, is told for so long, as far as it is still wanted. */
  giveUp(reason: string, forMs: number): void {
    if (this.#isOver || this.isStopped) return;
    this.say(`job ${this.assignment.job.id} is told to stop: ${reason}`);
    this.#givesUpAt = performance.now() + forMs;
    this.#whyLost = reason;
    this.#stop.abort(new Failure(reason));
  }

  /** The runner leaves at once. */
  leave(): void {
    this.giveUp("the runner was stopped", LEAVING_MS);
    this.#givesUpAt = Math.min(this.#givesUpAt, performance.now() + LEAVING_MS);
    this.#abandonAfter(LEAVING_MS / 4);
  }

  /** A call that was sent then has been answered so. */
  heard(outcome: unknown, sentAt: number): void {
    if (outcome instanceof StaleToken || outcome instanceof NotFound) this.giveUp(outcome.message, LAST_WORDS_MS);
    else if (!(outcome instanceof Error)) {
      this.#isConfirmed = true;
      this.#mayRunUntil = Math.max(this.#mayRunUntil, sentAt + this.#span);
    }
  }

  async run(): Promise<void> {
    this.#watchLease();
    const confirm = setTimeout(() => void this.#confirm(), Math.min(CONFIRM_AFTER_MS, this.assignment.lease * 100));
    const sending = this.#sendLines();
    const outcome = await this.#execute();
    clearTimeout(confirm);
    clearTimeout(this.#patience); // which would keep a process that has nothing else to do
    this.#isOver = true;
    this.#changed.tell();
    await sending;
    if (!this.#isUnwanted) await this.#report(outcome);
    clearTimeout(this.#fence);
  }

  async #execute(): Promise<Outcome> {
    const { job } = this.assignment;
    let timedOut: string | undefined;
    const deadline = after(job.timeout === 0 ? Infinity : job.timeout * 1000, () => {
      timedOut = `timed out after ${job.timeout} s`;
      this.#stop.abort(new Failure(timedOut));
    });
    const working = Promise.resolve().then(() => this.work(this.#given()));
    working.catch(() => undefined); // if it is waited for no more
    try {
      const result = await Promise.race([working, this.#abandoned]);
      if (timedOut !== undefined) return { error: timedOut, ...(result ? { result } : {}) };
      if (this.#whyLost !== undefined)
        return { error: `stopped: ${this.#whyLost}`, lost: true, ...(result ? { result } : {}) };
      return result ? { result } : {};
    } catch (error) {
      const more = error instanceof Failure ? error.more : {};
      if (timedOut !== undefined) return { error: timedOut, ...more };
      if (this.#whyLost !== undefined) return { error: `stopped: ${this.#whyLost}`, lost: true, ...more };
      return {
        error:
          error instanceof Error
            ? `${error instanceof Failure ? "" : `${error.name}: `}${error.message}`
            : String(error),
        ...more,
      };
    } finally {
      clearTimeout(deadline);
    }
  }

  #given(): Work {
    const { assignment } = this;
    return {
      assignment,
      script: assignment.job.script,
      env: assignment.env_vars,
      inputs: assignment.inputs,
      signal: this.#stop.signal,
      log: (text, stream = "stdout") => this.#write(text, stream),
      moreInputs: () => this.#moreInputs(),
    };
  }

  async *#moreInputs(): AsyncGenerator<{ [id: string]: Result }, void> {
    const { assignment } = this;
    let hasMore = (assignment.inputs_from ?? []).length > 0;
    // Objects list whole numbers in ascending order, so the last one that came is the largest.
    const last = Object.keys(assignment.inputs).at(-1);
    let after = last === undefined ? undefined : Number(last);
    for (let failures = 0; hasMore; ) {
      try {
        const page = await this.client.job.inputs({ ...nameOf(assignment), ...(after === undefined ? {} : { after }) });
        yield page.inputs;
        after = page.after;
        hasMore = after !== undefined;
      } catch (error) {
        if (!isTransient(error)) throw error;
        await new Promise((resolve) => setTimeout(resolve, pauseAfter(failures++)));
      }
    }
  }

  // -- the lease

  #watchLease(): void {
    this.#fence = setTimeout(
      () => {
        if (this.#isOver || this.isStopped) return;
        if (performance.now() < this.#mayRunUntil) this.#watchLease();
        else
          this.giveUp(
            `cut off from the coordinator for longer than the lease of ${this.assignment.lease} s`,
            LAST_WORDS_MS,
          );
      },
      Math.max(this.#mayRunUntil - performance.now(), 1),
    );
  }

  async #confirm(): Promise<void> {
    if (this.#isConfirmed || this.isStopped) return;
    const sentAt = performance.now();
    const outcome = await this.client.call("job.heartbeat", nameOf(this.assignment)).catch((error: unknown) => error);
    this.heard(outcome, sentAt);
  }

  // -- lines

  async #write(text: string, stream: LogStream): Promise<void> {
    for (const line of wellFormed(text).split(/\r\n|[\r\n]/)) {
      let part = "";
      for (let at = 0; at === 0 || at < line.length; at += part.length) {
        part = pieceOf(line, at, CHARACTERS_A_LINE);
        if (this.#characters >= FULL || this.#isOver) {
          this.#dropped += 1;
        } else {
          this.#lines.push({ stream, line: part });
          this.#characters += part.length + 1;
        }
      }
    }
    this.#changed.tell();
    while (this.#characters >= CROWDED && !this.#isUnwanted && !this.#isOver) await this.#changed.wait();
  }

  /** Until no more will come and all of it is sent. */
  async #sendLines(): Promise<void> {
    while (!this.#isOver || this.#lines.length > 0 || this.#dropped > 0) {
      if (this.#lines.length === 0 && this.#dropped === 0) {
        await this.#changed.wait();
        if (!this.#isOver) await new Promise((resolve) => setTimeout(resolve, GATHER_MS));
        continue;
      }
      await this.#sendOnce(this.#taken());
      this.#changed.tell();
    }
  }

  /** The next lines of one stream, as many as a call may have. */
  #taken(): { stream: LogStream; lines: string[] } {
    if (this.#lines.length === 0) {
      const lines = [`${this.#dropped} lines were dropped: they were written faster than they could be sent`];
      this.#dropped = 0;
      return { stream: "stderr", lines };
    }
    const { stream } = this.#lines[0] as { stream: LogStream };
    let [count, characters] = [0, 0];
    for (const next of this.#lines) {
      if (next.stream !== stream || count === LINES_A_CALL || characters > CHARACTERS_A_CALL) break;
      count += 1;
      characters += next.line.length + 1;
    }
    this.#characters -= characters;
    return { stream, lines: this.#lines.splice(0, count).map((next) => next.line) };
  }

  /** Send these until they are answered, so that some may come twice, or nobody wants them. */
  async #sendOnce({ stream, lines }: { stream: LogStream; lines: string[] }): Promise<void> {
    for (let failures = 0; !this.#isUnwanted && performance.now() < this.#givesUpAt; ) {
      const sentAt = performance.now();
      try {
        const logged = await this.subscription.log(this.assignment, lines, stream);
        this.heard(logged, sentAt);
        if (logged.over === true) this.giveUp("the attempt was cancelled or has timed out", LAST_WORDS_MS);
        return;
      } catch (error) {
        if (error instanceof StaleToken || error instanceof NotFound) {
          this.#isUnwanted = true;
          return this.giveUp(error.message, 0);
        }
        if (!isTransient(error))
          return this.say(`lines of job ${this.assignment.job.id} were refused: ${String(error)}`);
        await new Promise((resolve) => setTimeout(resolve, pauseAfter(failures++)));
      }
    }
  }

  // -- the outcome

  /** Report until it is answered. */
  async #report(outcome: Outcome): Promise<void> {
    for (let failures = 0; performance.now() < this.#givesUpAt; ) {
      try {
        return await this.#tell(outcome);
      } catch (error) {
        if (error instanceof StaleToken && outcome.error === undefined) {
          // If it was cancelled just now, its result may still be seen.
          outcome = { ...outcome, error: "it succeeded, but the attempt had ended before" };
        } else if (isTransient(error)) {
          await new Promise((resolve) => setTimeout(resolve, pauseAfter(failures++)));
        } else if (
          error instanceof StaleToken ||
          error instanceof NotFound ||
          error instanceof Closed ||
          error instanceof CannotConnect
        ) {
          return this.say(`the outcome of job ${this.assignment.job.id} came too late: ${String(error)}`);
        } else if (outcome.result !== undefined) {
          // It does not fit the coordinator's limits: at least say how it ended.
          outcome = { error: outcome.error ?? `the coordinator has refused the result: ${String(error)}` };
        } else {
          throw error;
        }
      }
    }
  }

  async #tell({ error, ...more }: Outcome): Promise<void> {
    if (error === undefined) await this.subscription.finish(this.assignment, more.result);
    else await this.subscription.fail(this.assignment, pieceOf(wellFormed(error), 0, ERROR_CHARACTERS), more);
  }
}
