"""Attempts with real processes: what a script gets, how its end is told, and that nothing of it is left."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from coordinator.runner.environment import VARIABLE_BYTES, BadEnvironment, environment
from coordinator.runner.execute import PYTHON, Executor, Interpreter
from coordinator.runner.output import LINE_BYTES, TAIL_BYTES, Output
from coordinator.runner.spawn import Spawner, open_spawner
from tests.support.attempts import Ran, assignment, run
from tests.support.disks import small_file_system
from tests.support.processes import children_of, command_of, is_running, parent_of
from tests.support.waiting import until

FAMILY = """
# Itself, a child in its group, and a grandchild in a session of its own that was orphaned; all deaf to SIGTERM.
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        open(sys.argv[0] + ".grandchild", "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
os.wait()
if os.fork() == 0:
    open(sys.argv[0] + ".child", "w").write(str(os.getpid()))
    time.sleep(600)
def pid_of(name):
    while not (os.path.exists(name) and open(name).read()):
        time.sleep(0.01)
    return open(name).read()
print(os.getpid(), pid_of(sys.argv[0] + ".child"), pid_of(sys.argv[0] + ".grandchild"), flush=True)
"""


class Begun:
    """An attempt under way in a nursery."""

    def __init__(self, executor: Executor, script: str, **more: Any) -> None:
        self.output = Output(1_000_000)
        self.stop = trio.Event()
        self.scope = trio.CancelScope()
        self.ran: Ran | None = None
        self._executor = executor
        self._assignment = assignment(script, **more)

    async def run(self) -> None:
        with self.scope:
            outcome = await self._executor.execute(self._assignment, self.output, self.stop)
            self.ran = Ran(outcome, self.output)

    async def pids(self) -> list[int]:
        """The numbers it prints first."""
        with trio.fail_after(15):
            await self.output.wait()
        ((_, lines),) = self.output.take()
        return [int(word) for word in lines[0].split()]


# -- what a script gets


async def test_a_python_script_runs_and_its_result_is_told(executor: Executor) -> None:
    ran = await run(executor, "import sys; print('out'); print('err', file=sys.stderr)")

    assert ran.error is None
    assert ran.result == {"stdout": "out\n", "stderr": "err\n", "exit_code": "0"}
    assert ran.logged == {"stdout": ["out"], "stderr": ["err"]}


async def test_another_type_gets_its_script_on_stdin(executor: Executor) -> None:
    ran = await run(executor, "echo $#; readlink /proc/$$/fd/0", "Sal")

    count, stdin = ran.result["stdout"].split()
    assert count == "0"
    assert stdin.endswith("/script")


async def test_an_interpreter_is_a_command_with_arguments(spawner: Spawner) -> None:
    executor = Executor(spawner, {"V": Interpreter(("/bin/sh", "-s", "a b", "c"))})

    ran = await run(executor, 'echo "$# $1 $2"', "V")

    assert ran.result["stdout"] == "2 a b c\n"


async def test_key_value_lines_become_results_and_may_replace_ours(executor: Executor) -> None:
    ran = await run(executor, 'printf "rows=12\\nstdout=short\\n" > "$HERO_RESULT"; echo long; exit 3', "Sal")

    assert ran.result == {"rows": "12", "stdout": "short", "stderr": "", "exit_code": "3"}


@pytest.mark.parametrize(
    ("written", "fault", "kept"),
    [
        ("a=1\nwrong\n", "HERO_RESULT line 2 is no key=value: 'wrong'", "1"),
        ("a=1\nb<<END\n", "HERO_RESULT line 2 begins a value that no line 'END' ends", "1"),
        ("a=" + "x" * 70_000, "HERO_RESULT is too large: 70002 bytes", None),
    ],
)
async def test_a_result_that_is_wrong_fails_the_job(
    executor: Executor, written: str, fault: str, kept: str | None
) -> None:
    ran = await run(executor, f"import os; open(os.environ['HERO_RESULT'], 'w').write({written!r})")

    assert str(ran.error).startswith(fault)
    assert ran.outcome.retry
    assert ran.result.get("a") == kept
    assert ran.result["exit_code"] == "0"
    assert ran.logged["stderr"] == [ran.error]


async def test_a_script_that_fails_says_that_first(executor: Executor) -> None:
    ran = await run(executor, 'echo wrong > "$HERO_RESULT"; echo why >&2; exit 3', "Sal")

    assert ran.error == "exit status 3: why"
    assert ran.logged["stderr"] == ["why", "HERO_RESULT line 1 is no key=value: 'wrong'"]


async def test_a_result_of_several_lines(executor: Executor) -> None:
    ran = await run(executor, 'printf "report<<END\\none\\ntwo=2\\nEND\\nrows=2\\n" > "$HERO_RESULT"', "Sal")

    assert ran.error is None
    assert (ran.result["report"], ran.result["rows"]) == ("one\ntwo=2", "2")


async def test_the_environment_is_clean_but_for_what_is_given(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_RUNNER", "x")
    monkeypatch.setenv("HOME", "/somewhere")

    ran = await run(
        executor,
        "import json, os; print(json.dumps(dict(os.environ)))",
        env_vars={"STAGE": "test ü", "HOME": "/mine", "HERO_JOB_ID": "0"},
    )

    env = json.loads(ran.result["stdout"])
    assert "SECRET_OF_THE_RUNNER" not in env
    assert env["PATH"] == os.environ["PATH"]
    assert env["STAGE"] == "test ü"
    assert env["HOME"] == "/mine"
    ours = {name: env[name] for name in env if name.startswith("HERO_")}
    paths = {name: Path(ours.pop(name)) for name in ("HERO_INPUTS", "HERO_RESULT")}
    assert ours.pop("HERO_ATTEMPT_ID").startswith("1-7-3-2-")
    assert ours == {"HERO_CONTEXT_ID": "1", "HERO_CALLER_ID": "7", "HERO_JOB_ID": "3", "HERO_ATTEMPT": "2"}
    assert {path.parent for path in paths.values()} == {Path(env["TMPDIR"]).parent}


@pytest.mark.parametrize(
    ("name", "value"), [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0y"), ("A", "\ud800"), ("\udc80", "x")]
)
async def test_a_variable_no_process_can_have_fails_the_job_for_good(executor: Executor, name: str, value: str) -> None:
    given = assignment("print(1)").model_copy(update={"env_vars": {name: value}})

    with pytest.raises(BadEnvironment, match="env_vars"):
        environment(given, Path("/x"))
    outcome = await executor.execute(given, Output(1000), trio.Event())

    assert "env_vars" in str(outcome.error)
    assert not outcome.retry


async def test_inputs_come_as_a_file(executor: Executor) -> None:
    inputs = {"1": {"stdout": "é\n"}, "2": {}}

    ran = await run(executor, "import os; print(open(os.environ['HERO_INPUTS']).read())", inputs=inputs)

    assert json.loads(ran.result["stdout"]) == inputs


async def test_it_works_in_an_empty_directory_it_can_import_from(executor: Executor) -> None:
    ran = await run(
        executor,
        "import os, tempfile\nopen('helper.py', 'w').write('answer = 42')\nimport helper\n"
        "print(helper.answer, os.listdir(), tempfile.mkdtemp(), os.getcwd())",
    )

    assert ran.error is None, ran.result
    assert ran.result["stdout"].startswith("42 ['")
    assert os.listdir(executor.spawner.directory) == []


async def test_a_directory_without_permissions_is_removed(executor: Executor, tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o750)
    ran = await run(executor, f"mkdir -p a/b; touch a/b/c; ln -s {tmp_path} a/b/link; chmod 0 a/b a", "Sal")

    assert ran.error is None
    assert os.listdir(executor.spawner.directory) == []
    assert os.stat(tmp_path).st_mode & 0o777 == 0o750


async def test_directories_too_deep_for_a_path_or_a_stack_are_removed(executor: Executor) -> None:
    ran = await run(
        executor,
        "import os\nfor _ in range(1500):\n    os.mkdir('d' * 50)\n    open('f', 'w').close()\n    os.chdir('d' * 50)",
    )

    assert ran.error is None
    assert os.listdir(executor.spawner.directory) == []


async def test_scripts_are_unicode(executor: Executor) -> None:
    ran = await run(executor, "print('żółć 😀')  # ключ")

    assert ran.result["stdout"] == "żółć 😀\n"


async def test_no_descriptor_of_ours_is_inherited(executor: Executor) -> None:
    ran = await run(executor, "ls /proc/self/fd; readlink /proc/self/fd/0 > /dev/null", "Sal")

    assert ran.result["stdout"].split() == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


async def test_signals_do_what_they_do_in_a_shell(executor: Executor) -> None:
    ran = await run(executor, "import signal; print(signal.getsignal(signal.SIGTERM), signal.pthread_sigmask(0, []))")

    assert ran.result["stdout"] == "0 set()\n"
    assert (await run(executor, "yes | head -1; kill -PIPE $$", "Sal")).error == "killed by SIGPIPE"


# -- how its end is told


async def test_an_exit_status_is_an_error_with_the_last_line_of_stderr(executor: Executor) -> None:
    ran = await run(executor, "import sys; print('why', file=sys.stderr); print(file=sys.stderr); sys.exit(3)")

    assert ran.error == "exit status 3: why"
    assert ran.outcome.retry
    assert ran.result["exit_code"] == "3"


async def test_an_exception_is_an_error_with_its_text_and_a_traceback_with_its_line(executor: Executor) -> None:
    ran = await run(executor, "def f():\n    raise ValueError('no such thing')\nf()\n")

    assert ran.error == "exit status 1: ValueError: no such thing"
    assert "line 2, in f\n    raise ValueError('no such thing')\n" in ran.result["stderr"]


async def test_a_signal_is_an_error_with_its_name(executor: Executor) -> None:
    ran = await run(executor, "kill -SEGV $$", "Sal")

    assert ran.error == "killed by SIGSEGV"
    assert ran.result["exit_code"] == "-11"


async def test_a_long_last_line_is_shortened(executor: Executor) -> None:
    ran = await run(executor, "import sys; sys.exit('x' * 20_000)")

    assert ran.error == "exit status 1: " + "x" * 1000


async def test_an_interpreter_that_cannot_be_run_says_why(spawner: Spawner, tmp_path: Path) -> None:
    executor = Executor(spawner, {"Sal": Interpreter((str(tmp_path / "missing"),))})

    ran = await run(executor, "", "Sal")

    assert ran.error is not None
    assert ran.error.startswith("exit status 127: herocoordinator runner: cannot run")
    assert ran.error.endswith("No such file or directory")


@pytest.mark.parametrize(
    ("env_vars", "words"),
    [
        ({"SMALL": "x", "BIG": "x" * 200_000}, ["BIG takes 200005 bytes", f"allows {VARIABLE_BYTES} for one variable"]),
        ({f"V{at:03}": "x" * (100_000 + at) for at in range(100)}, ["all together", "V099 with 100105"]),
    ],
)
async def test_too_large_an_environment_is_named_and_not_tried_again(
    executor: Executor, env_vars: dict[str, str], words: list[str]
) -> None:
    ran = await run(executor, "print(1)", env_vars=env_vars)

    assert str(ran.error).startswith("env_vars: ")
    assert all(word in str(ran.error) for word in words), ran.error
    assert not ran.outcome.retry


async def test_the_largest_variable_there_may_be_is_passed_on(executor: Executor) -> None:
    value = "x" * (VARIABLE_BYTES - len("BIG=") - 1)

    ran = await run(executor, "import os; print(len(os.environ['BIG']))", env_vars={"BIG": value})

    assert ran.result["stdout"] == f"{len(value)}\n"


@pytest.mark.parametrize(("parents", "is_a_variable"), [(3, True), (20_000, False)])
async def test_the_names_of_what_it_depends_on_come_as_a_file(
    executor: Executor, parents: int, is_a_variable: bool
) -> None:
    names = {f"parent é {at}": at for at in range(parents)}
    script = (
        "import json, os\nprint(len(json.load(open(os.environ['HERO_DEPENDS_FILE']))), 'HERO_DEPENDS' in os.environ)"
    )

    ran = await run(executor, script, env_vars={"HERO_DEPENDS": json.dumps(names, ensure_ascii=False)})

    assert ran.result["stdout"] == f"{parents} {is_a_variable}\n"


async def test_a_script_knows_its_flow_and_has_a_key_of_its_own_for_each_attempt(executor: Executor) -> None:
    script = "import os; print(os.environ.get('HERO_FLOW_ID'), os.environ['HERO_ATTEMPT_ID'])"

    async def told(**members: Any) -> list[str]:
        given = assignment(script).model_copy(update=members)
        output = Output(1000)
        outcome = await executor.execute(given, output, trio.Event())
        return outcome.result["stdout"].split()

    first, again, next_one = await told(flow_id=12), await told(flow_id=12), await told(flow_id=12, token="u")
    of_message = await told()

    assert first == again
    assert (first[0], next_one[0], of_message[0]) == ("12", "12", "None")
    assert first[1] != next_one[1]


# -- limits


ALLOCATES = "data = bytearray(300 * 1024 * 1024)"
FORKS = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        data = bytearray(100 * 1024 * 1024)
        time.sleep(60)
os.wait()
"""
OF_A_CHILD_IN_ANOTHER_SESSION = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "{ALLOCATES}; import time; time.sleep(60)"], start_new_session=True).wait()
"""


@pytest.mark.parametrize("script", [ALLOCATES, FORKS, OF_A_CHILD_IN_ANOTHER_SESSION])
async def test_memory_is_limited_for_the_script_and_what_it_starts_together(executor: Executor, script: str) -> None:
    limited = dataclasses.replace(executor, memory_limit=200 * 1024 * 1024)

    ran = await run(limited, script)

    assert str(ran.error).startswith("memory limit exceeded: the script and what it started had ")
    assert str(ran.error).endswith(" MiB, the runner's --memory-limit is 200 MiB")
    assert ran.result["exit_code"] == "-9"
    assert (await run(executor, ALLOCATES)).error is None


@pytest.mark.slow
async def test_two_gigabytes_are_stopped_at_a_limit_of_one(executor: Executor) -> None:
    limited = dataclasses.replace(executor, memory_limit=1024**3)

    ran = await run(limited, "print('begun', flush=True)\ndata = bytearray(2 * 1024**3)\nprint('got it')")

    assert "memory limit" in str(ran.error)
    assert ran.result["stdout"] == "begun\n"


@pytest.mark.parametrize(
    "script",
    [
        # Address space that is only reserved.
        "import mmap; space = mmap.mmap(-1, 64 * 1024**3, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)",
        # Pages of a file, which the system takes back when it needs them.
        "import mmap; f = open('big', 'wb'); f.write(bytes(2**28)); f.close(); f = open('big', 'rb')\n"
        "pages = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); sum(pages[::4096]); import time; time.sleep(1)",
        # What forked processes share.
        "import os, time; data = bytearray(100 * 2**20)\nfor _ in range(4):\n"
        "    if os.fork() == 0: time.sleep(1); os._exit(0)\nfor _ in range(4): os.wait()",
    ],
)
async def test_memory_that_is_not_its_own_is_not_counted(executor: Executor, script: str) -> None:
    limited = dataclasses.replace(executor, memory_limit=200 * 1024 * 1024)

    assert (await run(limited, script)).error is None


@pytest.mark.parametrize(
    ("command", "script", "says"),
    [
        ("node", "fetch('http://127.0.0.1:45678/').catch(() => 0).then(() => console.log('asked'))", "asked"),
        ("node", "console.log(new WebAssembly.Memory({initial: 1, maximum: 65536}).buffer.byteLength)", "65536"),
    ],
)
async def test_programs_that_reserve_address_space_run(spawner: Spawner, command: str, script: str, says: str) -> None:
    path = shutil.which(command)
    if path is None:
        pytest.skip(f"there is no {command} here")
    executor = Executor(spawner, {"V": Interpreter((path, "-"))}, memory_limit=1024**3)

    ran = await run(executor, script, "V")

    assert ran.error is None, ran.result
    assert says in ran.result["stdout"]


async def test_no_core_is_dumped(executor: Executor) -> None:
    ran = await run(executor, "ulimit -Hc", "Sal")

    assert ran.result["stdout"] == "0\n"


async def test_output_beyond_the_limit_is_drained_and_its_end_kept(executor: Executor) -> None:
    ran = await run(executor, "for i in range(200_000): print(i)", output_limit=1000)

    assert ran.error is None
    assert ran.result["stdout"].endswith("\n199999\n")
    assert len(ran.result["stdout"]) == TAIL_BYTES
    assert ran.logged["stdout"][0] == "0"
    assert ran.logged["stdout"][-1] == "[more than 1000 bytes of output; the rest is not logged]"


async def test_huge_lines_and_bytes_that_are_no_text(executor: Executor) -> None:
    ran = await run(
        executor, "import sys; sys.stdout.buffer.write(b'\\xff' * 100_000 + b'\\n'); sys.stderr.write('x' * 50_000)"
    )

    assert ran.error is None
    assert "".join(ran.logged["stdout"]) == "\ufffd" * 100_000
    assert [len(line) for line in ran.logged["stderr"]] == [LINE_BYTES] * 3 + [50_000 - 3 * LINE_BYTES]


async def test_lines_are_seen_while_the_script_runs(executor: Executor) -> None:
    begun = Begun(executor, "import time; print(1); time.sleep(600)")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(begun.run)
        assert await begun.pids() == [1]
        assert begun.ran is None
        begun.scope.cancel()


async def test_both_streams_are_logged_in_the_order_in_which_they_were_written(executor: Executor) -> None:
    script = """
