// What several pages use.

import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { spans } from './ansi';
import { tick } from './format';
import { link, said } from './rpc';
import { type Standing, standingIn } from './session';

/** What was asked for, or why it is not there; asked for again whenever the connection is new. */
export interface Loaded<T> {
  value: T | undefined;
  error: string | undefined;
  isLoading: boolean;
  /** Counts how often `reload` was called. */
  turn: number;
  reload(): void;
}

/** `keys` say what is asked for; when one of `also` changes it is asked for again, and what there was stays until then. */
export function useLoad<T>(load: () => Promise<T>, keys: unknown[], also: unknown[] = []): Loaded<T> {
  const [state, setState] = useState<{ value?: T; error?: string; isLoading: boolean }>({ isLoading: true });
  const [turn, setTurn] = useState(0);
  const generation = link.generation.value;
  const shown = useRef<string>('');
  useEffect(() => {
    let isWanted = true;
    const now = JSON.stringify(keys);
    if (shown.current !== now) setState({ isLoading: true });
    else setState((before) => ({ ...before, isLoading: true }));
    shown.current = now;
    load().then(
      (value) => isWanted && setState({ value, isLoading: false }),
      (error) => isWanted && setState((before) => ({ ...before, error: said(error), isLoading: false })),
    );
    return () => {
      isWanted = false;
    };
  }, [...keys, ...also, turn, generation]);
  return { value: state.value, error: state.error, isLoading: state.isLoading, turn, reload: () => setTurn((one) => one + 1) };
}

export function useStanding(context: number): Standing | undefined {
  return useLoad(() => standingIn(context), ['standing', context]).value;
}

export function useTick(isNeeded: boolean): void {
  useEffect(() => (isNeeded ? tick() : undefined), [isNeeded]);
}

