"""One attempt: its files, environment, process, limits and outcome. Knows nothing of the network."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import resource
import signal
import sys
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
import trio

from coordinator.models import Assignment, Job, LogStream, ScriptType
from coordinator.runner import inside
from coordinator.runner.fence import Fence
from coordinator.runner.isolate import CannotIsolate, Isolation
from coordinator.runner.output import Output
from coordinator.runner.results import Results, read_results
from coordinator.runner.spawn import CannotStart, Ended, Script, Spawner
from coordinator.runner.warden import CUT_OFF, NO_PROCESS, NO_SANDBOX, OUT_OF_MEMORY, Spec, remove_tree

__all__ = ["PYTHON", "BadEnvironment", "Executor", "Interpreter", "Outcome", "Places", "environment"]

log = structlog.get_logger("coordinator.runner")

_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL")
_READ_BYTES: Final = 64 * 1024
_DRAIN_TIMEOUT: Final = 2.0  # seconds from the script's end to that of its output; it has ended unless somebody escaped
_KILL_TIMEOUT: Final = 10.0  # seconds a killed script may take to go
_QUOTED: Final = 1000  # characters of a line that are quoted in an error
_DEPENDS: Final = "HERO_DEPENDS"  # which flow files give; it may be too large for a variable
VARIABLE_BYTES: Final = 32 * os.sysconf("SC_PAGE_SIZE")
"""What Linux allows for one variable: its name, `=`, its value and a NUL."""
_ENVIRONMENT_BYTES: Final = 6 * 1024 * 1024  # and for all, and the arguments, together; less if the stack is small
_MEBIBYTE: Final = 1024 * 1024
_CHECK_TIMEOUT: Final = 30.0  # seconds a first sandbox may take
_TRY_OUT_TIMEOUT: Final = 10  # seconds a script that does nothing may take
_CUT_OFF: Final = "the runner was cut off from the coordinator for longer than the lease, and has stopped the script"


@dataclass(frozen=True)
class Interpreter:
    """What runs scripts of one type. `on_stdin`: it reads the script there; else its path is the last argument."""

    argv: tuple[str, ...]
    on_stdin: bool = True


InputPages = AsyncIterable[Mapping[str, Mapping[str, str]]]

PYTHON: Final = Interpreter((sys.executable,), on_stdin=False)
"""The Python we run on ourselves; given a file, its tracebacks show the lines."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        captured: what we know of it: stdout, stderr, exit_code.
        error: None if it succeeded.
        retry: false if another attempt makes no sense.
        values: what the script wrote as its result.
        is_lost: it was given up, which says nothing of the script: its lease was not renewed in time, or the runner
            leaves or could not run it.
        is_unfit: the runner could not run it, and may not be able to run any other.
    """

    captured: dict[str, str]
    error: str | None = None
    retry: bool = True
    values: dict[str, str] = field(default_factory=dict)
    is_lost: bool = False
    is_unfit: bool = False

    @property
    def result(self) -> dict[str, str]:
        return {**self.captured, **self.values}


class BadEnvironment(ValueError):
    """No process can have such an environment variable."""


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
                    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
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
        except (CannotStart, OSError) as error:
            why = str(error)
        if ended is not None:
            output.close()
            why = _last_line(output.captures["stderr"].tail) or _explain(ended.status)
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
                return self._outcome(directory, output, ending, spec)
        except BadEnvironment as error:
            return Outcome({}, str(error), retry=False)
        except CannotStart as error:
            return _not_run(str(error))
        except OSError as error:
            return _not_run(f"cannot prepare the attempt's files: {error.strerror}")
        finally:
            users.close()
            output.close()

    async def try_out(self) -> str | None:
        """Why no script can be run, None if one can: run one that does nothing, of each type."""
        for script_type in self.interpreters:
            outcome = await self.execute(_nothing_to_do(script_type), Output(_READ_BYTES), trio.Event())
            if outcome.is_unfit:
                return outcome.error
        return None

    @contextlib.asynccontextmanager
    async def _directory(self) -> AsyncIterator[Path]:
        """A directory for one attempt, gone afterwards."""
        directory = await trio.to_thread.run_sync(self.spawner.new_directory)
        try:
            yield directory
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_remove, directory)

    def _prepare(self, assignment: Assignment, directory: Path, user: int = -1) -> Spec:
        """Write the attempt's files. Raises BadEnvironment or OSError."""
        interpreter = self.interpreters[assignment.job.script_type]
        places = Places.in_directory(directory) if self.isolation is None else _IN_SANDBOX
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
        if _DEPENDS in assignment.env_vars:
            (directory / "depends.json").write_text(assignment.env_vars[_DEPENDS], "utf-8")
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
    ) -> _Ending:
        """Read what it writes until it has ended, by itself or by us."""
        ending = _Ending()
        async with trio.open_nursery() as enforcing:
            enforcing.start_soon(self._enforce, script, timeout, stop, ending, enforcing.cancel_scope)
            if fence is not None:
                enforcing.start_soon(_keep_within, fence, script)
            with trio.CancelScope() as reading:
                async with trio.open_nursery() as readers:
                    readers.start_soon(_read, script, output)
                    try:
                        ending.ended = await script.wait()
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
        ending.is_ours = True
        if not stop.is_set():
            ending.timed_out_after = timeout
        await script.terminate()
        await trio.sleep(self.grace)
        await script.kill()
        await trio.sleep(_KILL_TIMEOUT)
        log.error("a script cannot be killed")
        give_up.cancel()

    def _outcome(self, directory: Path, output: Output, ending: _Ending, spec: Spec) -> Outcome:
        results = read_results(directory / "result")
        if ending.ended is not None and ending.ended.found & inside.NO_RESULT_FILE:
            results = Results({}, "HERO_RESULT cannot be read: it is no file any more")
        captured: dict[str, str] = {stream: capture.tail for stream, capture in output.captures.items()}
        ended = ending.ended
        if ended is None:
            return Outcome(captured, ending.unknown, values=results.values)
        if ended.by == NO_PROCESS:
            return _not_run(f"cannot start a process: {os.strerror(ended.errno)}")
        result = {**captured, "exit_code": str(ended.status)}
        error, retry = None, True
        if ending.timed_out_after:
            error = f"timed out after {ending.timed_out_after} s"
        elif ended.by == OUT_OF_MEMORY:
            error = (
                f"memory limit exceeded: the script and what it started had {ended.memory / _MEBIBYTE:.0f} MiB, the "
                f"runner's --memory-limit is {self.memory_limit / _MEBIBYTE:.0f} MiB"
            )
        elif ended.by == NO_SANDBOX:
            error = f"there was no sandbox to be had for it: {_last_line(captured['stderr']) or _explain(ended.status)}"
        elif ended.errno == errno.E2BIG:
            error, retry = _too_large(spec), False
        elif ended.status != 0 or ended.found & inside.PROCESSES:
            last_line = _last_line(captured["stderr"])
            error = _explain(ended.status)
            error = f"{error}: {last_line}" if last_line else error
            error = self._with_limit(error, last_line, ended)
        if results.fault is not None:
            output.note(results.fault)
            error = error or results.fault
        if ended.by == CUT_OFF and not ending.is_ours:
            return Outcome(result, _CUT_OFF, values=results.values, is_lost=True)
        has_no_interpreter = ended.errno not in {0, errno.E2BIG}
        is_unfit = not ending.is_ours and (ended.by == NO_SANDBOX or has_no_interpreter)
        return Outcome(result, error, retry, results.values, is_lost=is_unfit, is_unfit=is_unfit)

    def _with_limit(self, error: str, last_line: str, ended: Ended) -> str:
        """What to say of a script that failed, with the limit of its sandbox that it came up against, if it did."""
        isolation = self.isolation
        if isolation is None:
            return error

        def hit(found: int, *words: str) -> bool:
            return bool(ended.found & found) or any(word in last_line for word in words)

        if hit(inside.PROCESSES, os.strerror(errno.EAGAIN), "can't start new thread", "Cannot fork"):
            return (
                f"process limit exceeded: the script and what it started are to be at most {isolation.processes} "
                f"processes and threads, the runner's --process-limit ({error})"
            )
        if hit(inside.FILE, os.strerror(errno.EFBIG), "File size limit") or -ended.status == signal.SIGXFSZ:
            return f"file limit exceeded: the runner's --file-limit is {_mebibytes(isolation.file)} ({error})"
        if hit(inside.DISK, os.strerror(errno.ENOSPC)):
            return (
                f"disk limit exceeded: the runner's --disk-limit is {_mebibytes(isolation.disk)}, and a file for each "
                f"4 KiB of it ({error})"
            )
        return error


