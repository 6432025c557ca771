// One job: what it is to do, what became of it, and its log as it is written.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { type ContextEvent, liveContext, settled } from '../context';
import { LiveFlow } from '../flow';
import { count, duration, now, Time } from '../format';
import { go, href, route } from '../route';
import { link, said } from '../rpc';
import { has, READ_LOGS, RUN, takes } from '../session';
import { Badge } from '../status';
import type { Flow, Job, JobProgress, LogReport, Page } from '../types';
import { Action, Empty, Fault, type LogLine, LogView, TextMap, useLoad, useStanding, useTick } from '../widgets';

const SECRET = /pass|secret|token|key|credential|auth|cookie|session/i;
const LOOK_AGAIN = 5000; // ms; of a job of a message there are no events
const NEWEST = 10; // flows in which a job is looked for

export function JobPage({ context, caller, id }: { context: number; caller: number; id: number }) {
  const flowId = Number(route.value.query.get('flow') ?? NaN);
  const standing = useStanding(context);
  const flow = useMemo(() => (Number.isInteger(flowId) ? new LiveFlow(context, flowId) : undefined), [context, flowId]);
  useEffect(() => flow?.start(), [flow]);
  const progress = flow && flow.version.value > 0 ? flow.jobs.get(id) : undefined;
  const job = useLoad(
    () => link.call<Job>('job.load', { context_id: context, caller_id: caller, id }),
    [context, caller, id],
    [progress?.status, progress?.attempt],
  );
  const status = progress?.status ?? job.value?.status;
  useTick(status === 'Started');
  const isOver = status === 'Finished' || status === 'Error';
  const reload = useRef(job.reload);
  reload.current = job.reload;
  const soon = useMemo(() => settled(() => reload.current(), 1000), [context, caller, id]);
  useEffect(() => soon.stop, [soon]);
  useFlowOf(context, caller, id, flow !== undefined, () => soon.ask());
  useEffect(() => {
    if (flow || !status || isOver) return undefined;
    const timer = setInterval(() => document.visibilityState === 'visible' && job.reload(), LOOK_AGAIN);
    return () => clearInterval(timer);
  }, [flow, status]);

  const value = job.value;
  if (!value) {
    return (
      <main>
        <h1>Job {id}</h1>
        <Fault text={job.error} retry={job.reload} />
        {!job.error && <p class="loading">Loading job {id}…</p>}
      </main>
    );
  }
  const mayRun = standing?.mayFor(RUN, caller) ?? false;
  return (
    <main>
      <div class="title-row">
        <h1>
          {value.name ?? value.env_vars.HERO_JOB_NAME ?? `Job ${id}`} <Badge status={status ?? value.status} />
        </h1>
        <span class="actions">
          {has('job.cancel') && mayRun && (status === 'Started' || status === 'Dispatched' || status === 'WaitingForPrerequisites') && (
            <Action
              label="Cancel"
              kind="danger"
              confirm="Stop this job?"
              act={() => link.call('job.cancel', { context_id: context, caller_id: caller, id, reason: 'cancelled in the dashboard' })}
            />
          )}
          {has('flow.rerun') && flow && mayRun && (status === 'Finished' || status === 'Error') && flow.report?.flow.status !== 'Started' && (
            <Action
              label="Run again from here"
              confirm="Run this job and all behind it again?"
              act={async () => {
                await link.call('flow.rerun', { context_id: context, id: flowId, from_job: id });
                await flow.load();
              }}
            />
          )}
        </span>
      </div>
      <Fault text={job.error} retry={job.reload} />
      <p class="facts">
        <span>job {id}</span>
        <span>caller {caller}</span>
        {flow && (
          <a href={href(['c', context, 'flow', flowId])}>{flow.report?.flow.name ?? `flow ${flowId}`}</a>
        )}
        <span>{value.script_type}</span>
        <span>{value.timeout ? `time limit ${duration(value.timeout * 1000)}` : 'no time limit'}</span>
        <span>{count(value.retries)} retries</span>
        {progress?.attempt !== undefined && progress.attempt > 0 && <span>attempt {progress.attempt}</span>}
        {progress?.runner_id !== undefined && <span>runner {progress.runner_id}</span>}
        {progress?.started_at !== undefined && (
          <span>
            started <Time ms={progress.started_at} />, {progress.ended_at ? 'took' : 'for'}{' '}
            {duration((progress.ended_at ?? now.value) - progress.started_at)}
          </span>
        )}
      </p>
      {progress?.failure && status !== 'Finished' && <Fault text={`${status === 'Error' ? `Attempt ${progress.attempt}` : 'An attempt'} failed: ${progress.failure}`} />}
      {progress?.retry_at !== undefined && status === 'Dispatched' && (
        <p class="muted">
          Tried again at <Time ms={progress.retry_at} />.
        </p>
      )}
      <div class="columns">
        <section>
          <h2>Log</h2>
          <JobLog context={context} caller={caller} id={id} flow={flow} status={status} turn={job.turn} maySee={standing?.may(READ_LOGS) ?? true} />
          <h2>Result</h2>
          <TextMap map={value.result} empty="The job has no result yet." />
        </section>
        <section>
          {has('job.attempts') && <Attempts context={context} caller={caller} id={id} progress={progress} />}
          <h2>Waits for</h2>
          {value.depends.length || value.prerequisites.length ? (
            <ul class="plain">
              {value.depends.slice(0, 200).map((one) => (
                <li key={one}>
                  {flow?.jobs.get(one) && <Badge status={flow.jobs.get(one)!.status} />}{' '}
                  <a href={href(['c', context, 'job', caller, one], { flow: flow ? String(flowId) : undefined })}>
                    {flow?.jobs.get(one)?.name ?? `job ${one}`}
                  </a>
                </li>
              ))}
              {value.prerequisites.map((name) => (
                <li key={name}>prerequisite {name}</li>
              ))}
            </ul>
          ) : (
            <Empty>Nothing.</Empty>
          )}
          {value.depends.length > 0 && <Inputs context={context} caller={caller} ids={value.depends} />}
          <h2>Environment</h2>
          <TextMap map={value.env_vars} empty="None of its own, or none that you may see." hide={SECRET} />
          <h2>Script</h2>
          <pre class="script" tabIndex={0}>
            {value.script}
          </pre>
        </section>
      </div>
      {!flow && <FindFlow context={context} caller={caller} id={id} />}
    </main>
  );
}

