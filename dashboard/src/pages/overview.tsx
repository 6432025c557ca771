// A context at a glance: what fails, what runs, what waits and for whom.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { liveContext, type Rates, SECONDS, settled, useContextEvents } from '../context';
import { count, duration, now, Time } from '../format';
import { href } from '../route';
import { link } from '../rpc';
import { has, PAUSE, takes } from '../session';
import { Badge, FLOW_ORDER, JOB_ORDER, StatusBar, Tally } from '../status';
import type { Context, Flow, Stats } from '../types';
import { Action, Empty, Fault, useLoad, useStanding, useTick } from '../widgets';
import { FlowLink, listFlows } from './flows';

const SHOWN = 10; // flows of each list

export function OverviewPage({ context }: { context: number }) {
  const newest = takes('flow.list', 'sort') ? { sort: 'created', descending: true } : {};
  const list = (status: string, more: object = {}) => listFlows({ context_id: context, status, ...newest, ...more }, '', SHOWN).then((page) => page.items);
  const failed = useLoad(() => list('Error', takes('flow.list', 'sort') ? { sort: 'ended' } : {}), ['failed', context]);
  const running = useLoad(() => list('Started'), ['running', context]);
  const waiting = useLoad(() => list('Dispatched'), ['waiting', context]);
  const connected = useLoad(() => link.call<{ script_types: Record<string, number> }>('runner.connected', { context_id: context }), ['connected', context]);
  const stats = useLoad(async () => (has('context.stats') ? await link.call<Stats>('context.stats', { context_id: context }) : undefined), ['stats', context]);
  const record = useLoad(() => link.call<Context>('context.load', { id: context }), ['context', context]);
  const mayPause = (useStanding(context)?.may(PAUSE) ?? false) && has('context.pause');
  useTick(true);

  const again = useRef(() => {});
  again.current = () => {
    for (const one of [failed, running, waiting, connected, stats, record]) one.reload();
  };
  const soon = useMemo(() => settled(() => again.current(), 3000), [context]);
  const counting = useRef(() => {});
  counting.current = stats.reload;
  const countSoon = useMemo(() => settled(() => counting.current(), 1000), [context]);
  useEffect(
    () => () => {
      soon.stop();
      countSoon.stop();
    },
    [soon, countSoon],
  );
  useContextEvents(context, (events, missed) => {
    if (missed || events.some((event) => event.kind === 'flow')) soon.ask();
    else countSoon.ask();
  });

  const told = stats.value;
  const runnersOf = connected.value?.script_types ?? {};
  const isPaused = record.value?.paused === true;
  const pausedTypes = record.value?.paused_script_types ?? [];
  const types = Object.keys(runnersOf)
    .filter((type) => !told || told.script_types[type]?.jobs || runnersOf[type] || pausedTypes.includes(type))
    .sort();
  const error = failed.error ?? running.error ?? waiting.error ?? connected.error ?? stats.error;
  const pause = (isOn: boolean, type?: string) => async () => {
    await link.call(isOn ? 'context.pause' : 'context.resume', { context_id: context, ...(type ? { script_type: type } : {}) });
    record.reload();
  };
  return (
    <main>
      <div class="title-row">
        <h1>
          Context {context} {isPaused && <span class="badge waiting">‖ paused</span>}
        </h1>
        {mayPause && record.value && (
          <span class="actions">
            {isPaused ? (
              <Action label="Resume" kind="primary" act={pause(false)} />
            ) : (
              <Action label="Pause" confirm="Hand out no more jobs of this context?" act={pause(true)} />
            )}
          </span>
        )}
      </div>
      <Fault text={error} retry={() => again.current()} />
      <div class="cards">
        {told && (
          <a class="card" href={href(['c', context, 'flows'])}>
            <h2>Flows</h2>
            <strong class="figure">{count(sum(told.flows))}</strong>
            <StatusBar counts={told.flows} order={FLOW_ORDER} />
            <Tally counts={told.flows} order={FLOW_ORDER} />
          </a>
        )}
        {told && (
          <div class="card">
            <h2>Jobs</h2>
            <strong class="figure">{count(sum(told.jobs))}</strong>
            <StatusBar counts={told.jobs} order={JOB_ORDER} />
            <Tally counts={told.jobs} order={JOB_ORDER} />
          </div>
        )}
        {has('context.subscribe') && <RatesCard context={context} />}
        <div class="card">
          <h2>Queues and runners</h2>
          {told && (
            <p class="muted">
              <a href={href(['c', context, 'runners'])}>{count(told.runners.connected)} connected</a>, {count(told.runners.busy)} busy
            </p>
          )}
          <div class="scroll">
            <table class="small">
              <thead>
                <tr>
                  <th>Script type</th>
                  {told && <th class="number">Queued</th>}
                  {told && <th class="number">Oldest</th>}
                  <th class="number">Runners</th>
                  {mayPause && <td />}
                </tr>
              </thead>
              <tbody>
                {types.map((type) => {
                  const queue = told?.script_types[type];
                  const runners = runnersOf[type] ?? 0;
                  const isStuck = (queue?.queued ?? 0) > 0 && runners === 0;
                  const isTypePaused = pausedTypes.includes(type);
                  return (
                    <tr key={type}>
                      <td>
                        {type} {isTypePaused && <span class="badge waiting">‖ paused</span>}
                      </td>
                      {told && <td class="number">{count(queue?.queued ?? 0)}</td>}
                      {told && <td class="number">{queue?.queued ? duration(queue.oldest * 1000) : '–'}</td>}
                      <td class={`number${isStuck ? ' error-text' : ''}`}>{isStuck ? '✕ none' : count(runners)}</td>
                      {mayPause && (
                        <td class="number">
                          <Action label={isTypePaused ? 'Resume' : 'Pause'} act={pause(!isTypePaused, type)} />
                        </td>
                      )}
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </div>
          {!types.length && <Empty>There are no jobs and no runners yet.</Empty>}
        </div>
      </div>
      <FlowTable title="Failed" flows={failed.value} context={context} status="Error" />
      <FlowTable title="Running" flows={running.value} context={context} status="Started" />
      <FlowTable title="Not started" flows={waiting.value} context={context} status="Dispatched" />
    </main>
  );
}

function sum(counts: Record<string, number>): number {
  return Object.values(counts).reduce((total, one) => total + one, 0);
}

function FlowTable({ title, flows, context, status }: { title: string; flows: Flow[] | undefined; context: number; status: string }) {
  if (!flows) return null;
  if (!flows.length && status === 'Dispatched') return null;
  return (
    <section>
      <h2>
        <a href={href(['c', context, 'flows'], { status })}>{title}</a>
      </h2>
      {flows.length ? (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th>Flow</th>
                <th>Status</th>
                <th class="number">Jobs</th>
                <th class="wide">Created</th>
                <th>Changed</th>
                {status === 'Error' && <th class="wide">Why</th>}
              </tr>
            </thead>
            <tbody>
              {flows.map((flow) => (
                <tr key={flow.id}>
                  <td>
                    <FlowLink flow={flow} />
                  </td>
                  <td>
                    <Badge status={flow.status} />
                  </td>
                  <td class="number">{count(flow.jobs.length)}</td>
                  <td class="wide">
                    <Time ms={flow.created_at * 1000} />
                  </td>
                  <td>
                    <Time ms={flow.updated_at * 1000} />
                  </td>
                  {status === 'Error' && (
                    <td class="wide why" title={flow.result.error}>
                      {flow.result.error ?? ''}
                    </td>
                  )}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : (
        <Empty>{status === 'Error' ? 'No flow has failed.' : 'No flow is running.'}</Empty>
      )}
    </section>
  );
}

function RatesCard({ context }: { context: number }) {
  const [rates, setRates] = useState<Rates>(() => liveContext(context).rates());
  useContextEvents(context, () => {});
  const second = now.value;
  useEffect(() => setRates(liveContext(context).rates()), [second, context]);
  const lately = (series: number[]) => series.slice(-11, -1).reduce((total, one) => total + one, 0) / 10;
  return (
    <div class="card">
      <h2>Rates of the last {SECONDS / 60} minutes</h2>
      <Chart series={[rates.finished, rates.failed]} kinds={['finished', 'error']} label="Jobs finished and failed each second" />
      <dl class="figures">
        <div>
          <dt>finished</dt>
          <dd>{lately(rates.finished).toFixed(1)}/s</dd>
        </div>
        <div>
          <dt>failed</dt>
          <dd class={lately(rates.failed) ? 'error-text' : ''}>{lately(rates.failed).toFixed(1)}/s</dd>
        </div>
        <div title={WAITS}>
          <dt>wait p50</dt>
          <dd>{rates.p50 === undefined ? '–' : duration(rates.p50)}</dd>
        </div>
        <div title={WAITS}>
          <dt>wait p95</dt>
          <dd>{rates.p95 === undefined ? '–' : duration(rates.p95)}</dd>
        </div>
      </dl>
    </div>
  );
}

const WAITS = 'From the queue to a runner, of jobs that were queued since this page was opened';
const CHART = { width: 300, height: 56 };

function Chart({ series, kinds, label }: { series: number[][]; kinds: string[]; label: string }) {
  const most = Math.max(1, ...series.flat());
  const line = (values: number[]) =>
    values.map((value, at) => `${((at / (values.length - 1)) * CHART.width).toFixed(1)},${(CHART.height - 2 - (value / most) * (CHART.height - 6)).toFixed(1)}`).join(' ');
  return (
    <svg class="chart" viewBox={`0 0 ${CHART.width} ${CHART.height}`} preserveAspectRatio="none" role="img" aria-label={`${label}; at most ${most}`}>
      {series.map((values, at) => (
        <polyline key={kinds[at]} class={kinds[at]} points={line(values)} />
      ))}
    </svg>
  );
}

