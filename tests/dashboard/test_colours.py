"""What is written in colours can be read: the contrast that WCAG 2 asks for (AA), on each ground it stands on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

STYLE: Final = (Path(__file__).parents[2] / "dashboard" / "src" / "style.css").read_text()
TEXTS: Final = ("text", "muted", "accent", "finished", "error", "running", "queued", "waiting")
GROUNDS: Final = ("page", "surface", "raised")
BADGE: Final = 0.12  # of a text's own colour, behind it
ENOUGH: Final = 4.5

Colour = tuple[float, float, float]
(LIGHT, DARK) = (
    {
        name: tuple(int(hexadecimal[at : at + 2], 16) / 255 for at in (0, 2, 4))
        for name, hexadecimal in re.findall(r"--([a-z-]+): #([0-9a-f]{6});", block)
    }
    for block in re.findall(r":root \{(.*?)\}", STYLE, re.S)
)


def luminance(colour: Colour) -> float:
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Colour, other: Colour) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_badges_are_as_this_module_thinks() -> None:
    assert "background: color-mix(in srgb, currentcolor 12%, transparent);" in STYLE


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", TEXTS)
def test_each_colour_can_be_read(theme: dict[str, Colour], name: str) -> None:
    text = theme[name]
    for ground in (theme[ground] for ground in GROUNDS):
        badge = tuple(BADGE * ours + (1 - BADGE) * theirs for ours, theirs in zip(text, ground, strict=True))

        assert contrast(text, ground) >= ENOUGH
        if name not in ("text", "muted", "accent"):
            assert contrast(text, (badge[0], badge[1], badge[2])) >= ENOUGH
