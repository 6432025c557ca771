"""One attempt: its files, environment, process, limits and outcome. Knows nothing of the network."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import trio

from coordinator.models import Assignment, LogStream, ScriptType
from coordinator.runner.output import Output
from coordinator.runner.results import read_results
from coordinator.runner.spawn import CannotStart, Script, Spawner
from coordinator.runner.warden import Spec

__all__ = ["PYTHON", "BadEnvironment", "Executor", "Interpreter", "Outcome", "environment"]

log = structlog.get_logger("coordinator.runner")

_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL")
_READ_BYTES: Final = 64 * 1024
_DRAIN_TIMEOUT: Final = 2.0  # seconds from the script's end to that of its output; it has ended unless somebody escaped
_KILL_TIMEOUT: Final = 10.0  # seconds a killed script may take to go
_QUOTED: Final = 1000  # characters of a line that are quoted in an error


@dataclass(frozen=True)
class Interpreter:
    """What runs scripts of one type. `on_stdin`: it reads the script there; else its path is the last argument."""

    argv: tuple[str, ...]
    on_stdin: bool = True


PYTHON: Final = Interpreter((sys.executable,), on_stdin=False)
"""The Python we run on ourselves; given a file, its tracebacks show the lines."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. `error` is None if it succeeded; with `retry` false another attempt makes no sense."""

    result: dict[str, str]
    error: str | None = None
    retry: bool = True


class BadEnvironment(ValueError):
    """No process can have such an environment variable."""


@dataclass(frozen=True)
class Executor:
    """How this runner runs scripts.

    Attributes:
        interpreters: by script type.
        memory_limit: bytes of address space a script's process may have, 0 for no limit.
        grace: seconds from SIGTERM to SIGKILL.
    """

    spawner: Spawner
    interpreters: Mapping[ScriptType, Interpreter]
    memory_limit: int = 0
    grace: float = 2.0

    async def execute(self, assignment: Assignment, output: Output, stop: trio.Event) -> Outcome:
        """Run the attempt to its end, and close `output` then. Setting `stop` ends it early, cancelling kills it."""
        try:
            async with self._directory() as directory:
                spec = await trio.to_thread.run_sync(self._prepare, assignment, directory)
                script = await self.spawner.start(spec)
                try:
                    ending = await self._attend(script, assignment.job.timeout, output, stop)
                finally:
                    with trio.CancelScope(shield=True):
                        await script.aclose()
                return _outcome(directory, output, ending)
        except BadEnvironment as error:
            return Outcome({}, str(error), retry=False)
        except CannotStart as error:
            return Outcome({}, str(error))
        except OSError as error:
            return Outcome({}, f"cannot prepare the attempt's files: {error.strerror}")
        finally:
            output.close()

    @contextlib.asynccontextmanager
    async def _directory(self) -> AsyncIterator[Path]:
        """A directory for one attempt, gone afterwards."""
        directory = Path(tempfile.mkdtemp(dir=self.spawner.directory))
        try:
            yield directory
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_remove, directory)

    def _prepare(self, assignment: Assignment, directory: Path) -> Spec:
        """Write the attempt's files. Raises BadEnvironment or OSError."""
        interpreter = self.interpreters[assignment.job.script_type]
        env = environment(assignment, directory)
        work = directory / "work"
        for place in (work, directory / "tmp"):
            place.mkdir()
        (directory / "inputs.json").write_text(json.dumps(assignment.inputs))
        if assignment.prerequisites:
            met = {name: met.model_dump(exclude_none=True) for name, met in assignment.prerequisites.items()}
            (directory / "prerequisites.json").write_text(json.dumps(met))
            env["HERO_PREREQUISITES"] = str(directory / "prerequisites.json")
        (directory / "result").touch()
        # In the working directory, so that Python's import path begins there.
        script = directory / "script" if interpreter.on_stdin else work / "script.py"
        script.write_bytes(assignment.job.script.encode(errors="surrogatepass"))
        return {
            "argv": [*interpreter.argv] if interpreter.on_stdin else [*interpreter.argv, script.name],
            "env": env,
            "cwd": str(work),
            "stdin": str(script) if interpreter.on_stdin else os.devnull,
            "memory": self.memory_limit,
        }

    async def _attend(self, script: Script, timeout: int, output: Output, stop: trio.Event) -> _Ending:
        """Read what it writes until it has ended, by itself or by us."""
        ending = _Ending()
        async with trio.open_nursery() as enforcing:
            enforcing.start_soon(self._enforce, script, timeout, stop, ending, enforcing.cancel_scope)
            with trio.CancelScope() as reading:
                async with trio.open_nursery() as readers:
                    readers.start_soon(_read, script.stdout, "stdout", output)
                    readers.start_soon(_read, script.stderr, "stderr", output)
                    try:
                        ending.status = await script.wait()
                    except CannotStart as error:
                        ending.unknown = str(error)
                    reading.deadline = trio.current_time() + _DRAIN_TIMEOUT
            enforcing.cancel_scope.cancel()
        return ending

    async def _enforce(
        self, script: Script, timeout: int, stop: trio.Event, ending: _Ending, give_up: trio.CancelScope
    ) -> None:
        """When its time is up, or `stop` is set: SIGTERM, then SIGKILL."""
        with trio.move_on_after(timeout or math.inf):
            await stop.wait()
        if not stop.is_set():
            ending.timed_out_after = timeout
        await script.terminate()
        await trio.sleep(self.grace)
        await script.kill()
        await trio.sleep(_KILL_TIMEOUT)
        log.error("a script cannot be killed")
        give_up.cancel()


