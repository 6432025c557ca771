"""`herocoordinator key`, `login`, `token`, `whoami`, `context`: who calls, and who may."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from coordinator import ENVIRONMENT_PREFIX
from coordinator.cli.connection import DEFAULT_CONTEXT, Place, credentials, run, run_connected, where
from coordinator.cli.connection import DEFAULT_URL as CHANNEL_URL
from coordinator.cli.context_events import follow_context
from coordinator.cli.exit_codes import EXIT_ERROR, EXIT_USAGE, complain, fail
from coordinator.cli.filters import limited
from coordinator.cli.flow_state import duration
from coordinator.cli.listed import created
from coordinator.cli.options import NEW_FILE, UINT32, validated
from coordinator.cli.output import say, say_json
from coordinator.client import Client, NotFound, RpcError, call_once
from coordinator.client.address import Address
from coordinator.models import MAX_PAGE, SCRIPT_TYPES, Context
from coordinator.rpc.access.operator import rotate
from coordinator.secretfiles import Unusable, write_secret
from coordinator.settings import Settings

__all__ = ["context", "key", "login", "token", "whoami"]

DEFAULT_URL = "http://127.0.0.1:9652"
FEW = 5
"""Actors of a role that a list of contexts names."""


def _ask(url: str, ca: Path | None, method: str, params: Any, show: Callable[[Any], None]) -> None:
    """Call a method and show its result, or say what is wrong, and exit."""

    async def main() -> int:
        try:
            result = await call_once(url, method, params, ca=ca, credentials=credentials())
        except RpcError as error:
            fail(str(error), EXIT_ERROR)
        show(result)
        return 0

    run(main)


def _until(seconds: int | None) -> str:
    return "" if seconds is None else f" until {_when(seconds)}"


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


@click.group()
def key() -> None:
    """Keys to log in with."""


@key.command("new")
@click.argument("file", type=NEW_FILE)
def new(file: Path) -> None:
    """Make an Ed25519 key, write it to FILE (0600), and print its public key.

    Whoever administers the coordinator stores that as the `pubkey` of an actor or a runner:

    \b
    herocoordinator key new ada.key
    herocoordinator call actor.create '{"actor": {"id": 7, "pubkey": "ed25519:…", "address": []}}'
    herocoordinator flow list --key ada.key --as actor:7
    """
    try:
        from coordinator.signing import new_key  # noqa: PLC0415 - the other commands need not wait for it

        public = new_key(file).public
    except FileExistsError:
        fail(f"{file} is there already; a key is never overwritten", EXIT_USAGE)
    except OSError as error:
        fail(f"cannot write {file}: {(error.strerror or str(error)).lower()}", EXIT_USAGE)
    say(public)


@click.command()
@click.argument("file", type=NEW_FILE)
@where(DEFAULT_URL)
def login(url: str, ca: Path | None, file: Path) -> None:
    """Log in with --key and --as, and write the token of an hour to FILE (0600), for --token-file.

    \b
    herocoordinator login --key ada.key --as actor:7 ada.token
    herocoordinator flow list --token-file ada.token
    """
    who = credentials()
    if who is None or who.key is None:
        fail("say who logs in: --key FILE --as actor:ID", EXIT_USAGE)

    async def main() -> int:
        async def ask(method: str, params: Any) -> Any:
            try:
                return {"result": await call_once(url, method, params, ca=ca)}
            except RpcError as error:
                return {"error": {"code": error.code, "message": error.message, "data": error.data}}

        address = Address.parse(url)
        if address.is_websocket:
            fail("a token is got over HTTP: give --url http://… or https://…", EXIT_USAGE)
        result = await who.log_in(ask, address)
        if result is None or result.token is None:
            fail("this coordinator lets everybody call: there is nothing to log in to", EXIT_ERROR)
        _replace(file, f"{result.token}\n")
        say(f"logged in as {result.principal}{_until(result.expires_at)}")
        return 0

    run(main)


def _replace(file: Path, text: str) -> None:
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        write_secret(draft, text.encode())
        os.replace(draft, file)
    except OSError as error:
        fail(f"cannot write {file}: {(error.strerror or str(error)).lower()}", EXIT_USAGE)


@click.command()
@where(DEFAULT_URL)
def whoami(url: str, ca: Path | None) -> None:
    """Say who the coordinator takes us for."""

    def show(result: Any) -> None:
        say(result["principal"] + _until(result.get("expires_at")))

    _ask(url, ca, "auth.whoami", {}, show)


@click.group()
def token() -> None:
    """Tokens, by which programs are who made them."""


@token.command("create")
@click.argument("label")
@click.option("--for", "principal", metavar="PRINCIPAL", help="actor:ID or runner:CONTEXT:ID, if not for ourselves.")
@click.option("--expires-in", type=click.IntRange(1), default=30 * 86400, show_default=True, help="Seconds.")
@click.option("--read", is_flag=True, help="For what a reader may do only.")
@click.option("--context", "contexts", type=UINT32, multiple=True, help="For this context only; or for several.")
@click.option("--out", type=NEW_FILE, help="Write it to this file (0600) instead of printing it.")
@where(DEFAULT_URL)
def create(url: str, ca: Path | None, label: str, principal: str | None, expires_in: int, read: bool,
           contexts: tuple[int, ...], out: Path | None) -> None:  # fmt: skip
    """Make a token. It is shown this once.

    \b
    herocoordinator token create 'nightly build' --key ada.key --as actor:7 --out build.token
    herocoordinator token create 'runner 3' --for runner:1:3 --token-file operator.token --out runner3.token
    """
    params: dict[str, Any] = {"label": label, "expires_in": expires_in, "access": "read" if read else "full"}
    if principal is not None:
        params["principal"] = principal
    if contexts:
        params["contexts"] = [*contexts]

    def show(result: Any) -> None:
        if out is None:
            say(result["token"])
        else:
            _replace(out, f"{result['token']}\n")
        say(f"token {result['id']} of {result['principal']} expires {_when(result['expires_at'])}", err=True)

    _ask(url, ca, "token.create", params, show)


@token.command("list")
@click.option("--for", "principal", metavar="PRINCIPAL", help="Whose, if not our own.")
@where(DEFAULT_URL)
def list_(url: str, ca: Path | None, principal: str | None) -> None:
    """List tokens, without the secrets."""

    def show(result: Any) -> None:
        for item in result["items"]:
            used = f", used {_when(item['used_at'])}" if "used_at" in item else ", never used"
            say(f"{item['id']}  {item['access']}  expires {_when(item['expires_at'])}{used}  {item['label']}")

    _ask(url, ca, "token.list", {} if principal is None else {"principal": principal}, show)


@token.command("revoke")
@click.argument("id")
@where(DEFAULT_URL)
def revoke(url: str, ca: Path | None, id: str) -> None:
    """Revoke the token with this ID; what it has open ends within a second."""

    def show(result: Any) -> None:
        if not result["revoked"]:
            fail("there is no such token, or it is another's", EXIT_ERROR)
        say("revoked")

    _ask(url, ca, "token.revoke", {"id": id}, show)


@token.command("rotate-operator")
@click.option(
    "--operator-token-file", type=click.Path(path_type=Path), envvar=f"{ENVIRONMENT_PREFIX}_OPERATOR_TOKEN_FILE"
)
@click.option("--data-dir", type=click.Path(path_type=Path), envvar=f"{ENVIRONMENT_PREFIX}_DATA_DIR")
def rotate_operator(operator_token_file: Path | None, data_dir: Path | None) -> None:
    """Put a new operator's token in front of its file. The one before is valid until this is done again."""
    given = {"operator_token_file": operator_token_file, "data_dir": data_dir}
    file = validated(Settings, given).operator_file
    try:
        rotate(file)
    except Unusable as error:
        fail(str(error), EXIT_USAGE)
    except OSError as error:
        fail(f"cannot write the operator's token file: {(error.strerror or str(error)).lower()}", EXIT_USAGE)
    say(f"{file} has a new token; the one before is valid until this is done again")


