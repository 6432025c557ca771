"""Attempts in sandboxes: what a script in one can do, what it cannot, and that everything else is as without."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from coordinator.runner.execute import Executor, Interpreter
from coordinator.runner.isolate import CannotIsolate, Isolation, find_bubblewrap
from coordinator.runner.output import Output
from coordinator.runner.spawn import Spawner, open_spawner
from tests.support.attempts import assignment, run
from tests.support.commands import herocoordinator
from tests.support.isolation import INTERPRETERS, why_not
from tests.support.processes import parent_of
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"no sandboxes here: {why_not()}")

HOME = os.path.expanduser("~")
MEBIBYTE = 1024 * 1024
ROOT = Path(__file__).parents[2]


@pytest.fixture
def executor(spawner: Spawner) -> Executor:
    isolation = Isolation(find_bubblewrap(), processes=64, disk=32 * MEBIBYTE, file=16 * MEBIBYTE)
    return Executor(spawner, INTERPRETERS, grace=1.0, isolation=isolation)


def limited(executor: Executor, **limits: Any) -> Executor:
    assert executor.isolation is not None
    return dataclasses.replace(executor, isolation=dataclasses.replace(executor.isolation, **limits))


def with_mark(mark: str) -> list[int]:
    """Processes on this machine with this in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


async def said_by(executor: Executor, script: str, **more: Any) -> Any:
    """What a script prints as JSON."""
    ran = await run(executor, f"import json, os, socket, sys\n{script}", **more)
    assert ran.error is None, ran.error
    return json.loads(ran.result["stdout"])


TRIED = """
def tried(what):
    try:
        return str(what())
    except OSError as error:
        return type(error).__name__
"""

# -- as without


async def test_what_a_script_is_given_it_has(executor: Executor) -> None:
    given = await said_by(
        executor,
        "import pathlib\n"
        "inputs = json.load(open(os.environ['HERO_INPUTS']))\n"
        "open(os.environ['HERO_RESULT'], 'w').write('a=1\\n')\n"
        "empty = [os.listdir(os.environ['TMPDIR']), os.listdir(os.environ['HOME'])]\n"
        "files = [sorted(os.listdir('.')), empty, os.getcwd() == sys.path[0], open('x', 'w').write('y')]\n"
        "print(json.dumps([os.environ['GIVEN'], inputs, files, pathlib.Path.home().exists()]))",
        env_vars={"GIVEN": "this"},
        inputs={"2": {"stdout": "earlier"}},
    )

    assert given == ["this", {"2": {"stdout": "earlier"}}, [["script.py"], [[], []], True, 1], True]


async def test_results_exit_status_and_signals_are_told_as_without(executor: Executor) -> None:
    shell = await run(executor, 'echo a=1 > "$HERO_RESULT"; echo out; echo err > /dev/stderr; exit 3', "Sal")
    killed = await run(executor, "kill -SEGV $$", "Sal")
    same_status = await run(executor, "exit 139", "Sal")
    replaced = await run(executor, 'echo b=2 > new; mv new "$HERO_RESULT"', "Sal")

    assert shell.result == {"a": "1", "stdout": "out\n", "stderr": "err\n", "exit_code": "3"}
    assert shell.error == "exit status 3: err"
    assert (killed.error, killed.result["exit_code"]) == ("killed by SIGSEGV", "-11")
    assert (same_status.error, same_status.result["exit_code"]) == ("exit status 139", "139")
    assert (replaced.error, replaced.result["b"]) == (None, "2")


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ('rm "$HERO_RESULT"; mkfifo "$HERO_RESULT"', "no file any more"),
        ('rm "$HERO_RESULT"; mkdir "$HERO_RESULT"', "no file any more"),
        ('ln -sf /etc/passwd "$HERO_RESULT"', "no file any more"),
        ('head -c 5000000 /dev/zero > "$HERO_RESULT"', "too large: 5000000 bytes"),
        ('chmod 0 "$HERO_RESULT"', "the script has forbidden it"),
        ('rm "$HERO_RESULT"', None),
    ],
)
async def test_what_is_put_in_the_place_of_the_result_is_told(
    executor: Executor, script: str, fault: str | None
) -> None:
    ran = await run(executor, script, "Sal")

    assert (ran.error is None) if fault is None else (fault in str(ran.error))


