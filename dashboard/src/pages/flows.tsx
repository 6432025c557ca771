// The flows of a context: filters, views that are kept, and what is done to several at once.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { settled, useContextEvents } from '../context';
import { count, Time } from '../format';
import { href, recall, remember, route, setQuery } from '../route';
import { link, RpcError, said } from '../rpc';
import { DELETE, has, RUN, type Standing, takes } from '../session';
import { Badge, FLOW_ORDER, look } from '../status';
import type { Flow, FlowsDone, FlowStatus, Page } from '../types';
import { Action, Empty, Fault, useStanding } from '../widgets';
import { act, FLOW_ACTS, offered } from './flowactions';

const PAGE = 50;
const AT_ONCE = 8; // calls of a bulk action under way
const FILTERS = ['status', 'name', 'tag', 'caller', 'sort'] as const;

type Filter = Partial<Record<(typeof FILTERS)[number], string>>;

function filterOf(query: URLSearchParams): Filter {
  const filter: Filter = {};
  for (const name of FILTERS) {
    const value = query.get(name);
    if (value) filter[name] = value;
  }
  return filter;
}

/** The params of flow.list, as far as the coordinator has them. */
function paramsOf(context: number, filter: Filter): Record<string, unknown> {
  const params: Record<string, unknown> = { context_id: context };
  if (filter.status) params.status = filter.status;
  if (filter.name && takes('flow.list', 'name_prefix')) params.name_prefix = filter.name;
  if (filter.tag && takes('flow.list', 'tag')) params.tag = filter.tag;
  if (filter.caller && /^\d+$/.test(filter.caller) && takes('flow.list', 'caller_id')) params.caller_id = Number(filter.caller);
  if (takes('flow.list', 'sort')) {
    params.sort = filter.sort ?? 'created';
    params.descending = true;
  }
  return params;
}

/** A page of flows; one that is empty though more follow is passed over. */
export async function listFlows(params: Record<string, unknown>, cursor: string, limit: number): Promise<Page<Flow>> {
  let page: Page<Flow> = { items: [], cursor };
  for (let turn = 0; turn < 20; turn++) {
    page = await link.call<Page<Flow>>('flow.list', { ...params, limit, cursor: page.cursor ?? '' });
    if (page.items.length || !page.cursor) break;
  }
  return page;
}

