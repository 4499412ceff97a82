"""Images and runs that several tests share."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from making import FAST, TASKS, TrainedOnce, charts_drawn, make_folder
from matplotlib.figure import Figure
from PIL import Image

from convnext import cli

PLACE = str(Path(__file__).parent / "started")  # by which processes that tests start know the member for tests
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [PLACE, os.environ.get("PYTHONPATH")]))

LONGEST = (
    "test_export.py",
    "test_properties.py",
    "test_openmmlab.py",
    "test_faults.py",
    "test_page.py",
    "test_parallel.py",
    "test_resume.py",
    "test_first_ten_minutes.py",
    "test_benchmark.py",
)
"""Files that take a minute or more."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several processes, the longest files come first: were one the last, the others would wait for it. Alone, tests
    come in the order they were asked for, on which `benchmarks/mutants.py` relies."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.name not in LONGEST)


def write_blank(file: Any, form: str) -> None:
    """An image of one pixel."""
    Image.new("RGB", (1, 1)).save(file, form)


@pytest.fixture(scope="session", autouse=True)
def _undrawn_charts() -> Iterator[None]:
    """Charts are computed, and not drawn, which takes a third of a small run's time; `charts_drawn` draws them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "tight_layout", lambda _: None)
        patch.setattr(Figure, "savefig", lambda _, file, **how: write_blank(file, how["format"]))
        yield


@pytest.fixture
def charts(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved from here on."""
    saved: list[Figure] = []

    def keep(figure: Figure, file: Any, **how: Any) -> None:
        saved.append(figure)
        write_blank(file, how["format"])

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """No test cuts the power, and a small run waits a tenth of its time until its files are on the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_debugging_logs() -> Iterator[None]:
    """PyTorch's checkpoints log each tensor, which is a twentieth of a small run's time."""
    logging.disable(logging.DEBUG)
    yield
    logging.disable(logging.NOTSET)


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


@pytest.fixture(scope="session")
def atto_run(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a member that other libraries have too."""
    out = tmp_path_factory.mktemp("runs") / "atto"
    command = ["train", "classify", str(colours), "--out", str(out), *FAST, "--model", "convnextv2_atto"]
    assert cli.main(command) == 0
    return out


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> TrainedOnce:
    """Of a task's name in `TASKS`: its small data and a finished run on them, both to read only.

    The first process of pytest-xdist that asks trains it; each has a copy of the run, in which commands may write.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "trained"
    shared.mkdir(exist_ok=True)

    def find(task: str) -> tuple[Path, Path]:
        root, copy = shared / task, own / "trained-here" / task
        with FileLock(f"{root}.lock"):
            if not (root / "done").exists():
                shutil.rmtree(root, ignore_errors=True)  # of a training that failed
                make, options = TASKS[task]
                command = ["train", task, str(make(root / "data")), "--out", str(root / "run"), *options]
                with charts_drawn():
                    assert cli.main(command) == 0
                (root / "done").touch()
        if not copy.exists():
            shutil.copytree(root / "run", copy)
        return root / "data", copy

    return find
