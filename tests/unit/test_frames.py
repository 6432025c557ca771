"""The frame decoder: beside wsproto, however the bytes are cut, and to the letter of RFC 6455 where wsproto is not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import wsproto
import wsproto.events
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import RemoteProtocolError

from coordinator.rpc.websocket import frames
from coordinator.rpc.websocket.frames import Close, Event, Failure, FrameDecoder, Part, Ping, Pong

LIMIT = 70_000

Message = str | bytes


class Receiver:
    """What a server's wsproto makes of bytes: messages, control frames, and whether the protocol was broken."""

    def __init__(self) -> None:
        self._connection = Connection(ConnectionType.SERVER)
        self._parts: list[Message] = []
        self.events: list[Event] = []
        self.is_over = False

    def feed(self, data: bytes) -> None:
        if self.is_over:
            return
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                self._see(event)
        except RemoteProtocolError as error:
            hint = error.event_hint
            code = hint.code if isinstance(hint, wsproto.events.CloseConnection) else CloseReason.PROTOCOL_ERROR
            self.events.append(Failure(int(code), ""))
            self.is_over = True

    def _see(self, event: wsproto.events.Event) -> None:
        if isinstance(event, wsproto.events.Message):
            self._parts.append(event.data)
            if event.message_finished:
                empty: Message = "" if isinstance(event.data, str) else b""
                self.events.append(empty.join(self._parts))  # type: ignore[arg-type]
                self._parts = []
        elif isinstance(event, wsproto.events.Ping):
            self.events.append(Ping(bytes(event.payload)))
        elif isinstance(event, wsproto.events.Pong):
            self.events.append(Pong(bytes(event.payload)))
        elif isinstance(event, wsproto.events.CloseConnection):
            self.events.append(Close(event.code, event.reason or ""))
            self.is_over = True


def as_sent(events: Sequence[wsproto.events.Event]) -> bytes:
    client = Connection(ConnectionType.CLIENT)
    return b"".join(client.send(event) for event in events)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


def decoded(data: bytes, places: Sequence[int] = (), limit: int = LIMIT) -> list[Event]:
    decoder = FrameDecoder(limit)
    return [event for piece in cut(data, places) for event in decoder.receive(piece)]


def frame(first: int, payload: bytes, mask: bytes = b"\x11\x22\x33\x44") -> bytes:
    """A masked frame that begins with this byte, its length in the shortest form."""
    length = len(payload)
    if length < 126:
        head = bytes([first, 0x80 | length])
    elif length < 1 << 16:
        head = bytes([first, 0xFE]) + length.to_bytes(2)
    else:
        head = bytes([first, 0xFF]) + length.to_bytes(8)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def code(events: Sequence[Event]) -> int:
    """The code of the failure that is the last event."""
    failure = events[-1]
    assert isinstance(failure, Failure)
    return failure.code


texts = st.text(max_size=20) | st.sampled_from([125, 126, 127, 65535, 65536, LIMIT]).map("x".__mul__)
whole = st.builds(wsproto.events.TextMessage, data=texts) | st.builds(
    wsproto.events.BytesMessage, data=st.binary(max_size=200)
)
pings = st.builds(wsproto.events.Ping, payload=st.binary(max_size=125)) | st.builds(
    wsproto.events.Pong, payload=st.binary(max_size=125)
)
in_parts = st.builds(
    lambda first, between, last: [
        wsproto.events.TextMessage(data=first, message_finished=False),
        *between,
        wsproto.events.TextMessage(data=last),
    ],
    st.text(max_size=9),
    st.lists(pings, max_size=2),
    st.text(max_size=9),
)
closes = st.builds(
    wsproto.events.CloseConnection, code=st.sampled_from([1000, 1001, 3000, 4999]), reason=st.text(max_size=20)
)
sent = st.lists(st.lists(whole | pings, max_size=4) | in_parts, max_size=5).map(
    lambda groups: [event for group in groups for event in group]
)
places = st.lists(st.integers(0, 200_000), max_size=8)
payloads = st.binary(max_size=130) | st.text(max_size=40).map(str.encode)
raw_frames = st.builds(frame, st.integers(0, 255), payloads, st.binary(min_size=4, max_size=4))
likely_frames = st.builds(
    frame, st.sampled_from([0x00, 0x01, 0x02, 0x80, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A]), payloads
)
streams = st.lists(likely_frames | raw_frames | st.binary(max_size=12), max_size=8).map(b"".join)


@given(sent, st.none() | closes, places)
def test_whatever_a_client_sends_comes_to_the_same_as_with_wsproto(
    events: list[wsproto.events.Event], end: wsproto.events.Event | None, places: list[int]
) -> None:
    data = as_sent([*events, *([] if end is None else [end])])
    receiver = Receiver()
    receiver.feed(data)

    assert [event for event in decoded(data, places) if event is not Part.PART] == receiver.events


@pytest.mark.slow
@settings(max_examples=500)
@given(streams, places)
def test_however_the_bytes_are_cut_the_events_are_the_same(data: bytes, places: list[int]) -> None:
    at_once = decoded(data)

    assert decoded(data, places) == at_once
    assert decoded(data, range(len(data) + 1)) == at_once
    assert all(not isinstance(event, Close | Failure) for event in at_once[:-1])


