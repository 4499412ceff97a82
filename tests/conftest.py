"""Images and runs that several tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from making import FAST, make_folder
from matplotlib.figure import Figure
from PIL import Image

from convnext import cli


@pytest.fixture(scope="session", autouse=True)
def _undrawn_charts() -> Iterator[None]:
    """Charts are computed and not drawn, which takes a third of a small run's time; `charts_drawn` draws them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda _, file, **how: Image.new("RGB", (1, 1)).save(file, how["format"]))
        yield


@pytest.fixture(scope="session")
def real_images() -> Path:
    """The folder of real images that CONVNEXT_DATA names."""
    place = os.environ.get("CONVNEXT_DATA")
    if not place:
        pytest.skip("CONVNEXT_DATA does not name the folder of real images")
    return Path(place)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small labelled folder, for a test to spoil."""
    return make_folder(tmp_path / "colours")


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small labelled folder, to read only."""
    return make_folder(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="session")
def run(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training run on `colours`, to read only."""
    out = tmp_path_factory.mktemp("runs") / "colours"
    assert cli.main(["train", "classify", str(colours), "--out", str(out), *FAST]) == 0
    return out
