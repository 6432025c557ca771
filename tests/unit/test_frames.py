"""PlainFrames in front of wsproto against wsproto alone: the same messages, whatever is sent and however it is cut."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import wsproto
import wsproto.events
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.utilities import RemoteProtocolError

from coordinator.rpc.websocket.frames import PlainFrames

LIMIT = 70_000

Message = str | bytes


class Receiver:
    """What a server's wsproto makes of bytes: messages, payloads of pings, and how it ended."""

    def __init__(self) -> None:
        self._connection = Connection(ConnectionType.SERVER)
        self._parts: list[Message] = []
        self.messages: list[Message] = []
        self.pings: list[bytes] = []
        self.end: str | None = None

    def feed(self, data: bytes) -> None:
        if self.end is not None:
            return
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                self._see(event)
        except RemoteProtocolError:
            self.end = "error"

    def _see(self, event: wsproto.events.Event) -> None:
        if isinstance(event, wsproto.events.Message):
            self._parts.append(event.data)
            if event.message_finished:
                empty: Message = "" if isinstance(event.data, str) else b""
                self.messages.append(empty.join(self._parts))  # type: ignore[arg-type]
                self._parts = []
        elif isinstance(event, wsproto.events.Ping):
            self.pings.append(bytes(event.payload))
        elif isinstance(event, wsproto.events.CloseConnection):
            self.end = "closed"


def as_sent(events: Sequence[wsproto.events.Event]) -> bytes:
    client = Connection(ConnectionType.CLIENT)
    return b"".join(client.send(event) for event in events)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


texts = st.text(max_size=20) | st.sampled_from([125, 126, 127, 65535, 65536, LIMIT]).map("x".__mul__)
whole = st.builds(wsproto.events.TextMessage, data=texts) | st.builds(
    wsproto.events.BytesMessage, data=st.binary(max_size=200)
)
in_parts = st.builds(
    lambda first, last: [
        wsproto.events.TextMessage(data=first, message_finished=False),
        wsproto.events.TextMessage(data=last),
    ],
    st.text(max_size=9),
    st.text(max_size=9),
)
pings = st.builds(wsproto.events.Ping, payload=st.binary(max_size=125)) | st.builds(wsproto.events.Pong)
sent = st.lists(st.lists(whole | pings, max_size=4) | in_parts, max_size=5).flatmap(
    lambda groups: st.just([event for group in groups for event in group])
)


def take(frames: PlainFrames, data: bytes) -> tuple[list[Message], bytes]:
    """The messages of this, and what is left over."""
    return [*frames.take(data)], bytes(frames.left)


def compare(data: bytes, places: Sequence[int]) -> Receiver:
    alone, behind, frames = Receiver(), Receiver(), PlainFrames(LIMIT)
    messages: list[Message] = []
    for piece in cut(data, places):
        alone.feed(piece)
        plain, left = take(frames, piece)
        messages += plain
        behind.feed(left)
    # After the first that is not plain, none is: so theirs come after all of ours.
    assert messages + behind.messages == alone.messages
    assert (behind.pings, behind.end) == (alone.pings, alone.end)
    return behind


@given(sent, st.booleans(), st.lists(st.integers(0, 200_000), max_size=8))
def test_whatever_is_sent_comes_to_the_same(
    events: list[wsproto.events.Event], closes: bool, places: list[int]
) -> None:
    compare(as_sent([*events, *([wsproto.events.CloseConnection(code=1000)] if closes else [])]), places)


@pytest.mark.slow
@settings(max_examples=500)
@given(sent, st.binary(max_size=40), st.lists(st.integers(0, 200_000), max_size=8))
def test_garbage_after_messages_comes_to_the_same(
    events: list[wsproto.events.Event], garbage: bytes, places: list[int]
) -> None:
    compare(as_sent(events) + garbage, places)


def test_nothing_plain_is_left_over_however_it_is_cut() -> None:
    data = as_sent([wsproto.events.TextMessage(data="a" * size) for size in (0, 1, 125, 126, 65535, 65536)])
    for size in (1, 2, 7, 4096, len(data)):
        frames = PlainFrames(LIMIT)
        taken = [take(frames, data[at : at + size]) for at in range(0, len(data), size)]
        assert [len(message) for messages, _ in taken for message in messages] == [0, 1, 125, 126, 65535, 65536]
        assert not any(left for _, left in taken)


def test_a_message_over_the_limit_is_left_over_from_its_first_byte() -> None:
    for limit in (10, 200, LIMIT):
        fits, too_large = (as_sent([wsproto.events.TextMessage(data="a" * size)]) for size in (limit, limit + 1))
        frames = PlainFrames(limit)

        assert take(frames, fits) == (["a" * limit], b"")
        assert take(frames, too_large) == ([], too_large)
        assert take(frames, fits) == ([], fits)  # and what follows is not looked at any more


def test_text_that_is_no_utf8_is_left_over() -> None:
    broken = b"\x81\x81\x00\x00\x00\x00\xff"

    assert take(PlainFrames(LIMIT), broken) == ([], broken)


def test_a_ping_is_left_over_and_messages_around_it_are_taken() -> None:
    first, ping, second = (
        as_sent([event])
        for event in (
            wsproto.events.TextMessage(data="1"),
            wsproto.events.Ping(payload=b"!"),
            wsproto.events.TextMessage(data="2"),
        )
    )

    assert take(PlainFrames(LIMIT), first + ping + second) == (["1", "2"], ping)