def _not_run(why: str) -> Outcome:
    return Outcome({}, why, is_lost=True, is_unfit=True)


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


def _mebibytes(size: int) -> str:
    return f"{size / _MEBIBYTE:g} MiB"


def _last_line(text: str) -> str:
    """The last one that is not blank, as it is quoted."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()[:_QUOTED]


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


@dataclass
class _Ending:
    """`ended` is None while `unknown` says why; `timed_out_after` are seconds, 0 if it did not; `is_ours`: the runner
    has ended the script, because its time was up or it was told to stop."""

    ended: Ended | None = None
    unknown: str = "it cannot be killed"
    timed_out_after: int = 0
    is_ours: bool = False


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


_IN_SANDBOX: Final = Places(Path(inside.JOB), Path(inside.TEMPORARY), Path(inside.RESULT), Path(inside.HOME))


def environment(assignment: Assignment, directory: Path, places: Places | None = None) -> dict[str, str]:
    """The script's environment: a few of our own variables, the assignment's over them, HERO_* over those. Nothing else
    that is in ours: there may be secrets.

    Args:
        places: where it finds its files, if that is not in the attempt's directory.

    Raises BadEnvironment.
    """
    places = places or Places.in_directory(directory)
    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    if places.home is not None:
        env["HOME"] = str(places.home)
    if "LANG" not in env and "LC_ALL" not in env:
        env["LANG"] = "C.UTF-8"
    env["TMPDIR"] = str(places.temporary)
    env["PYTHONUNBUFFERED"] = "1"  # so that lines are logged when they are written
    for name, value in assignment.env_vars.items():
        if not name or "=" in name or "\0" in name + value or not _is_encodable(name + value):
            raise BadEnvironment(f"env_vars: no environment can hold {name[:_QUOTED]!r}")
        env[name] = value
    if _DEPENDS in env:
        env[f"{_DEPENDS}_FILE"] = str(places.given / "depends.json")
        if _variable_bytes(_DEPENDS, env[_DEPENDS]) > VARIABLE_BYTES:
            del env[_DEPENDS]
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


def _too_large(spec: Spec) -> str:
    """Why the system could not pass this environment on."""
    sizes = {name: _variable_bytes(name, value) for name, value in spec["env"].items()}
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


def _explain(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"killed by signal {-status}"


def _remove(directory: Path) -> None:
    remove_tree(str(directory))
    if directory.exists():
        log.warning("cannot remove an attempt's files", directory=str(directory))
