// One flow: graph, timeline, table, logs, result.

import { useEffect, useMemo, useState } from 'preact/hooks';
import { LiveFlow } from '../flow';
import { count, duration, now, Time } from '../format';
import { byConcern } from '../graph';
import { GraphView } from '../graphview';
import { go, href, route, setQuery } from '../route';
import { isAfter, link, said } from '../rpc';
import { READ_LOGS, SATISFY, type Standing } from '../session';
import { Badge, JOB_ORDER, look, StatusBar, Tally } from '../status';
import type { FlowEvent, Job, JobProgress } from '../types';
import { Action, type Column, Empty, Fault, type LogLine, LogView, LongTable, Tabs, TextMap, useStanding, useTick } from '../widgets';
import { FlowActions } from './flowactions';

const TABS: [string, string][] = [
  ['graph', 'Graph'],
  ['timeline', 'Timeline'],
  ['table', 'Table'],
  ['logs', 'Logs'],
  ['result', 'Result'],
];

export function FlowPage({ context, id }: { context: number; id: number }) {
  const flow = useMemo(() => new LiveFlow(context, id), [context, id]);
  useEffect(() => flow.start(), [flow]);
  const standing = useStanding(context);
  const version = flow.version.value;
  const { report, jobs } = flow;
  const tab = route.value.query.get('tab') ?? 'graph';
  const wanted = route.value.query.get('q') ?? '';
  const status = route.value.query.get('status') ?? '';
  const [chosen, choose] = useState<number | undefined>();
  useTick(report?.flow.status === 'Started');

  const found = useMemo(() => {
    if (!wanted && !status) return undefined;
    const matching = new Set<number>();
    for (const job of jobs.values()) {
      if (status && job.status !== status) continue;
      if (!wanted || matches(job, wanted)) matching.add(job.id);
    }
    return matching;
  }, [wanted, status, version]);

  if (!report) {
    return (
      <main>
        <h1>Flow {id}</h1>
        <Fault text={flow.error.value} retry={() => void flow.load()} />
        {!flow.error.value && <p class="loading">Loading flow {id}…</p>}
      </main>
    );
  }
  const started = report.started_at;
  const took = started === undefined ? undefined : (report.ended_at ?? now.value) - started;
  const open = (job: number) => go(href(['c', context, 'job', report.flow.caller_id, job], { flow: String(id) }));
  const job = chosen === undefined ? undefined : jobs.get(chosen);
  return (
    <main>
      <div class="title-row">
        <h1>
          {report.flow.name ? <span>{report.flow.name}</span> : <span>Flow {id}</span>} <Badge status={report.flow.status} />{' '}
          {report.flow.paused && <span class="badge waiting">‖ paused</span>}
        </h1>
        <FlowActions flow={report.flow} standing={standing} done={() => void flow.load()} deleted={() => go(href(['c', context, 'flows']))} />
      </div>
      {flow.isDeleted.value && <Fault text="This flow has been deleted." />}
      <Fault text={flow.error.value} retry={() => void flow.load()} />
      <p class="facts">
        {report.flow.name && <span>flow {id}</span>}
        <span>caller {report.flow.caller_id}</span>
        <span>
          {count(jobs.size)} {jobs.size === 1 ? 'job' : 'jobs'}
        </span>
        <span>
          started <Time ms={started} />
        </span>
        {took !== undefined && <span>{report.ended_at ? 'took' : 'for'} {duration(took)}</span>}
        <Tally counts={flow.counts} />
      </p>
      <StatusBar counts={flow.counts} />
      {report.flow.status === 'Error' && <FailureNote report={report} jobs={jobs} open={open} />}
      {report.missing && <Fault text={`Jobs that the flow lists are not stored: ${report.missing.slice(0, 20).join(', ')}`} />}
      <Approvals context={context} flow={id} caller={report.flow.caller_id} jobs={jobs} version={version} standing={standing} />
      <div class="bar">
        <Tabs tabs={TABS} chosen={tab} choose={(next) => setQuery({ tab: next === 'graph' ? undefined : next })} />
        {tab !== 'result' && (
          <span class="search">
            {tab !== 'logs' && (
              <select aria-label="Status" value={status} onChange={(event) => setQuery({ status: event.currentTarget.value })}>
                <option value="">All</option>
                {JOB_ORDER.map((one) => (
                  <option key={one} value={one}>
                    {look(one).word}
                  </option>
                ))}
              </select>
            )}
            <input
              type="search"
              placeholder={tab === 'logs' ? 'Job or text' : 'Id, name or failure'}
              aria-label="Search jobs"
              value={wanted}
              onInput={(event) => setQuery({ q: event.currentTarget.value })}
              onKeyDown={(event) => {
                if (event.key !== 'Enter' || !found?.size) return;
                const ids = [...found];
                choose(ids[(ids.indexOf(chosen ?? -1) + 1) % ids.length]);
              }}
            />
            {found && tab !== 'logs' && <span class="muted">{count(found.size)} found</span>}
          </span>
        )}
      </div>
      <div role="tabpanel" aria-label={tab}>
        {tab === 'graph' && (
          <GraphView jobs={jobs} version={version} nameOf={nameOf} found={found} chosen={chosen} choose={choose} open={open} />
        )}
        {tab === 'graph' && job && <JobStrip job={job} open={open} />}
        {tab === 'timeline' && <Timeline flow={flow} found={found} href={(one) => jobHref(context, report.flow.caller_id, one, id)} />}
        {tab === 'table' && <JobTable flow={flow} found={found} chosen={chosen} href={(one) => jobHref(context, report.flow.caller_id, one, id)} />}
        {tab === 'logs' && <FlowLogs flow={flow} wanted={wanted} standing={standing} />}
        {tab === 'result' && <TextMap map={report.flow.result} empty="The flow has no result yet." />}
      </div>
    </main>
  );
}

