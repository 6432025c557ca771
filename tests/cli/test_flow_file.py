"""Flow files: what they say, and what is said about those that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.cli.flow_file import FlowFile, FlowFileError, read_flow_file

EXAMPLES = Path(__file__).parents[2] / "examples"

TOML = """
name = "nightly"
id = 5
caller = 7
context = 3
env = { DAY = "monday" }

[jobs.fetch]
script = "print(1)"

[jobs.report]
file = "report.sh"
type = "Sal"
depends = ["fetch", "fetch"]
env = { TITLE = "Report" }
timeout = 60
retries = 2
prerequisites = ["approved"]
"""

YAML = """
name: nightly
id: 5
caller: 7
context: 3
env: {DAY: monday}
jobs:
  - name: fetch
    script: print(1)
  - name: report
    file: report.sh
    type: Sal
    depends: [fetch, fetch]
    env: {TITLE: Report}
    timeout: 60
    retries: 2
    prerequisites: [approved]
"""


def read(directory: Path, name: str, text: str) -> FlowFile:
    path = directory / name
    path.write_text(text)
    return read_flow_file(path)


def problems_of(directory: Path, name: str, text: str) -> list[str]:
    """What is wrong, without the file's name, which every problem begins with."""
    with pytest.raises(FlowFileError) as caught:
        read(directory, name, text)
    prefix = f"{directory / name}: "
    assert all(problem.startswith(prefix) for problem in caught.value.problems)
    return [problem.removeprefix(prefix) for problem in caught.value.problems]


@pytest.mark.parametrize(("name", "text"), [("flow.toml", TOML), ("flow.yaml", YAML), ("flow.yml", YAML)])
def test_either_language_makes_the_same_submission(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "report.sh").write_text("echo ß\n")

    file = read(tmp_path, name, text)
    made = file.submission(context=3, caller=7, flow=5, first_job=100)

    assert (file.name, file.id, file.caller, file.context) == ("nightly", 5, 7, 3)
    assert file.names(100) == {100: "fetch", 101: "report"}
    assert made.flow.jobs == [100, 101]
    assert made.flow.env_vars == {"DAY": "monday", "HERO_FLOW_NAME": "nightly"}
    fetch, report = made.jobs
    assert (fetch.script, fetch.script_type, fetch.depends, fetch.timeout, fetch.retries) == (
        "print(1)",
        "Python",
        [],
        0,
        0,
    )
    assert fetch.env_vars == {"HERO_JOB_NAME": "fetch"}
    assert (made.flow.name, fetch.name, report.name) == ("nightly", "fetch", "report")
    assert (report.script, report.script_type, report.depends) == ("echo ß\n", "Sal", [100])
    assert (report.timeout, report.retries, report.prerequisites) == (60, 2, ["approved"])
    assert report.env_vars["TITLE"] == "Report"
    assert json.loads(report.env_vars["HERO_DEPENDS"]) == {"fetch": "100"}


def test_what_is_optional_may_be_left_out(tmp_path: Path) -> None:
    file = read(tmp_path, "flow.toml", '[jobs.only]\nscript = ""\n')

    assert (file.name, file.id, file.caller, file.context) == (None, None, None, None)
    assert file.submission(context=1, caller=1, flow=9, first_job=1).flow.env_vars == {}


def test_flows_and_jobs_may_have_tags(tmp_path: Path) -> None:
    file = read(
        tmp_path, "flow.toml", 'tags = ["night"]\n[jobs.a]\nscript = ""\ntags = ["x", "y"]\n[jobs.b]\nscript = ""\n'
    )
    made = file.submission(context=1, caller=1, flow=9, first_job=1)

    assert (made.flow.name, made.flow.tags) == (None, ["night"])
    assert [job.tags for job in made.jobs] == [["x", "y"], None]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.[ty]*ml")), ids=lambda path: path.name)
