"""The pages of settings, commands and limits."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Final

import click

from coordinator import ENVIRONMENT_PREFIX, models
from coordinator.cli import main
from coordinator.models import access, attempts, base, contract
from coordinator.operations import listing, prerequisites, records
from coordinator.rpc.head_limits import MAX_HEAD, MAX_HEADERS
from coordinator.rpc.jsonrpc.counting import MAX_VALUES
from coordinator.settings import RELOADED, Settings
from tools.reference.markdown import GENERATED, code, plain, table, text_block

__all__ = ["pages"]

FROM_THE_MACHINE: Final = {"data_dir": "the user's data directory", "workers": "the cores it may use"}
"""Defaults that are not the same everywhere."""

SETTINGS_INTRO: Final = """\
`herocoordinator serve` has these settings. Each is an option of the command line, an environment variable and a key of
the [configuration file](../operations/configuration.md): `--data-dir` is also `HEROCOORDINATOR_DATA_DIR` and
`data-dir`. The command line counts before the environment, that before the file, and that before the default. Times
are in seconds, sizes in bytes. A setting marked in the column HUP changes while the coordinator serves when the
configuration file is read again on SIGHUP; all others need a restart.
"""

COMMANDS_INTRO: Final = """\
What `herocoordinator --help` and `herocoordinator COMMAND --help` say. An option that has a variable may be given by
that variable instead. Options without a command are those of `serve`.
"""


def pages() -> dict[str, str]:
    """By path below docs/reference/."""
    return {"settings.md": _settings_page(), "commands.md": _commands_page(), "limits.md": _limits_page()}


def default_of(name: str) -> str:
    if name in FROM_THE_MACHINE:
        return FROM_THE_MACHINE[name]
    value = Settings.model_fields[name].get_default(call_default_factory=True, validated_data={})
    return "" if value in (None, ()) else code(value)


def _settings_page() -> str:
    rows = [
        (
            code("--" + name.replace("_", "-")),
            default_of(name),
            "yes" if name in RELOADED else "",
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join([GENERATED, "# Settings\n", SETTINGS_INTRO, table(("flag", "default", "HUP", "meaning"), rows)])


# -- commands


def _commands_page() -> str:
    parts = [GENERATED, "# Commands\n", COMMANDS_INTRO]
    context = click.Context(main, info_name="herocoordinator")
    for path, command in _commands(context, main, ""):
        parts += [f"## {path}\n" if path else "", *_command(path, command)]
    return "\n".join(parts)


def _commands(context: click.Context, group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        below = f"{path} {name}".strip()
        yield below, command
        if isinstance(command, click.Group):
            yield from _commands(click.Context(command, parent=context, info_name=name), command, below)


def _command(path: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=f"herocoordinator {path}")
    usage = " ".join([f"herocoordinator {path}", *command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```\n"
    yield _prose(command.help or "")
    shown = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    own = [option for option in shown if not _is_setting(option)]
    rows = [(_names(option), _variable(option), _help(option)) for option in own]
    if rows:
        yield table(("option", "variable", "meaning"), rows)
    if len(own) < len(shown):
        yield "It also takes every one of the [settings](settings.md).\n"


def _is_setting(option: click.Option) -> bool:
    variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar or ()
    return option.name in Settings.model_fields and f"{ENVIRONMENT_PREFIX}_{option.name.upper()}" in variables


def _names(option: click.Option) -> str:
    names = ", ".join(code(name) for name in (*option.opts, *option.secondary_opts))
    if option.is_flag:
        return names
    kind = option.type
    metavar = (
        "|".join(map(str, kind.choices))
        if isinstance(kind, click.Choice)
        else option.metavar or kind.name.upper().removesuffix(" RANGE")
    )
    return f"{names} {code(metavar)}"


def _variable(option: click.Option) -> str:
    variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar or ()
    return " ".join(code(variable) for variable in variables)


def _help(option: click.Option) -> str:
    """Without defaults that depend on the machine; those that the text does not name are added."""
    text = re.sub(r"\s*\[default: (.*?)\]$", lambda found: f" Default: `{found[1]}`.", option.help or "")
    if "capacity" in (option.name or ""):
        text = re.sub(r" Default: `\d+`\.$", "", text)
    if option.name == "python":
        text = re.sub(r" Default: `.*`\.$", "", text)
    if option.required:
        text += " It must be given."
    return text.strip()


def _prose(text: str) -> str:
    """A command's help: paragraphs, and blocks (marked by \\b) that are kept as they are."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", text.strip().replace("\f", "")):
        if paragraph.lstrip().startswith("\b"):
            lines = paragraph.replace("\b", "").splitlines()
            parts.append(text_block(textwrap.dedent("\n".join(line for line in lines if line.strip()))).rstrip("\n"))
        else:
            parts.append(plain(" ".join(line.strip() for line in paragraph.splitlines())))
    return "\n\n".join(part for part in parts if part) + "\n"