@pytest.mark.slow
@settings(max_examples=300)
@given(streams, st.integers(0, 140))
def test_it_never_holds_more_than_a_message(data: bytes, limit: int) -> None:
    decoder = FrameDecoder(limit)
    for at in range(len(data)):
        for event in decoder.receive(data[at : at + 1]):
            assert not isinstance(event, str | bytes) or len(event) <= limit
        assert len(decoder._message) <= limit
        assert len(decoder._unparsed) <= 131


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, LIMIT])
@pytest.mark.parametrize("step", [1, 2, 7, 4096, 1 << 20])
def test_a_message_of_any_size_arrives_however_it_is_cut(size: int, step: int) -> None:
    text = frame(0x81, b"a" * size)
    data = text + frame(0x82, b"\xff" * size) + text

    events = decoded(data, range(0, len(data), step))

    assert events == ["a" * size, b"\xff" * size, "a" * size]


def test_a_message_over_the_limit_fails_by_its_head_alone() -> None:
    for limit in (10, 200, LIMIT):
        assert decoded(frame(0x81, b"a" * limit), limit=limit) == ["a" * limit]
        assert code(decoded(frame(0x81, b"a" * (limit + 1)), limit=limit)) == frames.TOO_BIG
    assert code(decoded(b"\x82\xff" + (1 << 62).to_bytes(8))) == frames.TOO_BIG


def test_fragments_that_add_up_to_too_much_fail_by_the_head_of_the_one_that_does() -> None:
    events = decoded(frame(0x01, b"a" * 6) + frame(0x89, b"") + frame(0x80, b"a" * 5)[:6], limit=10)

    assert events[:2] == [Part.PART, Ping(b"")]
    assert code(events) == frames.TOO_BIG


@pytest.mark.parametrize(
    "data",
    [
        *(bytes([0x80 | bit | 0x01]) for bit in (0x40, 0x20, 0x10)),  # reserved bits
        *(bytes([0x80 | opcode]) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        b"\x81\x05",  # not masked
        b"\x89\xfe",  # a long ping
        b"\x88\xff",  # a long close
        b"\x09",  # a ping in fragments
        b"\x08",
        b"\x80",  # the continuation of nothing
        frame(0x01, b"a") + b"\x81",  # a new message inside of one
        frame(0x02, b"a") + b"\x02",
        b"\x81\xfe\x00\x7d",  # a length not in its shortest form
        b"\x81\xff" + (65535).to_bytes(8),
        b"\x81\xff" + (1 << 63).to_bytes(8),
        frame(0x88, b"\x03"),  # half a code
    ],
)
def test_what_breaks_the_protocol_fails_with_1002_as_soon_as_it_is_seen(data: bytes) -> None:
    assert code(decoded(data)) == frames.PROTOCOL_ERROR
    assert not any(isinstance(event, Failure) for event in decoded(data[:-1]))


@pytest.mark.parametrize("valid", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_a_code_that_may_be_sent_closes(valid: int) -> None:
    assert decoded(frame(0x88, valid.to_bytes(2) + b"why")) == [Close(valid, "why")]


@pytest.mark.parametrize("invalid", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_a_code_that_may_not_be_sent_is_a_protocol_error(invalid: int) -> None:
    assert code(decoded(frame(0x88, invalid.to_bytes(2)))) == frames.PROTOCOL_ERROR


def test_a_reason_that_is_no_utf8_is_invalid_data() -> None:
    assert code(decoded(frame(0x88, b"\x03\xe8\xff"))) == frames.INVALID_DATA


def test_after_a_close_nothing_is_looked_at() -> None:
    assert decoded(frame(0x88, b"") + frame(0x81, b"a") + b"\xff") == [Close(None, "")]


@pytest.mark.parametrize(
    "start", [b"\xff", b"\x80", b"\xc0", b"\xf5", b"\xf4\x90", b"\xed\xa0", b"\xe0\x80", b"\xf0\x80", b"\xce\xce"]
)
def test_text_fails_at_the_byte_after_which_it_cannot_become_utf8(start: bytes) -> None:
    payload = "κόσμε".encode() + start
    in_one = frame(0x81, payload + b"more")
    head = len(in_one) - len(payload) - 4

    assert not decoded(in_one[: head + len(payload) - 1])
    assert code(decoded(in_one[: head + len(payload)])) == frames.INVALID_DATA

    in_parts = [frame(0x01 if at == 0 else 0x00, payload[at : at + 1]) for at in range(len(payload))]
    assert decoded(b"".join(in_parts[:-1])) == [Part.PART] * (len(payload) - 1)
    assert code(decoded(b"".join(in_parts))) == frames.INVALID_DATA


def test_text_that_ends_within_a_character_is_invalid_data() -> None:
    assert code(decoded(frame(0x81, b"\xce"))) == frames.INVALID_DATA
    assert code(decoded(frame(0x01, b"\xce") + frame(0x80, b""))) == frames.INVALID_DATA


def test_binary_messages_hold_any_bytes() -> None:
    assert decoded(frame(0x02, b"\xff") + frame(0x80, b"\xfe")) == [Part.PART, b"\xff\xfe"]


@given(texts, st.none() | st.sampled_from([1000, 1002]), st.text(max_size=300), st.binary(max_size=125))
def test_a_client_understands_what_we_send(text: str, close: int | None, reason: str, ping: bytes) -> None:
    client = Connection(ConnectionType.CLIENT)
    payload = text.encode()
    message = frames.text_frame(payload)
    assert message == frames.text_head(len(payload)) + payload
    client.receive_data(message + frames.pong_frame(ping) + frames.ping_frame() + frames.close_frame(close, reason))

    got = [*client.events()]
    parts = [event.data for event in got if isinstance(event, wsproto.events.TextMessage)]
    end = got[-1]

    assert "".join(parts) == text
    assert [bytes(event.payload) for event in got if isinstance(event, wsproto.events.Pong)] == [ping]
    assert isinstance(end, wsproto.events.CloseConnection)
    assert end.code == (close or 1005)
    assert close is None or reason.startswith(end.reason or "")