export function Fault({ text, retry }: { text: string | undefined; retry?: () => void }) {
  if (!text) return null;
  return (
    <div class="fault" role="alert">
      <span>{text}</span>
      {retry && <button onClick={retry}>Try again</button>}
    </div>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

/** A button that does something once, shows that it is being done, and says why if it fails. */
export function Action({
  label,
  act,
  confirm,
  kind = '',
}: {
  label: string;
  act: () => Promise<unknown>;
  confirm?: string;
  kind?: string;
}) {
  const [state, setState] = useState<'idle' | 'asking' | 'busy'>('idle');
  const [error, setError] = useState('');
  const run = async () => {
    setState('busy');
    setError('');
    try {
      await act();
    } catch (failure) {
      setError(said(failure));
    }
    setState('idle');
  };
  if (state === 'asking') {
    return (
      <span class="asking" role="group" aria-label={confirm}>
        <span>{confirm}</span>
        <button class={kind} onClick={run} ref={(button) => button?.focus()}>
          {label}
        </button>
        <button onClick={() => setState('idle')}>No</button>
      </span>
    );
  }
  return (
    <span class="action">
      <button class={kind} disabled={state === 'busy'} onClick={() => (confirm ? setState('asking') : void run())}>
        {label}
      </button>
      {error && (
        <span class="action-error" role="alert">
          {error}
        </span>
      )}
    </span>
  );
}

export function Tabs({ tabs, chosen, choose }: { tabs: [string, string][]; chosen: string; choose(id: string): void }) {
  const move = (event: JSX.TargetedKeyboardEvent<HTMLDivElement>) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = tabs.findIndex(([id]) => id === chosen);
    const next = tabs[(at + step + tabs.length) % tabs.length]![0];
    choose(next);
    event.currentTarget.querySelector<HTMLElement>(`[data-tab="${next}"]`)?.focus();
  };
  return (
    <div class="tabs" role="tablist" onKeyDown={move}>
      {tabs.map(([id, label]) => (
        <button
          key={id}
          role="tab"
          data-tab={id}
          aria-selected={id === chosen}
          tabIndex={id === chosen ? 0 : -1}
          onClick={() => choose(id)}
        >
          {label}
        </button>
      ))}
    </div>
  );
}

export interface Column<T> {
  label: string;
  /** A share of the width, as CSS grid has it. */
  width: string;
  cell(row: T): ComponentChildren;
  class?: string;
}

const ROW_HEIGHT = 30;
const BEYOND = 12; // rows that are there above and below those that can be seen

/** A table of any number of rows, of which those in view are in the document. */
export function LongTable<T>({
  rows,
  columns,
  name,
  id,
  height = '62vh',
  chosen,
}: {
  rows: T[];
  columns: Column<T>[];
  name: string;
  id(row: T): string | number;
  height?: string;
  chosen?: string | number | undefined;
}) {
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  useLayoutEffect(() => {
    const element = box.current!;
    const measure = () => setView({ top: element.scrollTop, height: element.clientHeight });
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    const at = chosen === undefined ? -1 : rows.findIndex((row) => id(row) === chosen);
    if (at >= 0) box.current!.scrollTop = Math.max(0, at * ROW_HEIGHT - view.height / 3);
  }, [chosen]);
  const first = Math.max(0, Math.floor(view.top / ROW_HEIGHT) - BEYOND);
  const last = Math.min(rows.length, Math.ceil((view.top + view.height) / ROW_HEIGHT) + BEYOND);
  const template = columns.map((column) => column.width).join(' ');
  return (
    <div
      class="long-table"
      role="table"
      aria-label={name}
      aria-rowcount={rows.length + 1}
      style={{ maxHeight: height }}
      ref={box}
      tabIndex={0}
      onScroll={(event) => setView({ top: event.currentTarget.scrollTop, height: event.currentTarget.clientHeight })}
    >
      <div class="row head" role="row" aria-rowindex={1} style={{ gridTemplateColumns: template }}>
        {columns.map((column) => (
          <span key={column.label} role="columnheader" class={column.class}>
            {column.label}
          </span>
        ))}
      </div>
      <div class="rows" role="rowgroup" style={{ height: `${rows.length * ROW_HEIGHT}px` }}>
        {rows.slice(first, last).map((row, at) => (
          <div
            key={id(row)}
            class={`row${id(row) === chosen ? ' chosen' : ''}`}
            role="row"
            aria-rowindex={first + at + 2}
            style={{ gridTemplateColumns: template, top: `${(first + at) * ROW_HEIGHT}px` }}
          >
            {columns.map((column) => (
              <span key={column.label} role="cell" class={column.class}>
                {column.cell(row)}
              </span>
            ))}
          </div>
        ))}
      </div>
    </div>
  );
}

export interface LogLine {
  at: number;
  label: string;
  stream: string;
  text: string;
}

/** A text with the colours that its terminal sequences give it. */
function Coloured({ text }: { text: string }) {
  return (
    <>
      {spans(text).map((span, part) => (
        <span key={part} class={span.style || undefined}>
          {span.text}
        </span>
      ))}
    </>
  );
}

/** Log lines, the newest below; it stays at the end unless one scrolls away from there. */
export function LogView({ lines, labelOf }: { lines: LogLine[]; labelOf?: (line: LogLine) => string }) {
  const box = useRef<HTMLDivElement>(null);
  const [follows, setFollows] = useState(true);
  const shown = lines.slice(-2000);
  useLayoutEffect(() => {
    if (follows) box.current!.scrollTop = box.current!.scrollHeight;
  });
  return (
    <div class="log-frame">
      <div
        class="log"
        role="log"
        aria-label="Log"
        tabIndex={0}
        ref={box}
        onScroll={(event) => {
          const { scrollHeight, scrollTop, clientHeight } = event.currentTarget;
          setFollows(scrollHeight - scrollTop - clientHeight < 24);
        }}
      >
        {lines.length > shown.length && <div class="muted">… {lines.length - shown.length} earlier lines are not shown</div>}
        {shown.map((line, at) => (
          <div key={lines.length - shown.length + at} class={line.stream === 'stderr' ? 'stderr' : undefined}>
            {labelOf && <span class="log-label">{labelOf(line)}</span>}
            <Coloured text={line.text} />
          </div>
        ))}
      </div>
      {!follows && (
        <button class="to-end" onClick={() => setFollows(true)}>
          ↓ Follow
        </button>
      )}
    </div>
  );
}

/** A map of texts; JSON in a text is laid out. */
export function TextMap({ map, empty, hide }: { map: Record<string, string>; empty: string; hide?: RegExp }) {
  const names = Object.keys(map);
  if (!names.length) return <Empty>{empty}</Empty>;
  return (
    <dl class="map">
      {names.map((name) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{hide?.test(name) ? <span class="muted">hidden</span> : <pre><Coloured text={laidOut(map[name]!)} /></pre>}</dd>
        </div>
      ))}
    </dl>
  );
}

function laidOut(text: string): string {
  if (!/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
