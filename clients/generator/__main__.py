"""`python -m clients.generator`: makes the files of every client anew. `--check` only says which are not current."""

from __future__ import annotations

import json
import sys

from clients.generator.files import ROOT, files

SPECIFICATION = ROOT / "specs" / "openrpc.json"


def main(arguments: list[str]) -> int:
    made = files(json.loads(SPECIFICATION.read_text("utf-8")))
    old = [path for path, text in made.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in old:
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[path], "utf-8")
        print(path.relative_to(ROOT), "is not current" if "--check" in arguments else "is made anew")
    return 1 if old and "--check" in arguments else 0


sys.exit(main(sys.argv[1:]))
