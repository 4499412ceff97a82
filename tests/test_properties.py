"""A figure does not depend on who measures, in what batch, order or process, from where; nor does an answer."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from making import FAST, FAST_DETECT, FAST_SEGMENT, FINDING, make_folder, make_objects, make_scenes
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from starting import start
from vacuous import nonempty

import convnext
from convnext import cli


class Trained(NamedTuple):
    """A run on data that have no parts of their own, and how images of it are found."""

    task: str
    data: Path
    run: Path
    images: list[Path]


def folder(root: Path) -> Path:
    return make_folder(root, train=8, val=1) / "train"


def objects(root: Path) -> Path:
    make_objects(root, train=10, val=1)
    shutil.rmtree(root / "val")
    (root / "val.json").unlink()
    return root


def scenes(root: Path) -> Path:
    make_scenes(root, train=10, val=1)
    for kind in ("images", "annotations"):
        shutil.rmtree(root / kind / "val")
        for path in (root / kind / "train").iterdir():
            path.rename(root / kind / path.name)
        (root / kind / "train").rmdir()
    return root


TASKS: dict[str, tuple[Callable[[Path], Path], list[str], str]] = {
    "classify": (folder, FAST, "*/*.png"),
    "detect": (objects, [*FAST_DETECT, *FINDING, "--epochs", "3"], "train/*.png"),
    "segment": (scenes, [*FAST_SEGMENT, "--ignore-index", "9"], "images/*.png"),
}


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """A run of a task, trained once."""

    @functools.cache
    def of(task: str) -> Trained:
        make, options, pattern = TASKS[task]
        root = tmp_path_factory.mktemp(task)
        data = make(root / "data")
        arguments = ["train", task, str(data), "--out", str(root / "run"), *options, "--val-fraction", "0.4"]
        assert cli.main(arguments) == 0
        return Trained(task, data, root / "run", sorted(data.glob(pattern)))

    return of


@pytest.fixture(scope="module", params=TASKS)
def trained(request: pytest.FixtureRequest, train: Callable[[str], Trained]) -> Trained:
    return train(request.param)


def figures(capsys: pytest.CaptureFixture, *arguments: object) -> dict[str, Any]:
    """What `evaluate` says of a model on data."""
    capsys.readouterr()
    assert cli.main(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def expected_of(trained: Trained, capsys: pytest.CaptureFixture) -> dict[str, Any]:
    """The figures of the run; not all of them at an end of their range, where no difference would show."""
    found = figures(capsys, trained.run, trained.data)
    stored = json.loads((trained.run / "result.json").read_text())
    assert {name: found[name] for name in stored if name in found} == {k: v for k, v in stored.items() if k in found}
    assert 0 < found["images"] < len(trained.images)
    return found


@pytest.fixture
def expected(trained: Trained, capsys: pytest.CaptureFixture) -> dict[str, Any]:
    return expected_of(trained, capsys)


def test_batches_and_workers(trained: Trained, expected: dict, capsys: pytest.CaptureFixture) -> None:
    for batch in (1, 2, 4):
        assert figures(capsys, trained.run, trained.data, "--batch-size", batch, "--workers", batch // 2) == expected


def test_the_place_of_the_weights(
    trained: Trained, expected: dict, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    shutil.copytree(trained.run, tmp_path / "moved")
    file = shutil.copyfile(trained.run / "model.safetensors", tmp_path / "alone.safetensors")
    for weights in (tmp_path / "moved", trained.run / "model.safetensors", file):
        assert figures(capsys, weights, trained.data) == expected


def test_the_best_weights_are_measured_by_the_same_rules(trained: Trained, expected: dict, capsys: Any) -> None:
    found = figures(capsys, trained.run / "checkpoints" / "best.safetensors", trained.data)
    assert found["images"] == expected["images"]
    assert found["split"] == expected["split"]


def test_a_file_of_half_precision(trained: Trained, expected: dict, capsys: Any, tmp_path: Path) -> None:
    source = trained.run / "model.safetensors"
    with safe_open(source, "pt") as file:
        meta = file.metadata()
    half = {name: tensor.half() for name, tensor in load_file(source).items()}
    save_file(half, tmp_path / "half.safetensors", metadata=meta)
    found = figures(capsys, tmp_path / "half.safetensors", trained.data)
    assert found["images"] == expected["images"]
    for name, value in nonempty(expected.items()):
        if isinstance(value, float):
            assert found[name] == pytest.approx(value, abs=max(2.0, 0.1 * abs(value)))


def test_the_place_of_the_data(
    trained: Trained, expected: dict, capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moved, linked, and from another folder by a relative path: what was held out is found again."""
    moved = shutil.copytree(trained.data, tmp_path / "elsewhere" / "moved")
    link = tmp_path / "link"
    link.symlink_to(trained.data, target_is_directory=True)
    for place in (moved, link):
        assert figures(capsys, trained.run, place) == expected
        assert figures(capsys, trained.run / "model.safetensors", place) == expected
    monkeypatch.chdir(trained.data.parent)
    assert figures(capsys, trained.run, trained.data.name) == expected
    monkeypatch.chdir(tmp_path)
    assert figures(capsys, trained.run / "model.safetensors", "elsewhere/moved") == expected


def test_two_processes(train: Callable[[str], Trained], capsys: pytest.CaptureFixture) -> None:
    runs = [train(task) for task in TASKS]
    options = ["--json", "--workers", "0", "--device", "cpu"]
    process = start(2, *(["evaluate", str(each.run), str(each.data), *options] for each in runs))
    said, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    answers = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    for each, found in nonempty(zip(runs, answers, strict=True)):
        expected = expected_of(each, capsys)
        assert found.keys() == expected.keys()
        for name, value in nonempty(expected.items()):
            assert found[name] == (pytest.approx(value, abs=1e-5) if isinstance(value, float) else value)


def test_an_answer_does_not_depend_on_the_order(trained: Trained) -> None:
    predictor = convnext.load(trained.run)
    images = [str(path) for path in trained.images[:5]]
    together, backwards = predictor(images), predictor(images[::-1])[::-1]
    alone = [predictor(image) for image in images]
    for one, two, three in zip(together, backwards, alone, strict=True):
        assert_same(one, two)
        assert_same(one, three)


def assert_same(a: Any, b: Any) -> None:
    """Answers of any task, whose numbers may differ by rounding."""
    if isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    elif hasattr(a, "shape"):
        assert_same(torch.as_tensor(a), torch.as_tensor(b))
    elif isinstance(a, float):
        assert a == pytest.approx(b, abs=1e-4)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, two in zip(a, b, strict=True):
            assert_same(one, two)
    else:
        assert a == b


def test_from_another_working_directory(
    train: Callable[[str], Trained], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """In a process of its own, which knows of nothing but what is stored."""
    runs = [train(task) for task in TASKS]
    commands = [["evaluate", str(each.run / "model.safetensors"), str(each.data), "--json"] for each in runs]
    program = f"from convnext import cli; assert not any([cli.main(each) for each in {commands!r}])"
    said = subprocess.check_output([sys.executable, "-c", program], cwd=tmp_path, text=True)
    answers = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert answers == [expected_of(each, capsys) for each in runs]
