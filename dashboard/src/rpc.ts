// The one WebSocket: calls, streams of events that are resumed where they were, and a pause while nobody looks.

import { signal } from '@preact/signals';

export class RpcError extends Error {
  constructor(
    readonly code: number,
    message: string,
    readonly data: unknown,
  ) {
    super(message);
  }
}

/** The connection ended before there was an answer: what was asked may have been done. */
export class Disconnected extends Error {
  constructor() {
    super('The connection was lost before there was an answer.');
  }
}

export const NOT_LOGGED_IN = -32002;
export const FORBIDDEN = -32003;
export const NOT_FOUND = -32001;

/** Whether an event comes after another, by their ids. */
export function isAfter(one: string, other: string): boolean {
  const [oneMs = 0, oneNumber = 0] = one.split('-').map(Number);
  const [otherMs = 0, otherNumber = 0] = other.split('-').map(Number);
  return oneMs > otherMs || (oneMs === otherMs && oneNumber > otherNumber);
}

export type LinkState = 'connecting' | 'open' | 'lost' | 'paused';

const FIRST_PAUSE = 500; // ms before a connection that was lost is made again
const LONGEST_PAUSE = 8000;
const HIDDEN_FOR = 10_000; // ms after which a hidden tab lets its connection go

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** Events that a method streams. `after` is the last one seen, so that a new connection goes on behind it. */
export interface Stream {
  readonly method: string;
  readonly unsubscribe: string;
  readonly params: Record<string, unknown>;
  after: string | null;
  /** Gets what has come, in order; `missed`: some events before these are no longer kept. */
  onEvents(events: Record<string, unknown>[], missed: boolean): void;
  /** It could not be begun, or has ended for good. */
  onEnd?(error: Error): void;
}

class Link {
  readonly state = signal<LinkState>('connecting');
  /** Counts connections: whoever shows something loads it anew when this changes. */
  readonly generation = signal(0);
  onOpen: () => Promise<void> = async () => {};
  onLoginEnded: (reason: string) => void = () => {};
  /** There was no WebSocket to be had; a browser does not say why. */
  onRefused: () => Promise<void> = async () => {};

  private socket: WebSocket | null = null;
  private isReady = false;
  private waiting = new Map<number, Waiting>();
  private unsent: { text: string; id: number }[] = [];
  private number = 0;
  private streams = new Set<Stream>();
  private subscriptions = new Map<string, Stream>();
  private pause = FIRST_PAUSE;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private hiding: ReturnType<typeof setTimeout> | undefined;

  start(): void {
    this.connect();
    document.addEventListener('visibilitychange', () => this.look());
    addEventListener('online', () => this.state.value === 'lost' && this.connect());
  }

  /** Close the connection and open another one, as after a login. */
  restart(): void {
    this.drop();
    this.pause = FIRST_PAUSE;
    this.connect();
  }

  /** The result of a call, which waits for a connection if there is none. */
  call<T>(method: string, params: object): Promise<T> {
    return this.send<T>(method, params, this.isReady);
  }

  /** As `call`, on a connection that has just been opened, before anything that waits. */
  callFirst<T>(method: string, params: object): Promise<T> {
    return this.send<T>(method, params, true);
  }

  open(stream: Stream): () => void {
    this.streams.add(stream);
    if (this.isReady) void this.subscribe(stream);
    return () => {
      this.streams.delete(stream);
      for (const [id, one] of this.subscriptions) {
        if (one !== stream) continue;
        this.subscriptions.delete(id);
        if (this.isReady) this.call(stream.unsubscribe, { subscription: id }).catch(() => {});
      }
    };
  }

  private send<T>(method: string, params: object, now: boolean): Promise<T> {
    const id = ++this.number;
    const text = JSON.stringify({ jsonrpc: '2.0', id, method, params });
    return new Promise<T>((resolve, reject) => {
      this.waiting.set(id, { resolve: resolve as (result: unknown) => void, reject });
      if (now && this.socket?.readyState === WebSocket.OPEN) this.socket.send(text);
      else this.unsent.push({ text, id });
    });
  }

