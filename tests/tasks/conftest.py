"""Runs of the tasks that are measured on labels, and images of two cameras, one of them broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from making import TrainedOnce
from PIL import Image

MEASURED = ("classify", "detect", "segment")


@pytest.fixture(scope="session", params=MEASURED)
def trained(request: pytest.FixtureRequest, trained_once: TrainedOnce) -> tuple[str, Path, Path]:
    return request.param, *trained_once(request.param)


@pytest.fixture
def noisy(colours: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The images of `colours` four times over, half of them noise, and the table that says which."""
    data, lines = tmp_path / "data", ["path,camera,site"]
    draws = np.random.default_rng(0)
    for path in sorted((colours / "train").rglob("*.png")):
        for copy in range(4):
            place = data / "val" / path.parent.name / f"{path.stem}-{copy}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.asarray(Image.open(path).convert("RGB"))
            image = (
                Image.fromarray(draws.integers(0, 256, pixels.shape, dtype=np.uint8)) if copy % 2 else Image.open(path)
            )
            image.save(place)
            lines.append(f"{place.relative_to(data)},{'bad' if copy % 2 else 'good'},{copy // 2}")
    table = tmp_path / "groups.csv"
    table.write_text("\n".join(lines) + "\n")
    return data, table
