"""Flow files: a flow and its jobs, written by hand in TOML or YAML. Knows nothing of the network."""

from __future__ import annotations

import codecs
import difflib
import json
import tomllib
from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from coordinator import dag
from coordinator.errors import DagCycleDetected
from coordinator.models import (
    MAX_NAME,
    SCRIPT_TYPES,
    FlowCreate,
    FlowSubmitParams,
    JobCreate,
    PrerequisiteName,
    ScriptType,
    Tags,
    UInt8,
    UInt32,
)

__all__ = ["FLOW_NAME", "JOB_NAME", "FlowFile", "FlowFileError", "JobEntry", "read_flow_file"]

JOB_NAME: Final = "HERO_JOB_NAME"
FLOW_NAME: Final = "HERO_FLOW_NAME"
DEPENDS: Final = "HERO_DEPENDS"
SET_BY_US: Final = (JOB_NAME, FLOW_NAME, DEPENDS)
SET_BY_RUNNER: Final = (
    "HERO_ATTEMPT",
    "HERO_ATTEMPT_ID",
    "HERO_CALLER_ID",
    "HERO_CONTEXT_ID",
    "HERO_DEPENDS_FILE",
    "HERO_FLOW_ID",
    "HERO_INPUTS",
    "HERO_JOB_ID",
    "HERO_PREREQUISITES",
    "HERO_RESULT",
)
SUGGESTED: Final = 5  # unknown names for which a known one is suggested
LARGEST_FILE: Final = 256 * 1024 * 1024  # bytes, of a flow file or a script


class FlowFileError(Exception):
    """Attributes: `problems`, each a line that says where and what."""

    def __init__(self, path: Path, problems: Collection[str]) -> None:
        self.problems = [f"{path}: {problem}" for problem in problems]
        super().__init__("\n".join(self.problems))


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > MAX_NAME:
        raise ValueError(f"must be one line of 1 to {MAX_NAME} characters")
    return text


def _env(variables: dict[str, str]) -> dict[str, str]:
    for name, value in variables.items():
        if name in SET_BY_US or name in SET_BY_RUNNER:
            raise ValueError(f"{name} is set for every job and cannot be given")
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"no environment can hold {name!r}")
    return variables


Name = Annotated[str, AfterValidator(_name)]
Env = Annotated[dict[str, str], AfterValidator(_env)]


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Head(_Entry):
    name: Name | None = None
    id: UInt32 | None = None
    caller: UInt32 | None = None
    context: UInt32 | None = None
    env: Env = Field(default_factory=dict)
    tags: Tags = Field(default_factory=list)
    jobs: Any = None


class JobEntry(_Entry):
    """A job as the file has it; `script` holds the text also where the file names another."""

    name: Name
    script: str | None = None
    file: str | None = None
    type: ScriptType = "Python"
    depends: list[str] = Field(default_factory=list)
    env: Env = Field(default_factory=dict)
    timeout: UInt32 = 0
    retries: UInt8 = 0
    lost_retries: UInt8 | None = None
    prerequisites: list[PrerequisiteName] = Field(default_factory=list)
    tags: Tags = Field(default_factory=list)


EntryT = TypeVar("EntryT", bound=_Entry)


