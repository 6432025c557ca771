"""Decides on a call of somebody who has a right in part: what of it may be done, and what is answered if none may."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from pydantic_core import from_json, to_json

from coordinator.errors import CoordinatorError, Forbidden, NotFound
from coordinator.operations.listing import bad_cursor, list_contexts
from coordinator.rpc.access import restricted
from coordinator.rpc.access.cursors import sealed, unsealed
from coordinator.rpc.access.gate import Gate
from coordinator.rpc.access.principals import Principal
from coordinator.rpc.access.registry import Members
from coordinator.rpc.access.rights import Cell, Right, Role
from coordinator.rpc.methods.method import Method
from coordinator.storage.functions.guarding import Guard
from coordinator.storage.keys import GLOBAL, ContextKey, flow_name, job_name, message_name

__all__ = ["Judge", "denied", "role_of"]


class Client(Protocol):
    """Who calls: see `client.Access`."""

    @property
    def gate(self) -> Gate: ...

    @property
    def principal(self) -> Principal | None: ...

    async def role_in(self, context: int) -> Role:
        """What it is in a context. Raises StorageError."""


def role_of(principal: Principal, context: ContextKey, members: Members | None) -> Role:
    if principal.kind == "operator":
        return Role.OPERATOR
    contexts = principal.scope.contexts
    if context is not None and contexts is not None and context not in contexts:
        return Role.STRANGER
    if principal.kind == "runner":
        return Role.RUNNER if context is None or context == principal.context_id else Role.STRANGER
    if members is None:
        return Role.STRANGER
    role = members.role_of(principal.id)
    return Role.READER if principal.scope.is_reading and role in (Role.ADMIN, Role.EXECUTOR) else role


def denied(right: Right, role: Role, context: ContextKey, detail: str = "") -> CoordinatorError:
    """What a call that is not allowed is answered. A stranger does not learn whether the context is there."""
    if role is Role.STRANGER and context is not None:
        return NotFound("context", id=context)
    whose = "your token is" if role is Role.OPERATOR else f"a {role.value} is"
    return Forbidden(detail or f"{whose} not allowed to {right.value}", right.value)


class Judge(NamedTuple):
    """Decides on a call of somebody who has a right in part."""

    access: Client
    method: Method
    right: Right
    role: Role
    cell: Cell
    context: ContextKey
    members: Members | None

    def variant(self, params: Any) -> Method:
        """The method as it may be called with these params. Raises what it is answered if it may not."""
        judge = _JUDGES.get(self.cell)
        if judge is None:
            raise self._denied("")
        return judge(self, params)

    def _if_executors_submit(self, params: Any) -> Method:
        if not self.access.gate.rules.executors_submit:
            raise self._denied("executors run what admins have created here, and neither create nor delete")
        return self._of_caller(params)

    def _for_own_flows(self, params: Any) -> Method:
        if params.flow_id is None:
            raise self._denied("for the whole context that is for its admins; name a flow of yours by flow_id")
        return self._guarded()

    def _of_members(self, params: Any) -> Method:
        if params.id != self.id and (self.members is None or params.id not in self.members):
            raise self._denied(f"actor {params.id} is no member of context {self.context}")
        return self.method

    def _without_foreign_env(self, params: Any) -> Method:
        return self._telling("env", self.id, restricted.hidden_env(self.id))

    def _without_admins(self, params: Any) -> Method:
        return self._telling("admins", 0, restricted.hidden_admins)

    def _without_address(self, params: Any) -> Method:
        return self._telling("address", 0, restricted.hidden_addresses)

    @property
    def id(self) -> int:
        principal = self.access.principal
        assert principal is not None
        return principal.id

    @property
    def is_actor(self) -> bool:
        principal = self.access.principal
        return principal is not None and principal.kind == "actor"

    def _denied(self, detail: str) -> CoordinatorError:
        return denied(self.right, self.role, self.context, detail)

    def _telling(self, what: str, id: int, hide: restricted.Hide) -> Method:
        method = self.method
        if method.name in _LIVE:
            return method  # events have no env_vars
        return self.access.gate.variant((method.name, what, id), lambda: restricted.telling(method, hide))

    def _of_itself(self, params: Any) -> Method:
        method, id = self.method, self.id
        match self.right:
            case Right.WORK:
                if params.runner_id != id:
                    raise self._denied(f"runner {id} cannot work as runner {params.runner_id}")
                if method.name != "job.take":
                    return method
                # What was taken under a name is told again to who asks under that name.
                return self.access.gate.variant(
                    (method.name, id), lambda: restricted.called_with(method, params=lambda given: _own_take(given, id))
                )
            case Right.RUNNER_READ if method.name == "runner.list":
                return self.access.gate.variant((method.name, "self", id), lambda: restricted.only_runner(method, id))
            case Right.ACTOR_LOAD | Right.KEY_ROTATE if not self.is_actor:  # whose id is of its own kind
                raise self._denied("")
            case _:
                if params.id != id:
                    raise self._denied("")
                return method

    def _of_its_own(self, params: Any) -> Method:
        method, id = self.method, self.id
        match self.right:
            case Right.ATTEMPT:
                return self.access.gate.variant((method.name, id), lambda: restricted.own_attempt(method, id))
            case Right.CONTEXT_LIST:
                return self.access.gate.variant(
                    (method.name, "own"), lambda: restricted.personal(method, _own_contexts)
                )
            case _:
                return self._of_caller(params)

    def _of_caller(self, params: Any) -> Method:
        """For records whose caller_id is the client's."""
        if getattr(params, "overrides", None) is not None and not self.access.gate.rules.executors_submit:
            raise self._denied("executors run what admins have created here, as it is: without overrides")
        for caller in _callers(params):
            if caller != self.id:
                raise self._denied(f"its caller_id is {caller}, and yours is {self.id}: it would be another's")
        if hasattr(params, "filter"):
            if params.filter.caller_id != self.id:
                raise self._denied(f"flows of others are among those: give the filter your caller_id, {self.id}")
            return self._guarding_each()
        return self._guarded()

    def _guarding_each(self) -> Method:
        method, id = self.method, self.id

        def refusal(_: Guard, params: Any) -> CoordinatorError:
            return Forbidden(f"it is another's: its caller_id is not {id}", self.right.value)

        return self.access.gate.variant(
            (method.name, id), lambda: restricted.guarding_each(method, lambda name: [Guard("own", name, id)], refusal)
        )

    def _guarded(self) -> Method:
        method, id, right = self.method, self.id, self.right

        def refusal(guard: Guard, _: Any) -> CoordinatorError:
            if guard.kind == "idle":
                return Forbidden("it is running, and only an admin may change what is", right.value)
            return Forbidden(f"it is another's: its caller_id, or a job's in it, is not {id}", right.value)

        guards = _GUARDS[method.name]
        return self.access.gate.variant(
            (method.name, id), lambda: restricted.guarded(method, lambda params: guards(id, params), refusal)
        )

    def _created_actor(self, params: Any) -> Method:
        guard = Guard("key", f"actor:{params.actor.id}", params.actor.pubkey)

        def refusal(guard: Guard, _: Any) -> CoordinatorError:
            detail = f"{guard.record.replace(':', ' ')} is there with another key, or was revoked: see actor.rotate_key"
            return Forbidden(detail, self.right.value)

        return restricted.guarded(self.method, lambda params: [guard], refusal)

    def _by_setting(self, params: Any) -> Method:
        access, principal = self.access, self.access.principal
        is_open = access.gate.rules.registration
        if self.right is Right.ACTOR_CREATE:
            if not is_open:
                raise self._denied("this coordinator lets its operator create actors, see --registration")
            guard = Guard("absent", f"actor:{params.actor.id}")
        else:
            is_its_own = principal is not None and principal.kind == "actor" and principal.id in params.context.admins
            if not is_open or not is_its_own or principal is None or not principal.scope.is_whole:
                raise self._denied("")
            guard = Guard("absent", f"context:{params.context.id}")

        def refusal(guard: Guard, _: Any) -> CoordinatorError:
            if self.right is Right.ACTOR_CREATE:
                return Forbidden(f"there is {guard.record.replace(':', ' ')} already", self.right.value)
            return self._denied("")

        return restricted.guarded(self.method, lambda params: [guard], refusal)

    def _with_logs_by_setting(self, params: Any) -> Method:
        if self.right is Right.LOG_READ:
            if not self.access.gate.rules.readers_see_logs:
                raise self._denied("readers do not see logs here, see --reader-logs")
            return self.method
        return self._of_reader(params)

    def _of_reader(self, params: Any) -> Method:
        """Without env_vars, and without logs unless the setting says otherwise."""
        method, hides = self.method, [restricted.hidden_env(None)]
        sees_logs = self.access.gate.rules.readers_see_logs
        if method.name in _LIVE:
            if sees_logs:
                return method
            return self.access.gate.variant(
                (method.name, "reader"),
                lambda: restricted.called_with(method, caller=lambda caller: caller._replace(sees_logs=False)),
            )
        if not sees_logs:
            hides.append(restricted.hidden_logs)

        def hide(reply: Any) -> None:
            for one in hides:
                one(reply)

        return self.access.gate.variant((method.name, "reader"), lambda: restricted.telling(method, hide))