@dataclass
class _Ending:
    """`status` is None while `unknown` says why; `timed_out_after` are seconds, 0 if it did not."""

    status: int | None = None
    unknown: str = "it cannot be killed"
    timed_out_after: int = 0


async def _read(stream: trio.lowlevel.FdStream, name: LogStream, output: Output) -> None:
    while data := await stream.receive_some(_READ_BYTES):
        output.feed(name, bytes(data))


def environment(assignment: Assignment, directory: Path) -> dict[str, str]:
    """The script's environment: a few of our own variables, the assignment's over them, HERO_* over those.

    Raises BadEnvironment.
    """
    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    if "LANG" not in env and "LC_ALL" not in env:
        env["LANG"] = "C.UTF-8"
    env["TMPDIR"] = str(directory / "tmp")
    env["PYTHONUNBUFFERED"] = "1"  # so that lines are logged when they are written
    for name, value in assignment.env_vars.items():
        if not name or "=" in name or "\0" in name + value or not _is_encodable(name + value):
            raise BadEnvironment(f"env_vars: no environment can hold {name[:_QUOTED]!r}")
        env[name] = value
    job = assignment.job
    return env | {
        "HERO_CONTEXT_ID": str(assignment.context_id),
        "HERO_CALLER_ID": str(job.caller_id),
        "HERO_JOB_ID": str(job.id),
        "HERO_ATTEMPT": str(assignment.attempt),
        "HERO_INPUTS": str(directory / "inputs.json"),
        "HERO_RESULT": str(directory / "result"),
    }


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _outcome(directory: Path, output: Output, ending: _Ending) -> Outcome:
    results = read_results(directory / "result")
    for complaint in results.complaints:
        output.note(complaint)
    stderr = output.captures["stderr"].tail
    result = {"stdout": output.captures["stdout"].tail, "stderr": stderr}
    if ending.status is None:
        return Outcome(result | results.values, ending.unknown)
    result = {**result, "exit_code": str(ending.status), **results.values}
    if ending.timed_out_after:
        return Outcome(result, f"timed out after {ending.timed_out_after} s")
    if ending.status == 0:
        return Outcome(result)
    last_line = next((line for line in reversed(stderr.splitlines()) if line.strip()), "")
    why = _explain(ending.status)
    return Outcome(result, f"{why}: {last_line.strip()[:_QUOTED]}" if last_line else why)


def _explain(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"killed by signal {-status}"


def _remove(directory: Path) -> None:
    """Remove it, also if the script took permissions away."""
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        for root, names, _ in os.walk(directory):
            for name in names:
                path = os.path.join(root, name)
                if not os.path.islink(path):
                    with contextlib.suppress(OSError):
                        os.chmod(path, 0o700)
        shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        log.warning("cannot remove an attempt's files", directory=str(directory))
