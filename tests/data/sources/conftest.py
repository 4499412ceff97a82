"""Annotated images that the tests of several formats write in their form."""

from __future__ import annotations

import pytest
from annotating import Parts, make_truth


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Images with squares and circles, to read only."""
    return make_truth(tmp_path_factory.mktemp("truth") / "native")
