"""One attempt: its files, its process and its limits. Knows nothing of the network."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import sys
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import trio

from coordinator.models import Assignment, Job, LogStream, ScriptType
from coordinator.runner.environment import DEPENDS, IN_SANDBOX, INHERITED, BadEnvironment, Places, environment
from coordinator.runner.fence import Fence
from coordinator.runner.isolate import CannotIsolate, Isolation
from coordinator.runner.outcome import Ending, Outcome, explain, last_line_of, not_run, outcome_of
from coordinator.runner.output import Output
from coordinator.runner.spawn import CannotStart, GuardKilled, Script, Spawner
from coordinator.runner.warden import NO_SANDBOX, Spec, remove_tree

__all__ = ["PYTHON", "Executor", "Interpreter"]

log = structlog.get_logger("coordinator.runner")

_READ_BYTES: Final = 64 * 1024
_DRAIN_TIMEOUT: Final = 2.0  # seconds from the script's end to that of its output; it has ended unless somebody escaped
_KILL_TIMEOUT: Final = 10.0  # seconds a killed script may take to go
_CHECK_TIMEOUT: Final = 30.0  # seconds a first sandbox may take
_TRY_OUT_TIMEOUT: Final = 10  # seconds a script that does nothing may take


@dataclass(frozen=True)
class Interpreter:
    """What runs scripts of one type. `on_stdin`: it reads the script there; else its path is the last argument."""

    argv: tuple[str, ...]
    on_stdin: bool = True


InputPages = AsyncIterable[Mapping[str, Mapping[str, str]]]

PYTHON: Final = Interpreter((sys.executable,), on_stdin=False)
"""The Python we run on ourselves; given a file, its tracebacks show the lines."""


@dataclass(frozen=True)
class Executor:
    """How this runner runs scripts.

    Attributes:
        interpreters: by script type.
        memory_limit: bytes that a script and all it starts may have together, 0 for no limit.
        grace: seconds from SIGTERM to SIGKILL.
        isolation: how each script gets a sandbox of its own; None for none.
    """

    spawner: Spawner
    interpreters: Mapping[ScriptType, Interpreter]
    memory_limit: int = 0
    grace: float = 2.0
    isolation: Isolation | None = None

    async def check(self) -> None:
        """Try a sandbox, if there are to be any. Raises CannotIsolate."""
        if self.isolation is None:
            return
        programs = [interpreter.argv[0] for interpreter in self.interpreters.values()]
        argv = [sys.executable, "-I", "-c", _LOOK_FOR, *programs]
        output = Output(_READ_BYTES)
        ended, why = None, f"there was none within {_CHECK_TIMEOUT:g} s"
        try:
            with self.isolation.user() as user, trio.move_on_after(_CHECK_TIMEOUT):
                async with self._directory() as directory:
                    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
                    script = await self.spawner.start(
                        self._sandboxed(self.isolation, directory, user, argv, env, "", "")
                    )
                    try:
                        async with trio.open_nursery() as readers:
                            readers.start_soon(_read, script, output)
                            ended = await script.wait()
                    finally:
                        with trio.CancelScope(shield=True):
                            await script.aclose()
        except (CannotStart, GuardKilled, OSError) as error:
            why = str(error)
        if ended is not None:
            output.close()
            why = last_line_of(output.captures["stderr"].tail) or explain(ended.status)
        if ended is None or ended.status != 0 or ended.by == NO_SANDBOX:
            raise CannotIsolate(f"--isolate: no sandbox can be made here: {why}; {_way_out(why)}")

    def _sandboxed(
        self,
        isolation: Isolation,
        directory: Path,
        user: int,
        argv: list[str],
        env: dict[str, str],
        copied: str,
        stdin: str,
    ) -> Spec:
        """Raises OSError."""
        (directory / "result").touch()
        return {
            "argv": argv,
            "env": env,
            "cwd": "/",
            "stdin": stdin or os.devnull,
            "memory": self.memory_limit,
            "sandbox": isolation.sandbox(directory, user, argv, env, copied),
        }

    async def execute(
        self,
        assignment: Assignment,
        output: Output,
        stop: trio.Event,
        fence: Fence | None = None,
        *,
        more_inputs: InputPages | None = None,
    ) -> Outcome:
        """Run the attempt to its end, and close `output` then. Setting `stop` ends it early, cancelling kills it.

        With a fence it runs only as long as that allows. `more_inputs` are pages of the results that are not in the
        assignment.
        """
        users = contextlib.ExitStack()
        try:
            async with self._directory() as directory:
                user = users.enter_context(self.isolation.user()) if self.isolation is not None else -1
                spec = await trio.to_thread.run_sync(self._prepare, assignment, directory, user)
                if more_inputs is not None:
                    await _add_inputs(directory / "inputs.json", more_inputs)
                script = await self.spawner.start(spec)
                try:
                    ending = await self._attend(script, assignment.job.timeout, output, stop, fence)
                finally:
                    with trio.CancelScope(shield=True):
                        await script.aclose()
                return outcome_of(ending, spec, output, directory / "result", self.isolation)
        except BadEnvironment as error:
            return Outcome({}, str(error), retry=False)
        except CannotStart as error:
            return not_run(str(error))
        except OSError as error:
            why = f"cannot prepare the attempt's files: {error.strerror}"
            if await trio.to_thread.run_sync(self._can_never_hold, assignment, error):
                return Outcome({}, f"{why}; its script and inputs are larger than this runner can hold")
            return not_run(why)
        finally:
            users.close()
            output.close()

    async def try_out(self) -> dict[ScriptType, str]:
        """Why scripts cannot be run, by their type, of those that cannot: run one that does nothing, of each type."""
        unfit = {}
        for script_type in self.interpreters:
            outcome = await self.execute(_nothing_to_do(script_type), Output(_READ_BYTES), trio.Event())
            if outcome.is_unfit:
                unfit[script_type] = str(outcome.error)
        return unfit

    @contextlib.asynccontextmanager
    async def _directory(self) -> AsyncIterator[Path]:
        """A directory for one attempt, gone afterwards."""
        directory = await trio.to_thread.run_sync(self.spawner.new_directory)
        try:
            yield directory
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_remove, directory)

    def _can_never_hold(self, assignment: Assignment, error: OSError) -> bool:
        """Whether an attempt's files could not be written for their size, with however much room there is: then all
        other scripts can be run here."""
        if error.errno == errno.EFBIG:
            return True
        needed = len(assignment.job.script.encode(errors="surrogatepass")) + len(json.dumps(assignment.inputs))
        try:
            disk = os.statvfs(self.spawner.directory)
        except OSError:
            return False
        return error.errno in {errno.ENOSPC, errno.EDQUOT} and needed > disk.f_blocks * disk.f_frsize

    def _prepare(self, assignment: Assignment, directory: Path, user: int = -1) -> Spec:
        """Write the attempt's files. Raises BadEnvironment or OSError."""
        interpreter = self.interpreters[assignment.job.script_type]
        places = Places.in_directory(directory) if self.isolation is None else IN_SANDBOX
        env = environment(assignment, directory, places)
        work = directory / "work"
        if self.isolation is None:
            for place in (work, directory / "tmp"):
                place.mkdir()
        (directory / "inputs.json").write_text(json.dumps(assignment.inputs), "utf-8")
        if assignment.prerequisites:
            met = {name: met.model_dump(exclude_none=True) for name, met in assignment.prerequisites.items()}
            (directory / "prerequisites.json").write_text(json.dumps(met), "utf-8")
            env["HERO_PREREQUISITES"] = str(places.given / "prerequisites.json")
        (directory / "result").touch()
        if DEPENDS in assignment.env_vars:
            (directory / "depends.json").write_text(assignment.env_vars[DEPENDS], "utf-8")
        text = assignment.job.script.encode(errors="surrogatepass")
        name = "script" if interpreter.on_stdin else "script.py"
        argv = [*interpreter.argv] if interpreter.on_stdin else [*interpreter.argv, name]
        if self.isolation is not None:
            (directory / name).write_bytes(text)
            copied, stdin = ("", str(directory / name)) if interpreter.on_stdin else (name, "")
            return self._sandboxed(self.isolation, directory, user, argv, env, copied, stdin)
        # In the working directory, so that Python's import path begins there.
        script = directory / name if interpreter.on_stdin else work / name
        script.write_bytes(text)
        return {
            "argv": argv,
            "env": env,
            "cwd": str(work),
            "stdin": str(script) if interpreter.on_stdin else os.devnull,
            "memory": self.memory_limit,
        }

    async def _attend(
        self, script: Script, timeout: int, output: Output, stop: trio.Event, fence: Fence | None
    ) -> Ending:
        """Read what it writes until it has ended, by itself or by us."""
        ending = Ending()
        async with trio.open_nursery() as enforcing:
            enforcing.start_soon(self._enforce, script, timeout, stop, ending, enforcing.cancel_scope)
            if fence is not None:
                enforcing.start_soon(_keep_within, fence, script)
            with trio.CancelScope() as reading:
                async with trio.open_nursery() as readers:
                    readers.start_soon(_read, script, output)
                    try:
                        ending.ended = await script.wait()
                    except GuardKilled as error:
                        ending.unknown = str(error)
                    except CannotStart as error:
                        ending.unknown, ending.has_begun = str(error), False
                    reading.deadline = trio.current_time() + _DRAIN_TIMEOUT
            enforcing.cancel_scope.cancel()
        return ending

    async def _enforce(
        self, script: Script, timeout: int, stop: trio.Event, ending: Ending, give_up: trio.CancelScope
    ) -> None:
        """When its time is up, or `stop` is set: SIGTERM, then SIGKILL."""
        with trio.move_on_after(timeout or math.inf):
            await stop.wait()
        ending.is_ours = True
        if not stop.is_set():
            ending.timed_out_after = timeout
        await script.terminate()
        await trio.sleep(self.grace)
        await script.kill()
        await trio.sleep(_KILL_TIMEOUT)
        log.error("a script cannot be killed")
        give_up.cancel()


