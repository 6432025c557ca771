// What the client needs of a WebSocket: a part of the browsers' own.

export interface Socket {
  readonly bufferedAmount: number;
  /** When anything came, by performance.now(), if only a part of a message. Browsers do not say. */
  readonly lastReceived?: number;
  onopen: ((event: never) => unknown) | null;
  onmessage: ((event: never) => unknown) | null;
  onclose: ((event: never) => unknown) | null;
  onerror: ((event: never) => unknown) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

/** For what a browser decides by itself. */
export interface SocketOptions {
  /** Sent with the handshake. */
  headers?: { [name: string]: string };
  /** Of node:tls.connect: `ca`, `cert`, `key`, … */
  tls?: { [name: string]: unknown };
}

/** The browsers' WebSocket, that of Node 22, that of the package `ws`, or ours for Node. */
export type SocketClass = new (url: string, protocols: string[], options?: SocketOptions) => Socket;
