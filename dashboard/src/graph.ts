// A flow's graph: levels from left to right, laid out and painted by ourselves, so that ten thousand jobs take no longer
// than a frame. A level with many jobs is folded to one box with a bar of its statuses.

import { JOB_ORDER, look, rank } from './status';
import type { JobProgress } from './types';

export const FOLD_ABOVE = 50;
const NODE_WIDTH = 168;
const NODE_HEIGHT = 26;
const ROW = 34;
const COLUMN = 236;
const FOLDED_SHOWN = 5; // failed and running jobs that a folded level shows by themselves
const FOLDED_HEIGHT = 62;
const MOST_EDGES = 6000; // painted in one frame
const LANE = 14; // height of the room between jobs through which an edge passes a level
const MOST_LANES = 3000; // of a layout; if it would need more, edges pass behind the jobs

export interface Box {
  /** The job; none of a level that is folded, and of a slot beneath one that is free. */
  job?: number | undefined;
  /** It is a slot: beneath a folded level are some, for jobs that failed or run. */
  isSlot?: boolean;
  level: number;
  x: number;
  y: number;
  width: number;
  height: number;
}

/** An edge, or the part of one between two levels if it passes others. */
export interface Edge {
  from: Box;
  to: Box;
  /** The jobs that it is of: one that is waited for, and those that wait for it by this part. */
  dependency: number;
  jobs: number[];
}

export interface Layout {
  levels: number[][];
  boxes: Box[];
  /** By level, its boxes from above. */
  columns: Box[][];
  /** By the level that they lead to. */
  edges: Edge[][];
  byJob: Map<number, Box>;
  levelOf: Map<number, number>;
  width: number;
  height: number;
}

/** The jobs by the longest path that leads to them. Those in a circle come last. */
export function levelsOf(jobs: Map<number, JobProgress>): number[][] {
  const waits = new Map<number, number>();
  const dependents = new Map<number, number[]>();
  for (const job of jobs.values()) {
    let count = 0;
    for (const id of job.depends) {
      if (!jobs.has(id)) continue;
      count += 1;
      const known = dependents.get(id);
      if (known) known.push(job.id);
      else dependents.set(id, [job.id]);
    }
    waits.set(job.id, count);
  }
  const levels: number[][] = [];
  let level = [...jobs.keys()].filter((id) => waits.get(id) === 0);
  let placed = 0;
  while (level.length) {
    levels.push(level);
    placed += level.length;
    const next: number[] = [];
    for (const id of level) {
      for (const dependent of dependents.get(id) ?? []) {
        const left = waits.get(dependent)! - 1;
        waits.set(dependent, left);
        if (left === 0) next.push(dependent);
      }
    }
    level = next;
  }
  if (placed < jobs.size) levels.push([...jobs.keys()].filter((id) => waits.get(id)! > 0));
  return levels;
}

