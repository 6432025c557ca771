"""The environment of a script: its variables, and where it finds its files."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coordinator.models import Assignment
from coordinator.runner import inside

__all__ = [
    "DEPENDS",
    "INHERITED",
    "IN_SANDBOX",
    "VARIABLE_BYTES",
    "BadEnvironment",
    "Places",
    "attempt_id",
    "environment",
    "too_large",
]

INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL")
DEPENDS: Final = "HERO_DEPENDS"  # which flow files give; it may be too large for a variable
VARIABLE_BYTES: Final = 32 * os.sysconf("SC_PAGE_SIZE")
"""What Linux allows for one variable: its name, `=`, its value and a NUL."""
_ENVIRONMENT_BYTES: Final = 6 * 1024 * 1024  # and for all, and the arguments, together; less if the stack is small
_NAMED: Final = 1000  # characters of a variable's name that are quoted in an error


class BadEnvironment(ValueError):
    """No process can have such an environment variable."""


@dataclass(frozen=True)
class Places:
    """Where a script finds its files.

    Attributes:
        given: the directory of those it was given.
        temporary, result: for what it writes.
        home: its home directory, if it is not the runner's.
    """

    given: Path
    temporary: Path
    result: Path
    home: Path | None = None

    @classmethod
    def in_directory(cls, directory: Path) -> Places:
        return cls(directory, directory / "tmp", directory / "result")


IN_SANDBOX: Final = Places(Path(inside.JOB), Path(inside.TEMPORARY), Path(inside.RESULT), Path(inside.HOME))


def environment(assignment: Assignment, directory: Path, places: Places | None = None) -> dict[str, str]:
    """The script's environment: a few of our own variables, the assignment's over them, HERO_* over those. Nothing else
    that is in ours: there may be secrets.

    Args:
        places: where it finds its files, if that is not in the attempt's directory.

    Raises BadEnvironment.
    """
    places = places or Places.in_directory(directory)
    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
    if places.home is not None:
        env["HOME"] = str(places.home)
    if "LANG" not in env and "LC_ALL" not in env:
        env["LANG"] = "C.UTF-8"
    env["TMPDIR"] = str(places.temporary)
    env["PYTHONUNBUFFERED"] = "1"  # so that lines are logged when they are written
    for name, value in assignment.env_vars.items():
        if not name or "=" in name or "\0" in name + value or not _is_encodable(name + value):
            raise BadEnvironment(f"env_vars: no environment can hold {name[:_NAMED]!r}")
        env[name] = value
    if DEPENDS in env:
        env[f"{DEPENDS}_FILE"] = str(places.given / "depends.json")
        if _variable_bytes(DEPENDS, env[DEPENDS]) > VARIABLE_BYTES:
            del env[DEPENDS]
    job = assignment.job
    if assignment.flow_id is not None:
        env["HERO_FLOW_ID"] = str(assignment.flow_id)
    if assignment.request_id is not None:
        env["HERO_REQUEST_ID"] = assignment.request_id
    if assignment.traceparent is not None:
        env["TRACEPARENT"] = assignment.traceparent
    return env | {
        "HERO_CONTEXT_ID": str(assignment.context_id),
        "HERO_CALLER_ID": str(job.caller_id),
        "HERO_JOB_ID": str(job.id),
        "HERO_ATTEMPT": str(assignment.attempt),
        "HERO_ATTEMPT_ID": attempt_id(assignment),
        "HERO_INPUTS": str(places.given / "inputs.json"),
        "HERO_RESULT": str(places.result),
    }


def attempt_id(assignment: Assignment) -> str:
    """A name that no other attempt at any job of any context has. Unlike the token it gives nobody the right to speak
    for the attempt."""
    job = assignment.job
    digest = hashlib.sha256(assignment.token.encode()).hexdigest()[:16]
    return f"{assignment.context_id}-{job.caller_id}-{job.id}-{assignment.attempt}-{digest}"


def _variable_bytes(name: str, value: str) -> int:
    return len(name.encode()) + len(value.encode()) + 2


def too_large(env: Mapping[str, str]) -> str:
    """Why the system could not pass this environment on."""
    sizes = {name: _variable_bytes(name, value) for name, value in env.items()}
    largest = max(sizes, key=sizes.__getitem__)
    if sizes[largest] > VARIABLE_BYTES:
        return f"env_vars: {largest} takes {sizes[largest]} bytes; the system allows {VARIABLE_BYTES} for one variable"
    stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
    limit = _ENVIRONMENT_BYTES if stack == resource.RLIM_INFINITY else min(stack // 4, _ENVIRONMENT_BYTES)
    return (
        f"env_vars: all together they take {sum(sizes.values())} bytes, the most {largest} with {sizes[largest]}; the "
        f"system allows {limit}, from which 8 for each and the command's arguments go off"
    )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