/** Go on to the page of the job in its flow, whose events and lines come by themselves: one of the caller's newest flows,
 * or one that an event tells of. Until then `changed` is called when something may have become of the job. */
function useFlowOf(context: number, caller: number, id: number, isKnown: boolean, changed: () => void): void {
  const isIn = (flow: Flow) => flow.caller_id === caller && flow.jobs.includes(id);
  const isShown = useRef(true);
  useEffect(() => () => void (isShown.current = false), []);
  const follow = (flow: number) => isShown.current && location.replace(href(['c', context, 'job', caller, id], { flow: String(flow) }));
  useEffect(() => {
    if (isKnown || !takes('flow.list', 'caller_id')) return;
    link
      .call<Page<Flow>>('flow.list', { context_id: context, caller_id: caller, sort: 'created', descending: true, limit: NEWEST })
      .then(({ items }) => {
        const found = items.find(isIn);
        if (found) follow(found.id);
      })
      .catch(() => {}); // it is followed without
  }, [context, caller, id, isKnown]);
  const heard = useRef<(events: ContextEvent[], missed: boolean) => void>(() => {});
  heard.current = (events, missed) => {
    const own = events.find((event) => event.job_id === id);
    if (own || missed) changed();
    if (own?.flow_id === undefined) return;
    link
      .call<Flow>('flow.load', { context_id: context, id: own.flow_id })
      .then((flow) => isIn(flow) && follow(flow.id))
      .catch(() => {}); // it may be deleted by now
  };
  useEffect(
    () => (isKnown ? undefined : liveContext(context).listen((events, missed) => heard.current(events, missed))),
    [context, isKnown],
  );
}

