"""Messages that are no JSON or no request: what they are answered, and that the connection lives on."""

from __future__ import annotations

import pytest

from tests.support.clients import Client, json_text, request
from tests.support.jsonrpc import MAX_DEPTH
from tests.support.records import create, load, sample

CALL = '{"jsonrpc":"2.0","id":1,"method":"actor.load","params":[0]}'

NOT_JSON: dict[str, str | bytes] = {
    "nothing": "",
    "blanks": " \r\n\t",
    "half": CALL[:-1],
    "two": CALL * 2,
    "rest": CALL + "]",
    "comma in object": '{"jsonrpc":"2.0","id":1,}',
    "comma in array": f"[{CALL},]",
    "comma missing": f"[{CALL}{CALL}]",
    "single quotes": CALL.replace('"', "'"),
    "bare word": "discover",
    "comment": f"{CALL} // please",
    "NaN": CALL.replace("0", "NaN"),
    "Infinity": CALL.replace("[0]", "[Infinity]"),
    "-Infinity": CALL.replace("[0]", "[-Infinity]"),
    "hexadecimal": CALL.replace("[0]", "[0x10]"),
    "leading zero": CALL.replace("[0]", "[01]"),
    "leading plus": CALL.replace("[0]", "[+1]"),
    "no fraction": CALL.replace("[0]", "[1.]"),
    "no integer": CALL.replace("[0]", "[.5]"),
    "too many digits": CALL.replace("[0]", f"[{'9' * 4_301}]"),
    "raw control character": CALL.replace("[0]", '["\n"]'),
    "unknown escape": CALL.replace("[0]", r'["\x41"]'),
    "half an escape": CALL.replace("[0]", r'["\u00"]'),
    "two byte order marks": "\ufeff\ufeff" + CALL,
    "a byte order mark inside": f"[\ufeff{CALL}]",
    "a byte order mark behind": CALL + "\ufeff",
    "a byte order mark behind blanks": " \ufeff" + CALL,
    "nothing but a byte order mark": "\ufeff",
    "the byte order mark of another encoding": "\ufffe" + CALL,
    "a form feed": "\f" + CALL,
    "a no-break space": "\xa0" + CALL,
    "NUL behind": CALL + "\0",
    "too deep": '{"jsonrpc":"2.0","id":1,"method":"actor.load","params":'
    + "[" * MAX_DEPTH
    + "0"
    + "]" * MAX_DEPTH
    + "}",
    "far too deep": "[" * 100_000,
    "far too deep objects": '{"a":' * 60_000,
    "not UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"\xff"}',
    "cut UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"\xd0"}',
    "overlong UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"\xc0\xaf"}',
    "surrogates in UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"\xed\xa0\xbd\xed\xb8\x80"}',
    "UTF-16": CALL.encode("utf-16"),
    "UTF-16 unmarked": CALL.encode("utf-16-le"),
    "UTF-32": CALL.encode("utf-32"),
    "zeros": bytes(100),
}

NO_REQUEST = {
    "null": "null",
    "true": "true",
    "number": "1",
    "huge number": "9" * 4_300,
    "text": '"actor.load"',
    "empty": "{}",
    "no version": '{"id":1,"method":"actor.load"}',
    "version 1.0": '{"jsonrpc":"1.0","id":1,"method":"actor.load"}',
    "version as number": '{"jsonrpc":2.0,"id":1,"method":"actor.load"}',
    "version null": '{"jsonrpc":null,"id":1,"method":"actor.load"}',
    "version longer": '{"jsonrpc":"2.0 ","id":1,"method":"actor.load"}',
    "no method": '{"jsonrpc":"2.0","id":1}',
    "method null": '{"jsonrpc":"2.0","id":1,"method":null}',
    "method number": '{"jsonrpc":"2.0","id":1,"method":1}',
    "method list": '{"jsonrpc":"2.0","id":1,"method":["actor.load"]}',
    "params number": '{"jsonrpc":"2.0","id":1,"method":"actor.load","params":0}',
    "params text": '{"jsonrpc":"2.0","id":1,"method":"actor.load","params":"0"}',
    "params bool": '{"jsonrpc":"2.0","id":1,"method":"actor.load","params":false}',
    "a response": '{"jsonrpc":"2.0","id":1,"result":{}}',
    "no version, no id": '{"method":"actor.load","params":[0]}',
    "members in capitals": '{"JSONRPC":"2.0","ID":1,"METHOD":"actor.load"}',
}


@pytest.mark.parametrize("message", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_not_json_is_a_parse_error(client: Client, message: str | bytes) -> None:
    reply = client.exchange(message)

    assert reply["error"]["code"] == -32700


@pytest.mark.parametrize("message", NO_REQUEST.values(), ids=NO_REQUEST.keys())
def test_what_is_no_request_is_invalid(client: Client, message: str) -> None:
    reply = client.exchange(message)

    assert reply["error"]["code"] == -32600


@pytest.mark.parametrize(
    "message",
    [
        f" \r\n\t{CALL} \r\n\t",
        f"\ufeff{CALL}",
        f"\ufeff{CALL}".encode(),
        f"\ufeff \n{CALL}\n",
        CALL.encode(),
        CALL.replace("2.0", r"\u0032.0"),
        CALL.replace('"id"', r'"\u0069d"'),
        CALL.replace("}", ',"extra":[{"a":null}]}'),
        f'{{"method":"rpc.discover","id":9,"params":[],"jsonrpc":"1.0",{CALL[1:]}',
        '{"jsonrpc":"2.0","id":1,"method":"actor.load","params":{"id":0,"x":'
        + "[" * (MAX_DEPTH - 2)
        + "0"
        + "]" * (MAX_DEPTH - 2)
        + "}}",
        CALL.replace("[0]", f'{{"id":0,"x":{"9" * 4_300}}}'),
        CALL.replace("[0]", '{"id":0,"x":[1e400,-1e400,1e-400]}'),
    ],
    ids=[
        *(
            "blanks around",
            "byte order mark",
            "byte order mark in bytes",
            "byte order mark and blanks",
            "bytes",
            "escaped value",
            "escaped member",
            "unknown members",
            "last of equal members",
        ),
        *("deepest", "most digits", "beyond floating point"),
    ],
)
def test_what_is_a_request_though_unusual_is_answered(client: Client, message: str | bytes) -> None:
    reply = client.exchange(message)

    assert (reply["id"], reply["error"]["code"]) == (1, -32001)


@pytest.mark.parametrize("number", ["4294967296", "1e3", "1.0", "-0.0", str(10**4_000), "1e400", "-1"])
def test_numbers_that_are_no_uint32_are_wrong_params(client: Client, number: str) -> None:
    reply = client.exchange(CALL.replace("[0]", f"[{number}]"))

    assert reply["error"]["code"] == -32602


def test_of_equal_members_the_last_counts(client: Client, context: int) -> None:
    call = json_text(request(*create("job", context, sample("job", context, 1, env_vars={"twice": "last"})), id=1))
    text = call.replace('"twice": "last"', '"twice": "first", "twice": "last"')

    assert client.exchange(text)["result"]["env_vars"] == {"twice": "last"}


def test_one_connection_lives_through_all_of_it(client: Client, context: int) -> None:
    for message in [*NOT_JSON.values(), *NO_REQUEST.values()]:
        client.exchange(message)

    assert client.error(*load("job", context, 1))["code"] == -32001