import fcntl, struct, sys, termios, time
def until_read(stream):
    while struct.unpack("i", fcntl.ioctl(stream, termios.FIONREAD, bytes(4))) != (0,):
        time.sleep(0.001)
for number in range(20):
    print("out", number, end="" if number == 19 else "\\n")
    until_read(sys.stdout)
    print("err", number, file=sys.stderr)
    until_read(sys.stderr)
"""

    ran = await run(executor, script)

    expected = [f"{stream} {number}" for number in range(20) for stream in ("out", "err")]
    expected[-2:] = ["err 19", "out 19"]  # which has no newline, so it is complete at the end
    assert ran.lines == expected


@pytest.mark.parametrize("how", ["timeout", "stop"])
async def test_what_is_ended_keeps_its_output_and_its_result(executor: Executor, how: str) -> None:
    script = """
import os, sys, time
open(os.environ["HERO_RESULT"], "w").write("rows=3\\n")
print("10%\\r20%\\r", end="", flush=True)
print("oops", file=sys.stderr)
print("30%", end="", flush=True)
time.sleep(600)
"""
    begun = Begun(executor, script, timeout=5 if how == "timeout" else 0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(begun.run)
        await until(lambda: len(begun.output.captures["stdout"].tail) == len("10%\r20%\r30%"))
        if how == "stop":
            begun.stop.set()

    assert begun.ran is not None
    assert begun.ran.error == ("timed out after 5 s" if how == "timeout" else "killed by SIGTERM: oops")
    assert begun.ran.result == {"rows": "3", "stdout": "10%\r20%\r30%", "stderr": "oops\n", "exit_code": "-15"}
    assert sorted(begun.ran.lines) == sorted(["10%", "20%", "oops", "30%"])


# -- nothing is left


async def test_what_a_script_leaves_running_is_killed_when_it_ends(executor: Executor) -> None:
    ran = await run(executor, FAMILY)

    assert ran.error is None
    assert [pid for pid in map(int, ran.result["stdout"].split()) if is_running(pid)] == []


@pytest.mark.slow
async def test_a_timeout_kills_the_whole_family(executor: Executor) -> None:
    ran = await run(executor, FAMILY + "time.sleep(600)", timeout=5)

    assert ran.error == "timed out after 5 s"
    assert ran.result["exit_code"] == "-9"
    pids = [int(word) for word in ran.result["stdout"].split()]
    assert len(pids) == 3
    assert not any(map(is_running, pids))


async def test_a_script_may_clean_up_when_its_time_is_up(executor: Executor) -> None:
    patient = dataclasses.replace(executor, grace=60.0)
    script = "trap 'echo cleaning; exit 0' TERM; sleep 600 & wait"

    ran = await run(patient, script, "Sal", timeout=1)

    assert ran.error == "timed out after 1 s"
    assert ran.result["stdout"] == "cleaning\n"
    assert ran.result["exit_code"] == "0"


async def test_its_children_may_clean_up_as_well(executor: Executor) -> None:
    patient = dataclasses.replace(executor, grace=60.0)
    child = "trap 'echo child cleaning; exit 0' TERM; sleep 600 & wait"
    script = f"""trap 'wait; echo cleaning; exit 0' TERM; sh -c "{child}" & wait"""

    ran = await run(patient, script, "Sal", timeout=1)

    assert ran.result["stdout"] == "child cleaning\ncleaning\n"


async def test_a_script_within_its_time_is_left_alone(executor: Executor) -> None:
    assert (await run(executor, "print(1)", timeout=60)).error is None


async def test_stopping_kills_the_whole_family(executor: Executor) -> None:
    begun = Begun(executor, FAMILY + "time.sleep(600)")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(begun.run)
        pids = await begun.pids()
        assert all(map(is_running, pids))
        begun.stop.set()

    assert begun.ran is not None
    assert begun.ran.error == "killed by SIGKILL"
    assert not any(map(is_running, pids))


async def test_a_script_that_is_stopped_as_it_starts_gets_sigterm(spawner: Spawner) -> None:
    executor = Executor(spawner, {"Sal": Interpreter(("/bin/sh",))}, grace=8.0)
    attempts = [Begun(executor, "exec sleep 600", script_type="Sal") for _ in range(12)]

    async with trio.open_nursery() as nursery:
        for begun in attempts:
            begun.stop.set()
            nursery.start_soon(begun.run)

    assert {begun.ran.error for begun in attempts if begun.ran is not None} == {"killed by SIGTERM"}


async def test_cancelling_kills_the_whole_family(executor: Executor) -> None:
    begun = Begun(executor, FAMILY + "time.sleep(600)")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(begun.run)
        pids = await begun.pids()
        begun.scope.cancel()

    await until(lambda: not any(map(is_running, pids)))
    await until(lambda: os.listdir(executor.spawner.directory) == [])


async def test_a_killed_guard_takes_its_script_along_and_fails_the_attempt(executor: Executor) -> None:
    begun = Begun(executor, "import os, time; print(os.getpid(), os.getppid()); time.sleep(600)")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(begun.run)
        script, guard = await begun.pids()
        os.kill(guard, signal.SIGKILL)

    assert begun.ran is not None
    assert begun.ran.error is not None
    assert "guard was killed" in begun.ran.error
    await until(lambda: not is_running(script))


async def test_a_stopped_guard_goes_on(executor: Executor) -> None:
    """A script that stops it is ended all the same, with what it started."""
    script = "echo $$ $PPID; kill -STOP $PPID; sleep 600 & sleep 600"
    begun = Begun(executor, script, script_type="Sal", timeout=1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(begun.run)
        shell, _ = await begun.pids()

    assert begun.ran is not None
    assert begun.ran.error == "timed out after 1 s"
    assert not is_running(shell)


async def test_a_stopped_warden_goes_on_when_it_is_needed() -> None:
    async with open_spawner() as spawner:
        executor = Executor(spawner, {"Python": PYTHON})
        warden = await warden_of(executor)
        os.kill(warden, signal.SIGSTOP)

        with trio.fail_after(20):
            assert (await run(executor, "print(1)")).error is None
        os.kill(warden, signal.SIGSTOP)

    assert not is_running(warden)
    assert not spawner.directory.exists()


async def test_a_killed_warden_is_replaced_and_its_scripts_go_on(executor: Executor) -> None:
    begun = Begun(executor, "import os, time; print(os.getppid())\nwhile not os.path.exists('go'): time.sleep(0.01)")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(begun.run)
        (guard,) = await begun.pids()
        warden = parent_of(guard)
        os.kill(warden, signal.SIGKILL)
        await until(lambda: not is_running(warden))

        assert (await run(executor, "print(1)")).error is None
        (work,) = executor.spawner.directory.glob("*/work")
        (work / "go").touch()

    assert begun.ran is not None
    assert begun.ran.error is None


async def test_many_at_once_do_not_mix(executor: Executor) -> None:
    ran: dict[int, Ran] = {}

    async def one(number: int) -> None:
        ran[number] = await run(executor, f'echo {number}; echo "n={number}" > "$HERO_RESULT"; exit {number}', "Sal")

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(one, number)

    assert {number: (one.result["stdout"], one.result["n"]) for number, one in ran.items()} == {
        number: (f"{number}\n", str(number)) for number in range(40)
    }
    assert [one.result["exit_code"] for _, one in sorted(ran.items())] == [str(number) for number in range(40)]


# -- what is no fault of the script


async def test_a_directory_that_was_cleaned_away_is_made_again(executor: Executor) -> None:
    """The runner's directory is empty while it has nothing to do, and so looks forgotten."""
    executor.spawner.directory.rmdir()

    assert (await run(executor, "print(1)")).error is None
    assert executor.spawner.directory.stat().st_mode & 0o777 == 0o700


