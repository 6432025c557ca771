"""The wheel as a user of it sees it: what is in it, and what mypy knows of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from coordinator import client, models
from coordinator.client import errors
from coordinator.client import methods as client_methods

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

USER = """
from pathlib import Path

import trio
from coordinator.client import Client, ClientError, NotFound, RpcError, StorageError, call_once, connect
from coordinator.models import ContextCreate


async def main(client: Client) -> None:
    reveal_type(connect("ws://h", ca=Path("ca.pem")))
    reveal_type(await client.job_load(context_id=1, caller_id=7, id=2))
    reveal_type((await client.flow_status(context_id=1, id=2)).flow.status)
    reveal_type(ContextCreate(id=1, admins=[7], readers=[], executors=[7]).admins)
    await client.job_load(context_id="1", caller_id=7, id=2)
    try:
        await call_once("ws://h", "m")
    except StorageError as error:
        reveal_type(error.may_have_been_applied)
    except NotFound as error:
        reveal_type(error)
    except RpcError as error:
        reveal_type(error.code)
    except ClientError as error:
        reveal_type(error)
    async for event in client.follow_flow(1, 10):
        reveal_type(event)
"""
REVEALED = [
    "contextlib._AsyncGeneratorContextManager[coordinator.client.client.Client, None]",
    "coordinator.models.contract.Job",
    "Literal['Dispatched'] | Literal['Started'] | Literal['Error'] | Literal['Finished']",
    "list[int]",
    "bool",
    "coordinator.client.errors.NotFound",
    "int",
    "coordinator.client.errors.ClientError",
    "coordinator.models.events.FlowEvent",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = directory.glob("*.whl")
    return built


def test_all_files_of_the_package_are_in_it(wheel: Path) -> None:
    kinds = {".py", ".lua", ".typed"}
    expected = {str(path.relative_to(ROOT)) for path in (ROOT / "coordinator").rglob("*") if path.suffix in kinds}

    static = {str(path.relative_to(ROOT)) for path in (ROOT / "coordinator/dashboard/static").rglob("*.*")}

    assert expected | static <= set(zipfile.ZipFile(wheel).namelist())
    assert {Path(name).suffix for name in static} == {".css", ".gz", ".html", ".js", ".svg"}
    assert "coordinator/py.typed" in expected


def test_a_user_of_mypy_sees_types(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    (packages,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # where our own install is not looked for
    (tmp_path / "user.py").write_text(USER)
    options = ["--strict", "--python-executable", str(tmp_path / "venv/bin/python"), "--cache-dir", str(tmp_path)]

    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "user.py"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )

    assert re.findall(r'Revealed type is "(.*)"', checked.stdout) == REVEALED, checked.stdout
    (wrong,) = [line for line in checked.stdout.splitlines() if ": error:" in line]
    assert 'Argument "context_id"' in wrong


def test_the_client_exports_what_a_user_needs_and_nothing_else() -> None:
    own = {
        *("Client", "ContextFollower", "Credentials", "FlowFollower", "RunnerSubscription"),
        *("call_once", "connect"),
    }
    raised = {name for name in errors.__all__ if name != "rpc_error"}  # which makes one of a reply

    assert set(client.__all__) == own | raised
    assert list(client.__all__) == sorted(client.__all__)
    assert all(hasattr(client, name) for name in client.__all__)


def test_every_error_of_the_client_is_exported() -> None:
    def family(cls: type) -> set[type]:
        subclasses: list[type] = cls.__subclasses__()
        return {cls}.union(*map(family, subclasses))

    defined = {cls.__name__ for cls in family(errors.ClientError) if cls.__module__ == errors.__name__}

    assert defined == {name for name in errors.__all__ if name != "rpc_error"}


def test_every_model_that_a_method_gives_back_is_exported() -> None:
    rows = [row for row in vars(client_methods.Methods).values() if hasattr(row, "result")]

    assert rows
    assert all(getattr(models, row.result.__name__) is row.result for row in rows)
