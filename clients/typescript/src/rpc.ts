// What a call is given, and what it can fail with beside the errors in api.ts.

/** How one call is made. */
export interface CallOptions {
  /** Milliseconds until it fails with NoReply, instead of the client's own; Infinity for no limit. */
  timeoutMs?: number;
  /** Gives the call up. It may still be carried out. */
  signal?: AbortSignal;
  /**
   * false: it fails with ConnectionLost if the connection is lost before the answer. By default it is sent again, as
   * every method of the API may be.
   */
  resend?: boolean;
  /** Never in one batch with others: for a call that is slow by intention. Replies to a batch come together. */
  alone?: boolean;
}

/** A JSON-RPC error object. */
export interface ErrorObject {
  code: number;
  message: string;
  data?: unknown;
}

/** Base of everything a client fails with. */
export class ClientError extends Error {
  override readonly name: string = "ClientError";
}

/** The call was answered with an error; the subclasses are in api.ts, one for each code. */
export class RpcError<Data = unknown> extends ClientError {
  override readonly name: string = "RpcError";
  readonly code: number;
  readonly data: Data;

  constructor(error: ErrorObject) {
    const detail = detailOf(error.data);
    super(`${error.message} (${error.code})${detail ? `: ${detail}` : ""}`);
    this.code = error.code;
    this.data = error.data as Data;
  }

  /** `data` in words; empty if it has none. */
  get detail(): string {
    return detailOf(this.data);
  }
}

/** There was no answer in time. */
export class NoReply extends ClientError {
  override readonly name: string = "NoReply";

  constructor(
    why: string,
    /** false: it was never sent. */
    readonly mayHaveBeenApplied: boolean,
  ) {
    super(why);
  }
}

/** The connection ended before the answer to a call that must not be sent twice; it may have been applied. */
export class ConnectionLost extends ClientError {
  override readonly name: string = "ConnectionLost";
}

/** There was no connection for so long that the client has given up. */
export class CannotConnect extends ClientError {
  override readonly name: string = "CannotConnect";
}

/** The call alone exceeds the largest message; it was not sent. */
export class CallTooLarge extends ClientError {
  override readonly name: string = "CallTooLarge";
}

/** The client was closed. */
export class Closed extends ClientError {
  override readonly name: string = "Closed";
}

/** Its caller has given it up, by its AbortSignal. */
export class Aborted extends ClientError {
  override readonly name: string = "AbortError";
}

function detailOf(data: unknown): string {
  if (Array.isArray(data)) return data.map(faultOf).join("; ");
  if (isObject(data) && typeof data["detail"] === "string") return data["detail"];
  return "";
}

function faultOf(fault: unknown): string {
  if (!isObject(fault)) return String(fault);
  const place = Array.isArray(fault["loc"]) ? fault["loc"].join(".") : "";
  return place ? `${place}: ${String(fault["msg"])}` : String(fault["msg"]);
}

/** Pages that are not secure have no crypto.randomUUID. */
export function randomName(): string {
  return Array.from(globalThis.crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}

export function isObject(value: unknown): value is { [member: string]: unknown } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
