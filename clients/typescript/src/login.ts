// Who the client is: a key that signs a challenge, or a token.

import { Conflict, MethodNotFound, type Challenge, type LoggedIn } from "./api.js";
import { ClientError, isObject } from "./rpc.js";

/** Signs a text with an Ed25519 key; returns the 64 bytes of the signature. */
export type Sign = (text: Uint8Array) => Uint8Array | Promise<Uint8Array>;

/** What to log in with: a token, or a key and whose it is. */
export type Credentials =
  | {
      /** `hc_…` or a JWT. A function is called for each connection. */
      token: string | (() => string | Promise<string>);
    }
  | {
      /** `actor:7`, or `runner:1:3` for runner 3 of context 1. */
      principal: string;
      /** An Ed25519 key: the PEM of `herocoordinator key new`, a CryptoKey, or what signs with it. */
      key: string | CryptoKey | Sign;
    };

/** Makes one call and returns its result, or throws its error. */
export type Ask = (method: string, params: object) => Promise<unknown>;

/** The token, if that is what there is. */
export async function tokenOf(credentials: Credentials | undefined): Promise<string | undefined> {
  if (credentials === undefined || !("token" in credentials)) return undefined;
  const { token } = credentials;
  return typeof token === "function" ? await token() : token;
}

/**
 * Log in by the key. Returns undefined where nobody has to.
 *
 * host: the Host of the request, or of the WebSocket's handshake; it is signed.
 */
export async function logInByKey(credentials: Credentials, ask: Ask, host: string): Promise<LoggedIn | undefined> {
  if (!("key" in credentials)) return undefined;
  const { principal, key } = credentials;
  return unlessOpen(async () => {
    const challenge = (await ask("auth.challenge", {})) as Challenge;
    const text = signedText(
      "login",
      challenge.server,
      host.toLowerCase(),
      principal,
      challenge.nonce,
      challenge.expires_at,
    );
    const signature = base64(await (await signer(key))(text));
    return (await ask("auth.login", { principal, nonce: challenge.nonce, signature })) as LoggedIn;
  });
}

/** Log a WebSocket in whose handshake could not show the token. */
export async function logInByToken(token: string, ask: Ask): Promise<LoggedIn | undefined> {
  return unlessOpen(async () => (await ask("auth.login", { token })) as LoggedIn);
}

async function unlessOpen(logIn: () => Promise<LoggedIn>): Promise<LoggedIn | undefined> {
  try {
    return await logIn();
  } catch (error) {
    const saysNone = error instanceof Conflict && isObject(error.data) && error.data["auth"] === "none";
    if (saysNone || error instanceof MethodNotFound) return undefined;
    throw error;
  }
}

/** Each part preceded by its length in four bytes, so that no two texts are the same. */
function signedText(...parts: (string | number)[]): Uint8Array {
  const encoder = new TextEncoder();
  const encoded = ["herocoordinator.auth.v1", ...parts].map((part) => encoder.encode(String(part)));
  const text = new Uint8Array(encoded.reduce((size, part) => size + 4 + part.length, 0));
  const view = new DataView(text.buffer);
  let at = 0;
  for (const part of encoded) {
    view.setUint32(at, part.length);
    text.set(part, at + 4);
    at += 4 + part.length;
  }
  return text;
}

async function signer(key: string | CryptoKey | Sign): Promise<Sign> {
  if (typeof key === "function") return key;
  const { subtle } = globalThis.crypto as { subtle?: SubtleCrypto };
  if (subtle === undefined)
    throw new ClientError("a page that is not secure (https, or localhost) cannot sign with a key");
  const imported =
    typeof key === "string" ? await subtle.importKey("pkcs8", derOf(key), "Ed25519", false, ["sign"]) : key;
  return async (text) => new Uint8Array(await subtle.sign("Ed25519", imported, text as BufferSource));
}

function derOf(pem: string): ArrayBuffer {
  const body = /-----BEGIN PRIVATE KEY-----([\s\S]+?)-----END PRIVATE KEY-----/.exec(pem)?.[1];
  if (body === undefined)
    throw new ClientError("the key is no PEM of a private key: `herocoordinator key new` makes one");
  return Uint8Array.from(atob(body.replace(/\s/g, "")), (letter) => letter.charCodeAt(0)).buffer;
}

function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}