@dataclass(frozen=True)
class FlowFile:
    """A valid flow file. What it leaves open is None."""

    name: str | None
    id: int | None
    caller: int | None
    context: int | None
    env: Mapping[str, str]
    tags: Sequence[str]
    jobs: tuple[JobEntry, ...]

    def names(self, first_job: int) -> dict[int, str]:
        """The jobs' names by their ids when they are numbered from this one on."""
        return {first_job + at: job.name for at, job in enumerate(self.jobs)}

    def submission(self, *, context: int, caller: int, flow: int, first_job: int) -> FlowSubmitParams:
        """The params of flow.submit, with jobs numbered from `first_job` on in the file's order.

        Names go along as environment variables, too, for the scripts.
        """
        ids = {name: id for id, name in self.names(first_job).items()}
        common: dict[str, Any] = {"caller_id": caller, "context_id": context}
        head = {} if self.name is None else {FLOW_NAME: self.name}
        called: dict[str, Any] = {} if self.name is None else {"name": self.name}
        if self.tags:
            called["tags"] = [*self.tags]
        jobs = []
        for job in self.jobs:
            variables = {**job.env, JOB_NAME: job.name}
            if job.depends:
                variables[DEPENDS] = json.dumps({name: str(ids[name]) for name in job.depends}, ensure_ascii=False)
            own: dict[str, Any] = {} if job.lost_retries is None else {"lost_retries": job.lost_retries}
            if job.tags:
                own["tags"] = job.tags
            jobs.append(
                JobCreate(
                    id=ids[job.name],
                    **common,
                    script=job.script or "",
                    script_type=job.type,
                    timeout=job.timeout,
                    retries=job.retries,
                    env_vars=variables,
                    prerequisites=job.prerequisites,
                    name=job.name,
                    **own,
                    depends=[ids[name] for name in dict.fromkeys(job.depends)],
                )
            )
        record = FlowCreate(id=flow, **common, jobs=[*ids.values()], env_vars={**self.env, **head}, **called)
        return FlowSubmitParams(context_id=context, flow=record, jobs=jobs)


def read_flow_file(path: Path) -> FlowFile:
    """Read a flow file with all the script files it names.

    Raises:
        FlowFileError: with everything that is wrong in it, as far as it could be understood.
    """
    content = _load(path)
    problems: list[str] = []
    head = _entry(_Head, content, "", problems)
    entries = _job_entries(content.get("jobs"), problems)
    jobs = [job for place, entry in entries if (job := _job(path, entry, place, problems)) is not None]
    if len(jobs) == len(entries):
        _check_graph(jobs, problems)
    if problems or head is None:
        raise FlowFileError(path, problems)
    return FlowFile(head.name, head.id, head.caller, head.context, head.env, head.tags, tuple(jobs))


# -- syntax


class _Unique(yaml.constructor.SafeConstructor):
    """YAML, but a key given twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Loader(_Unique, yaml.SafeLoader):
    """With PyYAML's own parser, which says best what is wrong."""


_PARSER_IN_C: Any = getattr(yaml, "CSafeLoader", None)
"""PyYAML has it where there is libyaml. It reads a file of 10,000 jobs in 2 s, the other one in 10."""


def _load_yaml(text: str) -> Any:
    if _PARSER_IN_C is not None:
        with suppress(yaml.YAMLError):  # the other one says what is wrong
            return yaml.load(text, type("_FastLoader", (_Unique, _PARSER_IN_C), {}))
    return yaml.load(text, _Loader)


