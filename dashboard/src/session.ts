// Who looks, what this coordinator offers, and what they may do in a context.

import { signal } from '@preact/signals';
import { link, NOT_LOGGED_IN, RpcError } from './rpc';

export interface Facts {
  version: string;
  methods: Record<string, string[]>;
}

export interface Standing {
  /** `open` where nobody logs in. */
  role: string;
  may(right: string): boolean;
  /** Whether a right holds for what this caller owns. */
  mayFor(right: string, caller: number): boolean;
}

// The words in which the coordinator names rights.
export const RUN = 'run flows and messages';
export const DELETE = 'delete jobs, flows and messages';
export const SATISFY = 'satisfy prerequisites';
export const READ_LOGS = 'read logs';
export const WRITE_RUNNERS = 'administer runners';
export const DELETE_CONTEXT = 'delete the context';
export const PAUSE = 'pause the context';

export const facts = signal<Facts>({ version: '', methods: {} });
/** Null until it is known; then `open`, `stranger` or who it is. */
export const principal = signal<string | null>(null);
export const loginNeeded = signal<string | null>(null);
const standings = new Map<number, Promise<Standing>>();

export function has(method: string): boolean {
  return method in facts.value.methods;
}

export function takes(method: string, param: string): boolean {
  return facts.value.methods[method]?.includes(param) ?? false;
}

export function ownId(): number | null {
  const found = /^actor:(\d+)$/.exec(principal.value ?? '');
  return found ? Number(found[1]) : null;
}

async function begin(): Promise<void> {
  standings.clear();
  const told = await fetch('dashboard.json', { cache: 'no-cache' });
  if (!told.ok) throw new Error('the coordinator does not say what it offers');
  facts.value = (await told.json()) as Facts;
  try {
    const who = await link.callFirst<{ principal: string }>('auth.whoami', {});
    principal.value = who.principal;
    loginNeeded.value = who.principal === 'stranger' ? (loginNeeded.value ?? '') : null;
  } catch (error) {
    if (!(error instanceof RpcError) || error.code !== NOT_LOGGED_IN) throw error;
    sessionIsOver();
  }
}

function sessionIsOver(): void {
  principal.value = 'stranger';
  loginNeeded.value = 'The session is over. Log in again.';
}

/** Where the cookie is of a session that is over, no WebSocket is opened until the cookie is gone. */
async function forgetSession(): Promise<void> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'auth.whoami' });
  const told = await fetch('.', { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  if (told.status !== 401) return;
  sessionIsOver();
  await fetch('session', { method: 'DELETE' });
}

export function startSession(): void {
  link.onOpen = begin;
  link.onRefused = forgetSession;
  link.onLoginEnded = (reason) => {
    principal.value = 'stranger';
    loginNeeded.value = `Logged out: ${reason}`;
  };
  link.start();
}

/** Begin a session with a token. Returns why that is refused, if it is. */
export async function logIn(token: string): Promise<string | null> {
  const response = await fetch('session', { method: 'POST', headers: { authorization: `Bearer ${token}` } });
  if (response.ok) {
    loginNeeded.value = null;
    link.restart();
    return null;
  }
  try {
    const told = (await response.json()) as { error: { data: { detail: string } } };
    return told.error.data.detail;
  } catch {
    return `The coordinator answers with status ${response.status}.`;
  }
}

export async function logOut(): Promise<void> {
  await fetch('session', { method: 'DELETE' });
  principal.value = 'stranger';
  loginNeeded.value = '';
  link.restart();
}

/** What the caller may do in a context. */
export function standingIn(context: number): Promise<Standing> {
  let standing = standings.get(context);
  if (!standing) {
    standing = ask(context);
    standing.catch(() => standings.delete(context));
    standings.set(context, standing);
  }
  return standing;
}

async function ask(context: number): Promise<Standing> {
  if (principal.value === 'open') return { role: 'open', may: () => true, mayFor: () => true };
  const told = await link.call<{ role?: string; rights?: string[] }>('auth.whoami', { context_id: context });
  const role = told.role ?? 'stranger';
  const rights = new Set(told.rights ?? []);
  const may = (right: string) => rights.has(right);
  return { role, may, mayFor: (right, caller) => may(right) && (role !== 'executor' || caller === ownId()) };
}