async def test_another_type_reads_its_script_from_stdin_and_may_open_that_again(executor: Executor) -> None:
    ran = await run(executor, "cat /dev/stdin; exit 0", "Sal")

    assert (ran.error, ran.result["stdout"]) == (None, "cat /dev/stdin; exit 0")


async def test_a_command_that_cannot_be_run_says_so(executor: Executor) -> None:
    ran = await run(dataclasses.replace(executor, interpreters={"V": Interpreter(("/does/not/exist",))}), "", "V")

    assert str(ran.error).startswith("exit status 127: herocoordinator runner: cannot run /does/not/exist")


async def test_a_variable_that_is_too_large_is_named(executor: Executor) -> None:
    ran = await run(executor, "", env_vars={"LARGE": "x" * 200_000})

    assert str(ran.error).startswith("env_vars: LARGE takes")
    assert not ran.outcome.retry


async def test_the_jobs_variables_reach_the_script_and_nothing_outside(executor: Executor, tmp_path: Path) -> None:
    """The sandbox is made with the runner's rights; a library that a job names must not be loaded before."""
    trace = tmp_path / "loaded"
    ran = await run(
        executor,
        "import os; print(os.environ['LD_DEBUG'])",
        env_vars={"LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": str(trace)},
    )

    assert "libs" in ran.result["stdout"]
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
async def test_a_time_out_lets_the_script_clean_up_and_keeps_its_result(executor: Executor) -> None:
    script = """
import os, signal, sys, time
def leave(*_):
    print("cleaned up", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
open(os.environ["HERO_RESULT"], "w").write("done=half\\n")
time.sleep(600)
"""
    ran = await run(executor, script, timeout=2)

    assert ran.error == "timed out after 2 s"
    assert (ran.result["done"], ran.result["stdout"]) == ("half", "cleaned up\n")


@pytest.mark.slow
async def test_what_is_deaf_to_sigterm_is_killed_and_its_result_kept(executor: Executor) -> None:
    script = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    open(os.environ["HERO_RESULT"], "w").write("done=half\\n")
else:
    os.setsid()