def test_the_examples_are_valid(path: Path) -> None:
    assert read_flow_file(path).jobs


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "jobs: must be a list or a table with at least one job"),
        ("jobs = []", "jobs: must be a list or a table with at least one job"),
        ("jobs = 3", "jobs: must be a list or a table with at least one job"),
        ("jobs = [3]", "job number 1: must be a table"),
        ('jobs = [{script = ""}]', "job number 1: name: is missing"),
        ('jobs = [{name = "", script = ""}]', "job number 1: name: must be one line of 1 to 100 characters"),
        ('jobs = [{name = "a\\nb", script = ""}]', "job 'a\\nb': name: must be one line of 1 to 100 characters"),
        ('jobs = [{name = 3, script = ""}]', "job number 1: name: must be text, in quotes"),
        ("[jobs.a]", "job 'a': needs script or file"),
        ('[jobs.a]\nscript = ""\nfile = "x"', "job 'a': needs script or file, not both"),
        ('[jobs.a]\nname = "b"\nscript = ""', "job 'a': name: its key in the table is its name"),
        ('[jobs.a]\nscript = 3\ntimeout = "3"', "job 'a': script: must be text, in quotes"),
        ('[jobs.a]\nscript = ""\ntimeout = "3"', "job 'a': timeout: must be a whole number"),
        ('[jobs.a]\nscript = ""\ntimeout = true', "job 'a': timeout: must be a whole number"),
        ('[jobs.a]\nscript = ""\ntimeout = -1', "job 'a': timeout: Input should be greater than or equal to 0"),
        ('[jobs.a]\nscript = ""\nretries = 256', "job 'a': retries: Input should be less than or equal to 255"),
        ('[jobs.a]\nscript = ""\ntype = "python"', "job 'a': type: must be one of Osis, Sal, V, Python"),
        ('[jobs.a]\nscript = ""\ndepends = "b"', "job 'a': depends: must be a list"),
        ('[jobs.a]\nscript = ""\nprerequisites = [1]', "job 'a': prerequisites.0: must be text, in quotes"),
        ('[jobs.a]\nscript = ""\nenv = ["A=1"]', "job 'a': env: must be a table"),
        ('[jobs.a]\nscript = ""\ntags = "b"', "job 'a': tags: must be a list"),
        ('[jobs.a]\nscript = ""\ntags = ["a\\nb"]', "job 'a': tags.0: must be one line of printable characters"),
        ('[jobs.a]\nscript = ""\nenv = {A = 1}', "job 'a': env.A: must be text, in quotes"),
        ('[jobs.a]\nscript = ""\nenv = {"A=" = "1"}', "job 'a': env: no environment can hold 'A='"),
        (
            '[jobs.a]\nscript = ""\nenv = {HERO_RESULT = "1"}',
            "job 'a': env: HERO_RESULT is set for every job and cannot be given",
        ),
        ('[jobs.a]\nscript = ""\ndepend = []', "job 'a': depend: there is no such field; did you mean 'depends'?"),
        ('[jobs.a]\nscript = ""\nzzz = 1', "job 'a': zzz: there is no such field"),
        (
            '[jobs.fetch]\nscript = ""\n[jobs.b]\nscript = ""\ndepends = ["fetsh"]',
            "job 'b': depends: there is no job 'fetsh'; did you mean 'fetch'?",
        ),
        (
            '[jobs.b]\nscript = ""\ndepends = ["c"]\n[jobs.c]\nscript = ""\ndepends = ["b"]',
            "job 'b': depends: jobs wait for each other: b → c → b",
        ),
        ('[jobs.b]\nscript = ""\ndepends = ["b"]', "job 'b': depends: jobs wait for each other: b → b"),
        (
            'jobs = [{name = "a", script = ""}, {name = "a", script = ""}]',
            "job 'a': name: there are two jobs of that name",
        ),
        ('contxt = 1\n[jobs.a]\nscript = ""', "contxt: there is no such field; did you mean 'context'?"),
        ('id = -1\n[jobs.a]\nscript = ""', "id: Input should be greater than or equal to 0"),
        ('env = {A = 1}\n[jobs.a]\nscript = ""', "env.A: must be text, in quotes"),
    ],
)
def test_what_is_wrong_is_said_with_its_job_and_field(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in problems_of(tmp_path, "flow.toml", text)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = 'nam = "x"\n[jobs.a]\nscript = 3\nretries = -1\n[jobs.b]\n'

    assert [problem.partition(": ")[0] for problem in problems_of(tmp_path, "flow.toml", text)] == [
        "nam",
        "job 'a'",
        "job 'a'",
        "job 'b'",
    ]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("flow.toml", "jobs = [", "not TOML: Invalid value (at end of document)"),
        ("flow.toml", "[jobs.a]\n[jobs.a]\n", "not TOML: Cannot declare ('jobs', 'a') twice (at line 2, column 8)"),
        ("flow.yaml", "jobs: [", "not YAML: expected the node content, but found '<stream end>' (at line 1, column 8)"),
        ("flow.yaml", "jobs:\n  a: {}\n  a: {}\n", "not YAML: 'a' is there twice (at line 3, column 3)"),
        ("flow.yaml", "- a", "must be a table with `jobs`"),
        ("flow.yaml", "", "must be a table with `jobs`"),
        ("flow.yaml", "1: 2", "must be a table with `jobs`"),
        ("flow.json", "{}", "must end in .toml, .yaml or .yml"),
    ],
)
def test_a_file_that_cannot_be_understood_is_said_with_the_place(
    tmp_path: Path, name: str, text: str, problem: str
) -> None:
    assert problems_of(tmp_path, name, text) == [problem]