# -- limits

LIMITS_INTRO: Final = """\
How much of each thing there may be, which setting changes it, and what happens beyond it. A limit without a setting is
fixed. An error that names a limit has `limit` and, if there is one, `setting` in its `error.data`. [The rules of the
API](api.md#errors) say what each code means.
"""

Limit = tuple[str, str, str, str]
"""What is limited, to how much, by which setting, and what happens beyond it."""


def _limits_page() -> str:
    parts = [GENERATED, "# Limits\n", LIMITS_INTRO]
    for title, limits in _limits().items():
        parts += [f"## {title}\n", table(("what", "capacity", "setting", "beyond it"), limits)]
    return "\n".join(parts)


def _set(what: str, name: str, beyond: str, unit: str = "") -> Limit:
    """A limit that is a setting."""
    value = Settings.model_fields[name].get_default(call_default_factory=True, validated_data={})
    shown = "half of the memory" if value is None else "no limit" if value == 0 else _amount(value, unit)
    return what, shown, code("--" + name.replace("_", "-")), beyond


def _fixed(what: str, amount: float, beyond: str, unit: str = "") -> Limit:
    return what, _amount(amount, unit), "", beyond


def _amount(value: float, unit: str) -> str:
    if unit == "bytes":
        for size, name in ((2**20, "MiB"), (2**10, "KiB")):
            if value % size == 0:
                return f"{value // size:,.0f} {name}"
    return f"{value:,g} {unit}".strip()


