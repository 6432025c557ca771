"""`herocoordinator prerequisite …` against a real coordinator and the shipped runner."""

from __future__ import annotations

import subprocess

from tests.cli.conftest import Flows
from tests.support.commands import herocoordinator

WAITING = """
[jobs.ship]
prerequisites = ["paid"]
script = '''
import json, os
met = json.load(open(os.environ["HERO_PREREQUISITES"]))["paid"]
print(met["scope"], met["by"], met["payload"]["order"])
'''
"""


def prerequisite(flows: Flows, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return herocoordinator("prerequisite", command, *flows.at, *arguments)


def test_a_prerequisite_is_satisfied_for_a_flow_and_its_script_gets_the_payload(flows: Flows) -> None:
    waiting, other = flows.submitted(WAITING), flows.submitted(WAITING)
    listed = prerequisite(flows, "list").stdout
    assert listed.startswith("waiting    paid: job ")
    assert f"of flow {waiting}" in listed
    assert f"of flow {other}" in listed

    done = prerequisite(flows, "satisfy", "paid", "--flow", waiting, "--by", "Ada", "--payload", "order=47=11")

    assert done.stdout == f"paid is satisfied for flow {waiting}; 1 job had waited for it\n"
    followed = flows("follow", waiting)
    assert followed.returncode == 0, followed.stderr
    assert "flow Ada 47=11" in flows("logs", waiting).stdout
    listed = prerequisite(flows, "list").stdout
    assert f"satisfied  paid: for flow {waiting}, by Ada, order=47=11" in listed
    assert f"of flow {other}" in listed
    assert f"of flow {waiting}" not in listed


def test_a_prerequisite_is_revoked(flows: Flows) -> None:
    assert prerequisite(flows, "satisfy", "paid").returncode == 0

    revoked = prerequisite(flows, "revoke", "paid")

    assert revoked.stdout == f"paid is no longer satisfied for context {flows.context}\n"
    assert prerequisite(flows, "revoke", "paid").stdout == f"paid was not satisfied for context {flows.context}\n"
    assert prerequisite(flows, "list").stdout == ""


def test_wrong_payloads_and_unknown_flows_are_told(flows: Flows) -> None:
    assert prerequisite(flows, "satisfy", "paid", "--payload", "order").returncode == 2
    assert prerequisite(flows, "satisfy", "paid", "--flow", "7").returncode == 1
