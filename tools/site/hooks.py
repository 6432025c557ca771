"""What the generator does beyond reading docs/: documents elsewhere in the repository, and files that documents name,
become part of the site, and links to them lead there.

Links in the sources are those of the repository, so that they work where the sources are shown as they are.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any, Final

from properdocs.structure.files import File

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = "docs"

_LINK: Final = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")
_CODE_IN_TABLE: Final = re.compile(r"^\|.*\\\|.*$", re.M)
_FENCED: Final = re.compile(r"^```.*?^```", re.M | re.S)


def on_files(files: Any, config: Any) -> Any:
    """Add what is named from docs/, directly or from what is added."""
    found = [f"{DOCS}/{file.src_uri}" for file in files.documentation_pages()]
    seen = {*found}
    for source in found:
        for target in _targets(source):
            if target not in seen and not target.startswith(f"{DOCS}/") and (ROOT / target).is_file():
                seen.add(target)
                files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
                if target.endswith(".md"):
                    found.append(target)
    return files


def _targets(source: str) -> list[str]:
    text = _FENCED.sub("", (ROOT / source).read_text("utf-8"))
    return [_resolved(source, found[1]) for found in _LINK.finditer(text)]


def _resolved(source: str, target: str) -> str:
    """A link of a source, as a path in the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def _site_path(path: str) -> str:
    return path.removeprefix(f"{DOCS}/")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    own = page.file.src_uri
    source = f"{DOCS}/{own}" if (ROOT / DOCS / own).is_file() else own
    below = posixpath.dirname(own) or "."

    def moved(found: re.Match[str]) -> str:
        return posixpath.relpath(_site_path(_resolved(source, found[1])), below) + (found[2] or "")

    def rendered(text: str) -> str:
        return _CODE_IN_TABLE.sub(_with_bars, _LINK.sub(moved, text))

    parts, at = [], 0
    for fenced in _FENCED.finditer(markdown):
        parts += [rendered(markdown[at : fenced.start()]), fenced[0]]
        at = fenced.end()
    return "".join([*parts, rendered(markdown[at:])])


def _with_bars(row: re.Match[str]) -> str:
    r"""A row of a table. Others that read Markdown want a bar in its code written `\|`, this one as it is."""
    return re.sub(r"`[^`]*`", lambda code: code[0].replace(r"\|", "|"), row[0])
