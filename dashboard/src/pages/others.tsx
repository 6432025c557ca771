// Contexts, runners, messages and sessions: lists of what there is.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { settled, useContextEvents } from '../context';
import { count, duration, Time } from '../format';
import { href, LAST_CONTEXT, recall, remember } from '../route';
import { link, said } from '../rpc';
import { DELETE_CONTEXT, facts, has, principal, RUN, WRITE_RUNNERS } from '../session';
import { Badge, FLOW_ORDER, Tally } from '../status';
import type { Context, Job, Message, Page, Runner, Stats, TokenInfo } from '../types';
import { Action, Empty, Fault, LogView, useLoad, useStanding } from '../widgets';

const SHOWN = 50;

/** A list that goes on where it ended, page by page. */
function usePages<T>(ask: (cursor: string) => Promise<Page<T>>, keys: unknown[]) {
  const [items, setItems] = useState<T[]>([]);
  const [cursor, setCursor] = useState<string | undefined>();
  const [error, setError] = useState('');
  const [isLoading, setLoading] = useState(true);
  const turn = useRef(0);
  const generation = link.generation.value;
  const load = async (from: string) => {
    const mine = from ? turn.current : ++turn.current;
    setLoading(true);
    try {
      let page = await ask(from);
      for (let skipped = 0; !page.items.length && page.cursor && skipped < 50; skipped++) page = await ask(page.cursor);
      if (mine !== turn.current) return;
      setItems((before) => (from ? [...before, ...page.items] : page.items));
      setCursor(page.cursor);
      setError('');
    } catch (failure) {
      if (mine === turn.current) setError(said(failure));
    }
    setLoading(false);
  };
  useEffect(() => void load(''), [...keys, generation]);
  const more = cursor ? (
    <button class="more" disabled={isLoading} onClick={() => void load(cursor)}>
      More
    </button>
  ) : null;
  return { items, error, isLoading, more, reload: () => void load('') };
}

export function ContextsPage() {
  const { items, error, isLoading, more, reload } = usePages<number>((cursor) => link.call('context.list', { cursor, limit: SHOWN }), ['contexts']);
  return (
    <main>
      <div class="title-row">
        <h1>Contexts</h1>
      </div>
      <Fault text={error} retry={reload} />
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th>Context</th>
              <th>Admins</th>
              <th>Executors</th>
              <th>Readers</th>
              <th>Flows</th>
              <th class="wide">Changed</th>
              {has('context.delete') && <td />}
            </tr>
          </thead>
          <tbody>
            {items.map((id) => (
              <ContextRow key={id} id={id} deleted={reload} />
            ))}
          </tbody>
        </table>
      </div>
      {!items.length && !isLoading && !error && <Empty>There is no context that you are a member of.</Empty>}
      {more}
    </main>
  );
}

function ContextRow({ id, deleted }: { id: number; deleted(): void }) {
  const standing = useStanding(id);
  const stats = useLoad(async () => (has('context.stats') ? await link.call<Stats>('context.stats', { context_id: id }) : undefined), ['stats', id]);
  const { value, error } = useLoad(() => link.call<Context>('context.load', { id }), ['context', id]);
  const members = (ids: number[] | undefined) => (ids?.length ? `${ids.slice(0, 12).join(', ')}${ids.length > 12 ? ', …' : ''}` : '–');
  return (
    <tr>
      <td>
        <a href={href(['c', id])}>Context {id}</a>
      </td>
      {error ? (
        <td colSpan={5} class="muted">
          {error}
        </td>
      ) : (
        <>
          <td>{members(value?.admins)}</td>
          <td>{members(value?.executors)}</td>
          <td>{members(value?.readers)}</td>
          <td>{stats.value && <Tally counts={stats.value.flows} order={FLOW_ORDER} />}</td>
          <td class="wide">
            <Time ms={value && value.updated_at * 1000} />
          </td>
        </>
      )}
      {has('context.delete') && (
        <td>
          {value && standing?.may(DELETE_CONTEXT) && (
            <Action
              label="Delete"
              kind="danger"
              confirm={`Delete context ${id} with all its flows, jobs, messages and runners?`}
              act={async () => {
                await link.call('context.delete', { context_id: id });
                if (recall(LAST_CONTEXT) === String(id)) remember(LAST_CONTEXT, '');
                deleted();
              }}
            />
          )}
        </td>
      )}
    </tr>
  );
}

const LOOK_AGAIN = 10_000; // ms; of runners that come and go there are no events