  private connect(): void {
    clearTimeout(this.timer);
    if (this.socket) return;
    this.state.value = this.generation.peek() && this.state.peek() === 'lost' ? 'lost' : 'connecting';
    const url = new URL('ws', document.baseURI);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    url.hash = url.search = '';
    const socket = new WebSocket(url);
    this.socket = socket;
    let wasOpen = false;
    socket.onopen = () => {
      wasOpen = true;
      void this.opened(socket);
    };
    socket.onmessage = (event) => this.heard(JSON.parse(event.data as string));
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.drop();
      this.state.value = 'lost';
      if (!wasOpen) this.onRefused().catch(() => {});
      this.timer = setTimeout(() => this.connect(), this.pause * (0.5 + Math.random() / 2));
      this.pause = Math.min(LONGEST_PAUSE, this.pause * 2);
    };
  }

  private async opened(socket: WebSocket): Promise<void> {
    try {
      await this.onOpen();
    } catch {
      socket.close();
      return;
    }
    if (this.socket !== socket) return;
    this.isReady = true;
    this.pause = FIRST_PAUSE;
    this.state.value = 'open';
    for (const { text, id } of this.unsent.splice(0)) if (this.waiting.has(id)) socket.send(text);
    for (const stream of this.streams) void this.subscribe(stream);
    this.generation.value += 1;
  }

  private async subscribe(stream: Stream): Promise<void> {
    const after = stream.after === null ? {} : { after: stream.after };
    try {
      const begun = await this.call<{ subscription: string; missed: boolean; last_event?: string }>(stream.method, {
        ...stream.params,
        ...after,
        batch: true,
      });
      if (!this.streams.has(stream)) {
        this.call(stream.unsubscribe, { subscription: begun.subscription }).catch(() => {});
        return;
      }
      this.subscriptions.set(begun.subscription, stream);
      stream.after ??= begun.last_event ?? null;
      if (begun.missed) stream.onEvents([], true);
    } catch (error) {
      if (error instanceof Disconnected) return;
      if (this.streams.delete(stream)) stream.onEnd?.(error as Error);
    }
  }

  private heard(message: unknown): void {
    const gathered = new Map<Stream, Record<string, unknown>[]>();
    for (const one of Array.isArray(message) ? message : [message]) {
      if (one.method === undefined) this.answered(one);
      else if (one.method === 'auth.ended') this.ended(one.params);
      else {
        const stream = this.subscriptions.get(one.params.subscription);
        if (!stream) continue;
        const events = gathered.get(stream);
        if (events) events.push(one.params);
        else gathered.set(stream, [one.params]);
      }
    }
    for (const [stream, events] of gathered) {
      const last = events[events.length - 1]!;
      if (typeof last.event_id === 'string') stream.after = last.event_id;
      stream.onEvents(
        events,
        events.some((event) => event.missed === true),
      );
    }
  }

  private answered(reply: { id: number; result?: unknown; error?: { code: number; message: string; data?: unknown } }): void {
    const waiting = this.waiting.get(reply.id);
    this.waiting.delete(reply.id);
    if (!waiting) return;
    if (reply.error) waiting.reject(new RpcError(reply.error.code, reply.error.message, reply.error.data));
    else waiting.resolve(reply.result);
  }

  private ended(params: { reason: string; subscription?: string }): void {
    const stream = params.subscription === undefined ? undefined : this.subscriptions.get(params.subscription);
    if (stream) {
      this.streams.delete(stream);
      this.subscriptions.delete(params.subscription!);
      stream.onEnd?.(new Error(params.reason));
    } else if (params.subscription === undefined) this.onLoginEnded(params.reason);
  }

  /** Forget the connection; who waits for an answer is told. */
  private drop(): void {
    const socket = this.socket;
    this.socket = null;
    this.isReady = false;
    this.subscriptions.clear();
    const kept = new Set(this.unsent.map((one) => one.id));
    for (const [id, waiting] of this.waiting) {
      if (kept.has(id)) continue;
      this.waiting.delete(id);
      waiting.reject(new Disconnected());
    }
    socket?.close();
  }

  private look(): void {
    clearTimeout(this.hiding);
    if (document.visibilityState === 'hidden') {
      this.hiding = setTimeout(() => {
        clearTimeout(this.timer);
        this.drop();
        this.state.value = 'paused';
      }, HIDDEN_FOR);
    } else if (this.state.value === 'paused' || this.state.value === 'lost') this.connect();
  }
}

export const link = new Link();

/** What an error says to a person: its detail if it has one. */
export function said(error: unknown): string {
  if (error instanceof RpcError) {
    const data = error.data as { detail?: unknown; kind?: unknown } | unknown[] | undefined;
    if (Array.isArray(data)) {
      return data.map((one) => `${(one as { loc: unknown[] }).loc.join('.')}: ${(one as { msg: string }).msg}`).join('; ');
    }
    if (typeof data?.detail === 'string') return `${error.message}: ${data.detail}`;
    return error.message;
  }
  return error instanceof Error ? error.message : String(error);
}