@pytest.mark.parametrize(("name", "text"), [("flow.toml", TOML), ("flow.yaml", YAML)])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_byte_order_mark_and_the_line_ends_of_windows_change_nothing(
    tmp_path: Path, name: str, text: str, line_end: str
) -> None:
    (tmp_path / "report.sh").write_text("echo ß\n")
    expected = read(tmp_path, name, text)

    for file, content in ((name, text), ("report.sh", "echo ß\n")):
        (tmp_path / file).write_bytes(b"\xef\xbb\xbf" + content.replace("\n", line_end).encode())

    assert read_flow_file(tmp_path / name) == expected


@pytest.mark.parametrize("name", ["flow.toml", "flow.yaml"])
def test_a_second_byte_order_mark_is_none(tmp_path: Path, name: str) -> None:
    text = {"flow.toml": TOML, "flow.yaml": YAML}[name]

    assert problems_of(tmp_path, name, "\ufeff\ufeff" + text.lstrip())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_file_in_utf16_is_said_to_be(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "flow.toml"
    path.write_bytes(("\ufeff" * encoding.endswith("be") + TOML).encode(encoding))

    with pytest.raises(FlowFileError, match="it is UTF-16; save it as UTF-8"):
        read_flow_file(path)


def test_yaml_values_that_are_no_text_have_to_be_quoted(tmp_path: Path) -> None:
    text = "jobs: [{name: a, script: '', env: {DEBUG: yes}}]"

    assert problems_of(tmp_path, "flow.yaml", text) == ["job 'a': env.DEBUG: must be text, in quotes"]


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(FlowFileError, match=r"none\.toml: cannot be read: no such file or directory"):
        read_flow_file(tmp_path / "none.toml")


def test_a_script_file_that_cannot_be_read_is_said_with_its_job(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes(b"print('\xe4')")
    text = '[jobs.a]\nfile = "none.py"\n[jobs.b]\nfile = "latin.py"\n'

    assert problems_of(tmp_path, "flow.toml", text) == [
        f"job 'a': file: {tmp_path / 'none.py'}: cannot be read: no such file or directory",
        f"job 'b': file: {tmp_path / 'latin.py'}: cannot be read: it is not UTF-8",
    ]


def test_a_file_without_an_end_is_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.cli.flow_file.LARGEST_FILE", 1 << 20)
    (tmp_path / "endless.yaml").symlink_to("/dev/zero")
    with pytest.raises(FlowFileError, match=r"endless\.yaml: cannot be read: it is larger than 1 MiB"):
        read_flow_file(tmp_path / "endless.yaml")
    (problem,) = problems_of(tmp_path, "flow.toml", '[jobs.a]\nfile = "endless.yaml"\n')
    assert "job 'a': file: " in problem
    assert "larger than 1 MiB" in problem


def test_a_file_that_is_nested_too_deep_is_said(tmp_path: Path) -> None:
    assert problems_of(tmp_path, "flow.toml", f"x = {'[' * 5000}{']' * 5000}") == ["it is nested too deep"]


def test_many_unknown_names_are_reported_without_looking_for_each_of_them(tmp_path: Path) -> None:
    entries = [f"- {{name: job{at}, script: '', depends: [unknown{at}]}}" for at in range(3_000)]
    path = tmp_path / "flow.yaml"
    path.write_text("jobs:\n" + "\n".join(entries))

    with pytest.raises(FlowFileError) as caught:
        read_flow_file(path)

    assert len(caught.value.problems) == 3_000