function jobHref(context: number, caller: number, job: number, flow: number): string {
  return href(['c', context, 'job', caller, job], { flow: String(flow) });
}

function nameOf(job: JobProgress): string {
  return job.name ?? `job ${job.id}`;
}

function matches(job: JobProgress, wanted: string): boolean {
  const text = wanted.toLowerCase();
  return (
    String(job.id).includes(text) ||
    (job.name ?? '').toLowerCase().includes(text) ||
    (job.failure ?? '').toLowerCase().includes(text)
  );
}

function FailureNote({ report, jobs, open }: { report: { flow: { result: Record<string, string> } }; jobs: Map<number, JobProgress>; open(job: number): void }) {
  const why = report.flow.result.error ?? 'It failed.';
  const id = Number(report.flow.result.job);
  const job = jobs.get(id);
  return (
    <div class="fault" role="status">
      <span>
        {why}
        {job?.failure && job.failure !== why && !why.includes(job.failure) ? ` (${job.failure})` : ''}
      </span>
      {job && <button onClick={() => open(id)}>Open {nameOf(job)}</button>}
    </div>
  );
}

function JobStrip({ job, open }: { job: JobProgress; open(job: number): void }) {
  return (
    <div class="strip" role="status">
      <Badge status={job.status} />
      <strong>{nameOf(job)}</strong>
      <span class="muted">id {job.id}</span>
      <span class="muted">{job.script_type}</span>
      {job.attempt > 0 && <span>attempt {job.attempt}</span>}
      {job.runner_id !== undefined && <span>runner {job.runner_id}</span>}
      {job.started_at !== undefined && <span>{duration((job.ended_at ?? now.value) - job.started_at)}</span>}
      {job.failure && <span class="error-text">{job.failure}</span>}
      <button onClick={() => open(job.id)}>Open</button>
    </div>
  );
}

function JobTable({ flow, found, chosen, href: to }: { flow: LiveFlow; found: Set<number> | undefined; chosen: number | undefined; href(job: number): string }) {
  const version = flow.version.value;
  const rows = useMemo(
    () => [...flow.jobs.values()].filter((job) => !found || found.has(job.id)).sort(byConcern),
    [version, found],
  );
  const columns: Column<JobProgress>[] = [
    { label: 'Job', width: 'minmax(8rem, 2fr)', cell: (job) => <a href={to(job.id)}>{nameOf(job)}</a> },
    { label: 'Status', width: '8.5rem', cell: (job) => <Badge status={job.status} /> },
    { label: 'Attempt', width: '5rem', class: 'number wide', cell: (job) => (job.attempt ? `${job.attempt}${job.lost ? ` (${job.lost} lost)` : ''}` : '–') },
    { label: 'Runner', width: '5rem', class: 'number wide', cell: (job) => job.runner_id ?? '–' },
    { label: 'Started', width: '10rem', class: 'wide', cell: (job) => <Time ms={job.started_at} /> },
    {
      label: 'Took',
      width: '6.5rem',
      class: 'number',
      cell: (job) => (job.started_at === undefined ? '–' : duration((job.ended_at ?? now.value) - job.started_at)),
    },
    { label: 'Failure', width: 'minmax(0, 3fr)', class: 'wide', cell: (job) => <span title={job.failure}>{job.failure ?? ''}</span> },
  ];
  return <LongTable rows={rows} columns={columns} name="Jobs of the flow" id={(job) => job.id} chosen={chosen} />;
}

