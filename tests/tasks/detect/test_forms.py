"""A detector learns the same from one set in any form."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from annotating import BOXES, make_truth
from making import FAST_DETECT

from convnext import cli
from convnext.data.sources.annotated import with_classes


def test_losses_do_not_depend_on_the_form(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """VOC lists its classes by name, and images are in the order of theirs."""
    truth = {}
    for part, data in make_truth(tmp_path / "native", train=6, val=2).items():
        ordered = sorted(with_classes(data, ("circle", "square"), "").images, key=lambda image: image.key)
        images = tuple(replace(image, id=n) for n, image in enumerate(ordered))
        truth[part] = replace(data, classes=("circle", "square"), images=images)
    losses = []
    for form in ("coco", "yolo", "voc"):
        BOXES[form](tmp_path / form, truth)
        run = tmp_path / f"run-{form}"
        command = ["train", "detect", str(tmp_path / form), "--out", str(run), *FAST_DETECT, "--epochs", "1"]
        assert cli.main([*command, "--masks", "false", "--model", "convnextv2_atto"]) == 0
        losses.append(json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["loss"])
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-4)
    assert cli.main(["evaluate", str(run), str(tmp_path / "yolo"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["images"] == 2
