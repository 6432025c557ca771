"""Many writers to one record: it is always what one of them wrote, never a mixture."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.support.clients import TRANSPORTS, Client, connected
from tests.support.records import KINDS, Record, as_sent, create, load, sample
from tests.support.server import CoordinatorProcess

WRITERS_A_TRANSPORT = 4
ROUNDS = 25


def marked(kind: str, context: int, mark: int) -> Record:
    """A record whose every member tells who wrote it."""
    text, number = str(mark), mark
    texts, numbers, mapping = [text], [number], {text: text}
    timeouts = dict.fromkeys(("timeout", "timeout_ack", "timeout_result"), number)
    members: dict[str, Record] = {
        "actor": {"pubkey": text, "address": [f"10.0.0.{number}"]},
        "context": {"admins": numbers, "readers": numbers, "executors": numbers},
        "runner": {"pubkey": text, "address": f"10.0.0.{number}", "topic": text},
        "flow": {"jobs": numbers, "env_vars": mapping, "result": mapping},
        "job": {
            "script": text,
            "timeout": number,
            "retries": number,
            "env_vars": mapping,
            "result": mapping,
            "prerequisites": texts,
            "depends": numbers,
        },
        "message": {"message": text, "logs": texts, **timeouts, "job": [sample("job", context, number, script=text)]},
    }
    return sample(kind, context, context, **members[kind])


@pytest.fixture
def writers(server: CoordinatorProcess) -> Iterator[list[Client]]:
    """Clients of both transports."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(connected(server, transport))
            for transport in TRANSPORTS
            for _ in range(WRITERS_A_TRANSPORT)
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_writers_never_mix_their_members(writers: list[Client], context: int, kind: str) -> None:
    sent = [marked(kind, context, mark) for mark in range(len(writers))]

    def write_and_read(mark: int) -> None:
        client = writers[mark]
        for _ in range(ROUNDS):
            written = client.result(*create(kind, context, sent[mark]))
            assert as_sent(written, sent[mark]) == sent[mark]
            read = client.result(*load(kind, context, context))
            assert as_sent(read, sent[mark]) in sent

    with ThreadPoolExecutor(len(writers)) as pool:
        outcomes = [pool.submit(write_and_read, mark) for mark in range(len(writers))]

    for outcome in outcomes:
        outcome.result()