time.sleep(600)
"""
    ran = await run(dataclasses.replace(executor, grace=0.2), script, timeout=2)

    assert ran.error == "timed out after 2 s"
    assert (ran.result["done"], ran.result["exit_code"]) == ("half", "-9")


@pytest.mark.slow
async def test_nothing_of_it_is_left_when_it_ends_is_cancelled_or_its_guard_is_killed(executor: Executor) -> None:
    mark = f"mark-{os.getpid()}"
    family = f"(setsid sleep 600 {mark} &) ; setsid sh -c 'sleep 601; : {mark}' & sleep 602; : {mark}"
    ending = await run(executor, f"sh -c '(setsid sh -c \"sleep 600; : {mark}\" &)'; sleep 0.3", "Sal")
    assert ending.error is None
    assert with_mark(mark) == []

    for end in ("cancel", "guard"):
        output, began = Output(1000), assignment(f"{family}", "Sal")
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(executor.execute, began, output, trio.Event())
                await until(lambda: len(with_mark(mark)) >= 1)
                if end == "cancel":
                    scope.cancel()
                else:
                    ours = with_mark(str(executor.spawner.directory))  # warden, guard, bwrap, and this once more inside
                    (guard,) = {parent_of(pid) for pid in ours if pid in with_mark("bwrap")} & set(
                        with_mark("warden.py")
                    )
                    os.kill(guard, signal.SIGKILL)
        await until(lambda: with_mark(mark) == [])


@pytest.mark.slow
async def test_memory_beyond_the_limit_ends_it(executor: Executor) -> None:
    script = "held = [bytearray(2**20) for _ in range(300)]\nimport time; time.sleep(60)"

    ran = await run(dataclasses.replace(executor, memory_limit=100 * MEBIBYTE), script)

    assert str(ran.error).startswith("memory limit exceeded")


# -- what it cannot reach


async def test_it_sees_no_other_process_and_signals_none(executor: Executor) -> None:
    seen, killed = await said_by(
        executor,
        f"{TRIED}\n"
        "seen = [name for name in os.listdir('/proc') if name.isdigit()]\n"
        f"killed = [tried(lambda: os.kill(pid, 0)) for pid in ({os.getpid()}, {os.getppid()})]\n"
        "print(json.dumps([seen, killed]))",
    )

    assert len(seen) == 2  # the sandbox's first, and itself
    assert killed == ["ProcessLookupError"] * 2


@pytest.mark.parametrize(
    ("attack", "error"),
    [
        ("os.kill(1, signal.SIGINT)", None),
        ("resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))", "its sandbox was ended: exit status 120"),
        ("resource.prlimit(1, resource.RLIMIT_AS, (0, 0))", "its sandbox was ended: exit status 120"),
        ("resource.prlimit(1, resource.RLIMIT_FSIZE, (0, 0))", "HERO_RESULT cannot be read: the script has forbidden"),
    ],
)
async def test_who_ends_its_own_sandbox_has_failed_and_the_runner_goes_on(
    executor: Executor, attack: str, error: str | None
) -> None:
    """A sandbox that could not be made would be the runner's fault: it would take no more jobs."""
    write = "open(os.environ['HERO_RESULT'], 'w').write('a=b')"
    ran = await run(executor, f"import os, resource, signal, time\n{write}\n{attack}\ntime.sleep(0.4)")

    assert (ran.error is None) if error is None else (error in str(ran.error))
    assert (ran.outcome.is_lost, ran.outcome.is_unfit) == (False, False)


