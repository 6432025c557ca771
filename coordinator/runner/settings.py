"""Every setting of the runner, once: its flag, its environment variable, its default and its meaning."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sys
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FilePath,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from coordinator.client.address import Address
from coordinator.client.credentials import Credentials
from coordinator.client.stream import tls_context, tls_for
from coordinator.models import MAX_CAPACITY, SCRIPT_TYPES, IpAddr, Lease, ScriptType, UInt32
from coordinator.runner.execute import PYTHON, Interpreter
from coordinator.runner.isolate import Isolation, find_bubblewrap

__all__ = ["ENVIRONMENT_PREFIX", "RunnerSettings"]

ENVIRONMENT_PREFIX: Final = "HEROCOORDINATOR_RUNNER"
_SMALLEST_DISK: Final = 1024 * 1024
_ONLY_ISOLATED: Final = ("isolate_network", "isolate_path", "process_limit", "disk_limit", "file_limit")
_SECRET_FILES: Final = ("key", "key_file", "token_file", "client_cert")
"""Settings, as far as there are such, that name files no script may read."""


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class RunnerSettings(BaseModel):
    """What `herocoordinator runner` runs with. Times are in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    url: str = Field(
        "ws://127.0.0.1:9653",
        description="The coordinator's HTTP API or WebSocket: http://, https://, ws:// or wss://HOST:PORT.",
    )
    ca: FilePath | None = Field(
        None, description="File of certificates (PEM) to trust for https:// and wss://, instead of the system's."
    )
    key: FilePath | None = Field(
        None,
        description="Private key of the runner, where callers log in; see `herocoordinator key new`. It is the one "
        "whose public key an admin has stored with runner.create.",
    )
    token_file: FilePath | None = Field(
        None, description="File of the runner's token, instead of a key; for one context."
    )
    client_cert: FilePath | None = Field(
        None,
        description="Certificate (PEM, with its private key in the same file) that names the runner, instead of a key; "
        "for one context.",
    )
    context: tuple[UInt32, ...] = Field(
        min_length=1, description="Context whose jobs to run; give it once for each of several."
    )
    id: UInt32 = Field(1, description="The runner's id. Runners that share one are told apart by their process only.")
    topic: str | None = Field(None, description="Names it in events and logs; runner<id> unless given.")
    pubkey: str = Field("", description="Public key stored with the runner.")
    address: IpAddr | None = Field(
        None, description="IP address stored with the runner; that which reaches the coordinator unless given."
    )
    capacity: Annotated[int, Field(ge=1, le=MAX_CAPACITY)] = Field(
        default_factory=_processors,
        description="Jobs it runs at once, of each context; as many as there are processors unless given.",
    )
    type: tuple[str, ...] = Field(
        (),
        description="Run scripts of the type NAME (Osis, Sal, V, Python) with this command, which gets "
        "the script on its standard input. Give it once for each type. Python needs none; `Python=` takes no Python.",
    )
    isolate: bool = Field(
        False,
        description="Run each script in a sandbox of its own, made by bubblewrap (bwrap): without network, without "
        "files but the system's and its own, within the limits below.",
    )
    isolate_network: bool = Field(
        False, description="With --isolate: let scripts use the machine's network, its loopback included."
    )
    isolate_path: tuple[str, ...] = Field(
        (), description="With --isolate: a file or directory that scripts may read too. Give it once for each."
    )
    process_limit: PositiveInt = Field(
        512, description="With --isolate: processes and threads of a script and all it starts together."
    )
    disk_limit: Annotated[int, Field(ge=_SMALLEST_DISK)] = Field(
        1024**3,
        description="With --isolate: what a script and all it starts may have written at once. It is kept in memory, "
        "beside --memory-limit.",
    )
    file_limit: PositiveInt = Field(1024**3, description="With --isolate: the size of a file that a script writes.")
    shared: bool = Field(
        False,
        description="Serve several contexts without --isolate: scripts of one can read and change what another's do.",
    )
    lease: Lease = Field(
        30.0, description="A job is given to another runner when the coordinator has not heard from us for so long."
    )
    memory_limit: NonNegativeInt = Field(
        4 * 1024**3, description="Memory of a script and all it starts together; 0 for no limit."
    )
    output_limit: PositiveInt = Field(
        1024 * 1024, description="Output of a script that is logged; the rest is dropped with a notice."
    )
    kill_grace: PositiveFloat = Field(2.0, description="A script that is stopped gets SIGTERM, and after this SIGKILL.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least serious level logged; jobs are logged at debug."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="`auto` is `console` on a terminal and `json` elsewhere."
    )

    @field_validator("url")
    @classmethod
    def _leads_somewhere(cls, url: str) -> str:
        Address.parse(url)
        return url

    @field_validator("ca")
    @classmethod
    def _has_certificates(cls, ca: FilePath | None) -> FilePath | None:
        if ca is not None:
            tls_context(ca)
        return ca

    @model_validator(mode="after")
    def _can_log_in(self) -> RunnerSettings:
        given = [name for name in ("key", "token_file", "client_cert") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError("give one of --key, --token-file and --client-cert")
        if given and given != ["key"] and len(self.context) > 1:
            raise ValueError("a token or a certificate is of a runner of one context: give --key for several contexts")
        for context in self.context:
            if (credentials := self.credentials(context)) is not None:
                credentials.check()
                tls_for(Address.parse(self.url), self.ca, None, credentials)
        return self

    def credentials(self, context: int) -> Credentials | None:
        """What to log in with as the runner of a context, if callers log in."""
        if self.key is not None:
            return Credentials(f"runner:{context}:{self.id}", self.key)
        if self.token_file is None and self.client_cert is None:
            return None
        return Credentials(token_file=self.token_file, certificate=self.client_cert)

    @field_validator("context")
    @classmethod
    def _once_each(cls, contexts: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(contexts))

    @field_validator("type")
    @classmethod
    def _can_be_run(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        if not _interpreters(types):
            raise ValueError("no script type is left to run")
        return types

    @field_validator("isolate_path")
    @classmethod
    def _can_be_shown(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(Isolation.checked_path(Path(path))) for path in paths)

    @model_validator(mode="after")
    def _keeps_contexts_apart(self) -> RunnerSettings:
        if len(self.context) > 1 and not self.isolate and not self.shared:
            raise ValueError(
                "one runner for several contexts lets scripts of one read and change what another's do: give --isolate "
                "to keep them apart, --shared if they may, or start a runner for each context"
            )
        given = [name for name in _ONLY_ISOLATED if name in self.model_fields_set and getattr(self, name)]
        if given and not self.isolate:
            raise ValueError(f"--{given[0].replace('_', '-')} needs --isolate")
        return self

    def isolation(self) -> Isolation | None:
        """How scripts are kept apart, if they are. Raises CannotIsolate."""
        if not self.isolate:
            return None
        secrets = [getattr(self, name, None) for name in _SECRET_FILES]
        programs = [Path(interpreter.argv[0]) for interpreter in self.interpreters.values()]
        return Isolation(
            find_bubblewrap(),
            network=self.isolate_network,
            paths=(*map(Path, self.isolate_path), *(path for path in programs if not path.is_relative_to(sys.prefix))),
            hidden=tuple(Path(secret) for secret in secrets if isinstance(secret, str | Path)),
            processes=self.process_limit,
            disk=self.disk_limit,
            file=self.file_limit,
        )

    @property
    def interpreters(self) -> dict[ScriptType, Interpreter]:
        """What runs the scripts, by the types this runner takes."""
        return _interpreters(self.type)

    @property
    def is_local(self) -> bool:
        """Whether the coordinator is on this machine's loopback."""
        return Address.parse(self.url).is_loopback

    def own_address(self) -> str:
        """`address`, or that of the interface that leads to the coordinator. May look a name up; raises OSError."""
        if self.address is not None:
            return self.address
        coordinator = Address.parse(self.url)
        family, _, _, _, target = socket.getaddrinfo(coordinator.host, coordinator.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)  # of a datagram socket: chooses the interface and sends nothing
            address: str = probe.getsockname()[0]
        return address.partition("%")[0]


def _interpreters(types: tuple[str, ...]) -> dict[ScriptType, Interpreter]:
    """Raises ValueError for what cannot be run."""
    interpreters: dict[ScriptType, Interpreter] = {"Python": PYTHON}
    for text in types:
        given, equals, command = text.partition("=")
        name = next((name for name in SCRIPT_TYPES if name == given), None)
        if name is None or not equals:
            raise ValueError(f"{text!r} is no NAME=COMMAND with NAME one of {', '.join(SCRIPT_TYPES)}")
        words = shlex.split(command)
        if words:
            path = shutil.which(words[0])
            if path is None:
                raise ValueError(f"there is no command {words[0]!r} to run {name} with")
            interpreters[name] = Interpreter((os.path.abspath(path), *words[1:]))
        elif name == "Python":
            del interpreters["Python"]
        else:
            raise ValueError(f"{name} needs a command")
    return interpreters