@click.group()
def context() -> None:
    """Contexts: who is what in them, what is in them; pausing, resuming and deleting them."""


@context.command("list")
@limited
@where(CHANNEL_URL)
def list_contexts(url: str, ca: Path | None, limit: int | None) -> None:
    """List the contexts that we may see, with their members, the smallest id first."""
    run_connected(Place(url, DEFAULT_CONTEXT, ca), partial(_list_contexts, limit=limit))


async def _list_contexts(client: Client, limit: int | None) -> int:
    say(f"{'ID':>10}  {'CREATED':25}  {'ADMINS':24}  {'EXECUTORS':24}  READERS")
    shown = 0
    cursor: str | None = ""
    while cursor is not None:
        page = await client.context_list(cursor=cursor, limit=MAX_PAGE if limit is None else min(limit, MAX_PAGE))
        cursor = page.cursor
        for found in await client.call_many([("context.load", {"id": id}) for id in page.items]):
            if isinstance(found, NotFound):  # deleted meanwhile
                continue
            if isinstance(found, Exception):
                raise found
            if shown == limit:
                complain(f"these are the first {shown}; --limit N or --all lists more")
                return 0
            item = Context.model_validate(found)
            admins, executors = members_of(item.admins), members_of(item.executors)
            say(f"{item.id:>10}  {created(item):25}  {admins:24}  {executors:24}  {members_of(item.readers)}")
            shown += 1
    return 0