export function FlowsPage({ context }: { context: number }) {
  const filter = filterOf(route.value.query);
  const key = JSON.stringify([context, filter]);
  const standing = useStanding(context);
  const [flows, setFlows] = useState<Flow[]>([]);
  const [cursor, setCursor] = useState<string | undefined>();
  const [error, setError] = useState('');
  const [isLoading, setLoading] = useState(true);
  const [selected, setSelected] = useState<Set<number>>(new Set());
  const wanted = useRef(key);
  const shown = useRef(flows);
  wanted.current = key;
  shown.current = flows;
  const generation = link.generation.value;

  const load = async (from: string) => {
    setLoading(true);
    try {
      const page = await listFlows(paramsOf(context, filter), from, PAGE);
      if (wanted.current !== key) return;
      setFlows((before) => (from ? [...before, ...page.items] : page.items));
      setCursor(page.cursor);
      setError('');
    } catch (failure) {
      if (wanted.current === key) setError(said(failure));
    }
    setLoading(false);
  };
  /** Take what is first in the list by now before what is shown already. */
  const renew = async () => {
    try {
      const page = await listFlows(paramsOf(context, filter), '', PAGE);
      if (wanted.current !== key) return;
      const fresh = new Set(page.items.map((flow) => flow.id));
      if (shown.current.length <= PAGE) setCursor(page.cursor);
      setFlows((before) => [...page.items, ...(before.length > PAGE ? before.filter((flow) => !fresh.has(flow.id)) : [])]);
      setError('');
    } catch (failure) {
      if (wanted.current === key) setError(said(failure));
    }
  };
  useEffect(() => {
    setFlows([]);
    setSelected(new Set());
    void load('');
  }, [key]);
  useEffect(() => {
    if (generation > 0 && shown.current.length) void load('');
  }, [generation]);

  const renewing = useRef(renew);
  renewing.current = renew;
  const soon = useMemo(() => settled(() => void renewing.current(), 1500), [context]);
  useEffect(() => soon.stop, [soon]);
  useContextEvents(context, (events, missed) => {
    const changed = new Map<number, string>();
    for (const event of events) if (event.kind === 'flow') changed.set(event.flow_id!, event.status);
    if (changed.size) {
      setFlows((before) =>
        before
          .map((flow) => {
            const status = changed.get(flow.id);
            return status ? { ...flow, status: status as FlowStatus } : flow;
          })
          .filter((flow) => (flow.status as string) !== 'Deleted' && (!filter.status || flow.status === filter.status)),
      );
    }
    if (missed || changed.size) soon.ask();
  });

  const chosen = flows.filter((flow) => selected.has(flow.id));
  return (
    <main>
      <div class="title-row">
        <h1>Flows</h1>
        <SavedViews context={context} filter={filter} />
      </div>
      <Filters filter={filter} />
      <Fault text={error} retry={() => void load('')} />
      <Bulk flows={chosen} standing={standing} done={(failed) => {
        setSelected(new Set(failed));
        void load('');
      }} />
      {cursor && chosen.length === flows.length && chosen.length > 0 && (
        <AllThatMatch context={context} filter={paramsOf(context, filter)} standing={standing} done={() => void load('')} />
      )}
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th class="tick">
                <input
                  type="checkbox"
                  aria-label="Select all that are shown"
                  checked={flows.length > 0 && chosen.length === flows.length}
                  onChange={(event) => setSelected(new Set(event.currentTarget.checked ? flows.map((flow) => flow.id) : []))}
                />
              </th>
              <th>Flow</th>
              <th>Status</th>
              <th class="number">Jobs</th>
              <th class="number wide">Caller</th>
              <th class="wide">Created</th>
              <th>Changed</th>
              <th class="wide">Why</th>
            </tr>
          </thead>
          <tbody>
            {flows.map((flow) => (
              <tr key={flow.id} class={selected.has(flow.id) ? 'chosen' : undefined}>
                <td class="tick">
                  <input
                    type="checkbox"
                    aria-label={`Select flow ${flow.id}`}
                    checked={selected.has(flow.id)}
                    onChange={() => {
                      const next = new Set(selected);
                      if (!next.delete(flow.id)) next.add(flow.id);
                      setSelected(next);
                    }}
                  />
                </td>
                <td>
                  <FlowLink flow={flow} />
                </td>
                <td>
                  <Badge status={flow.status} />
                </td>
                <td class="number">{count(flow.jobs.length)}</td>
                <td class="number wide">{flow.caller_id}</td>
                <td class="wide">
                  <Time ms={flow.created_at * 1000} />
                </td>
                <td>
                  <Time ms={flow.updated_at * 1000} />
                </td>
                <td class="wide why" title={flow.status === 'Error' ? flow.result.error : undefined}>
                  {flow.status === 'Error' ? flow.result.error : ''}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {!flows.length && !isLoading && !error && (
        <Empty>{Object.keys(filter).length ? 'No flow is like that.' : 'There is no flow in this context yet.'}</Empty>
      )}
      {cursor && (
        <button class="more" disabled={isLoading} onClick={() => void load(cursor)}>
          More
        </button>
      )}
    </main>
  );
}

export function FlowLink({ flow }: { flow: Flow }) {
  return (
    <span class="flow-link">
      <a href={href(['c', flow.context_id, 'flow', flow.id])}>{flow.name ?? `Flow ${flow.id}`}</a>
      {flow.name && <span class="muted"> {flow.id}</span>}
      {(flow.tags ?? []).map((tag) => (
        <a key={tag} class="tag" href={href(['c', flow.context_id, 'flows'], { tag })}>
          {tag}
        </a>
      ))}
    </span>
  );
}

function Filters({ filter }: { filter: Filter }) {
  const text = (name: 'name' | 'tag' | 'caller', label: string, param: string) =>
    takes('flow.list', param) && (
      <label>
        <span>{label}</span>
        <input type="search" value={filter[name] ?? ''} onChange={(event) => setQuery({ [name]: event.currentTarget.value.trim() })} />
      </label>
    );
  return (
    <div class="filters">
      <div class="chips" role="group" aria-label="Status">
        {['', ...FLOW_ORDER].map((status) => (
          <button key={status} aria-pressed={(filter.status ?? '') === status} onClick={() => setQuery({ status })}>
            {status ? (
              <>
                <span class={look(status).class} aria-hidden="true">
                  {look(status).sign}
                </span>{' '}
                {look(status).word}
              </>
            ) : (
              'All'
            )}
          </button>
        ))}
      </div>
      {text('name', 'Name begins with', 'name_prefix')}
      {text('tag', 'Tag', 'tag')}
      {text('caller', 'Caller', 'caller_id')}
      {takes('flow.list', 'sort') && (
        <label>
          <span>Newest by</span>
          <select value={filter.sort ?? 'created'} onChange={(event) => setQuery({ sort: event.currentTarget.value })}>
            <option value="created">when created</option>
            <option value="ended">when ended</option>
            <option value="id">id</option>
          </select>
        </label>
      )}
    </div>
  );
}

function SavedViews({ context, filter }: { context: number; filter: Filter }) {
  const key = `hero.views.${context}`;
  const read = (): Record<string, Filter> => {
    try {
      return JSON.parse(recall(key) ?? '{}') as Record<string, Filter>;
    } catch {
      return {};
    }
  };
  const [views, setViews] = useState(read);
  const [name, setName] = useState<string | undefined>();
  const keep = (next: Record<string, Filter>) => {
    remember(key, JSON.stringify(next));
    setViews(next);
  };
  const isFiltered = Object.keys(filter).length > 0;
  return (
    <span class="views">
      {Object.entries(views).map(([label, view]) => (
        <span key={label} class="view">
          <a href={href(['c', context, 'flows'], view)}>{label}</a>
          <button
            aria-label={`Forget view ${label}`}
            onClick={() => {
              const { [label]: _, ...rest } = views;
              keep(rest);
            }}
          >
            ×
          </button>
        </span>
      ))}
      {name === undefined
        ? isFiltered && <button onClick={() => setName('')}>Keep this view</button>
        : (
            <form
              onSubmit={(event) => {
                event.preventDefault();
                if (name.trim()) keep({ ...views, [name.trim()]: filter });
                setName(undefined);
              }}
            >
              <input aria-label="Name of the view" maxLength={40} value={name} onInput={(event) => setName(event.currentTarget.value)} ref={(input) => input?.focus()} />
              <button>Keep</button>
            </form>
          )}
    </span>
  );
}

/** What may be done to all that are selected, as far as each allows it. */
function Bulk({ flows, standing, done }: { flows: Flow[]; standing: ReturnType<typeof useStanding>; done(failed: number[]): void }) {
  const [told, setTold] = useState('');
  if (!flows.length) return told ? <div class="strip" role="status">{told}</div> : null;
  const acts = FLOW_ACTS.map((one) => ({ one, fitting: flows.filter((flow) => offered(flow, standing).includes(one)) })).filter(
    ({ fitting }) => fitting.length,
  );
  return (
    <div class="strip" role="group" aria-label="Selected flows">
      <strong>{count(flows.length)} selected</strong>
      {acts.map(({ one, fitting }) => (
        <Action
          key={one.name}
          label={`${one.label} ${count(fitting.length)}`}
          kind={one.kind ?? ''}
          confirm={`${one.label} ${fitting.length === 1 ? 'one flow' : `${fitting.length} flows`}?`}
          act={async () => {
            const failed: [number, string][] = [];
            const waiting = [...fitting];
            const work = async () => {
              for (let flow = waiting.shift(); flow; flow = waiting.shift()) {
                try {
                  await act(flow, one);
                } catch (error) {
                  if (!(error instanceof RpcError)) throw error;
                  failed.push([flow.id, said(error)]);
                }
              }
            };
            await Promise.all(Array.from({ length: AT_ONCE }, work));
            const [first] = failed;
            setTold(
              first
                ? `${one.label}: ${fitting.length - failed.length} done, ${failed.length} refused. Flow ${first[0]}: ${first[1]}`
                : `${one.label}: ${fitting.length} done.`,
            );
            done(failed.map(([id]) => id));
          }}
        />
      ))}
      {!acts.length && <span class="muted">There is nothing you may do with these.</span>}
    </div>
  );
}

const MANY: [string, string, string, string][] = [
  ['Cancel', 'flow.cancel_many', RUN, 'danger'],
  ['Retry', 'flow.retry_many', RUN, ''],
  ['Delete', 'flow.delete_many', DELETE, 'danger'],
];

/** What is done to all flows that the filter means, shown or not: first one is told how many these are. */
function AllThatMatch({
  context,
  filter,
  standing,
  done,
}: {
  context: number;
  filter: Record<string, unknown>;
  standing: Standing | undefined;
  done(): void;
}) {
  const [told, setTold] = useState('');
  const [asked, setAsked] = useState<{ label: string; method: string; kind: string; matched: number } | undefined>();
  const { context_id: _, sort: __, descending: ___, ...meant } = filter;
  const acts = MANY.filter(([, method, right]) => has(method) && standing?.may(right));
  if (!acts.length) return null;
  const through = async (method: string, isDry: boolean) => {
    const sum: FlowsDone = { matched: 0, done: 0, refused: [] };
    let cursor = '';
    do {
      const slice = await link.call<FlowsDone>(method, { context_id: context, filter: meant, dry_run: isDry, cursor });
      sum.matched += slice.matched;
      sum.done += slice.done;
      sum.refused.push(...slice.refused);
      cursor = slice.cursor ?? '';
      if (!isDry && cursor) setTold(`${count(sum.done)} so far…`);
    } while (cursor);
    return sum;
  };
  return (
    <div class="strip" role="group" aria-label="All flows that match">
      <strong>All that match, shown or not</strong>
      {asked ? (
        <>
          <span>
            {asked.label} {count(asked.matched)} flows?
          </span>
          <Action
            label={asked.label}
            kind={asked.kind}
            act={async () => {
              const { done: number, refused } = await through(asked.method, false);
              setTold(`${asked.label}: ${count(number)} done${refused.length ? `, ${count(refused.length)} refused` : ''}.`);
              setAsked(undefined);
              done();
            }}
          />
          <button onClick={() => setAsked(undefined)}>No</button>
        </>
      ) : (
        acts.map(([label, method, , kind]) => (
          <Action
            key={method}
            label={`${label} all`}
            kind={kind}
            act={async () => {
              const { matched } = await through(method, true);
              if (matched) setAsked({ label, method, kind, matched });
              else setTold('There is none to which that applies.');
            }}
          />
        ))
      )}
      {told && <span class="muted">{told}</span>}
    </div>
  );
}
