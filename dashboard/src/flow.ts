// A flow as it is now: what the coordinator says of it once, and what has happened since.

import { signal } from '@preact/signals';
import { Disconnected, isAfter, link, said, type Stream } from './rpc';
import type { FlowEvent, FlowReport, JobProgress } from './types';
import type { LogLine } from './widgets';

const MOST_LINES = 5000;
const QUIET = 300; // ms after which a flow is asked for again that events do not tell all of

export class LiveFlow {
  /** Changes at most once a frame, after all that the frame brought. */
  readonly version = signal(0);
  readonly error = signal<string | undefined>(undefined);
  readonly isDeleted = signal(false);
  readonly lines = signal<LogLine[]>([]);
  report: FlowReport | undefined;
  jobs = new Map<number, JobProgress>();
  counts: Record<string, number> = {};
  /** Events after this one come by themselves, with their log lines. */
  since = '0-0';

  private stream: Stream | undefined;
  private close: (() => void) | undefined;
  private events: FlowEvent[] = [];
  private frame = 0;
  private again: ReturnType<typeof setTimeout> | undefined;
  private isOver = false;
  private generation = -1;

  constructor(
    readonly context: number,
    readonly id: number,
  ) {}

  start(): () => void {
    const stop = link.generation.subscribe((generation) => {
      if (generation === 0 || generation === this.generation) return;
      this.generation = generation;
      void this.load();
    });
    return () => {
      this.isOver = true;
      stop();
      this.close?.();
      clearTimeout(this.again);
      cancelAnimationFrame(this.frame);
    };
  }

  async load(): Promise<void> {
    try {
      const report = await link.call<FlowReport>('flow.status', { context_id: this.context, id: this.id });
      if (this.isOver) return;
      this.report = report;
      this.jobs = new Map(report.jobs.map((job) => [job.id, job]));
      this.counts = { ...report.counts };
      this.error.value = undefined;
      this.follow(report.last_event);
      this.version.value += 1;
    } catch (error) {
      if (!(error instanceof Disconnected) && !this.isOver) this.error.value = said(error);
    }
  }

  private follow(after: string): void {
    if (this.stream) return; // it goes on by itself, on a new connection too
    this.since = after;
    this.stream = {
      method: 'flow.subscribe',
      unsubscribe: 'flow.unsubscribe',
      params: { context_id: this.context, id: this.id },
      after,
      onEvents: (events, missed) => this.heard(events as unknown as FlowEvent[], missed),
      onEnd: (error) => {
        this.stream = undefined;
        if (!this.isDeleted.value) this.error.value = said(error);
      },
    };
    this.close = link.open(this.stream);
  }

  private heard(events: FlowEvent[], missed: boolean): void {
    for (const event of events) this.events.push(event);
    if (missed) this.loadSoon();
    // A hidden tab has no frames: what came is taken in by the next one there is.
    if (!this.frame) this.frame = requestAnimationFrame(() => this.takeIn());
  }

  private takeIn(): void {
    this.frame = 0;
    const lines: LogLine[] = [];
    let hasChanged = false;
    const known = this.report?.last_event ?? '0-0';
    for (const event of this.events.splice(0)) {
      if (event.kind !== 'log' && !isAfter(event.event_id, known)) continue; // the report has it
      if (event.kind === 'log') {
        const label = String(event.job_id ?? '');
        for (const text of event.lines ?? []) lines.push({ at: event.at, label, stream: event.stream ?? 'stdout', text });
      } else if (event.kind === 'job') {
        hasChanged = true;
        this.jobChanged(event);
      } else if (event.status === 'Deleted') {
        this.isDeleted.value = true;
        this.close?.();
      } else if (this.report && event.paused !== undefined) {
        hasChanged = true;
        this.report.flow.paused = event.paused;
      } else if (this.report) {
        hasChanged = true;
        this.report.flow.status = event.status as FlowReport['flow']['status'];
        if (event.status === 'Started') delete this.report.ended_at;
        else this.report.ended_at = event.at;
        if (event.status === 'Error' && event.reason !== undefined) this.report.flow.result = { error: event.reason };
        this.loadSoon(); // jobs that did not run changed with it, and its result is there
      }
    }
    if (lines.length) this.lines.value = [...this.lines.value, ...lines].slice(-MOST_LINES);
    if (hasChanged) this.version.value += 1;
  }

  private jobChanged(event: FlowEvent): void {
    const before = this.jobs.get(event.job_id!);
    if (!before) {
      this.loadSoon();
      return;
    }
    const job = { ...before, status: event.status as JobProgress['status'] };
    if (event.attempt !== undefined) job.attempt = event.attempt;
    if (event.status === 'Started') {
      job.started_at = event.at;
      if (event.runner_id !== undefined) job.runner_id = event.runner_id;
      delete job.ended_at;
      delete job.retry_at;
    } else if (event.status === 'Dispatched') {
      job.queued_at = event.at;
      if (event.reason !== undefined) job.failure = event.reason;
      delete job.ended_at;
    } else {
      job.ended_at = event.at;
      if (event.reason !== undefined) job.failure = event.reason;
    }
    this.counts[before.status] = (this.counts[before.status] ?? 1) - 1;
    this.counts[job.status] = (this.counts[job.status] ?? 0) + 1;
    this.jobs.set(job.id, job);
  }

  private loadSoon(): void {
    this.again ??= setTimeout(() => {
      this.again = undefined;
      void this.load();
    }, QUIET);
  }
}
