// What happens in a context: one stream of events for whatever page is open, and what they say of its rates.

import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { link, said, type Stream } from './rpc';
import { has } from './session';

export interface ContextEvent {
  event_id: string;
  kind: 'flow' | 'job' | 'context';
  at: number;
  flow_id?: number;
  status: string;
  job_id?: number;
  attempt?: number;
  runner_id?: number;
  reason?: string;
  lost?: boolean;
}

export const SECONDS = 120; // for which rates are shown
const MOST_WAITS = 2000; // of which the percentiles are
const MOST_QUEUED = 20_000; // jobs of which it is remembered when they were queued
const POLL = 5000; // ms between two looks at a coordinator that has no such events

export interface Rates {
  /** For each second up to now, how many attempts began, and jobs finished or failed. */
  started: number[];
  finished: number[];
  failed: number[];
  /** Milliseconds from the queue to a runner; undefined: none was seen yet. */
  p50: number | undefined;
  p95: number | undefined;
}

type Listener = (events: ContextEvent[], missed: boolean) => void;

class LiveContext {
  private listeners = new Set<Listener>();
  private gathered: ContextEvent[] = [];
  private missed = false;
  private frame = 0;
  private close: () => void = () => {};
  private seconds = new Map<number, { started: number; finished: number; failed: number }>();
  private queued = new Map<string, number>();
  private begun = new Map<number, number>();
  private waits: number[] = [];
  /** Milliseconds that the store's clock is ahead of this machine's, as far as events have shown. */
  private ahead = 0;
  error = signal('');

  constructor(readonly id: number) {}

  listen(listener: Listener): () => void {
    this.listeners.add(listener);
    if (this.listeners.size === 1) this.start();
    return () => {
      this.listeners.delete(listener);
      if (!this.listeners.size) this.close();
    };
  }

  rates(): Rates {
    const last = Math.floor((Date.now() + this.ahead) / 1000);
    const series = { started: [] as number[], finished: [] as number[], failed: [] as number[] };
    for (let second = last - SECONDS + 1; second <= last; second++) {
      const one = this.seconds.get(second);
      series.started.push(one?.started ?? 0);
      series.finished.push(one?.finished ?? 0);
      series.failed.push(one?.failed ?? 0);
    }
    const sorted = [...this.waits].sort((one, other) => one - other);
    const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
    return { ...series, p50: at(0.5), p95: at(0.95) };
  }

  private start(): void {
    this.error.value = '';
    if (!has('context.subscribe')) {
      this.poll();
      return;
    }
    const stream: Stream = {
      method: 'context.subscribe',
      unsubscribe: 'context.unsubscribe',
      params: { context_id: this.id },
      after: null,
      onEvents: (events, missed) => {
        for (const event of events) this.gathered.push(event as unknown as ContextEvent);
        this.missed ||= missed;
        if (!this.frame) this.frame = requestAnimationFrame(() => this.takeIn());
      },
      onEnd: (error) => {
        this.error.value = said(error);
        if (this.listeners.size) this.poll();
      },
    };
    this.close = link.open(stream);
  }

  /** Have the listeners look by themselves, now and then. */
  private poll(): void {
    const timer = setInterval(() => {
      if (document.visibilityState === 'visible') for (const listener of this.listeners) listener([], true);
    }, POLL);
    this.close = () => clearInterval(timer);
  }

  private takeIn(): void {
    this.frame = 0;
    const events = this.gathered.splice(0);
    const { missed } = this;
    this.missed = false;
    for (const event of events) this.measure(event);
    for (const listener of this.listeners) listener(events, missed);
  }

  private measure(event: ContextEvent): void {
    this.ahead = Math.max(this.ahead, event.at - Date.now());
    if (event.kind === 'flow') {
      if (event.status === 'Started') this.begun.set(event.flow_id!, event.at);
      else this.begun.delete(event.flow_id!);
      return;
    }
    if (event.kind !== 'job') return;
    const name = `${event.flow_id}/${event.job_id}`;
    if (event.status === 'Dispatched') {
      if (this.queued.size < MOST_QUEUED) this.queued.set(name, event.at);
      return;
    }
    const second = Math.floor(event.at / 1000);
    let counts = this.seconds.get(second);
    if (!counts) {
      counts = { started: 0, finished: 0, failed: 0 };
      this.seconds.set(second, counts);
      for (const old of this.seconds.keys()) {
        if (old >= second - 2 * SECONDS) break;
        this.seconds.delete(old);
      }
    }
    if (event.status === 'Started') {
      counts.started += 1;
      const since = this.queued.get(name) ?? this.begun.get(event.flow_id!);
      this.queued.delete(name);
      if (since !== undefined && event.attempt === 1) {
        this.waits.push(Math.max(0, event.at - since));
        if (this.waits.length > MOST_WAITS) this.waits.shift();
      }
    } else if (event.status === 'Finished') counts.finished += 1;
    else if (event.status === 'Error') counts.failed += 1;
  }
}

const contexts = new Map<number, LiveContext>();

export function liveContext(id: number): LiveContext {
  let live = contexts.get(id);
  if (!live) {
    live = new LiveContext(id);
    contexts.set(id, live);
  }
  return live;
}

/** Listen to a context for as long as a component is shown. */
export function useContextEvents(id: number, listener: Listener): void {
  const newest = useRef(listener);
  newest.current = listener;
  useEffect(() => liveContext(id).listen((events, missed) => newest.current(events, missed)), [id]);
}

/** Calls a function soon after it was asked for, once for however many times, and not more often than each `pause` ms. */
export function settled(act: () => void, pause: number): { ask(): void; stop(): void } {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let last = 0;
  return {
    ask() {
      timer ??= setTimeout(
        () => {
          timer = undefined;
          last = Date.now();
          act();
        },
        Math.max(150, last + pause - Date.now()),
      );
    },
    stop() {
      clearTimeout(timer);
      timer = undefined;
    },
  };
}
