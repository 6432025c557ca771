"""Prerequisites: satisfied, revoked and listed."""

from __future__ import annotations

import uuid
from typing import Final

from pydantic_core import to_json

from coordinator.actors.request import Operation, WithEffects
from coordinator.errors import Conflict, InvalidParams, NotFound
from coordinator.models.prerequisites import PrerequisiteListParams, PrerequisiteRevokeParams, PrerequisiteSatisfyParams
from coordinator.operations.listing import bad_cursor, is_number
from coordinator.operations.slices import in_slices
from coordinator.storage.functions import prerequisites
from coordinator.storage.functions.prerequisites import PrerequisitePlace
from coordinator.storage.functions.results import Refused, Word
from coordinator.storage.keys import Keyspace

__all__ = ["list_prerequisites", "revoke_prerequisite", "satisfy_prerequisite"]

MAX_PAYLOAD: Final = 64 * 1024  # bytes of what jobs get with a prerequisite


def satisfy_prerequisite(keys: Keyspace, params: PrerequisiteSatisfyParams) -> Operation:
    payload = None if params.payload is None else to_json(params.payload)
    if payload is not None and len(payload) > MAX_PAYLOAD:
        msg = f"has {len(payload)} bytes as JSON; at most {MAX_PAYLOAD} are allowed: pass on where the rest is instead"
        raise InvalidParams.at("payload", msg=msg, type="payload_too_large")
    by = None if params.by is None else to_json(params.by)
    token = uuid.uuid4().hex
    command = prerequisites.prerequisite_satisfy(keys, params.name, params.flow_id, token, by=by, payload=payload)
    outcome, effects = yield from in_slices(command, prerequisites.read_prerequisite_satisfy)
    match outcome:
        case Refused(Word.NONE):
            raise NotFound("flow", context_id=params.context_id, id=params.flow_id or 0)
        case Refused():
            detail = f"prerequisite {params.name[:100]!r} is satisfied with another payload; revoke it first"
            raise Conflict(detail, name=params.name, member="payload")
    head = b'{"name":%b,%b,"satisfied_at":%d' % (to_json(params.name), _scope_of(params.flow_id), outcome.at)
    return WithEffects(head + b'%b,"released":%d}' % (outcome.more, outcome.released), effects)


def _scope_of(flow_id: int | None) -> bytes:
    return b'"scope":"context"' if flow_id is None else b'"scope":"flow","flow_id":%d' % flow_id


def revoke_prerequisite(keys: Keyspace, params: PrerequisiteRevokeParams) -> Operation:
    (reply,) = yield [prerequisites.prerequisite_revoke(keys, params.name, params.flow_id)]
    was_satisfied = prerequisites.read_prerequisite_revoke(reply)
    if was_satisfied is None:
        raise NotFound("flow", context_id=params.context_id, id=params.flow_id or 0)
    answer = b'{"name":%b,%b,"revoked":%b}'
    answer %= (to_json(params.name), _scope_of(params.flow_id), to_json(was_satisfied))
    return answer


def list_prerequisites(keys: Keyspace, params: PrerequisiteListParams) -> Operation:
    """A page: those that jobs wait for come first."""
    after = None
    if params.cursor:
        kind, _, rest = params.cursor.partition(":")
        flow_id, colon, name = rest.partition(":") if kind == "s" else ("", ":", rest)
        if kind not in ("s", "w") or not colon or not (flow_id == "" or is_number(flow_id)):
            raise bad_cursor()
        after = PrerequisitePlace(kind == "s", name, flow_id)
    (reply,) = yield [prerequisites.prerequisite_list(keys, after, params.limit)]
    page = prerequisites.read_prerequisite_list(reply)
    more = b""
    if page.after is not None:
        name, flow_id = page.after.name, page.after.flow_id
        more = b',"cursor":' + to_json(f"s:{flow_id}:{name}" if page.after.is_satisfied else f"w:{name}")
    return b'{"satisfied":[%b],"waiting":[%b]%b}' % (page.satisfied, page.waiting, more)