def _nothing_to_do(script_type: ScriptType) -> Assignment:
    job = Job(
        id=0,
        caller_id=0,
        context_id=0,
        script="",
        script_type=script_type,
        timeout=_TRY_OUT_TIMEOUT,
        retries=0,
        env_vars={},
        prerequisites=[],
        depends=[],
        created_at=0,
        updated_at=0,
        result={},
        status="Started",
    )
    return Assignment(context_id=0, job=job, env_vars={}, inputs={}, attempt=1, token="", lease=_TRY_OUT_TIMEOUT)


_LOOK_FOR: Final = """
import os, sys
missing = [path for path in sys.argv[1:] if not os.access(path, os.X_OK)]
sys.exit(f"{', '.join(missing)} cannot be run in it" if missing else 0)
"""
"""A script that complains of the programs it cannot see."""


def _way_out(why: str) -> str:
    if "cannot be run in it" in why:
        return "show it with --isolate-path"
    if "find source path" in why or ("ermission denied" in why and "namespace" not in why):
        return "scripts need to read what is named there"
    return (
        "allow user namespaces (in a container, its seccomp profile and privileges; else sysctl "
        "user.max_user_namespaces and kernel.unprivileged_userns_clone, or AppArmor's profile of bwrap), start the "
        "runner as root, or leave --isolate out for scripts that may do all that the runner may"
    )


