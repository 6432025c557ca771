// From the error of a reply to the class of its code.

import { errorClasses } from "./api.js";
import { InternalError, Overloaded, StorageError } from "./api.js";
import { NoReply, RpcError, isObject, type ErrorObject } from "./rpc.js";

type ErrorClass = new (error: ErrorObject) => RpcError;

const byCode = new Map<number, ErrorClass>(errorClasses.map((kind) => [kind.code, kind as unknown as ErrorClass]));

/** The exception for the `error` member of a reply. */
export function rpcError(error: unknown): RpcError {
  if (!isObject(error) || typeof error["code"] !== "number") {
    return new RpcError({ code: InternalError.code, message: "not a JSON-RPC error", data: error });
  }
  const { code, data } = error;
  return new (byCode.get(code) ?? RpcError)({ code, message: String(error["message"] ?? ""), data });
}

/** Whether the same call may succeed before long. */
export function isTransient(error: unknown): boolean {
  return (
    error instanceof StorageError ||
    error instanceof Overloaded ||
    error instanceof InternalError ||
    error instanceof NoReply
  );
}

/** Milliseconds to wait before trying again what has failed so many times before this one. */
export function pauseAfter(failures: number): number {
  return Math.min(5000, 100 * 2 ** Math.min(failures, 10)) * (0.5 + Math.random() / 2);
}