function Timeline({ flow, found, href: to }: { flow: LiveFlow; found: Set<number> | undefined; href(job: number): string }) {
  const version = flow.version.value;
  const rows = useMemo(() => {
    const begun = [...flow.jobs.values()].filter((job) => queuedAt(job) !== undefined && (!found || found.has(job.id)));
    return begun.sort((one, other) => (one.started_at ?? Infinity) - (other.started_at ?? Infinity) || one.id - other.id);
  }, [version, found]);
  const start = Math.min(flow.report?.started_at ?? Infinity, ...rows.slice(0, 1).map((job) => queuedAt(job) ?? Infinity));
  const isRunning = flow.report?.flow.status === 'Started';
  const end = isRunning ? now.value : rows.reduce((latest, job) => Math.max(latest, job.ended_at ?? job.started_at ?? 0), start + 1);
  const whole = Math.max(1, end - start);
  const share = (ms: number) => `${Math.min(100, Math.max(0, ((ms - start) / whole) * 100))}%`;
  if (!rows.length) return <Empty>No job has been queued yet.</Empty>;
  const columns: Column<JobProgress>[] = [
    {
      label: 'Job',
      width: 'minmax(6rem, 11rem)',
      cell: (job) => (
        <a href={to(job.id)}>
          <span class={look(job.status).class} aria-label={look(job.status).word}>
            {look(job.status).sign}
          </span>{' '}
          {nameOf(job)}
        </a>
      ),
    },
    {
      label: `0 to ${duration(whole)} after the start`,
      width: 'minmax(0, 1fr)',
      cell: (job) => {
        const queued = queuedAt(job)!;
        const began = job.started_at ?? end;
        const ended = job.ended_at ?? (job.status === 'Started' ? end : began);
        return (
          <span class="lane" title={`waited ${duration(began - queued)}${job.started_at ? `, ran ${duration(ended - began)}` : ''}`}>
            <span class="lane-wait" style={{ left: share(queued), width: `calc(${share(began)} - ${share(queued)})` }} />
            {job.started_at !== undefined && (
              <span class={`lane-run ${look(job.status).class}`} style={{ left: share(began), width: `max(3px, calc(${share(ended)} - ${share(began)}))` }} />
            )}
          </span>
        );
      },
    },
    {
      label: 'Took',
      width: '6rem',
      class: 'number',
      cell: (job) => (job.started_at === undefined ? '–' : duration((job.ended_at ?? now.value) - job.started_at)),
    },
  ];
  return <LongTable rows={rows} columns={columns} name="Timeline of the flow" id={(job) => job.id} />;
}

/** When a job came to the queue, or to a runner if that is all that is known. */
function queuedAt(job: JobProgress): number | undefined {
  if (job.queued_at !== undefined && job.started_at !== undefined) return Math.min(job.queued_at, job.started_at);
  return job.queued_at ?? job.started_at;
}

const MOST_PAGES = 30;

