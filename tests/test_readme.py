"""The README's examples do what it shows, and its table lists the settings there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.settings import Settings
from tests.support.server import CoordinatorProcess, coordinator

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"^\$ curl [^']*'content-type: application/json' -d '(.*?)'\n(.*?)\n```", README, re.S | re.M)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    with coordinator("--data-dir", str(tmp_path_factory.mktemp("readme"))) as server:
        yield server


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in ("created_at", "updated_at")}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def test_each_curl_of_the_tour_answers_as_shown(fresh: CoordinatorProcess) -> None:
    assert len(EXAMPLES) == 4

    for body, shown in EXAMPLES:
        answer = httpx.post(fresh.http, content=body, headers={"content-type": "application/json"}).json()

        assert without_times(answer) == without_times(json.loads(shown))


def test_the_table_lists_every_setting_with_its_default_and_meaning() -> None:
    rows = re.findall(r"^\| `--(\S+)` \| (.*?) \| (.*) \|$", README, re.M)

    expected = []
    for name, field in Settings.model_fields.items():
        value = field.get_default(call_default_factory=True, validated_data={})
        default = "" if value in (None, ()) else f"`{value}`"
        shown = "the user's data directory" if name == "data_dir" else default
        expected.append((name.replace("_", "-"), shown, field.description))
    assert rows == expected
