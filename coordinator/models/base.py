"""What all models share: strict validation, and the types of their members.

An integer is never taken from a string, a boolean or a float, enums are spelled exactly, unknown members are ignored.
Times of what runs are Unix milliseconds on the store's clock, durations are seconds.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypeAliasType

UInt32 = Annotated[int, Field(ge=0, le=2**32 - 1, json_schema_extra={"format": "uint32"})]
UInt8 = Annotated[int, Field(ge=0, le=255)]
Timestamp = Annotated[int, Field(json_schema_extra={"format": "int64"}, description="Unix time in seconds")]

# A list reports its first bad item only: a hostile list of a million of them must not cost a million errors.
FIRST_FAULT = FailFast()

# And it has a length, which is looked at before the items that are beyond it are: nobody is served meanwhile.
MAX_IDS = 100_000
MAX_ITEMS = 10_000
MAX_PAGE = 1_000

UInt32List = Annotated[list[UInt32], FIRST_FAULT, Field(max_length=MAX_IDS)]
StringList = Annotated[list[str], FIRST_FAULT, Field(max_length=MAX_ITEMS)]
StringMap = Annotated[dict[str, str], Field(max_length=MAX_ITEMS)]


# Names and tags are for people, and for filters. What a terminal or a page would act upon, or would not show, is in
# none: controls, marks and overrides of writing direction, what has no width, separators of lines.
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]*$"
_is_printable = re.compile(PRINTABLE.replace("$", r"\Z")).match


def _printable(text: str) -> str:
    if not _is_printable(text):
        raise ValueError("must be one line of printable characters")
    return text


MAX_NAME = 100
MAX_TAG = 50
MAX_TAGS = 20

_SHOWN = Field(json_schema_extra={"pattern": PRINTABLE})
NameText = TypeAliasType("NameText", Annotated[str, Field(max_length=MAX_NAME), AfterValidator(_printable), _SHOWN])
TagText = Annotated[str, Field(min_length=1, max_length=MAX_TAG), AfterValidator(_printable), _SHOWN]
Tags = TypeAliasType("Tags", Annotated[list[TagText], FIRST_FAULT, Field(max_length=MAX_TAGS)])


def _drop_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


LEFT_OUT_WHEN_UNSET = Field(json_schema_extra=_drop_default)

OptionalName = Annotated[
    NameText | SkipJsonSchema[None],
    LEFT_OUT_WHEN_UNSET,
    Field(description="What people call it: one printable line. It need not be unique"),
]
OptionalTags = Annotated[
    Tags | SkipJsonSchema[None],
    LEFT_OUT_WHEN_UNSET,
    Field(description="Short texts by which lists find it"),
]

Milliseconds = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"}, description="Unix time in ms")]
EventId = Annotated[str, Field(pattern=r"^\d{1,20}-\d{1,20}$", description="Names an event of a flow, in order")]
BEGINNING: Final = "0-0"
"""The id before that of any event."""
InBatches = Annotated[
    bool, Field(description="Several notifications at once come as one JSON-RPC batch; by default each is a message")
]
OptionalText = Annotated[str | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET]
OptionalTime = Annotated[Milliseconds | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET]
OptionalId = Annotated[UInt32 | SkipJsonSchema[None], LEFT_OUT_WHEN_UNSET]


class Model(BaseModel):
    # A validator is built when it is first used: a process that calls one method needs few of them.
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, defer_build=True)