def _limits() -> dict[str, list[Limit]]:
    refused = "-32600; nothing of the message is carried out"
    wrong = "-32602 with its place in the params"
    return {
        "Connections": [
            _set(
                "clients connected, over HTTP and over WebSocket each",
                "max_connections",
                "one that keeps us waiting for 2 s and has not logged in gives way; 503 if there is none",
            ),
            _set("contexts a worker serves at once", "store_connections", "contexts take turns"),
            _set("unanswered calls of a WebSocket", "max_in_flight", "it is not read from"),
            _set("bytes of replies that a client has not accepted", "max_unsent_bytes", "its calls wait", "bytes"),
            _set(
                "subscriptions of a WebSocket, and waiting calls of `job.take` in a worker; one connection or runner "
                "may have an eighth, the clients at one address half, a quarter more for contexts where few wait",
                "max_subscriptions",
                "-32043",
            ),
            _set("an idle HTTP connection", "keep_alive_timeout", "it is closed", "s"),
            _set("a client that accepts nothing of its replies", "client_write_timeout", "it is disconnected", "s"),
            _set("requests that wait in a context's mailbox", "mailbox_length", "senders wait, and are not read from"),
            _set("a request", "request_timeout", "-32010", "s"),
            _fixed("streams of an HTTP/2 connection", 100, "the client has to wait"),
        ],
        "Messages": [
            _set("an HTTP body", "max_body_bytes", "413", "bytes"),
            _set("a WebSocket message", "max_frame_bytes", "Close 1009", "bytes"),
            _fixed("the head of an HTTP request", MAX_HEAD, "431", "bytes"),
            _fixed("headers of an HTTP request", MAX_HEADERS, "431"),
            _set("calls of a batch", "max_batch_length", refused),
            _set(
                "replies to a batch", "max_batch_reply_bytes", "-32030 for the calls whose replies are beyond", "bytes"
            ),
            (
                "values in a message: half as many strings, a quarter as many lists and objects",
                f"{MAX_VALUES:,}, or one for each 8 bytes of the limit of its size if that is more",
                "",
                refused,
            ),
            _fixed("depth of nested JSON", 200, "-32700"),
            _fixed("digits of a number", 4300, "-32700"),
        ],
        "Records": [
            _fixed("ids in a list, such as `jobs` of a flow or `depends` of a job", models.MAX_IDS, wrong),
            _fixed("members of a context in each list, strings in a list, members of a map", models.MAX_ITEMS, wrong),
            _fixed(
                "jobs that `flow.submit` takes in one call; `flow run` and the clients send more in parts",
                models.MAX_ITEMS,
                wrong,
            ),
            _fixed("jobs of a message", contract.MAX_EMBEDDED, wrong),
            _fixed("prerequisites of a job", contract.MAX_PREREQUISITES, wrong),
            _fixed("addresses of an actor", contract.MAX_ADDRESSES, wrong),
            _fixed("payload of a prerequisite", prerequisites.MAX_PAYLOAD, wrong, "bytes"),
            _fixed("payloads of its prerequisites that a job is told", 2**20, "others have `omitted`", "bytes"),
            _fixed("edges of a flow for which `flow.dag` computes the graph", records.DAG_EDGES, "-32030"),
            _set("result of a job or flow", "max_result_bytes", "-32602, and the attempt goes on", "bytes"),
            _fixed("records of a page of a list", base.MAX_PAGE, wrong),
            _fixed("records of a page of a list together", listing.PAGE_BYTES, "the page has fewer", "bytes"),
        ],
        "Attempts and logs": [
            _fixed("jobs that a runner may hold at once (`capacity`)", attempts.MAX_CAPACITY, wrong),
            _fixed("lease of an attempt", 3600, wrong, "s"),
            _fixed("wait of `job.take`", attempts.MAX_WAIT, wrong, "s"),
            _fixed("attempts after a failed one (`retries`)", 255, wrong),
            _set("attempts after a lost one, unless the job says", "lost_retries", "the job is in Error"),
            _fixed("times a job is given back because it never reached its runner", 20, "the job is in Error"),
            _fixed("lines of one `job.log`", attempts.MAX_LOG_LINES, wrong),
            _fixed(
                "log lines that the events of a flow keep", 16 * 2**20, "the oldest go; followers learn it", "bytes"
            ),
            _fixed("reports of log lines that the events of a flow keep", 10_000, "the oldest go; followers learn it"),
            _fixed("changes of status that the events of a flow keep", 1_000_000, "the oldest go; followers learn it"),
            _fixed("newest lines of a job in `job.tail`", 16 * 2**10, "older ones are left out", "bytes"),
            _fixed("log lines of a message", 16 * 2**20, "`job.log` says that it kept none", "bytes"),
            _set("events of a flow after its end", "event_retention", "they are deleted", "s"),
            _set("flows and messages after their end", "retention", "they are deleted with their jobs", "s"),
        ],
        "Callers and contexts": [
            _set("calls a second of one caller", "caller_calls", "-32043 with `retry_after`; over HTTP 429"),
            _set("bytes a second of one caller", "caller_bytes", "-32043 with `retry_after`; over HTTP 429"),
            _set(
                "store's time a second of one caller", "caller_store_time", "-32043 with `retry_after`; over HTTP 429"
            ),
            _set("jobs of a context", "context_jobs", "-32043; what is there goes on"),
            _set("flows of a context", "context_flows", "-32043; what is there goes on"),
            _set("bytes of a context's records", "context_bytes", "-32043; what is there goes on"),
            _set("data of the embedded store", "store_memory", "-32010 for writes that need more"),
            _fixed("tokens of a principal", 200, "the one that expires first makes room"),
            _fixed("life of a token", access.MAX_TOKEN_SECONDS // 86_400, wrong, "days"),
            _fixed("a JWT", access.MAX_TOKEN, "-32002", "characters"),
            _fixed("contexts of a token that is limited to some", 100, wrong),
        ],
    }