async def test_it_reads_nothing_of_the_runner_and_of_other_attempts(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEROCOORDINATOR_TOKEN", "hc_secret")
    other = executor.spawner.directory / "other"
    for secret in (tmp_path / "runner.key", other):
        secret.write_text("secret")
    places = [str(tmp_path / "runner.key"), str(other), str(executor.spawner.directory), f"{HOME}/.ssh", "/var/log",
              str(ROOT / "pyproject.toml"), "/etc/shadow", "/root/.bashrc", "/proc/1/environ", "/proc/1/mem",
              "/proc/1/fd/0", "/sys/kernel"]  # fmt: skip

    found = await said_by(
        executor,
        f"places = {places}\nfound = []\n"
        "for place in places:\n"
        "    try: found.append(os.listdir(place) if os.path.isdir(place) else open(place, 'rb').read(9).hex())\n"
        "    except OSError: pass\n"
        "print(json.dumps([found, dict(os.environ), open('/proc/self/environ').read()]))",
    )

    assert found[0] == []
    assert "secret" not in str(found)


async def test_two_attempts_share_no_file_and_no_user(executor: Executor) -> None:
    said: list[Any] = []
    script = (
        "import time, glob\nopen('/tmp/of-this', 'w'); open('/dev/shm/of-this', 'w'); time.sleep(0.5)\n"
        "print(json.dumps([os.getuid(), os.stat('/tmp/of-this').st_nlink, len(glob.glob('/dev/shm/*'))]))"
    )

    async def one() -> None:
        said.append(await said_by(executor, script))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        nursery.start_soon(one)

    assert [rest for _, *rest in said] == [[1, 1]] * 2
    if os.geteuid() == 0:
        assert len({user for user, *_ in said}) == 2
        assert all(user > 1_000_000_000 for user, *_ in said)


async def test_it_writes_nowhere_else_and_has_no_rights(executor: Executor) -> None:
    refused, status, user = await said_by(
        executor,
        f"{TRIED}\n"
        "places = ['/x', '/dev/x', '/etc/x', '/usr/x', '/job/x', '/run/x', '/proc/sys/kernel/hostname', os.__file__]\n"
        "refused = [tried(lambda: open(place, 'a')) for place in places]\n"
        "status = dict(line.split(':\\t') for line in open('/proc/self/status').read().splitlines())\n"
        "print(json.dumps([refused, status, os.getuid()]))",
    )

    assert set(refused) <= {"OSError", "PermissionError", "FileNotFoundError"}
    assert (status["CapEff"], status["CapPrm"], status["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    assert status["Seccomp"] == "2" or os.uname().machine not in ("x86_64", "aarch64")
    assert user != 0


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="no filter for this machine")
async def test_it_makes_no_namespace_and_asks_for_no_key(executor: Executor) -> None:
    keyctl = {"x86_64": 250, "aarch64": 219}[os.uname().machine]

    said = await said_by(
        executor,
        "import ctypes\nlibrary = ctypes.CDLL(None, use_errno=True)\n"
        f"asked = [library.syscall({keyctl}, 0, -4, 0), ctypes.get_errno()]\n"
        "made = [library.unshare(flags) for flags in (0x10000000, 0x40000000, 0x20000)]\n"
        "print(json.dumps([asked, made, library.unshare(0x400), sys.platform, os.system('true')]))",
    )

    assert said == [[-1, 1], [-1, -1, -1], 0, "linux", 0]


@pytest.fixture
def listening() -> Iterator[tuple[int, str]]:
    """A port of this machine's loopback, and an abstract Unix socket."""
    name = f"hero-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0{name}")
        unix.listen()
        yield tcp.getsockname()[1], name


@pytest.mark.parametrize("network", [False, True])
async def test_it_reaches_the_network_only_if_it_may(
    executor: Executor, listening: tuple[int, str], network: bool
) -> None:
    port, name = listening

    reached = await said_by(
        limited(executor, network=network),
        f"{TRIED}\n"
        f"tcp = tried(lambda: socket.create_connection(('127.0.0.1', {port}), 5).close())\n"
        f"unix = tried(lambda: socket.socket(socket.AF_UNIX).connect('\\0{name}'))\n"
        "names = [name for _, name in socket.if_nameindex()]\n"
        "print(json.dumps([tcp, unix, names == ['lo']]))",
    )

    assert reached[:2] == (["None", "None"] if network else ["ConnectionRefusedError"] * 2)
    assert network or reached[2]


async def test_a_path_can_be_shown_but_not_a_key_in_it(executor: Executor, tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()
    for name in ("data", "runner.key"):
        (shown / name).write_text("text")
    if os.geteuid() == 0:
        for path in (shown, shown / "data", shown / "runner.key"):
            path.chmod(0o755)

    said = await said_by(
        limited(executor, paths=(shown,), hidden=(shown / "runner.key",)),
        f"{TRIED}\n"
        f"print(json.dumps([open('{shown}/data').read(), tried(lambda: open('{shown}/runner.key').read()), "
        f"tried(lambda: open('{shown}/new', 'w'))]))",
    )

    assert said == ["text", "PermissionError", "OSError"]


# -- limits


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "import os\nwhile True: os.fork()",
        "import os, time\nfor _ in range(100_000):\n    if os.fork() == 0: time.sleep(600)",
        "import threading, time\nfor _ in range(100_000): threading.Thread(target=time.sleep, args=(600,)).start()",
        "import os, time\nfor _ in range(100_000):\n    try:\n        if os.fork() == 0: time.sleep(600)\n"
        "    except OSError: time.sleep(1)",
    ],
)
async def test_too_many_processes_end_it(executor: Executor, script: str) -> None:
    with trio.fail_after(100):
        ran = await run(executor, script)

    assert str(ran.error).startswith("process limit exceeded")
    assert "64" in str(ran.error)
    assert "--process-limit" in str(ran.error)


