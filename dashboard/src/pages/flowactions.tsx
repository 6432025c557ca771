// What may be done with a flow: only what its status and the caller's rights allow is offered.

import { link } from '../rpc';
import { DELETE, has, RUN, type Standing } from '../session';
import type { Flow } from '../types';
import { Action } from '../widgets';

export interface FlowAct {
  name: string;
  label: string;
  method: string;
  confirm?: string;
  kind?: string;
  fits(flow: Flow): boolean;
  right: string;
}

export const FLOW_ACTS: FlowAct[] = [
  { name: 'start', label: 'Start', method: 'flow.start', right: RUN, kind: 'primary', fits: (flow) => flow.status === 'Dispatched' },
  { name: 'retry', label: 'Retry', method: 'flow.retry', right: RUN, kind: 'primary', fits: (flow) => flow.status === 'Error' },
  {
    name: 'cancel',
    label: 'Cancel',
    method: 'flow.cancel',
    right: RUN,
    confirm: 'Stop what runs?',
    kind: 'danger',
    fits: (flow) => flow.status === 'Started',
  },
  {
    name: 'pause',
    label: 'Pause',
    method: 'flow.pause',
    right: RUN,
    fits: (flow) => flow.status === 'Started' && !flow.paused,
  },
  {
    name: 'resume',
    label: 'Resume',
    method: 'flow.resume',
    right: RUN,
    kind: 'primary',
    fits: (flow) => flow.status === 'Started' && flow.paused === true,
  },
  {
    name: 'rerun',
    label: 'Run again',
    method: 'flow.rerun',
    right: RUN,
    confirm: 'Run all of it again?',
    fits: (flow) => flow.status === 'Finished' || flow.status === 'Error',
  },
  {
    name: 'delete',
    label: 'Delete',
    method: 'flow.delete',
    right: DELETE,
    confirm: 'Delete it with its jobs?',
    kind: 'danger',
    fits: (flow) => flow.status !== 'Started',
  },
];

export function offered(flow: Flow, standing: Standing | undefined): FlowAct[] {
  if (!standing) return [];
  return FLOW_ACTS.filter((act) => has(act.method) && act.fits(flow) && standing.mayFor(act.right, flow.caller_id));
}

export function act(flow: Flow, { method }: FlowAct): Promise<unknown> {
  return link.call(method, { context_id: flow.context_id, id: flow.id });
}

export function FlowActions({
  flow,
  standing,
  done,
  deleted,
}: {
  flow: Flow;
  standing: Standing | undefined;
  done(): void;
  deleted(): void;
}) {
  return (
    <span class="actions">
      {offered(flow, standing).map((one) => (
        <Action
          key={one.name}
          label={one.label}
          confirm={one.confirm ?? ''}
          kind={one.kind ?? ''}
          act={async () => {
            await act(flow, one);
            if (one.name === 'delete') deleted();
            else done();
          }}
        />
      ))}
    </span>
  );
}