export function RunnersPage({ context }: { context: number }) {
  const standing = useStanding(context);
  const { items, error, isLoading, more, reload } = usePages<Runner>(
    (cursor) => link.call('runner.list', { context_id: context, cursor, limit: SHOWN }),
    ['runners', context],
  );
  const connected = useLoad(() => link.call<{ script_types: Record<string, number> }>('runner.connected', { context_id: context }), ['connected', context]);
  const again = useRef(() => {});
  again.current = () => {
    reload();
    connected.reload();
  };
  const soon = useMemo(() => settled(() => again.current(), LOOK_AGAIN), [context]);
  useEffect(() => soon.stop, [soon]);
  useContextEvents(context, () => soon.ask());
  const isTold = has('context.stats'); // such a coordinator says of each runner whether it is connected
  const mayWrite = standing?.may(WRITE_RUNNERS) ?? false;
  const mayDrain = has('runner.drain') && mayWrite;
  const maySeeTokens = mayWrite && principal.value !== 'open';
  return (
    <main>
      <div class="title-row">
        <h1>Runners</h1>
        <span class="actions">
          <button onClick={() => again.current()}>Look again</button>
        </span>
      </div>
      <Fault text={error || connected.error} retry={() => again.current()} />
      {connected.value && (
        <p class="facts">
          {Object.entries(connected.value.script_types).map(([type, runners]) => (
            <span key={type}>
              {type}: {count(runners)} connected
            </span>
          ))}
        </p>
      )}
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th>Runner</th>
              <th>State</th>
              {isTold && <th>Holds</th>}
              {isTold && <th class="wide">Connected since</th>}
              <th class="wide">Topic</th>
              <th class="wide">Address</th>
              {maySeeTokens && <th>Tokens</th>}
              {mayDrain && <td />}
            </tr>
          </thead>
          <tbody>
            {items.map((runner) => (
              <tr key={runner.id}>
                <td>Runner {runner.id}</td>
                <td>
                  <RunnerState runner={runner} />
                </td>
                {isTold && (
                  <td>
                    {count(runner.attempts ?? 0)}
                    {runner.capacity !== undefined && ` of ${count(runner.capacity)}`}
                    {runner.jobs?.map((job, at) => (
                      <span key={`${job.caller_id}/${job.id}`}>
                        {at ? ', ' : ': '}
                        <a href={href(['c', context, 'job', job.caller_id, job.id])}>job {job.id}</a>
                      </span>
                    ))}
                    {(runner.attempts ?? 0) > (runner.jobs?.length ?? 0) && ', …'}
                  </td>
                )}
                {isTold && (
                  <td class="wide">
                    <Time ms={runner.connected_since} />
                  </td>
                )}
                <td class="wide">{runner.topic}</td>
                <td class="wide">{runner.local ? `${runner.address} (local)` : runner.address}</td>
                {maySeeTokens && (
                  <td>
                    <RunnerTokens context={context} id={runner.id} />
                  </td>
                )}
                {mayDrain && (
                  <td>
                    <Action
                      label={runner.draining ? 'Let it work' : 'Drain'}
                      act={async () => {
                        await link.call(runner.draining ? 'runner.undrain' : 'runner.drain', { context_id: context, id: runner.id });
                        reload();
                      }}
                    />
                  </td>
                )}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {!items.length && !isLoading && !error && <Empty>No runner was created in this context.</Empty>}
      {more}
    </main>
  );
}

function RunnerState({ runner }: { runner: Runner }) {
  const said: string[] = [];
  if (runner.failed_in_a_row) said.push(`failed ${count(runner.failed_in_a_row)} in a row`);
  if (runner.lost_in_a_row) said.push(`lost ${count(runner.lost_in_a_row)} in a row`);
  if (runner.held_back_for) said.push(`gets nothing for ${duration(runner.held_back_for * 1000)}`);
  const isThere = runner.connected;
  if (!said.length && isThere === undefined && !runner.draining) return <span class="muted">{has('context.stats') ? '○ not connected' : 'no trouble'}</span>;
  return (
    <>
      {isThere && <span class="finished">● connected</span>} {runner.draining && <span class="badge waiting">draining</span>}{' '}
      <span class="error-text">{said.join(', ')}</span>
    </>
  );
}

export function MessagesPage({ context }: { context: number }) {
  const { items, error, isLoading, more, reload } = usePages<Message>(
    (cursor) => link.call('message.list', { context_id: context, cursor, limit: SHOWN }),
    ['messages', context],
  );
  const soon = useMemo(() => settled(reload, 3000), [context]);
  useEffect(() => soon.stop, [soon]);
  return (
    <main>
      <div class="title-row">
        <h1>Messages</h1>
        <span class="actions">
          <button onClick={() => soon.ask()}>Look again</button>
        </span>
      </div>
      <Fault text={error} retry={reload} />
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th>Message</th>
              <th>Status</th>
              <th class="wide">Transport</th>
              <th class="number">Jobs</th>
              <th>Text</th>
              <th class="wide">Changed</th>
            </tr>
          </thead>
          <tbody>
            {items.map((message) => (
              <tr key={`${message.caller_id}/${message.id}`}>
                <td>
                  <a href={href(['c', context, 'message', message.caller_id, message.id])}>Message {message.id}</a>
                </td>
                <td>
                  <Badge status={message.status} />
                </td>
                <td class="wide">{message.transport_status ?? '–'}</td>
                <td class="number">{count(message.job.length)}</td>
                <td class="why">{message.message}</td>
                <td class="wide">
                  <Time ms={message.updated_at * 1000} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {!items.length && !isLoading && !error && <Empty>There is no message in this context.</Empty>}
      {more}
    </main>
  );
}

export function MessagePage({ context, caller, id }: { context: number; caller: number; id: number }) {
  const message = useLoad(() => link.call<Message>('message.load', { context_id: context, caller_id: caller, id }), [context, caller, id]);
  const standing = useStanding(context);
  const jobEvents = useMemo(() => settled(() => again.current(), 1000), [context, caller, id]);
  const again = useRef(message.reload);
  again.current = message.reload;
  useEffect(() => jobEvents.stop, [jobEvents]);
  useContextEvents(context, () => jobEvents.ask());
  const { value } = message;
  if (!value) {
    return (
      <main>
        <h1>Message {id}</h1>
        <Fault text={message.error} retry={message.reload} />
        {!message.error && <p class="loading">Loading message {id}…</p>}
      </main>
    );
  }
  return (
    <main>
      <div class="title-row">
        <h1>
          Message {id} <Badge status={value.status} />
        </h1>
        <span class="actions">
          {value.status === 'Dispatched' && !value.transport_status && standing?.mayFor(RUN, caller) && (
            <Action label="Send" kind="primary" act={() => link.call('message.send', { context_id: context, caller_id: caller, id }).then(message.reload)} />
          )}
          <button onClick={message.reload}>Look again</button>
        </span>
      </div>
      <p class="facts">
        <span>caller {caller}</span>
        <span>{value.message_type}</span>
        <span>{value.transport_status ?? 'not sent'}</span>
      </p>
      <pre class="script">{value.message}</pre>
      <h2>Jobs</h2>
      <JobList jobs={value.job} />
      <h2>Log</h2>
      {value.logs.length ? (
        <LogView lines={value.logs.map((text) => ({ at: 0, label: '', stream: 'stdout', text }))} />
      ) : (
        <Empty>Nothing has been logged.</Empty>
      )}
    </main>
  );
}

function JobList({ jobs }: { jobs: Job[] }) {
  if (!jobs.length) return <Empty>It has no job.</Empty>;
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th>Job</th>
            <th>Status</th>
            <th>Script type</th>
            <th>Changed</th>
          </tr>
        </thead>
        <tbody>
          {jobs.map((job) => (
            <tr key={job.id}>
              <td>
                <a href={href(['c', job.context_id, 'job', job.caller_id, job.id])}>{job.name ?? `Job ${job.id}`}</a>
              </td>
              <td>
                <Badge status={job.status} />
              </td>
              <td>{job.script_type}</td>
              <td>
                <Time ms={job.updated_at * 1000} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function TokenTable({ tokens, own, revoked }: { tokens: TokenInfo[]; own?: string | undefined; revoked(): void }) {
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th>Label</th>
            <th>Access</th>
            <th class="wide">Contexts</th>
            <th class="wide">Created</th>
            <th>Used</th>
            <th>Expires</th>
            <td />
          </tr>
        </thead>
        <tbody>
          {tokens.map((token) => (
            <tr key={token.id}>
              <td>
                {token.label} {token.id === own && <span class="badge running">this one</span>}
              </td>
              <td>{token.access}</td>
              <td class="wide">{token.contexts?.join(', ') ?? 'all'}</td>
              <td class="wide">
                <Time ms={token.created_at * 1000} />
              </td>
              <td>
                <Time ms={token.used_at && token.used_at * 1000} />
              </td>
              <td>
                <Time ms={token.expires_at * 1000} />
              </td>
              <td>
                {token.id !== own && (
                  <Action
                    label="Revoke"
                    kind="danger"
                    confirm="Revoke it, and what was made by it?"
                    act={async () => {
                      await link.call('token.revoke', { id: token.id });
                      revoked();
                    }}
                  />
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Looked up when somebody asks for them: that is a call for each runner. */
function RunnerTokens({ context, id }: { context: number; id: number }) {
  const [isOpen, setOpen] = useState(false);
  const tokens = useLoad(
    async () => (isOpen ? (await link.call<{ items: TokenInfo[] }>('token.list', { principal: `runner:${context}:${id}` })).items : undefined),
    ['tokens', context, id, isOpen],
  );
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Tokens of runner {id}</summary>
      <Fault text={tokens.error} retry={tokens.reload} />
      {tokens.value?.length ? <TokenTable tokens={tokens.value} revoked={tokens.reload} /> : tokens.value && <Empty>There is none.</Empty>}
    </details>
  );
}

export function SessionsPage() {
  const tokens = useLoad(() => link.call<{ items: TokenInfo[] }>('token.list', {}), ['tokens']);
  const own = useLoad(() => link.call<{ token_id?: string }>('auth.whoami', {}), ['whoami']);
  return (
    <main>
      <div class="title-row">
        <h1>Tokens and sessions of {principal.value}</h1>
      </div>
      <Fault text={tokens.error} retry={tokens.reload} />
      <TokenTable tokens={tokens.value?.items ?? []} own={own.value?.token_id} revoked={tokens.reload} />
      {tokens.value && !tokens.value.items.length && <Empty>There is none.</Empty>}
      <p class="muted">HeroCoordinator {facts.value.version}</p>
    </main>
  );
}
