"""Training, measuring and answering from Python, as the commands do."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from making import FAST_SEGMENT, make_depths, make_objects, make_scenes
from sitecustomize import BYTE

import convnext
from convnext import cli

SMALL = {"model": BYTE, "image_size": 32, "stem_patch": 2, "epochs": 1, "batch_size": 8, "workers": 0, "device": "cpu"}


def test_the_chain_from_python(colours: Path, tmp_path: Path) -> None:
    pretrained = convnext.pretrain(colours, out=tmp_path / "pre", patch_size=16, decoder_dim=64, **SMALL)
    assert pretrained.best is None
    result = convnext.train_classifier(colours, out=tmp_path / "run", init=str(pretrained.run), **SMALL)
    assert result.run == tmp_path / "run"
    assert result.metrics == json.loads((result.run / "result.json").read_text())
    assert result.weights.is_file()
    assert result.best is not None
    assert result.best.is_file()
    for source in (result.run, result.weights, result.best):
        assert convnext.load(source, device="cpu")(next((colours / "val" / "red").iterdir()))[0]["label"]
    measured = convnext.evaluate(str(result.run), str(colours), workers=0)
    assert {name: measured[name] for name in result.metrics} == pytest.approx(result.metrics)


@pytest.mark.parametrize(
    ("train", "make", "options"),
    [
        (
            "train_detector",
            make_objects,
            {"model": BYTE, "image_size": 64, "test_size": 64, "fpn_dim": 32, "linear_dim": 32},
        ),
        ("train_segmenter", make_scenes, {"ignore_index": 9}),
        ("train_depth_estimator", make_depths, {}),
    ],
)
def test_other_tasks_from_python(train: str, make, options: dict, tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    if train != "train_detector":
        names = [word.removeprefix("--").replace("-", "_") for word in FAST_SEGMENT[::2]]
        options = {
            **dict(zip(names, (int(v) if v.isdigit() else v for v in FAST_SEGMENT[1::2]), strict=True)),
            **options,
        }
    result = getattr(convnext, train)(
        data, out=tmp_path / "run", **{**options, "epochs": 1, "workers": 0, "batch_size": 2}
    )
    assert result.metrics
    assert convnext.load(result.run)


def test_training_in_a_thread_is_the_same(colours: Path, tmp_path: Path) -> None:
    found = {}

    def work() -> None:
        found["thread"] = convnext.train_classifier(colours, out=tmp_path / "thread", **SMALL)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    here = convnext.train_classifier(colours, out=tmp_path / "here", **SMALL)
    assert found["thread"].metrics == here.metrics
    assert found["thread"].weights.read_bytes()[-4096:] == here.weights.read_bytes()[-4096:]


def test_wrong_options_are_errors_with_a_line(colours: Path, tmp_path: Path) -> None:
    with pytest.raises(convnext.InputError, match=r"no option 'epoch'; nearest: epochs"):
        convnext.train_classifier(colours, out=tmp_path / "run", epoch=3)
    with pytest.raises(convnext.InputError, match="no such folder"):
        convnext.train_classifier(tmp_path / "none", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert cli.main(["train", "classify", str(tmp_path / "none"), "--out", str(tmp_path / "run")]) == 2