/** Where each box is. `unfolded`: levels that are shown job by job though they are large. */
export function layOut(jobs: Map<number, JobProgress>, levels: number[][], unfolded: Set<number>): Layout {
  const boxes: Box[] = [];
  const columns: Box[][] = [];
  const byJob = new Map<number, Box>();
  const levelOf = new Map<number, number>();
  levels.forEach((ids, level) => ids.forEach((id) => levelOf.set(id, level)));
  const isFolded = (level: number) => levels[level]!.length > FOLD_ABOVE && !unfolded.has(level);
  const lanes = lanesOf(jobs, levels, levelOf, isFolded);
  const laneBoxes: Map<number, Box>[] = [];
  const middles = new Map<number, number>(); // how far down each job, or the last lane of its edges, is in its level
  let height = 0;
  const heights: number[] = [];
  levels.forEach((ids, level) => {
    const x = level * COLUMN;
    const column: Box[] = [];
    const passing = new Map<number, Box>();
    let y = 0;
    const place = (id: number) => {
      const box = { job: id, level, x, y, width: NODE_WIDTH, height: NODE_HEIGHT };
      column.push(box);
      byJob.set(id, box);
      y += ROW;
    };
    if (isFolded(level)) {
      const box = { level, x, y, width: NODE_WIDTH, height: FOLDED_HEIGHT };
      column.push(box);
      for (const id of ids) {
        byJob.set(id, box);
        middles.set(id, 0.5);
      }
      y = FOLDED_HEIGHT + 10;
      for (let slot = 0; slot < FOLDED_SHOWN; slot++, y += ROW) {
        column.push({ level, x, y, width: NODE_WIDTH, height: NODE_HEIGHT, isSlot: true });
      }
    } else {
      // Each job as near as may be to those it waits for; the lanes of edges that pass as near as may be to where they were.
      const through = lanes[level]!;
      const order = [...ids.map((id) => ({ id, wanted: wantedAt(jobs.get(id)!, middles), passes: false }))];
      for (const id of through) order.push({ id, wanted: middles.get(id) ?? 0.5, passes: true });
      if (level > 0) order.sort((one, other) => one.wanted - other.wanted || one.id - other.id);
      order.forEach(({ id, passes }, at) => {
        if (passes) {
          passing.set(id, { level, x, y: y + LANE / 2 - (ROW - NODE_HEIGHT) / 2, width: NODE_WIDTH, height: 0 });
          y += LANE;
        } else place(id);
        middles.set(id, (at + 0.5) / order.length);
      });
    }
    columns.push(column);
    laneBoxes.push(passing);
    heights.push(y - (ROW - NODE_HEIGHT));
    height = Math.max(height, heights[level]!);
  });
  columns.forEach((column, level) => {
    const shift = (height - heights[level]!) / 2;
    for (const box of laneBoxes[level]!.values()) box.y += shift;
    for (const box of column) {
      box.y += shift;
      boxes.push(box);
    }
  });
  const edges = edgesOf(jobs, levels, byJob, laneBoxes, levelOf);
  const width = Math.max(0, levels.length * COLUMN - (COLUMN - NODE_WIDTH));
  return { levels, boxes, columns, edges, byJob, levelOf, width, height };
}

function wantedAt(job: JobProgress, middles: Map<number, number>): number {
  let sum = 0;
  let known = 0;
  for (const id of job.depends) {
    const middle = middles.get(id);
    if (middle === undefined) continue;
    sum += middle;
    known += 1;
  }
  return known ? sum / known : 0.5;
}

/** By level, the jobs of which edges pass it. */
function lanesOf(
  jobs: Map<number, JobProgress>,
  levels: number[][],
  levelOf: Map<number, number>,
  isFolded: (level: number) => boolean,
): number[][] {
  const last = new Map<number, number>();
  for (const job of jobs.values()) {
    const level = levelOf.get(job.id)!;
    for (const id of job.depends) if (level > (last.get(id) ?? 0)) last.set(id, level);
  }
  const lanes: number[][] = levels.map(() => []);
  let count = 0;
  for (const [id, end] of last) {
    const begin = levelOf.get(id);
    if (begin === undefined || isFolded(begin)) continue;
    for (let level = begin + 1; level < end; level++) {
      if (isFolded(level)) continue;
      if (++count > MOST_LANES) return levels.map(() => []);
      lanes[level]!.push(id);
    }
  }
  return lanes;
}

/** By the level that they lead to, the edges: one between the same two boxes, and in parts through the lanes. */
function edgesOf(
  jobs: Map<number, JobProgress>,
  levels: number[][],
  byJob: Map<number, Box>,
  lanes: Map<number, Box>[],
  levelOf: Map<number, number>,
): Edge[][] {
  const edges: Edge[][] = levels.map(() => []);
  const known = new Map<Box, Map<Box, Edge>>();
  const add = (from: Box, to: Box, dependency: number, job: number) => {
    let beginning = known.get(from);
    if (!beginning) known.set(from, (beginning = new Map()));
    const edge = beginning.get(to);
    if (edge) edge.jobs.push(job);
    else {
      const made = { from, to, dependency, jobs: [job] };
      beginning.set(to, made);
      edges[to.level]!.push(made);
    }
  };
  levels.forEach((ids, level) => {
    for (const id of ids) {
      const to = byJob.get(id)!;
      for (const dependency of jobs.get(id)!.depends) {
        let from = byJob.get(dependency);
        if (!from) continue;
        for (let passed = levelOf.get(dependency)! + 1; passed < level; passed++) {
          const lane = lanes[passed]!.get(dependency);
          if (!lane) continue;
          add(from, lane, dependency, id);
          from = lane;
        }
        add(from, to, dependency, id);
      }
    }
  });
  return edges;
}