async def warden_of(executor: Executor) -> int:
    assert (await run(executor, "print(1)")).error is None  # there is one
    (warden,) = [pid for pid in children_of(os.getpid()) if "warden.py" in " ".join(command_of(pid))]
    return warden


@pytest.mark.parametrize(
    ("limit", "why"), [(3, "there is nobody to do so"), (8, "Too many open files"), (10, "Too many open files")]
)
async def test_an_attempt_for_which_there_is_no_process_is_lost(executor: Executor, limit: int, why: str) -> None:
    warden = await warden_of(executor)
    before = resource.prlimit(warden, resource.RLIMIT_NOFILE)
    resource.prlimit(warden, resource.RLIMIT_NOFILE, (limit, before[1]))

    ran = await run(executor, "print(1)")

    assert ran.error == f"cannot start a process: {why}"
    assert ran.outcome.is_lost
    assert ran.outcome.is_unfit
    assert await executor.try_out() == dict.fromkeys(executor.interpreters, ran.error)
    resource.prlimit(warden, resource.RLIMIT_NOFILE, before)
    assert await executor.try_out() == {}
    assert (await run(executor, "print(1)")).error is None


async def test_an_attempt_whose_files_have_no_room_is_lost(executor: Executor, tmp_path: Path) -> None:
    spawner = Spawner(tmp_path / "gone" / "with what it was in")

    ran = await run(dataclasses.replace(executor, spawner=spawner), "print(1)")

    assert ran.error == "cannot prepare the attempt's files: No such file or directory"
    assert ran.outcome.is_lost
    assert ran.outcome.is_unfit


