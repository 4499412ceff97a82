"""Runs of the tasks that are measured on labels, which several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest
from making import FAST, FAST_DETECT, FAST_SEGMENT, make_folder, make_objects, make_scenes

from convnext import cli

TASKS = {
    "classify": (make_folder, FAST),
    "detect": (make_objects, [*FAST_DETECT, "--base-lr", "3e-3", "--epochs", "4"]),
    "segment": (make_scenes, [*FAST_SEGMENT, "--ignore-index", "9"]),
}


@pytest.fixture(scope="session", params=TASKS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    make, options = TASKS[request.param]
    root = tmp_path_factory.mktemp(request.param)
    data = make(root / "data")
    assert cli.main(["train", request.param, str(data), "--out", str(root / "run"), *options]) == 0
    return request.param, data, root / "run"
