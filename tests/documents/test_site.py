"""The documents can be built as a site that needs nothing from elsewhere, and no link in them leads nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED = {"src", "srcset", "poster", "data", "action"}


class Loads(HTMLParser):
    """Collects what a page has the browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in LOADED or (name == "href" and tag != "a"):
                self.found.append(value or "")


@pytest.mark.slow
def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "properdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert "Documentation built" in built.stderr  # where it says nothing it counts no warning either
    assert "WARNING" not in built.stderr

    pages = [*tmp_path.glob("**/*.html")]
    assert {"index.html", "reference/methods/flow.html", "specs/execution.html", "SECURITY.html"} <= {
        str(page.relative_to(tmp_path)) for page in pages
    }
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text())
        for target in loads.found:
            assert not re.match(r"[a-z]+:|//|/", target), f"{page}: {target}"
            assert (page.parent / target).resolve().is_relative_to(tmp_path.resolve())
            assert (page.parent / target).exists(), f"{page}: {target}"
    assert "<code>debug|info|warning|error</code>" in (tmp_path / "reference" / "commands.html").read_text()
    for style in tmp_path.glob("**/*.css"):
        assert not re.search(r"@import|url\(", style.read_text())


BESIDE = ["README.md", "examples/README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
BENCH = ["bench/README.md", "bench/HISTORY.md"]


@pytest.mark.parametrize("name", [*BESIDE, *BENCH])
def test_links_of_documents_beside_the_site_lead_somewhere(name: str) -> None:
    text = re.sub(r"^```.*?^```", "", (ROOT / name).read_text(), flags=re.M | re.S)

    targets = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", text)
    assert [target for target in targets if not (ROOT / name).parent.joinpath(target).exists()] == []


def test_the_page_of_the_benchmarks_stays_short() -> None:
    assert len((ROOT / "bench" / "README.md").read_text().splitlines()) <= 200
