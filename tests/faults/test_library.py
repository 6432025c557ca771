"""The function library in a store: replaced by another content of the same number, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from coordinator.storage import library
from tests.support.clients import connected
from tests.support.records import create, load, sample
from tests.support.server import ValkeyProcess, coordinator, valkey

OTHER = library.SOURCE.replace(library.DIGEST, "0123456789ab")
REPLACED = "replaced the function library in the store"


def ask(client: redis.Redis, *words: Any) -> Any:
    return client.execute_command(*words)  # type: ignore[no-untyped-call]


def loaded(client: redis.Redis) -> library.Identity:
    version, digest = ask(client, *library.VERSION_COMMAND)
    return library.Identity(version, digest if isinstance(digest, str) else digest.decode())


def test_the_digest_is_that_of_the_content() -> None:
    assert f"local DIGEST = '{library.DIGEST}'" in library.SOURCE
    assert f"{library.VERSION}:{library.DIGEST}" == library.IDENTITY


def test_a_data_directory_with_other_code_of_the_same_number_gets_ours(tmp_path: Path) -> None:
    with coordinator("--data-dir", str(tmp_path)) as server, connected(server, "http") as client:
        client.result(*create("context", 1, sample("context", 1, 1)))
        with redis.Redis(unix_socket_path=str(tmp_path / "valkey.sock")) as store:
            ask(store, "FUNCTION LOAD", "REPLACE", OTHER)
            assert loaded(store).digest == "0123456789ab"

    with coordinator("--data-dir", str(tmp_path)) as server, connected(server, "http") as client:
        entry = server.wait_for(REPLACED)
        assert (entry["before"], entry["now"]) == (f"{library.VERSION} (0123456789ab)", str(library.OURS))
        with redis.Redis(unix_socket_path=str(tmp_path / "valkey.sock")) as store:
            assert loaded(store) == library.OURS
        assert client.result(*load("context", 1, 1))["id"] == 1


def test_an_older_library_without_a_digest_is_replaced_with_a_word(tmp_path: Path) -> None:
    older = "#!lua name=herocoordinator\nredis.register_function{function_name='hc_version', flags={'no-writes'}, "
    older += "callback=function() return 6 end}"
    with valkey(tmp_path) as own:
        ask(own.client(), "FUNCTION LOAD", older)
        with coordinator("--redis-url", own.url) as server:
            assert server.wait_for(REPLACED)["before"] == "6"
            assert loaded(own.client()) == library.OURS


def test_two_coordinators_with_other_code_do_not_take_the_store_from_each_other(tmp_path: Path) -> None:
    with valkey(tmp_path) as own, coordinator("--redis-url", own.url) as server:
        with connected(server, "http") as client:
            client.result(*create("context", 1, sample("context", 1, 1)))
            ask(own.client(), "FUNCTION LOAD", "REPLACE", OTHER)  # as one that starts now does

            for _ in range(3):
                fault = client.error(*create("flow", 1, sample("flow", 1, 1)))
                assert fault["code"] == -32010
                assert "stop the other one" in fault["data"]["detail"]
                ask(own.client(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert loaded(own.client()).digest == "0123456789ab"

            ask(own.client(), "FUNCTION", "FLUSH")
            client.result(*create("flow", 1, sample("flow", 1, 1)))
            assert loaded(own.client()) == library.OURS


@pytest.mark.parametrize("way", ["start the newer one", "another store or data directory"])
def test_a_downgrade_is_refused_with_the_way_out(tmp_path: Path, way: str) -> None:
    with valkey(tmp_path) as own:
        newer = library.SOURCE.replace(f"VERSION = '{library.VERSION}'", "VERSION = '999'")
        ask(own.client(), "FUNCTION LOAD", newer)
        assert way in refusal_of(own)


def refusal_of(own: ValkeyProcess) -> str:
    with pytest.raises(AssertionError) as caught, coordinator("--redis-url", own.url):
        pass
    return str(caught.value)
