"""Text of any kind and length comes back as it was sent."""

from __future__ import annotations

import json

import pytest

from tests.support.clients import Client, request
from tests.support.records import Record, create, load, sample

TEXTS = {
    "empty": "",
    "blank": " \t\r\n",
    "NUL": "a\0b",
    "controls": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "quotes": "\"'\\/`${}%s",
    "accents": "čé ß ﬁ İ",
    "combining": "e\u0301 is not é",
    "scripts": "ключ 鍵 مفتاح कुंजी",
    "emoji": "😀👩‍👩‍👧‍👦🏴‍☠️",
    "planes": "\uffff\ufffe\U00010000\U0010ffff",
    "marks": "\ufeff\u2028\u2029\u202e\u200b",
    "like JSON": '{"a":[1,"b",null]}',
    "like RESP": "*1\r\n$4\r\nPING\r\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_text_comes_back_as_sent_wherever_it_was_put(client: Client, context: int, text: str) -> None:
    job = sample("job", context, 1, script=text, env_vars={text: text}, result={text: text}, prerequisites=[text])
    client.result(*create("job", context, job))

    loaded = client.result(*load("job", context, 1))

    assert {name: loaded[name] for name in job} == job


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_an_escaped_character_is_that_character(client: Client, context: int, text: str) -> None:
    method, params = create("runner", context, sample("runner", context, 1, topic=text))

    reply = client.exchange(json.dumps(request(method, params, text), ensure_ascii=True))

    assert (reply["id"], reply["result"]["topic"]) == (text, text)


@pytest.mark.parametrize("text", ["0123456789abcdef" * 60_000, "ключ😀" * 80_000], ids=["ASCII", "other"])
def test_long_text_comes_back_as_sent(client: Client, context: int, text: str) -> None:
    client.result(*create("job", context, sample("job", context, 1, script=text)))

    assert client.result(*load("job", context, 1))["script"] == text


@pytest.mark.parametrize("kind", ["actor", "runner", "message"])
def test_text_of_other_records_comes_back_as_sent(client: Client, context: int, kind: str) -> None:
    text = "".join(TEXTS.values())
    members: dict[str, Record] = {
        "actor": {"pubkey": text},
        "runner": {"pubkey": text, "topic": text},
        "message": {"message": text, "logs": [text, ""], "job": [sample("job", context, 1, script=text)]},
    }
    client.result(*create(kind, context, sample(kind, context, context, **members[kind])))
    client.result(*create(kind, context, sample(kind, context, context, **members[kind])))

    loaded = client.result(*load(kind, context, context))

    assert text in [loaded.get(name) for name in ("pubkey", "message")]
    assert loaded.get("topic", text) == text
    assert loaded.get("logs", [text, ""]) == [text, ""]
    assert [job["script"] for job in loaded.get("job", [])] in ([], [text])


def test_many_members_and_items_come_back_as_sent(client: Client, context: int) -> None:
    many = {
        "env_vars": {f"NAME_{n}": "v" * (n % 7) for n in range(5_000)},
        "prerequisites": [str(n) for n in range(1_000)],
        "depends": list(range(10_000, 0, -1)),
    }
    client.result(*create("job", context, sample("job", context, 1, **many)))

    loaded = client.result(*load("job", context, 1))

    assert {name: loaded[name] for name in many} == many


def test_a_message_of_many_jobs_comes_back_as_sent(client: Client, context: int) -> None:
    jobs = [sample("job", context, id, script=str(id)) for id in range(2_000)]
    message = create("message", context, sample("message", context, 1, job=jobs))
    client.result(*message)

    again = client.result(*message)

    assert [(job["id"], job["script"]) for job in again["job"]] == [(job["id"], job["script"]) for job in jobs]