@pytest.mark.slow
async def test_as_many_processes_as_allowed_are_no_matter(executor: Executor) -> None:
    script = (
        "import subprocess\nall = [subprocess.Popen(['sleep', '1']) for _ in range(50)]\n[one.wait() for one in all]"
    )

    assert (await run(executor, script)).error is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "limit"),
    [
        ("with open('large', 'wb') as file:\n    for _ in range(10_000): file.write(bytes(2**20))", "file"),
        ("import os\nopen('sparse', 'w').truncate(10 * 2**30)", "file"),
        ("for name in range(10_000):\n    with open(str(name), 'wb') as file: file.write(bytes(2**20))", "disk"),
        (
            "for name in range(10_000):\n    with open(f'/dev/shm/{name}', 'wb') as file: file.write(bytes(2**20))",
            "disk",
        ),
        ("import time\nfor name in range(20_000): open(str(name), 'w').close()\ntime.sleep(60)", "disk"),
        ("import time\nfor name in range(20_000): open(f'/dev/shm/{name}', 'w').close()\ntime.sleep(60)", "disk"),
    ],
)
async def test_too_much_on_the_disk_fails_it(executor: Executor, script: str, limit: str) -> None:
    with trio.fail_after(100):
        ran = await run(executor, script)

    assert str(ran.error).startswith(f"{limit} limit exceeded")
    assert f"--{limit}-limit" in str(ran.error)


async def test_a_shell_that_writes_too_large_a_file_is_told_the_limit(executor: Executor) -> None:
    ran = await run(executor, "set -e; head -c 100000000 /dev/zero > large", "Sal")

    assert str(ran.error).startswith("file limit exceeded")


async def test_a_failure_within_the_limits_names_none(executor: Executor) -> None:
    ran = await run(executor, "open('small', 'w').write('x'); raise SystemExit('no such thing')")

    assert ran.error == "exit status 1: no such thing"


async def test_a_large_file_that_is_only_shown_is_none_of_its_own(executor: Executor, tmp_path: Path) -> None:
    """Where temporary files are, there may be the Python that scripts run on, too."""
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "large").write_bytes(b"")
    os.truncate(shown / "large", 64 * 1024 * 1024)

    ran = await run(limited(executor, paths=(shown,)), f"open('{shown}/large'); raise SystemExit('no such thing')")

    assert ran.error == "exit status 1: no such thing"


# -- where there is no sandbox


def refusal(*before: str, **env: str) -> subprocess.CompletedProcess[str]:
    """What a runner ends with that has no coordinator, and therefore does not ask one."""
    return subprocess.run(
        [*before, sys.executable, "-m", "coordinator", "runner", "--context", "1", "--isolate", "--url", "127.0.0.1:1"],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        timeout=60,
        check=False,
    )


def test_without_bubblewrap_the_start_is_refused(tmp_path: Path) -> None:
    done = refusal(PATH=str(tmp_path))

    assert done.returncode == 1
    assert "--isolate needs bubblewrap, and there is no bwrap on PATH; install it" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take the right to make namespaces away")
def test_where_it_can_make_no_namespaces_the_start_is_refused() -> None:
    setpriv = shutil.which("setpriv")
    assert setpriv is not None

    done = refusal(setpriv, "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")

    assert done.returncode == 1
    assert "no sandbox can be made here: bwrap: " in done.stderr
    assert "allow user namespaces" in done.stderr
    assert "waiting for jobs" not in done.stderr


def test_a_program_that_it_would_not_show_is_named(tmp_path: Path) -> None:
    program = tmp_path / "interpreter"
    program.write_text("#!/does/not/exist\n")
    program.chmod(0o700)

    async def check() -> None:
        async with open_spawner() as spawner:
            executor = Executor(spawner, {"V": Interpreter((str(program),))}, isolation=Isolation(find_bubblewrap()))
            await executor.check()

    with pytest.raises(CannotIsolate, match="--isolate-path"):
        trio.run(check)