_JUDGES: Final[Mapping[Cell, Callable[[Judge, Any], Method]]] = {
    Cell.SELF: Judge._of_itself,
    Cell.OWN: Judge._of_its_own,
    Cell.OWN_SUBMITTED: Judge._if_executors_submit,
    Cell.OWN_IDLE: Judge._if_executors_submit,
    Cell.OWN_FLOWS: Judge._for_own_flows,
    Cell.MEMBERS: Judge._of_members,
    Cell.KEEPING_KEYS: Judge._created_actor,
    Cell.BY_SETTING: Judge._by_setting,
    Cell.LOGS_BY_SETTING: Judge._with_logs_by_setting,
    Cell.WITHOUT_FOREIGN_ENV: Judge._without_foreign_env,
    Cell.WITHOUT_ENV: Judge._of_reader,
    Cell.WITHOUT_ADMINS: Judge._without_admins,
    Cell.WITHOUT_ADDRESS: Judge._without_address,
}
_LIVE: Final = frozenset({"flow.subscribe", "context.subscribe"})


def _own_take(params: Any, runner: int) -> Any:
    return params.model_copy(update={"take_id": f"{runner}/{params.take_id}"}) if params.take_id else params


def _callers(params: Any) -> Iterable[int]:
    """The caller_id of all that params name, at every depth."""
    callers = {getattr(params, "caller_id", None)}
    for name in ("job", "flow", "message"):
        record = getattr(params, name, None)
        if record is not None:
            callers.add(record.caller_id)
            callers.update(job.caller_id for job in getattr(record, "job", ()))
    callers.update(job.caller_id for job in getattr(params, "jobs", ()))
    return [caller for caller in callers if caller is not None]


