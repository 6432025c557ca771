"""`python -m tools.reference`: record the examples, and write the document and the pages that are made of the code.

--pages     the document and the pages only, with the examples that are there
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from coordinator.rpc import openrpc
from coordinator.rpc.methods import METHODS
from tools.reference import made_files
from tools.reference.scenario import UNRECORDED, record


def main() -> int:
    if "--pages" not in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as directory:
            recorded = record(Path(directory))
        write(openrpc.EXCHANGES, exchanges_text(recorded))
        for name in METHODS.keys() - recorded.keys():
            print(f"{name} {UNRECORDED}", file=sys.stderr)
    for path, text in made_files().items():
        write(path, text)
    return 0


def exchanges_text(recorded: Mapping[str, openrpc.Exchange]) -> str:
    lines = [
        f"{json.dumps(name)}: {json.dumps(exchange._asdict(), ensure_ascii=False)}"
        for name, exchange in recorded.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"{path} has changed")


if __name__ == "__main__":
    sys.exit(main())
