// The frame around all pages: where one is, who one is, whether the connection is there; and the login.

import { type ComponentChildren, render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { liveContext } from './context';
import { FlowPage } from './pages/flow';
import { FlowsPage } from './pages/flows';
import { JobPage } from './pages/job';
import { ContextsPage, MessagePage, MessagesPage, RunnersPage, SessionsPage } from './pages/others';
import { OverviewPage } from './pages/overview';
import { href, LAST_CONTEXT, recall, remember, route } from './route';
import { link, NOT_FOUND, RpcError } from './rpc';
import { has, logIn, loginNeeded, logOut, principal, startSession } from './session';
import { Empty, Fault, useLoad } from './widgets';
import type { Context, Page, Stats } from './types';

function App() {
  const { path } = route.value;
  const context = path[0] === 'c' ? number(path[1]) : undefined;
  useEffect(() => {
    if (context !== undefined) remember(LAST_CONTEXT, String(context));
  }, [context]);
  useEffect(() => {
    document.title = [...path.slice(2), context === undefined ? '' : `context ${context}`, 'HeroCoordinator'].filter(Boolean).join(' · ');
  }, [path]);
  if (loginNeeded.value !== null) return <Login why={loginNeeded.value} />;
  if (principal.value === null) return <Waiting />;
  return (
    <>
      <Header context={context} page={path[2] ?? (path[0] === 'c' ? 'overview' : path[0])} />
      <ConnectionNote context={context} />
      <Shown path={path} context={context} />
    </>
  );
}

function number(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}

function Shown({ path, context }: { path: string[]; context: number | undefined }) {
  if (!path.length) return <First />;
  if (path[0] === 'contexts') return <ContextsPage />;
  if (path[0] === 'sessions') return <SessionsPage />;
  if (context !== undefined) return <InContext key={context} path={path} context={context} />;
  return <NoPage>There is no such page.</NoPage>;
}

function NoPage({ children }: { children: ComponentChildren }) {
  return (
    <main>
      <Empty>
        {children} <a href={href(['contexts'])}>Contexts</a>
      </Empty>
    </main>
  );
}

/** A page of a context. One that is not there gets none: following it would have it listed. */
function InContext({ path, context }: { path: string[]; context: number }) {
  const there = useLoad(() => isThere(context), ['there', context]);
  const [, , page, ...ids] = path;
  const [one, other] = ids.map(number);
  if (there.value === undefined && there.error === undefined) return <main />;
  if (there.value === false) return <NoPage>There is no context {context}.</NoPage>;
  if (page === undefined) return <OverviewPage key={context} context={context} />;
  if (page === 'flows') return <FlowsPage key={context} context={context} />;
  if (page === 'flow' && one !== undefined) return <FlowPage key={`${context}/${one}`} context={context} id={one} />;
  if (page === 'job' && one !== undefined && other !== undefined) {
    return <JobPage key={`${context}/${one}/${other}/${route.value.query.get('flow')}`} context={context} caller={one} id={other} />;
  }
  if (page === 'runners') return <RunnersPage key={context} context={context} />;
  if (page === 'messages') return <MessagesPage key={context} context={context} />;
  if (page === 'message' && one !== undefined && other !== undefined) {
    return <MessagePage key={`${context}/${one}/${other}`} context={context} caller={one} id={other} />;
  }
  return <NoPage>There is no such page.</NoPage>;
}

/** Where one was last; else the only context there is, or all of them. */
function First() {
  const [isNone, setNone] = useState(false);
  useEffect(() => {
    const chosen = async () => {
      const last = number(recall(LAST_CONTEXT) ?? undefined);
      if (last !== undefined && (await isThere(last).catch(() => false))) return href(['c', last]);
      const { items, cursor } = await link.call<Page<number>>('context.list', { limit: 2 });
      return items.length === 1 && !cursor ? href(['c', items[0]!]) : href(['contexts']);
    };
    chosen().then(
      (place) => location.replace(place),
      () => setNone(true),
    );
  }, []);
  return isNone ? <ContextsPage /> : <Waiting />;
}

function Header({ context, page }: { context: number | undefined; page: string | undefined }) {
  const places: [string, string, (string | number)[]][] =
    context === undefined
      ? []
      : [
          ['overview', 'Overview', ['c', context]],
          ['flows', 'Flows', ['c', context, 'flows']],
          ['runners', 'Runners', ['c', context, 'runners']],
          ['messages', 'Messages', ['c', context, 'messages']],
        ];
  const here = { flow: 'flows', job: 'flows', message: 'messages' }[page ?? ''] ?? page;
  return (
    <header>
      <a class="brand" href={href(['contexts'])}>
        HeroCoordinator
      </a>
      <nav aria-label="Pages">
        <a href={href(['contexts'])} aria-current={here === 'contexts' ? 'page' : undefined}>
          {context === undefined ? 'Contexts' : `Context ${context} ▾`}
        </a>
        {places.map(([id, label, to]) => (
          <a key={id} href={href(to)} aria-current={here === id ? 'page' : undefined}>
            {label}
          </a>
        ))}
      </nav>
      <span class="who">
        <LinkState />
        {principal.value !== 'open' && (
          <>
            <a href={href(['sessions'])} aria-current={here === 'sessions' ? 'page' : undefined}>
              {principal.value}
            </a>
            <button onClick={() => void logOut()}>Log out</button>
          </>
        )}
      </span>
    </header>
  );
}

function LinkState() {
  const state = link.state.value;
  const [sign, word] = { open: ['●', 'live'], connecting: ['○', 'connecting'], lost: ['✕', 'no connection'], paused: ['‖', 'paused'] }[state]!;
  return (
    <span class={`link-state ${state}`} role="status">
      <span aria-hidden="true">{sign}</span> {word}
    </span>
  );
}

function ConnectionNote({ context }: { context: number | undefined }) {
  const refused = context === undefined ? '' : liveContext(context).error.value;
  if (link.state.value === 'open' && refused) {
    return (
      <div class="note" role="alert">
        What happens in this context is not followed, but looked at every few seconds: {refused}
      </div>
    );
  }
  if (link.state.value !== 'lost') return null;
  return (
    <div class="note" role="alert">
      The connection to the coordinator is lost; it is being made again. What is shown may be out of date.
    </div>
  );
}

/** Whether somebody has created this context, or there are flows or jobs in it all the same. */
async function isThere(context: number): Promise<boolean> {
  try {
    await link.call<Context>('context.load', { id: context });
    return true;
  } catch (error) {
    if (!(error instanceof RpcError) || error.code !== NOT_FOUND) throw error;
  }
  if (!has('context.stats') || principal.value !== 'open') return false;
  const { flows, jobs } = await link.call<Stats>('context.stats', { context_id: context });
  return [...Object.values(flows), ...Object.values(jobs)].some((number) => number > 0);
}

function Waiting() {
  return (
    <main>
      {link.state.value === 'lost' ? <Fault text="The coordinator does not answer. It is tried again." /> : <p class="loading">Connecting…</p>}
    </main>
  );
}

function Login({ why }: { why: string }) {
  const [error, setError] = useState('');
  const [isBusy, setBusy] = useState(false);
  return (
    <main class="login">
      <form
        onSubmit={async (event) => {
          event.preventDefault();
          const token = String(new FormData(event.currentTarget).get('token') ?? '').trim();
          setBusy(true);
          try {
            setError((await logIn(token)) ?? '');
          } catch {
            setError('The coordinator does not answer.');
          }
          setBusy(false);
        }}
      >
        <h1>HeroCoordinator</h1>
        {why && <p class="muted">{why}</p>}
        <label>
          Token
          <input name="token" type="password" autoComplete="off" required placeholder="hc_…" ref={(input) => input?.focus()} />
        </label>
        <button class="primary" disabled={isBusy}>
          Log in
        </button>
        <Fault text={error} />
        <p class="muted">
          A token is made by <code>herocoordinator token create dashboard --key FILE --as actor:ID</code>, with <code>--read</code> for one who
          only looks.
        </p>
      </form>
    </main>
  );
}

startSession();
render(<App />, document.getElementById('app')!);
