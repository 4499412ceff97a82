"""Models of every task, and one server of them all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from making import TASKS, TrainedOnce
from serving import Server

import convnext


@pytest.fixture(scope="session")
def trained(trained_once: TrainedOnce, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[Path]]]:
    """A run of each task, and images of its data; and "embed", weights without a head."""
    found = {}
    for task in TASKS:
        data, run = trained_once(task)
        paths = sorted(path.relative_to(data) for path in data.rglob("val/**/*.png"))
        found[task] = run, [data / path for path in paths if path.parts[0] not in ("annotations", "depth")]
    embedder = tmp_path_factory.mktemp("served") / "embed.safetensors"
    convnext.save_weights(convnext.create_model("convnextv2_atto", num_classes=0), embedder)
    return {**found, "embed": (embedder, found["classify"][1])}


@pytest.fixture(scope="session")
def server(trained: dict[str, tuple[Path, list[Path]]]) -> Iterator[Server]:
    """A server of all, with two workers."""
    samples = trained["classify"][1][0].parent
    sources = [str(run) for run, _ in trained.values()]
    with Server(*sources, "--workers", 2, "--device", "cpu", "--samples", samples) as running:
        running.wait_for_workers(2)
        yield running