def members_of(ids: Sequence[int]) -> str:
    """Some of the actors that a context names."""
    return ", ".join(map(str, ids[:FEW])) + (f" and {len(ids) - FEW} more" if len(ids) > FEW else "") or "-"


@context.command("show")
@click.argument("id", type=UINT32)
@where(DEFAULT_URL)
def show_context(url: str, ca: Path | None, id: int) -> None:
    """Show the context with this ID: its members, when it was created and changed, and what of it is paused."""

    def show(result: Any) -> None:
        found = Context.model_validate(result)
        for role in ("admins", "executors", "readers"):
            say(f"{role}: {', '.join(map(str, getattr(found, role))) or 'none'}")
        say(f"created: {_when(found.created_at)}")
        say(f"changed: {_when(found.updated_at)}")
        paused = ["all of it"] if found.paused else []
        say(f"paused: {', '.join([*paused, *(found.paused_script_types or [])]) or 'nothing'}")

    _ask(url, ca, "context.load", {"id": id}, show)


@context.command("members")
@click.argument("id", type=UINT32)
@where(DEFAULT_URL)
def members(url: str, ca: Path | None, id: int) -> None:
    """Say who is what in the context with this ID, as JSON."""

    def show(result: Any) -> None:
        say_json({role: result[role] for role in ("admins", "executors", "readers")})

    _ask(url, ca, "context.load", {"id": id}, show)


@context.command("stats")
@click.argument("id", type=UINT32)
@where(DEFAULT_URL)
def stats(url: str, ca: Path | None, id: int) -> None:
    """Say how much there is in the context with this ID: flows and jobs by status, what waits, and runners."""

    def show(result: Any) -> None:
        for kind in ("flows", "jobs"):
            counts = [f"{count} {status}" for status, count in result[kind].items() if count]
            say(f"{kind}: {', '.join(counts) or 'none'}")
        say(f"runners: {result['runners']['connected']} connected, {result['runners']['busy']} busy")
        say(f"{'TYPE':8}{'JOBS':>10}{'QUEUED':>10}  OLDEST")
        for name, of in result["script_types"].items():
            oldest = duration(of["oldest"]) if of["queued"] else ""
            if of["jobs"]:
                say(f"{name:8}{of['jobs']:>10}{of['queued']:>10}  {oldest}".rstrip())

    _ask(url, ca, "context.stats", {"context_id": id}, show)