@pytest.mark.slow
def test_nonsense_is_refused() -> None:
    wrong = [
        (("--context", "1", "--context", "2"), "--isolate to keep them apart, --shared"),
        (("--context", "1", "--disk-limit", "2000000"), "--disk-limit needs --isolate"),
        (("--context", "1", "--isolate", "--isolate-path", "/does/not/exist"), "--isolate-path: /does/not/exist"),
        (("--context", "1", "--isolate", "--isolate-path", "/"), "holds more than scripts should read"),
        (("--context", "1", "--isolate", "--isolate-path", HOME), "holds more than scripts should read"),
        (("--context", "1", "--isolate", "--isolate-path", tempfile.gettempdir()), "holds more than scripts should"),
    ]
    for arguments, said in wrong:
        done = herocoordinator("runner", *arguments)

        assert done.returncode == 2
        assert said in done.stderr


# -- as somebody who is not root

AS_A_USER = """
import json, os, trio
from coordinator.runner.execute import Executor
from coordinator.runner.isolate import Isolation, find_bubblewrap
from coordinator.runner.spawn import open_spawner
from tests.support.attempts import run
from tests.support.isolation import INTERPRETERS

SCRIPT = '''
import json, os
status = dict(line.split(":\\\\t") for line in open("/proc/self/status").read().splitlines())
seen = [name for name in os.listdir("/proc") if name.isdigit()]
def readable(path):
    try: return bool(open(path).read())
    except OSError: return False
print(json.dumps([os.getuid(), status["CapEff"], len(seen), [readable(path) for path in PATHS]]))
'''

async def main():
    secret = os.path.join(os.environ["DIRECTORY"], "runner.key")
    with open(secret, "w") as file:
        file.write("secret")
    async with open_spawner() as spawner:
        isolation = Isolation(find_bubblewrap(), processes=64, disk=2**24, file=2**23)
        executor = Executor(spawner, INTERPRETERS, isolation=isolation)
        await executor.check()
        paths = [secret, "/proc/1/environ", f"/proc/{os.getpid()}/environ"]
        looked = await run(executor, f"PATHS = {paths}\\n{SCRIPT}")
        bomb = await run(executor, "import os\\nwhile True: os.fork()")
        waiting = "import os, time\\nopen(os.environ['HERO_RESULT'], 'w').write('a=1')\\ntime.sleep(60)"
        late = await run(executor, waiting, timeout=2)
        dead = await run(executor, "kill -SEGV $$", "Sal")
        print(json.dumps([looked.result["stdout"], bomb.error, [late.error, late.result["a"]], dead.error]))

trio.run(main)
"""


def python_of_everybody() -> str | None:
    """One that other users may run, with what we need."""
    candidates = [sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"]
    for candidate in candidates:
        with contextlib.suppress(OSError):
            done = subprocess.run([candidate, "-c", "import trio, pydantic"], env=environment_of_others(), user=65534,
                                  group=65534, extra_groups=[], capture_output=True, check=False)  # fmt: skip
            if done.returncode == 0:
                return candidate
    return None


def environment_of_others() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}"}


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="every other test here runs as this user already")
def test_an_ordinary_user_s_scripts_are_kept_apart_in_a_user_namespace() -> None:
    python = python_of_everybody()
    if python is None:
        pytest.skip("no Python here can be run by an ordinary user")
    directory = Path("/tmp") / f"hero-of-nobody-{os.getpid()}"
    directory.mkdir()
    os.chown(directory, 65534, 65534)
    try:
        done = subprocess.run(
            [python, "-c", AS_A_USER],
            env={**environment_of_others(), "DIRECTORY": str(directory), "TMPDIR": str(directory)},
            user=65534,
            group=65534,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        shutil.rmtree(directory)

    assert done.returncode == 0, done.stderr
    looked, bomb, late, dead = json.loads(done.stdout)
    assert json.loads(looked) == [1000, "0" * 16, 2, [False, False, False]]
    assert bomb.startswith("process limit exceeded")
    assert late == ["timed out after 2 s", "1"]
    assert dead == "killed by SIGSEGV"
