"""What all models share: strict validation, and the types of their members.

An integer is never taken from a string, a boolean or a float, enums are spelled exactly, unknown members are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field

UInt32 = Annotated[int, Field(ge=0, le=2**32 - 1, json_schema_extra={"format": "uint32"})]
UInt8 = Annotated[int, Field(ge=0, le=255)]
Timestamp = Annotated[int, Field(json_schema_extra={"format": "int64"}, description="Unix time in seconds")]

# A list reports its first bad item only: a hostile list of a million of them must not cost a million errors.
FIRST_FAULT = FailFast()

# And it has a length, which is looked at before the items that are beyond it are: nobody is served meanwhile.
MAX_IDS = 100_000
MAX_ITEMS = 10_000

UInt32List = Annotated[list[UInt32], FIRST_FAULT, Field(max_length=MAX_IDS)]
StringList = Annotated[list[str], FIRST_FAULT, Field(max_length=MAX_ITEMS)]
StringMap = Annotated[dict[str, str], Field(max_length=MAX_ITEMS)]


def _drop_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


LEFT_OUT_WHEN_UNSET = Field(json_schema_extra=_drop_default)


class Model(BaseModel):
    # A validator is built when it is first used: a process that calls one method needs few of them.
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, defer_build=True)