/** Put the jobs that failed or run into the slots of folded levels. */
export function fillSlots(jobs: Map<number, JobProgress>, { columns, levels }: Layout): void {
  columns.forEach((column, level) => {
    if (!column[1]?.isSlot) return;
    const shown = notable(jobs, levels[level]!);
    column.slice(1).forEach((box, at) => {
      box.job = shown[at];
    });
  });
}

/** Of a folded level those that failed or run, the first few. */
function notable(jobs: Map<number, JobProgress>, ids: number[]): number[] {
  const found: number[] = [];
  for (const status of ['Error', 'Started']) {
    for (const id of ids) {
      if (found.length >= FOLDED_SHOWN) return found;
      if (jobs.get(id)!.status === status) found.push(id);
    }
  }
  return found;
}

export interface View {
  x: number;
  y: number;
  scale: number;
}

export interface Colours {
  surface: string;
  text: string;
  muted: string;
  line: string;
  accent: string;
  status: Record<string, string>;
}

export interface Scene {
  layout: Layout;
  jobs: Map<number, JobProgress>;
  counts: Record<string, number>[];
  names: (job: JobProgress) => string;
  view: View;
  width: number;
  height: number;
  colours: Colours;
  chosen: number | undefined;
  found: Set<number> | undefined;
}

/** How many jobs of each level have each status. */
export function countsByLevel(jobs: Map<number, JobProgress>, levels: number[][]): Record<string, number>[] {
  return levels.map((ids) => {
    const counts: Record<string, number> = {};
    for (const id of ids) {
      const { status } = jobs.get(id)!;
      counts[status] = (counts[status] ?? 0) + 1;
    }
    return counts;
  });
}

export function paint(context: CanvasRenderingContext2D, scene: Scene): void {
  const { view, layout, width, height, colours } = scene;
  const ratio = devicePixelRatio || 1;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = colours.surface;
  context.fillRect(0, 0, width, height);
  context.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, ratio * view.x, ratio * view.y);
  const seen = { left: -view.x / view.scale, top: -view.y / view.scale, right: 0, bottom: 0 };
  seen.right = seen.left + width / view.scale;
  seen.bottom = seen.top + height / view.scale;
  const firstLevel = Math.max(0, Math.floor((seen.left - NODE_WIDTH) / COLUMN));
  const lastLevel = Math.min(layout.columns.length - 1, Math.ceil(seen.right / COLUMN));
  paintEdges(context, scene, firstLevel, Math.min(layout.columns.length - 1, lastLevel + 1), seen);
  context.textBaseline = 'middle';
  for (let level = firstLevel; level <= lastLevel; level++) {
    for (const box of layout.columns[level]!) {
      if (box.y > seen.bottom || box.y + box.height < seen.top) continue;
      if (box.job === undefined && !box.isSlot) paintFolded(context, scene, box);
      else if (box.job !== undefined) paintJob(context, scene, box, scene.jobs.get(box.job)!);
    }
  }
}

function paintEdges(
  context: CanvasRenderingContext2D,
  scene: Scene,
  first: number,
  last: number,
  seen: { top: number; bottom: number; left: number; right: number },
): void {
  const { layout, colours, chosen } = scene;
  context.lineWidth = Math.max(1, 0.7 / scene.view.scale);
  context.strokeStyle = colours.line;
  context.beginPath();
  const stressed: Edge[] = [];
  let painted = 0;
  for (let level = first; level <= last && painted < MOST_EDGES; level++) {
    for (const edge of layout.edges[level]!) {
      const { from, to } = edge;
      if (from.x + from.width > seen.right || to.x < seen.left) continue;
      if (Math.max(from.y, to.y) + NODE_HEIGHT < seen.top || Math.min(from.y, to.y) > seen.bottom) continue;
      if (chosen !== undefined && (edge.dependency === chosen || edge.jobs.includes(chosen))) stressed.push(edge);
      curve(context, from, to);
      if (++painted >= MOST_EDGES) break;
    }
  }
  context.stroke();
  context.beginPath();
  context.strokeStyle = colours.accent;
  for (const { from, to } of stressed) curve(context, from, to);
  context.stroke();
}

