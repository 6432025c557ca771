// How a status looks: a sign and a word, and a colour beside them.

import { count } from './format';

export interface Look {
  sign: string;
  word: string;
  class: string;
}

const LOOKS: Record<string, Look> = {
  Error: { sign: '✕', word: 'Error', class: 'error' },
  Started: { sign: '▶', word: 'Running', class: 'running' },
  Dispatched: { sign: '○', word: 'Dispatched', class: 'queued' },
  WaitingForPrerequisites: { sign: '…', word: 'Waiting', class: 'waiting' },
  Finished: { sign: '✓', word: 'Finished', class: 'finished' },
  Acknowledged: { sign: '▶', word: 'Acknowledged', class: 'running' },
  Processed: { sign: '✓', word: 'Processed', class: 'finished' },
};

/** Failed and running first: what one looks for. */
export const JOB_ORDER = ['Error', 'Started', 'Dispatched', 'WaitingForPrerequisites', 'Finished'];
export const FLOW_ORDER = ['Error', 'Started', 'Dispatched', 'Finished'];

export function look(status: string): Look {
  return LOOKS[status] ?? { sign: '?', word: status, class: 'queued' };
}

export function rank(status: string): number {
  const at = JOB_ORDER.indexOf(status);
  return at < 0 ? JOB_ORDER.length : at;
}

export function Badge({ status, word }: { status: string; word?: string | undefined }) {
  const { sign, word: usual, class: kind } = look(status);
  return (
    <span class={`badge ${kind}`}>
      <span class="sign" aria-hidden="true">
        {sign}
      </span>
      {word ?? usual}
    </span>
  );
}

/** How many there are of each status, as a bar and in words. */
export function StatusBar({ counts, order = JOB_ORDER }: { counts: Record<string, number>; order?: string[] }) {
  const shown = order.filter((status) => counts[status]);
  const total = shown.reduce((sum, status) => sum + (counts[status] ?? 0), 0);
  const words = shown.map((status) => `${count(counts[status] ?? 0)} ${look(status).word.toLowerCase()}`).join(', ');
  return (
    <div class="status-bar" role="img" aria-label={words || 'nothing'} title={words || 'nothing'}>
      {shown.map((status) => (
        <span key={status} class={look(status).class} style={{ flexGrow: (counts[status] ?? 0) / total }} />
      ))}
    </div>
  );
}

/** The same as a line of words with signs. */
export function Tally({ counts, order = JOB_ORDER }: { counts: Record<string, number>; order?: string[] }) {
  return (
    <span class="tally">
      {order
        .filter((status) => counts[status])
        .map((status) => (
          <span key={status} class={look(status).class}>
            <span aria-hidden="true">{look(status).sign}</span> {count(counts[status] ?? 0)} {look(status).word.toLowerCase()}
          </span>
        ))}
    </span>
  );
}