function FlowLogs({ flow, wanted, standing }: { flow: LiveFlow; wanted: string; standing: Standing | undefined }) {
  const [earlier, setEarlier] = useState<LogLine[]>([]);
  const [note, setNote] = useState('Loading…');
  const maySee = standing?.may(READ_LOGS) ?? true;
  useEffect(() => {
    let isWanted = true;
    const load = async () => {
      let after = '0-0';
      const lines: LogLine[] = [];
      const until = flow.since; // what came later is in the flow's own lines
      for (let page = 0; page < MOST_PAGES && isWanted; page++) {
        const told = await link.call<{ events: FlowEvent[]; last_event: string }>('flow.events', {
          context_id: flow.context,
          id: flow.id,
          after,
          limit: 1000,
        });
        for (const event of told.events) {
          if (event.kind !== 'log' || isAfter(event.event_id, until)) continue;
          for (const text of event.lines ?? []) {
            lines.push({ at: event.at, label: String(event.job_id), stream: event.stream ?? 'stdout', text });
          }
        }
        if (told.events.length === 0 || told.last_event === after || !isAfter(until, told.last_event)) {
          if (isWanted) {
            setEarlier(lines);
            setNote('');
          }
          return;
        }
        after = told.last_event;
      }
      if (isWanted) {
        setEarlier(lines);
        setNote('The flow has more events than are shown here; the jobs have their own logs.');
      }
    };
    if (maySee) load().catch((error) => isWanted && setNote(said(error)));
    return () => {
      isWanted = false;
    };
  }, [flow, maySee]);
  if (!maySee) return <Empty>Readers do not see logs here.</Empty>;
  const all = [...earlier, ...flow.lines.value];
  const text = wanted.toLowerCase();
  const labelOf = ({ label }: LogLine) => {
    const job = flow.jobs.get(Number(label));
    return job ? nameOf(job) : label;
  };
  const shown = text
    ? all.filter((line) => line.label === wanted || labelOf(line).toLowerCase() === text || line.text.toLowerCase().includes(text))
    : all;
  return (
    <>
      {note && <p class="muted">{note}</p>}
      {!note && !shown.length && <Empty>No job of this flow has logged anything{text ? ' that matches' : ''}.</Empty>}
      {shown.length > 0 && <LogView lines={shown} labelOf={labelOf} />}
    </>
  );
}

const LOOKED_AT = 20; // jobs that wait, to see what for

/** What jobs of the flow wait for from outside, and a button that says it is there. */
function Approvals({
  context,
  flow,
  caller,
  jobs,
  version,
  standing,
}: {
  context: number;
  flow: number;
  caller: number;
  jobs: Map<number, JobProgress>;
  version: number;
  standing: Standing | undefined;
}) {
  const blocked = useMemo(() => {
    const ids: number[] = [];
    for (const job of jobs.values()) {
      if (ids.length >= LOOKED_AT) break;
      if (job.status !== 'WaitingForPrerequisites') continue;
      if (job.depends.every((id) => jobs.get(id)?.status === 'Finished')) ids.push(job.id);
    }
    return ids;
  }, [version]);
  const [names, setNames] = useState<Map<string, number[]>>(new Map());
  const key = blocked.join();
  useEffect(() => {
    let isWanted = true;
    const find = async () => {
      const found = new Map<string, number[]>();
      if (blocked.length) {
        const waiting = await awaited(context);
        const loads = blocked.map((id) => link.call<Job>('job.load', { context_id: context, caller_id: caller, id }));
        for (const job of await Promise.all(loads)) {
          for (const name of job.prerequisites) if (waiting.has(name)) found.set(name, [...(found.get(name) ?? []), job.id]);
        }
      }
      if (isWanted) setNames(found);
    };
    find().catch(() => {});
    return () => {
      isWanted = false;
    };
  }, [key]);
  if (!names.size) return null;
  const mayApprove = standing?.mayFor(SATISFY, caller) ?? false;
  return (
    <section class="approvals" aria-label="Prerequisites">
      {[...names].map(([name, ids]) => (
        <div key={name} class="strip">
          <Badge status="WaitingForPrerequisites" word="Waits for" />
          <strong>{name}</strong>
          <span class="muted">
            {ids.length === 1 ? `job ${ids[0]}` : `jobs ${ids.slice(0, 5).join(', ')}${ids.length > 5 ? ', …' : ''}`}
          </span>
          {mayApprove && (
            <Action
              label="Approve"
              confirm={`Approve “${name}” for this flow?`}
              act={() => link.call('prerequisite.satisfy', { context_id: context, name, flow_id: flow, by: 'dashboard' })}
            />
          )}
        </div>
      ))}
    </section>
  );
}

/** The names of what jobs of a context wait for. */
async function awaited(context: number): Promise<Set<string>> {
  const names = new Set<string>();
  let cursor = '';
  for (let page = 0; page < 10; page++) {
    const told = await link.call<{ waiting: { name: string }[]; satisfied: unknown[]; cursor?: string }>('prerequisite.list', {
      context_id: context,
      limit: 1000,
      cursor,
    });
    for (const { name } of told.waiting) names.add(name);
    if (!told.cursor || told.satisfied.length) break;
    cursor = told.cursor;
  }
  return names;
}

