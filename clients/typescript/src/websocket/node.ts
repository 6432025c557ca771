// A WebSocket (RFC 6455) over node:net and node:tls. Node 20 has none of its own, and that of later ones can be given
// neither headers nor certificates. Bundlers for browsers take browser.ts in its place.

import { createHash, randomBytes } from "node:crypto";
import { connect as connectTcp, type Socket as Stream } from "node:net";
import { connect as connectTls } from "node:tls";

import type { Socket, SocketClass, SocketOptions } from "./socket.js";

const ACCEPT_SUFFIX = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const MAX_HEAD_BYTES = 65_536;
const MAX_MESSAGE_BYTES = 256 * 1024 * 1024;
const MAX_CONTROL_BYTES = 125;
const CLOSE_TIMEOUT_MS = 1000;
const MAX_WORDS = 300;

const CONTINUATION = 0;
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

const PROTOCOL_ERROR = 1002;
const NO_STATUS = 1005;
const ABNORMAL = 1006;
const NOT_UTF8 = 1007;
const TOO_BIG = 1009;

class Violation extends Error {
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/** What was received and not read yet. Joined only once there is enough, so that a large message is copied once. */
class Received {
  #chunks: Buffer[] = [];
  length = 0;

  add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.length += chunk.length;
  }

  /** The next bytes, which stay; there must be so many. */
  peek(size: number): Buffer {
    if ((this.#chunks[0]?.length ?? 0) < size) this.#chunks = [Buffer.concat(this.#chunks)];
    return (this.#chunks[0] ?? Buffer.alloc(0)).subarray(0, size);
  }

  take(size: number): Buffer {
    const taken = this.peek(size);
    const first = this.#chunks[0];
    if (first !== undefined) {
      if (first.length === size) this.#chunks.shift();
      else this.#chunks[0] = first.subarray(size);
    }
    this.length -= size;
    return taken;
  }
}

class NodeWebSocket implements Socket {
  onopen: ((event: never) => unknown) | null = null;
  onmessage: ((event: never) => unknown) | null = null;
  onclose: ((event: never) => unknown) | null = null;
  onerror: ((event: never) => unknown) | null = null;

  lastReceived = 0;

  readonly #stream: Stream;
  readonly #accept: string;
  readonly #received = new Received();
  #state: "connecting" | "open" | "closing" | "closed" = "connecting";
  #parts: Buffer[] = []; // of a message in several frames
  #partsSize = 0;
  #partsKind = 0;
  #closed: { code: number; reason: string } = { code: ABNORMAL, reason: "" };

  constructor(address: string, protocols: string[] = [], options: SocketOptions = {}) {
    const url = new URL(address);
    const isSecure = url.protocol === "wss:";
    const host = url.hostname.replace(/^\[|\]$/g, "");
    const port = Number(url.port || (isSecure ? 443 : 80));
    const isName = !/^[\d.]+$|:/.test(host); // SNI has no addresses
    this.#stream = isSecure
      ? connectTls({ host, port, ALPNProtocols: ["http/1.1"], ...(isName ? { servername: host } : {}), ...options.tls })
      : connectTcp({ host, port });
    this.#stream.setNoDelay(true);
    const key = randomBytes(16).toString("base64");
    this.#accept = createHash("sha1")
      .update(key + ACCEPT_SUFFIX)
      .digest("base64");
    const head = [
      `GET ${url.pathname}${url.search} HTTP/1.1`,
      `Host: ${url.host}`,
      "Upgrade: websocket",
      "Connection: Upgrade",
      `Sec-WebSocket-Key: ${key}`,
      "Sec-WebSocket-Version: 13",
      ...(protocols.length > 0 ? [`Sec-WebSocket-Protocol: ${protocols.join(", ")}`] : []),
      ...Object.entries(options.headers ?? {}).map(([name, value]) => `${name}: ${value}`),
    ];
    this.#stream.once(isSecure ? "secureConnect" : "connect", () => this.#stream.write(`${head.join("\r\n")}\r\n\r\n`, "latin1"));
    this.#stream.on("data", (chunk: Buffer) => this.#feed(chunk));
    this.#stream.on("error", (error: Error) => this.#fail(error.message || String((error as { code?: string }).code)));
    this.#stream.on("end", () => this.#stream.end());
    this.#stream.on("close", () => this.#ended());
  }

  get bufferedAmount(): number {
    return this.#stream.writableLength;
  }

  send(text: string): void {
    if (this.#state === "open") this.#write(TEXT, Buffer.from(text));
  }

  close(code = 1000, reason = ""): void {
    if (this.#state === "connecting") {
      this.#stream.destroy();
    } else if (this.#state === "open") {
      this.#state = "closing";
      this.#closed = { code, reason };
      this.#write(CLOSE, closePayload(code, reason));
      setTimeout(() => this.#stream.destroy(), CLOSE_TIMEOUT_MS).unref();
    }
  }

  #ended(): void {
    if (this.#state === "closed") return;
    if (this.#state === "connecting") this.#tellError("it closed the connection in the handshake");
    this.#state = "closed";
    this.#tell(this.onclose, this.#closed);
  }

  #tellError(message: string): void {
    this.#tell(this.onerror, { message });
  }

  #tell(handler: ((event: never) => unknown) | null, event: object): void {
    handler?.call(this, event as never);
  }

  #fail(message: string): void {
    if (this.#state === "closed") return;
    this.#tellError(message);
    this.#state = "closed";
    this.#stream.destroy();
    this.#tell(this.onclose, { ...this.#closed, reason: this.#closed.reason || message });
  }

  #feed(chunk: Buffer): void {
    this.lastReceived = performance.now();
    this.#received.add(chunk);
    try {
      if (this.#state === "connecting" && !this.#readHead()) return;
      while (this.#state !== "closed" && this.#readFrame());
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      if (this.#state !== "connecting") this.#write(CLOSE, closePayload(error.code, error.message));
      this.#closed = { code: error.code, reason: error.message };
      this.#fail(error.message);
    }
  }

  /** Whether the whole head of the response is there, and good. */
  #readHead(): boolean {
    const { length } = this.#received;
    const text = this.#received.peek(Math.min(length, MAX_HEAD_BYTES)).toString("latin1");
    if (!"HTTP/1.1 ".startsWith(text.slice(0, 9)))
      throw new Violation(PROTOCOL_ERROR, "what listens there is no HTTP server");
    const end = text.indexOf("\r\n\r\n");
    if (end < 0) {
      if (length >= MAX_HEAD_BYTES) throw new Violation(PROTOCOL_ERROR, "the head of its answer has no end");
      return false;
    }
    const [status = "", ...lines] = text.slice(0, end).split("\r\n");
    if (!/^HTTP\/1\.1 101\b/.test(status)) {
      const words = printable(text.slice(end + 4));
      throw new Violation(PROTOCOL_ERROR, `it answered ${status.slice(9)}${words ? `: ${words}` : ""}`);
    }
    const fields = new Map(
      lines.map((line) => [line.split(":", 1)[0]?.toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]),
    );
    if (fields.get("sec-websocket-accept") !== this.#accept) {
      throw new Violation(PROTOCOL_ERROR, "what answered is no WebSocket server");
    }
    this.#received.take(end + 4);
    this.#state = "open";
    this.#tell(this.onopen, {});
    return true;
  }

  /** Read one frame; whether there was a whole one. */
  #readFrame(): boolean {
    const received = this.#received;
    if (received.length < 2) return false;
    const start = received.peek(2);
    const [first, second] = [start[0] as number, start[1] as number];
    const short = second & 0x7f;
    const headSize = short === 127 ? 10 : short === 126 ? 4 : 2;
    if (received.length < headSize) return false;
    const head = received.peek(headSize);
    const size = short === 127 ? Number(head.readBigUInt64BE(2)) : short === 126 ? head.readUInt16BE(2) : short;
    const kind = first & 0x0f;
    const isFinal = (first & 0x80) !== 0;
    if ((first & 0x70) !== 0 || (second & 0x80) !== 0)
      throw new Violation(PROTOCOL_ERROR, "a frame with bits no server may set");
    if (kind >= CLOSE && (size > MAX_CONTROL_BYTES || !isFinal))
      throw new Violation(PROTOCOL_ERROR, "a control frame that is too long");
    if (size + this.#partsSize > MAX_MESSAGE_BYTES) throw new Violation(TOO_BIG, "a message that is too long");
    if (received.length < headSize + size) return false;
    received.take(headSize);
    this.#frame(kind, isFinal, received.take(size));
    return true;
  }

  #frame(kind: number, isFinal: boolean, payload: Buffer): void {
    switch (kind) {
      case PING:
        return this.#write(PONG, payload);
      case PONG:
        return;
      case CLOSE:
        return this.#closedByPeer(payload);
      case TEXT:
      case BINARY:
        if (this.#partsKind !== 0) throw new Violation(PROTOCOL_ERROR, "a message inside another");
        this.#partsKind = kind;
        break;
      case CONTINUATION:
        if (this.#partsKind === 0) throw new Violation(PROTOCOL_ERROR, "a continuation of nothing");
        break;
      default:
        throw new Violation(PROTOCOL_ERROR, "a frame of an unknown kind");
    }
    this.#parts.push(payload);
    this.#partsSize += payload.length;
    if (!isFinal) return;
    const whole = this.#parts.length === 1 ? payload : Buffer.concat(this.#parts);
    this.#parts = [];
    this.#partsSize = 0;
    this.#partsKind = 0;
    if (this.#state === "open") this.#tell(this.onmessage, { data: decoded(whole) });
  }

  #closedByPeer(payload: Buffer): void {
    const code = payload.length >= 2 ? payload.readUInt16BE(0) : NO_STATUS;
    if (this.#state === "open") {
      this.#closed = { code, reason: printable(payload.subarray(2).toString()) };
      this.#state = "closing";
      this.#write(CLOSE, payload.subarray(0, 2));
    }
    this.#stream.end();
    setTimeout(() => this.#stream.destroy(), CLOSE_TIMEOUT_MS).unref();
  }

  #write(kind: number, payload: Buffer): void {
    const size = payload.length;
    const extra = size > 65_535 ? 8 : size > 125 ? 2 : 0;
    const frame = Buffer.allocUnsafe(6 + extra + size);
    frame[0] = 0x80 | kind;
    frame[1] = 0x80 | (extra === 8 ? 127 : extra === 2 ? 126 : size);
    if (extra === 2) frame.writeUInt16BE(size, 2);
    if (extra === 8) frame.writeBigUInt64BE(BigInt(size), 2);
    const start = 2 + extra;
    const mask = randomBytes(4);
    mask.copy(frame, start);
    for (let at = 0; at < size; at++) frame[start + 4 + at] = (payload[at] as number) ^ (mask[at & 3] as number);
    if (this.#stream.writable) this.#stream.write(frame);
  }
}

function closePayload(code: number, reason: string): Buffer {
  const words = Buffer.from(reason).subarray(0, MAX_CONTROL_BYTES - 2);
  const payload = Buffer.alloc(2 + words.length);
  payload.writeUInt16BE(code, 0);
  words.copy(payload, 2);
  return payload;
}

function decoded(bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Violation(NOT_UTF8, "a text that is not UTF-8");
  }
}

function printable(text: string): string {
  return text
    .replace(/[^\x20-\x7e]+/g, " ")
    .trim()
    .slice(0, MAX_WORDS);
}

export const PlatformSocket: SocketClass | undefined = NodeWebSocket;