/** The log: what there is, and what is written while one looks. */
function JobLog({
  context,
  caller,
  id,
  flow,
  status,
  turn,
  maySee,
}: {
  context: number;
  caller: number;
  id: number;
  flow: LiveFlow | undefined;
  status: string | undefined;
  /** Changes whenever the job is looked at again. */
  turn: number;
  maySee: boolean;
}) {
  const [tail, setTail] = useState<LogLine[]>([]);
  const [error, setError] = useState('');
  const isOver = status === 'Finished' || status === 'Error';
  const isStreamed = flow !== undefined && flow.version.value > 0;
  const generation = link.generation.value;
  useEffect(() => {
    if (!maySee) return undefined;
    let isWanted = true;
    link
      .call<{ reports: LogReport[] }>('job.tail', { context_id: context, caller_id: caller, id })
      .then(({ reports }) => {
        if (!isWanted) return;
        setTail(reports.flatMap(({ at, stream, lines }) => lines.map((text) => ({ at, label: '', stream, text }))));
        setError('');
      })
      .catch((failure) => isWanted && setError(said(failure)));
    return () => {
      isWanted = false;
    };
  }, [context, caller, id, turn, maySee, isOver, isStreamed, generation]);
  if (!maySee) return <Empty>Readers do not see logs here.</Empty>;
  const last = tail[tail.length - 1]?.at ?? 0;
  const fresh = flow ? flow.lines.value.filter((line) => line.label === String(id) && line.at > last) : [];
  const lines = [...tail, ...fresh];
  return (
    <>
      <Fault text={error} />
      {lines.length ? <LogView lines={lines} /> : <Empty>Nothing has been logged.</Empty>}
    </>
  );
}

const INPUTS = 20; // jobs whose results are shown

/** The results of the jobs it waits for, which its script gets; loaded when somebody asks for them. */
function Inputs({ context, caller, ids }: { context: number; caller: number; ids: number[] }) {
  const [isOpen, setOpen] = useState(false);
  const shown = ids.slice(0, INPUTS);
  const inputs = useLoad(
    async () =>
      isOpen ? await Promise.all(shown.map((id) => link.call<Job>('job.load', { context_id: context, caller_id: caller, id }))) : [],
    [context, caller, ids, isOpen],
  );
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Inputs</summary>
      <Fault text={inputs.error} retry={inputs.reload} />
      {inputs.value?.map((job) => (
        <div key={job.id}>
          <h3>{job.name ?? `job ${job.id}`}</h3>
          <TextMap map={job.result} empty="No result yet." />
        </div>
      ))}
      {ids.length > shown.length && <p class="muted">… and those of {count(ids.length - shown.length)} more jobs</p>}
    </details>
  );
}

interface Attempt {
  attempt: number;
  runner_id?: number;
  started_at?: number;
  ended_at?: number;
  outcome?: string;
  status?: string;
  error?: string;
  reason?: string;
  lost?: boolean;
}

function Attempts({ context, caller, id, progress }: { context: number; caller: number; id: number; progress: JobProgress | undefined }) {
  const attempts = useLoad(
    () => link.call<{ attempts?: Attempt[]; items?: Attempt[] }>('job.attempts', { context_id: context, caller_id: caller, id }),
    [context, caller, id],
    [progress?.status, progress?.attempt],
  );
  const rows = attempts.value?.attempts ?? attempts.value?.items ?? [];
  return (
    <>
      <h2>Attempts</h2>
      <Fault text={attempts.error} retry={attempts.reload} />
      {rows.length ? (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th class="number">No.</th>
                <th>Outcome</th>
                <th class="number">Runner</th>
                <th>Started</th>
                <th class="number">Took</th>
                <th>Why</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((one, at) => (
                <tr key={at}>
                  <td class="number">{one.attempt}</td>
                  <td>{one.outcome ?? one.status ?? ''}</td>
                  <td class="number">{one.runner_id ?? '–'}</td>
                  <td>
                    <Time ms={one.started_at} />
                  </td>
                  <td class="number">
                    {one.started_at === undefined ? '–' : duration((one.ended_at ?? now.value) - one.started_at)}
                  </td>
                  <td class="why" title={one.error ?? one.reason}>
                    {one.error ?? one.reason ?? ''}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : (
        <Empty>None yet.</Empty>
      )}
    </>
  );
}

/** A job does not say which flow runs it; whoever knows can open it from there. */
function FindFlow({ context, caller, id }: { context: number; caller: number; id: number }) {
  return (
    <form
      class="facts"
      onSubmit={(event) => {
        event.preventDefault();
        const typed = new FormData(event.currentTarget).get('flow');
        if (typed) go(href(['c', context, 'job', caller, id], { flow: String(typed) }));
      }}
    >
      <label>
        Follow it in flow <input name="flow" inputMode="numeric" pattern="[0-9]+" size={10} />
      </label>
      <button>Follow</button>
    </form>
  );
}
