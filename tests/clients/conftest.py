"""What the tests of clients in other languages need; where it is missing they are skipped, and the summary warns."""

from __future__ import annotations

import warnings

import pytest

from tests.support import node, typescript


@pytest.fixture(scope="session")
def typescript_client() -> None:
    """The TypeScript client, compiled."""
    if not node.is_there():
        warnings.warn("Node or npm is missing: NO test of the TypeScript client runs", stacklevel=1)
        pytest.skip("Node or npm is missing")
    typescript.build()