async def _add_inputs(path: Path, pages: InputPages) -> None:
    """Write further results into the object in a file, without having all of them in memory."""

    def add(page: Mapping[str, Mapping[str, str]]) -> None:
        text = json.dumps(page)[1:]
        with path.open("r+b") as file:
            end = file.seek(-1, os.SEEK_END)
            is_empty = end == 1
            file.write(("" if is_empty or text == "}" else ", ").encode() + text.encode())

    async for page in pages:
        await trio.to_thread.run_sync(add, page)


async def _keep_within(fence: Fence, script: Script) -> None:
    """Let the script run while its lease is renewed. Without that its guard ends it, if need be without us; unless the
    coordinator is known to be away: then the script waits for it."""
    while True:
        changed = fence.changed
        await script.go_on(fence.remaining, fence.grace)
        with trio.move_on_at(fence.decides_at):
            await changed.wait()
        if not changed.is_set():
            if fence.is_outage():
                log.warning("the coordinator is away for longer than the lease; pausing a script", lease=fence.lease)
                await script.pause()
            await changed.wait()


async def _read(script: Script, output: Output) -> None:
    """Both streams, in the order in which they were written as far as the system tells: it names first what had data
    first."""
    if script.poll is None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read_one, script.stdout, "stdout", output)
            nursery.start_soon(_read_one, script.stderr, "stderr", output)
        return
    names: dict[int, LogStream] = {script.stdout.fileno(): "stdout", script.stderr.fileno(): "stderr"}
    while names:
        await trio.lowlevel.wait_readable(script.poll.fileno())
        for descriptor, _ in script.poll.poll(0):
            try:
                data = os.read(descriptor, _READ_BYTES)
            except BlockingIOError:
                continue
            if data:
                output.feed(names[descriptor], data)
            else:
                script.poll.unregister(descriptor)
                del names[descriptor]


async def _read_one(stream: trio.lowlevel.FdStream, name: LogStream, output: Output) -> None:
    while data := await stream.receive_some(_READ_BYTES):
        output.feed(name, bytes(data))


def _remove(directory: Path) -> None:
    remove_tree(str(directory))
    if directory.exists():
        log.warning("cannot remove an attempt's files", directory=str(directory))