_script_type = click.option(
    "--type", "script_type", type=click.Choice(SCRIPT_TYPES), help="Only jobs of this script type."
)


@context.command("pause")
@click.argument("id", type=UINT32)
@_script_type
@where(DEFAULT_URL)
def pause(url: str, ca: Path | None, id: int, script_type: str | None) -> None:
    """Hand out none of the jobs in the context with this ID until `context resume`. What runs goes on."""
    _set_paused(url, ca, "context.pause", id, script_type)


@context.command("resume")
@click.argument("id", type=UINT32)
@_script_type
@where(DEFAULT_URL)
def resume(url: str, ca: Path | None, id: int, script_type: str | None) -> None:
    """Hand out jobs in the context with this ID again: end what `context pause` with the same options has begun."""
    _set_paused(url, ca, "context.resume", id, script_type)


def _set_paused(url: str, ca: Path | None, method: str, id: int, script_type: str | None) -> None:
    def show(result: Any) -> None:
        paused = ["all of it"] if result["paused"] else []
        paused += result["script_types"]
        say(f"context {result['context_id']}: paused: {', '.join(paused) or 'nothing'}")

    _ask(url, ca, method, {"context_id": id} | ({"script_type": script_type} if script_type else {}), show)


@context.command("delete")
@click.argument("id", type=UINT32)
@click.option("--yes", is_flag=True, help="Do not ask.")
@where(DEFAULT_URL)
def delete(url: str, ca: Path | None, id: int, yes: bool) -> None:
    """Delete the context with this ID, with all that is in it: flows, jobs, messages, runners and their tokens.

    Whoever waits or is subscribed there is told. If this is interrupted, the coordinator goes on with it.
    """
    if not yes:
        _confirm(f"Delete context {id} with all that is in it?")
    _ask(url, ca, "context.delete", {"context_id": id}, lambda result: say(f"{result['deleted']} records deleted"))


def _confirm(question: str) -> None:
    """Go on if the answer is yes; otherwise say what was not done, and exit."""
    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort as aborted:
        if not isinstance(aborted.__context__, EOFError):
            raise
        say(err=True)
        fail("nobody has answered, so nothing was deleted; --yes deletes without asking")


@context.command("drain")
@click.argument("id", type=UINT32)
@click.argument("runner", type=UINT32)
@where(DEFAULT_URL)
def drain(url: str, ca: Path | None, id: int, runner: int) -> None:
    """Give RUNNER nothing new in the context with this ID until `context undrain`. It finishes what it holds."""
    _ask(url, ca, "runner.drain", {"context_id": id, "id": runner}, lambda result: say(f"runner {runner} is drained"))


@context.command("undrain")
@click.argument("id", type=UINT32)
@click.argument("runner", type=UINT32)
@where(DEFAULT_URL)
def undrain(url: str, ca: Path | None, id: int, runner: int) -> None:
    """Give RUNNER jobs in the context with this ID again."""
    _ask(url, ca, "runner.undrain", {"context_id": id, "id": runner}, lambda result: say(f"runner {runner} gets jobs"))


def _event(_context: click.Context, _option: click.Parameter, id: str | None) -> str | None:
    if id is not None and not re.fullmatch(r"[0-9]{1,20}-[0-9]{1,20}", id):
        raise click.BadParameter(f"{id!r} is no event's id, as 1795873621672-0")
    return id


@context.command("follow")
@click.argument("id", type=UINT32)
@click.option(
    "--after", metavar="EVENT", callback=_event, help="Begin after this event, as an interrupted command has said."
)
@where(CHANNEL_URL)
def follow(url: str, ca: Path | None, id: int, after: str | None) -> None:
    """Print what happens to all flows of the context with this ID, a line an event, from now on until Ctrl-C.

    \b
    herocoordinator context follow 1

    Exit status: 0 the context was deleted, 1 an error reply, 2 a wrong command line, 3 no connection, 130 interrupted.
    """
    run_connected(Place(url, id, ca), partial(follow_context, place=Place(url, id, ca), after=after))
