"""What the Python stacks share: the calls as pydantic models, and what a call is in Valkey."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from coordinator.models import Job, JobCreateParams, JobLoadParams

__all__ = ["INVALID", "TEXT", "UPSERT", "CreateCall", "LoadCall", "command", "parsed", "reply"]

TEXT: Final = {"script", "script_type", "status"}  # members kept as they are; the others as JSON
UPSERT: Final = Path(__file__).with_name("upsert.lua").read_text()
_TEXT_FIELDS: Final = tuple(map(str.encode, TEXT))
INVALID: Final = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request"}}'


class LoadCall(BaseModel):
    jsonrpc: Literal["2.0"]
    id: int | str | None
    method: Literal["job.load"]
    params: JobLoadParams


class CreateCall(BaseModel):
    jsonrpc: Literal["2.0"]
    id: int | str | None
    method: Literal["job.create"]
    params: JobCreateParams


Call = Annotated[LoadCall | CreateCall, Field(discriminator="method")]
_MESSAGE: Final[TypeAdapter[LoadCall | CreateCall | list[Call]]] = TypeAdapter(Call | list[Call])


def parsed(message: str | bytes) -> LoadCall | CreateCall | list[LoadCall | CreateCall] | None:
    """The call or the batch of calls in a message; None if it is no such thing."""
    try:
        return _MESSAGE.validate_json(message)
    except ValidationError:
        return None


def command(call: LoadCall | CreateCall, upsert: str) -> tuple[str | bytes | int, ...]:
    """The call's command, whose reply is the job's fields and their values in turn; `upsert` is the script's id."""
    params = call.params
    if isinstance(params, JobLoadParams):
        return "HGETALL", f"{params.context_id}:job:{params.caller_id}:{params.id}"
    job = params.job
    fields: list[str | bytes] = []
    for name, value in job.model_dump(exclude_unset=True).items():
        fields += (name, value if name in TEXT else to_json(value))
    return "EVALSHA", upsert, 1, f"{params.context_id}:job:{job.caller_id}:{job.id}", *fields


# In the order of the model; what is optional need not be there.
_MEMBERS: Final = tuple((name.encode(), b'"%b":' % name.encode()) for name in Job.model_fields)


def reply(call: LoadCall | CreateCall, found: list[bytes]) -> bytes:
    """The JSON-RPC reply, made of the fields' JSON as it is stored."""
    id = to_json(call.id)
    if not found:
        return b'{"jsonrpc":"2.0","id":%b,"error":{"code":-32001,"message":"Not Found"}}' % id
    each = iter(found)
    fields = dict(zip(each, each, strict=True))
    for name in _TEXT_FIELDS:
        fields[name] = to_json(fields[name])
    members = b",".join([member + fields[name] for name, member in _MEMBERS if name in fields])
    return b'{"jsonrpc":"2.0","id":%b,"result":{%b}}' % (id, members)
