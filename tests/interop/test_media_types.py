"""The names that strangers give JSON."""

from __future__ import annotations

import json
import urllib.request

import pytest

from tests.interop.posting import CALL, answered
from tests.support.clients import PATIENCE
from tests.support.server import CoordinatorProcess


@pytest.mark.parametrize(
    "kind",
    [
        *("application/json; charset=utf-8", "application/json;charset=UTF-8", 'application/json; charset="utf-8"'),
        *("application/json; charset=utf8", "application/json-rpc", "application/jsonrequest"),
        *("application/json-rpc; charset=utf-8", "APPLICATION/JSON-RPC"),
    ],
)
def test_urllib_names_type_and_charset(server: CoordinatorProcess, kind: str) -> None:
    asked = urllib.request.Request(server.http, CALL, {"content-type": kind})

    with urllib.request.urlopen(asked, timeout=PATIENCE) as reply:
        assert answered(json.load(reply))