function curve(context: CanvasRenderingContext2D, from: Box, to: Box): void {
  const x = from.x + from.width;
  const y = from.y + from.height / 2;
  const end = to.y + to.height / 2;
  const middle = x + (to.x - x) / 2;
  context.moveTo(x, y);
  context.bezierCurveTo(middle, y, middle, end, to.x, end);
  if (!to.height) context.lineTo(to.x + to.width, end); // it passes this level
}

function paintJob(context: CanvasRenderingContext2D, scene: Scene, box: Box, job: JobProgress): void {
  const { colours, view } = scene;
  const colour = colours.status[job.status] ?? colours.muted;
  const isFaint = scene.found !== undefined && !scene.found.has(job.id);
  context.globalAlpha = isFaint ? 0.25 : 1;
  if (view.scale < 0.35) {
    context.fillStyle = colour;
    context.fillRect(box.x, box.y, box.width, box.height);
  } else {
    context.fillStyle = colours.surface;
    context.strokeStyle = scene.chosen === job.id ? colours.accent : colours.line;
    context.lineWidth = scene.chosen === job.id ? 2.5 : 1;
    context.beginPath();
    context.roundRect(box.x, box.y, box.width, box.height, 5);
    context.fill();
    context.stroke();
    context.fillStyle = colour;
    context.beginPath();
    context.roundRect(box.x, box.y, 24, box.height, [5, 0, 0, 5]);
    context.fill();
    context.fillStyle = colours.surface;
    context.font = 'bold 12px system-ui, sans-serif';
    context.textAlign = 'center';
    context.fillText(look(job.status).sign, box.x + 12, box.y + box.height / 2 + 0.5);
    context.fillStyle = colours.text;
    context.font = '12px system-ui, sans-serif';
    context.textAlign = 'left';
    context.fillText(clipped(scene.names(job), 20), box.x + 31, box.y + box.height / 2 + 0.5);
  }
  context.globalAlpha = 1;
}

function paintFolded(context: CanvasRenderingContext2D, scene: Scene, box: Box): void {
  const { colours } = scene;
  const counts = scene.counts[box.level]!;
  const total = scene.layout.levels[box.level]!.length;
  context.fillStyle = colours.surface;
  context.strokeStyle = colours.muted;
  context.lineWidth = 1;
  context.beginPath();
  context.roundRect(box.x, box.y, box.width, box.height, 6);
  context.fill();
  context.stroke();
  context.fillStyle = colours.text;
  context.textAlign = 'left';
  context.font = 'bold 13px system-ui, sans-serif';
  context.fillText(`${total.toLocaleString('en')} jobs`, box.x + 10, box.y + 15);
  let x = box.x + 10;
  const width = box.width - 20;
  for (const status of JOB_ORDER) {
    const share = ((counts[status] ?? 0) / total) * width;
    if (!share) continue;
    context.fillStyle = colours.status[status] ?? colours.muted;
    context.fillRect(x, box.y + 27, Math.max(share, 1), 9);
    x += share;
  }
  const worst = JOB_ORDER.filter((status) => counts[status]).slice(0, 3);
  context.fillStyle = colours.muted;
  context.font = '11px system-ui, sans-serif';
  const words = worst.map((status) => `${look(status).sign} ${counts[status]}`).join('  ');
  context.fillText(clipped(words, 26), box.x + 10, box.y + 49);
}

export function clipped(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** What is at a place of the canvas. */
export function boxAt(layout: Layout, view: View, x: number, y: number): Box | undefined {
  const placeX = (x - view.x) / view.scale;
  const placeY = (y - view.y) / view.scale;
  const column = layout.columns[Math.floor(placeX / COLUMN)];
  return column?.find(
    (box) => (box.job !== undefined || !box.isSlot) && placeX >= box.x && placeX <= box.x + box.width && placeY >= box.y && placeY <= box.y + box.height,
  );
}

/** Failed first, then running, then the others; by id among equals. */
export function byConcern(one: JobProgress, other: JobProgress): number {
  return rank(one.status) - rank(other.status) || one.id - other.id;
}
