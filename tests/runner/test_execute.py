"""Attempts with real processes: what a script gets, how its end is told, and that nothing of it is left."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from coordinator.runner.execute import BadEnvironment, Executor, Interpreter, environment
from coordinator.runner.output import LINE_BYTES, TAIL_BYTES, Output
from coordinator.runner.spawn import Spawner
from tests.support.attempts import Ran, assignment, run
from tests.support.processes import is_running, parent_of
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


async def test_wrong_result_lines_are_complained_about_in_the_log_only(executor: Executor) -> None:
    ran = await run(executor, "import os; open(os.environ['HERO_RESULT'], 'w').write('a=1\\nwrong\\n')")

    assert ran.error is None
    assert ran.result["a"] == "1"
    assert ran.result["stderr"] == ""
    assert ran.logged["stderr"] == ["HERO_RESULT line 2 left out: it is no key=value"]


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


async def test_too_large_an_environment_says_so(executor: Executor) -> None:
    ran = await run(executor, "print(1)", env_vars={"BIG": "x" * 4_000_000})

    assert ran.error is not None
    assert "Argument list too long" in ran.error


# -- limits


async def test_memory_is_limited(executor: Executor) -> None:
    limited = dataclasses.replace(executor, memory_limit=200 * 1024 * 1024)
    script = "data = bytearray(300 * 1024 * 1024)"

    assert (await run(executor, script)).error is None
    assert (await run(limited, script)).error == "exit status 1: MemoryError"


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


# -- nothing is left


async def test_what_a_script_leaves_running_is_killed_when_it_ends(executor: Executor) -> None:
    ran = await run(executor, FAMILY)

    assert ran.error is None
    assert [pid for pid in map(int, ran.result["stdout"].split()) if is_running(pid)] == []


async def test_a_timeout_kills_the_whole_family(executor: Executor) -> None:
    ran = await run(executor, FAMILY + "time.sleep(600)", timeout=2)

    assert ran.error == "timed out after 2 s"
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
