// The graph on its canvas: moved by mouse, touch and keyboard.

import type { JSX } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { boxAt, type Colours, countsByLevel, fillSlots, FOLD_ABOVE, layOut, levelsOf, paint, type Scene, type View } from './graph';
import { JOB_ORDER, look } from './status';
import type { JobProgress } from './types';

const LEAST_SCALE = 0.05;
const LARGEST_SCALE = 3;

function coloursOf(element: Element): Colours {
  const style = getComputedStyle(element);
  const of = (name: string) => style.getPropertyValue(name).trim();
  const status = Object.fromEntries(JOB_ORDER.map((one) => [one, of(`--${look(one).class}`)]));
  return { surface: of('--surface'), text: of('--text'), muted: of('--muted'), line: of('--line-strong'), accent: of('--accent'), status };
}

export function GraphView({
  jobs,
  version,
  nameOf,
  found,
  chosen,
  choose,
  open,
}: {
  jobs: Map<number, JobProgress>;
  version: number;
  nameOf: (job: JobProgress) => string;
  found: Set<number> | undefined;
  chosen: number | undefined;
  choose(job: number | undefined): void;
  open(job: number): void;
}) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const view = useRef<View>({ x: 0, y: 0, scale: 1 });
  const size = useRef({ width: 0, height: 0 });
  const colours = useRef<Colours>();
  const frame = useRef(0);
  const hasMoved = useRef(false);
  const [unfolded, setUnfolded] = useState<Set<number>>(new Set());

  // Levels change only with the jobs themselves, of which there are as many as before unless they are others.
  const levels = useMemo(() => levelsOf(jobs), [jobs]);
  const layout = useMemo(() => layOut(jobs, levels, unfolded), [levels, unfolded]);
  useMemo(() => fillSlots(jobs, layout), [layout, version]);
  const counts = useMemo(() => countsByLevel(jobs, levels), [levels, version]);

  const scene = useRef<Scene>();
  const draw = () => {
    if (!frame.current) frame.current = requestAnimationFrame(now);
  };
  const now = () => {
    frame.current = 0;
    const context = canvas.current?.getContext('2d');
    if (!context || !scene.current) return;
    paint(context, { ...scene.current, view: view.current, ...size.current, colours: colours.current! });
  };

  const fit = () => {
    const { width, height } = size.current;
    if (!width) return;
    const { layout } = scene.current!;
    const whole = Math.min((width - 40) / Math.max(1, layout.width), (height - 40) / Math.max(1, layout.height));
    const scale = Math.min(1.2, Math.max(whole, 0.45));
    const isTooWide = layout.width * scale > width - 40;
    view.current = {
      scale,
      x: isTooWide ? 20 : (width - layout.width * scale) / 2,
      y: (height - layout.height * scale) / 2,
    };
    draw();
  };

  scene.current = {
    layout,
    jobs,
    counts,
    names: nameOf,
    found,
    chosen,
    view: view.current,
    ...size.current,
    colours: colours.current!,
  };

  useEffect(() => {
    const element = canvas.current!;
    const dark = matchMedia('(prefers-color-scheme: dark)');
    const recolour = () => {
      colours.current = coloursOf(element);
      draw();
    };
    recolour();
    dark.addEventListener('change', recolour);
    const observer = new ResizeObserver(() => {
      const { clientWidth: width, clientHeight: height } = element;
      element.width = width * (devicePixelRatio || 1);
      element.height = height * (devicePixelRatio || 1);
      size.current = { width, height };
      if (hasMoved.current) now();
      else {
        fit();
        now();
      }
    });
    observer.observe(element);
    const wheel = (event: WheelEvent) => {
      event.preventDefault();
      hasMoved.current = true;
      if (event.shiftKey) return move(-event.deltaY - event.deltaX, 0);
      return zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.offsetX, event.offsetY);
    };
    element.addEventListener('wheel', wheel, { passive: false });
    return () => {
      observer.disconnect();
      dark.removeEventListener('change', recolour);
      element.removeEventListener('wheel', wheel);
      cancelAnimationFrame(frame.current);
    };
  }, []);

  useEffect(() => {
    if (!hasMoved.current) fit();
  }, [levels, unfolded]);
  useEffect(draw);

  const move = (x: number, y: number) => {
    hasMoved.current = true;
    view.current = { ...view.current, x: view.current.x + x, y: view.current.y + y };
    draw();
  };
  const zoom = (factor: number, x: number, y: number) => {
    hasMoved.current = true;
    const before = view.current;
    const scale = Math.min(LARGEST_SCALE, Math.max(LEAST_SCALE, before.scale * factor));
    const by = scale / before.scale;
    view.current = { scale, x: x - (x - before.x) * by, y: y - (y - before.y) * by };
    draw();
  };

  const show = (id: number) => {
    const box = layout.byJob.get(id);
    if (!box) return;
    hasMoved.current = true;
    const { width, height } = size.current;
    const scale = Math.max(view.current.scale, 0.7);
    view.current = {
      scale,
      x: width / 2 - (box.x + box.width / 2) * scale,
      y: height / 2 - (box.y + box.height / 2) * scale,
    };
    draw();
  };
  useEffect(() => {
    if (chosen === undefined) return;
    const box = layout.byJob.get(chosen);
    if (!box) return;
    const { x, y, scale } = view.current;
    const at = { x: box.x * scale + x, y: box.y * scale + y };
    const isSeen = at.x >= 0 && at.y >= 0 && at.x < size.current.width - 40 && at.y < size.current.height - 20;
    if (!isSeen) show(chosen);
  }, [chosen]);

  // Fingers and the mouse.
  const pointers = useRef(new Map<number, { x: number; y: number }>());
  const travelled = useRef(0);
  const down = (event: JSX.TargetedPointerEvent<HTMLCanvasElement>) => {
    event.currentTarget.setPointerCapture(event.pointerId);
    pointers.current.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    if (pointers.current.size === 1) travelled.current = 0;
  };
  const drag = (event: JSX.TargetedPointerEvent<HTMLCanvasElement>) => {
    const before = pointers.current.get(event.pointerId);
    const box = boxAt(layout, view.current, event.offsetX, event.offsetY);
    if (!before) {
      event.currentTarget.style.cursor = box ? 'pointer' : 'grab';
      return;
    }
    const here = { x: event.offsetX, y: event.offsetY };
    const others = [...pointers.current].filter(([id]) => id !== event.pointerId);
    const other = others[0]?.[1];
    travelled.current += Math.abs(here.x - before.x) + Math.abs(here.y - before.y);
    if (other) {
      const apart = (one: { x: number; y: number }) => Math.hypot(one.x - other.x, one.y - other.y) || 1;
      zoom(apart(here) / apart(before), other.x, other.y);
    } else if (travelled.current > 4) move(here.x - before.x, here.y - before.y);
    pointers.current.set(event.pointerId, here);
  };
  const up = (event: JSX.TargetedPointerEvent<HTMLCanvasElement>) => {
    if (!pointers.current.delete(event.pointerId) || travelled.current > 4) return;
    const box = boxAt(layout, view.current, event.offsetX, event.offsetY);
    if (box && box.job === undefined) toggle(box.level);
    else choose(box?.job);
  };
  const toggle = (level: number) => {
    const next = new Set(unfolded);
    if (!next.delete(level)) next.add(level);
    hasMoved.current = true;
    setUnfolded(next);
  };

  const key = (event: JSX.TargetedKeyboardEvent<HTMLCanvasElement>) => {
    const { width, height } = size.current;
    const moves: Record<string, () => void> = {
      ArrowLeft: () => (event.shiftKey ? step(-1, 0) : move(60, 0)),
      ArrowRight: () => (event.shiftKey ? step(1, 0) : move(-60, 0)),
      ArrowUp: () => (event.shiftKey ? step(0, -1) : move(0, 60)),
      ArrowDown: () => (event.shiftKey ? step(0, 1) : move(0, -60)),
      '+': () => zoom(1.25, width / 2, height / 2),
      '=': () => zoom(1.25, width / 2, height / 2),
      '-': () => zoom(0.8, width / 2, height / 2),
      '0': fit,
      Enter: () => chosen !== undefined && open(chosen),
      Escape: () => choose(undefined),
    };
    const act = moves[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  };
  /** Choose the job beside the one that is chosen. */
  const step = (across: number, along: number) => {
    const box = chosen === undefined ? undefined : layout.byJob.get(chosen);
    const level = Math.min(layout.columns.length - 1, Math.max(0, (box?.level ?? 0) + across));
    const column = (layout.columns[level] ?? []).filter((one) => one.job !== undefined);
    const at = box && !across ? column.indexOf(box) + along : Math.floor(column.length / 2);
    const next = column[Math.min(column.length - 1, Math.max(0, at))];
    if (next?.job !== undefined) {
      choose(next.job);
      show(next.job);
    }
  };

  const large = levels.map((ids, level) => ({ level, size: ids.length })).filter((one) => one.size > FOLD_ABOVE);
  return (
    <div class="graph">
      <canvas
        ref={canvas}
        tabIndex={0}
        role="img"
        aria-label={`Graph of ${jobs.size} jobs in ${levels.length} levels. Arrows move it, plus and minus zoom, 0 fits it, shift with arrows chooses a job, Enter opens it. The table has the same jobs.`}
        onPointerDown={down}
        onPointerMove={drag}
        onPointerUp={up}
        onPointerCancel={(event) => pointers.current.delete(event.pointerId)}
        onDblClick={(event) => {
          const box = boxAt(layout, view.current, event.offsetX, event.offsetY);
          if (box?.job !== undefined) open(box.job);
        }}
        onKeyDown={key}
      />
      <div class="graph-tools">
        <button title="Zoom in (+)" aria-label="Zoom in" onClick={() => zoom(1.25, size.current.width / 2, size.current.height / 2)}>
          +
        </button>
        <button title="Zoom out (−)" aria-label="Zoom out" onClick={() => zoom(0.8, size.current.width / 2, size.current.height / 2)}>
          −
        </button>
        <button title="Fit (0)" aria-label="Fit to the window" onClick={fit}>
          Fit
        </button>
        {large.length > 0 && unfolded.size > 0 && (
          <button onClick={() => setUnfolded(new Set())}>Fold levels</button>
        )}
      </div>
      {large.length > 0 && unfolded.size === 0 && (
        <p class="graph-note">Levels of over 50 jobs are folded; click one to see its jobs, or search.</p>
      )}
    </div>
  );
}