_OwnGuards = Callable[[int, Any], list[Guard]]


def _own(
    *,
    flow: Callable[[Any], int] | None = None,
    job: Callable[[Any], Any] | None = None,
    message: Callable[[Any], Any] | None = None,
    idle: bool = False,
    embedded: bool = False,
) -> _OwnGuards:
    """The guards of a call about one record."""

    def guards(id: int, params: Any) -> list[Guard]:
        if flow is not None:
            name = flow_name(flow(params))
        elif job is not None:
            name = job_name(job(params).caller_id, job(params).id)
        else:
            assert message is not None
            name = message_name(message(params).caller_id, message(params).id)
        needed = [Guard("own", name, id)]
        if embedded:
            needed.append(Guard("embedded", name, id))
        if idle:
            needed.append(Guard("idle", name))
        return needed

    return guards


_GUARDS: Final[dict[str, _OwnGuards]] = {
    "flow.create": _own(flow=lambda params: params.flow.id, idle=True),
    "flow.submit": _own(flow=lambda params: params.flow.id),  # one that runs is not changed by it
    "job.create": _own(job=lambda params: params.job, idle=True),
    "message.create": _own(message=lambda params: params.message, idle=True),
    "flow.start": _own(flow=lambda params: params.id),
    "flow.retry": _own(flow=lambda params: params.id),
    "flow.cancel": _own(flow=lambda params: params.id),
    "flow.rerun": _own(flow=lambda params: params.id),
    "flow.pause": _own(flow=lambda params: params.id),
    "flow.resume": _own(flow=lambda params: params.id),
    "job.cancel": _own(job=lambda params: params),
    "message.send": _own(message=lambda params: params, embedded=True),
    "flow.delete": _own(flow=lambda params: params.id),  # deletion itself refuses what runs, as the next two
    "job.delete": _own(job=lambda params: params),
    "message.delete": _own(message=lambda params: params, embedded=True),
    "prerequisite.satisfy": _own(flow=lambda params: params.flow_id),
    "prerequisite.revoke": _own(flow=lambda params: params.flow_id),
}


CONTEXTS_LOOKED_AT: Final = 50  # for one page of an actor's contexts, each asked of its own


async def _own_contexts(access: Client | None, params: Any) -> bytes:
    """A page of the contexts in which the client is anybody; it may be empty and have a cursor.

    However long the page may be, so many contexts are looked at: where it ends must not tell of any in between.
    """
    assert access is not None
    principal, gate = access.principal, access.gate
    assert principal is not None
    _, secret = await gate.identity()
    looked_at = params.model_copy(update={"limit": CONTEXTS_LOOKED_AT, "cursor": _plain(secret, principal, params)})
    found = from_json(await gate.registry.ask(GLOBAL, list_contexts(gate.keyspace(GLOBAL), looked_at)))
    items: list[int] = []
    # One after the other: each may need a connection to the store, of which there are so many.
    for id in found["items"]:
        if await access.role_in(id) is not Role.STRANGER:
            items.append(id)
            if len(items) == params.limit:
                break
    is_full = len(items) == params.limit
    if not is_full and "cursor" not in found:
        return to_json({"items": items})
    last = items[-1] if is_full else int(found["cursor"])
    return to_json({"items": items, "cursor": sealed(secret, principal.name, last)})


def _plain(secret: bytes, principal: Principal, params: Any) -> str:
    if not params.cursor:
        return ""
    last = unsealed(secret, principal.name, params.cursor)
    if last is None:
        raise bad_cursor()
    return str(last)