@pytest.mark.parametrize("in_inputs", [False, True])
async def test_an_attempt_that_no_room_would_be_enough_for_fails(
    executor: Executor, tmp_path: Path, in_inputs: bool
) -> None:
    """While one whose room others have is lost."""
    much = "x" * 200_000
    given = {"script": "print(1)", "inputs": {"1": {"v": much}}} if in_inputs else {"script": f"#{much}"}
    with small_file_system(tmp_path, "128k") as small:
        executor.spawner.directory.rmdir()
        executor.spawner.directory = small

        ran = await run(executor, **given)

        assert ran.error is not None
        assert ran.error.startswith("cannot prepare the attempt's files: No space left on device; its script and")
        assert not ran.outcome.is_lost
        assert ran.outcome.retry
        (small / "others").write_bytes(bytes(100_000))
        assert (await run(executor, "#" + much[:50_000])).outcome.is_lost


async def test_an_attempt_with_a_file_that_the_runner_may_not_write_fails(executor: Executor) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        ran = await run(executor, "#" + "x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert ran.error is not None
    assert ran.error.startswith("cannot prepare the attempt's files: File too large; its script and inputs")
    assert not ran.outcome.is_lost


async def test_an_attempt_without_an_interpreter_is_lost(spawner: Spawner, tmp_path: Path) -> None:
    shell = tmp_path / "shell"
    executor = Executor(spawner, {"Sal": Interpreter((str(shell),))})

    ran = await run(executor, "exit 0", "Sal")

    assert ran.outcome.is_lost
    assert ran.outcome.is_unfit
    assert await executor.try_out() == {"Sal": ran.error}
    shell.symlink_to("/bin/sh")
    assert await executor.try_out() == {}


@pytest.mark.parametrize("script", ["exit 3", "kill -9 $$", "exit 127", "exec /does/not/exist"])
async def test_a_script_that_fails_is_not_lost(executor: Executor, script: str) -> None:
    ran = await run(executor, script, "Sal")

    assert ran.error is not None
    assert not ran.outcome.is_lost
    assert not ran.outcome.is_unfit
