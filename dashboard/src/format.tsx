// Numbers, times and durations as people read them.

import { signal } from '@preact/signals';

/** Seconds on this machine's clock, kept current while something that runs is shown. */
export const now = signal(Date.now());
let watchers = 0;
let ticking: ReturnType<typeof setInterval> | undefined;

/** Keep `now` current until the returned function is called. */
export function tick(): () => void {
  watchers += 1;
  now.value = Date.now();
  ticking ??= setInterval(() => {
    if (document.visibilityState === 'visible') now.value = Date.now();
  }, 1000);
  return () => {
    watchers -= 1;
    if (watchers === 0) {
      clearInterval(ticking);
      ticking = undefined;
    }
  };
}

export function count(value: number): string {
  return value.toLocaleString('en');
}

export function duration(ms: number): string {
  if (ms < 0) return '0 s';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(Math.round(seconds) % 60).padStart(2, '0')} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, '0')} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}

/** A time in the viewer's zone; in UTC in its title. */
export function Time({ ms, precise }: { ms: number | undefined; precise?: boolean }) {
  if (ms === undefined) return <span class="muted">–</span>;
  const date = new Date(ms);
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const isToday = new Date().toDateString() === date.toDateString();
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const text = isToday && !precise ? clock : `${day} ${clock}`;
  return (
    <time dateTime={date.toISOString()} title={`${date.toISOString().replace('T', ' ').replace('Z', '')} UTC`}>
      {text}
    </time>
  );
}
