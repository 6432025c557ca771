// Where the page is, in the part of its address behind the #, so that each place has a link that can be passed on.

import { signal } from '@preact/signals';

export interface Route {
  path: string[];
  query: URLSearchParams;
}

function read(): Route {
  const [path = '', query = ''] = location.hash.replace(/^#\/?/, '').split('?', 2);
  return { path: path.split('/').filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const route = signal<Route>(read());
addEventListener('hashchange', () => {
  route.value = read();
});

export function href(path: (string | number)[], query: Record<string, string | undefined> = {}): string {
  const given = Object.entries(query).filter((entry): entry is [string, string] => !!entry[1]);
  const text = new URLSearchParams(given).toString();
  return `#/${path.map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`;
}

export function go(to: string): void {
  location.hash = to;
}

/** Under which the context is remembered that was looked at last. */
export const LAST_CONTEXT = 'hero.context';

/** What this browser remembers for its user; nothing where it may not. */
export function recall(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // it is forgotten
  }
}

/** Change the query of where the page is, without a step back in the browser's history. */
export function setQuery(changes: Record<string, string | undefined>): void {
  const query = new URLSearchParams(route.value.query);
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const text = query.toString();
  history.replaceState(null, '', `#/${route.value.path.map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`);
  route.value = read();
}