def _load(path: Path) -> dict[str, Any]:
    text = _read(path)
    try:
        if path.suffix == ".toml":
            return tomllib.loads(text)
        if path.suffix in (".yaml", ".yml"):
            content = _load_yaml(text)
        else:
            raise FlowFileError(path, ["must end in .toml, .yaml or .yml"])
    except tomllib.TOMLDecodeError as error:
        raise FlowFileError(path, [f"not TOML: {error}"]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise FlowFileError(path, [f"not YAML: {error.problem or error.context}{place}"]) from error
    except yaml.YAMLError as error:
        raise FlowFileError(path, [f"not YAML: {' '.join(str(error).split())}"]) from error
    except RecursionError as error:
        raise FlowFileError(path, ["it is nested too deep"]) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise FlowFileError(path, ["must be a table with `jobs`"])
    return content


def _read(path: Path) -> str:
    """The text of a file, without the byte order mark that some editors put before it."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)  # a device has no end
        if len(data) > LARGEST_FILE:
            raise FlowFileError(path, [f"cannot be read: it is larger than {LARGEST_FILE >> 20} MiB"])
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise FlowFileError(path, [f"cannot be read: {(error.strerror or str(error)).lower()}"]) from error
    except ValueError as error:
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        what = "it is UTF-16; save it as UTF-8" if is_utf16 else "it is not UTF-8"
        raise FlowFileError(path, [f"cannot be read: {what}"]) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


# -- fields


def _job_entries(jobs: Any, problems: list[str]) -> list[tuple[str, Any]]:
    """What the file has under `jobs`, each with how to speak of it; of a table's entries the key is the name."""
    if not jobs or not isinstance(jobs, list | dict):
        problems.append("jobs: must be a list or a table with at least one job")
        return []
    if isinstance(jobs, list):
        return [(_place(job.get("name") if isinstance(job, dict) else None, at), job) for at, job in enumerate(jobs)]
    entries = []
    for at, (name, job) in enumerate(jobs.items()):
        if isinstance(job, dict) and "name" in job:
            problems.append(f"{_place(name, at)}: name: its key in the table is its name")
            job = {field: value for field, value in job.items() if field != "name"}  # noqa: PLW2901
        entries.append((_place(name, at), {"name": name, **job} if isinstance(job, dict) else job))
    return entries


def _place(name: Any, at: int) -> str:
    return f"job {name!r}" if isinstance(name, str) and name else f"job number {at + 1}"


def _job(path: Path, entry: Any, place: str, problems: list[str]) -> JobEntry | None:
    if not isinstance(entry, dict):
        problems.append(f"{place}: must be a table")
        return None
    job = _entry(JobEntry, entry, place, problems)
    if job is None or (job.script is None) == (job.file is None):
        if job is not None:
            problems.append(f"{place}: needs script or file" + ("" if job.script is None else ", not both"))
        return None
    if job.file is None:
        return job
    try:
        return job.model_copy(update={"script": _read(path.parent / job.file)})
    except FlowFileError as error:
        problems += [f"{place}: file: {problem}" for problem in error.problems]
        return None


def _entry(model: type[EntryT], entry: Mapping[str, Any], place: str, problems: list[str]) -> EntryT | None:
    try:
        return model.model_validate(entry)
    except ValidationError as error:
        prefix = f"{place}: " if place else ""
        problems += [f"{prefix}{_explain(fault, model.model_fields)}" for fault in error.errors()]
        return None


_MESSAGES: Final = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "missing": "is missing",
    "literal_error": f"must be one of {', '.join(SCRIPT_TYPES)}",
}


def _explain(fault: ErrorDetails, fields: Collection[str]) -> str:
    where = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    if fault["type"] == "extra_forbidden":
        return f"{where}: there is no such field{_meant(where, fields)}"
    message = _MESSAGES.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
    quotes = fault["type"] == "string_type" and isinstance(fault["input"], bool | int | float)
    return f"{where}: {message}" + (", in quotes" if quotes else "")


def _meant(word: str, words: Collection[str]) -> str:
    close = difflib.get_close_matches(word, list(words), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


# -- graph


def _check_graph(jobs: list[JobEntry], problems: list[str]) -> None:
    numbers: dict[str, int] = {}
    for at, job in enumerate(jobs):
        if job.name in numbers:
            problems.append(f"job {job.name!r}: name: there are two jobs of that name")
        numbers[job.name] = at
    missing = [(job.name, name) for job in jobs for name in job.depends if name not in numbers]
    # To find what was meant takes a look at each job, so it is found once for each name, and for a few of them.
    unknown = list(dict.fromkeys(name for _, name in missing))
    meant = {name: _meant(name, numbers) for name in unknown[:SUGGESTED]}
    for job_name, name in missing:
        problems.append(f"job {job_name!r}: depends: there is no job {name!r}{meant.get(name, '')}")
    if missing or len(numbers) < len(jobs):
        return
    try:
        dag.build({at: [numbers[name] for name in job.depends] for at, job in enumerate(jobs)})
    except DagCycleDetected as error:
        cycle = [jobs[at].name for at in error.data["cycle"]]
        problems.append(f"job {cycle[0]!r}: depends: jobs wait for each other: {' → '.join([*cycle, cycle[0]])}")
