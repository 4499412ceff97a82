"""The commands of `docs/weights.md` do what it says, in its order, with small files under the names that it uses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import openmmlab_detectors
import pytest
import timm
import torch
from making import COLOURS, FAST, FAST_DETECT, make_folder, make_objects
from peers import foreign_model, randomise

import convnext
from convnext import cli
from convnext.variants import VARIANTS

PAGE = Path(__file__).parent.parent / "docs" / "weights.md"


def commands() -> list[str]:
    return re.findall(r"^    (convnext .*)$", PAGE.read_text(), re.MULTILINE)


@pytest.fixture
def place(tmp_path: Path, atto_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the page names."""
    make_folder(tmp_path / "FOLDER")
    make_objects(tmp_path / "OBJECTS")
    (tmp_path / "photo.jpg").symlink_to(next((tmp_path / "FOLDER" / "val" / "red").iterdir()))
    convnext.save_weights(
        convnext.create_model("convnext_atto_ols"), tmp_path / "timm.safetensors", layout="timm", meta={}
    )
    torch.save(foreign_model("torchvision", "convnext_tiny").state_dict(), tmp_path / "torchvision.pth")
    hf = foreign_model("hf", "convnextv2_atto", len(COLOURS))
    hf.config.id2label = dict(enumerate(sorted(COLOURS)))
    hf.save_pretrained(tmp_path / "hf")
    state = convnext.create_model("convnext_tiny", num_classes=0).state_dict()
    torch.save(state | {f"norms.3.{p}": state[f"norm.{p}"] for p in ("weight", "bias")}, tmp_path / "dinov3.pth")
    trunk = timm.create_model("convnext_atto", num_classes=0).state_dict()
    clip = {f"visual.trunk.{key}": tensor for key, tensor in trunk.items()}
    clip |= {"visual.head.proj.weight": torch.randn(64, 320), "text.weight": torch.zeros(2)}
    torch.save(clip, tmp_path / "open_clip.pt")
    atto = VARIANTS["convnextv2_atto"]
    detector = openmmlab_detectors.Detector(atto.depths, atto.dims, v2=True, cascade=False, classes=2)
    meta = {"CLASSES": ("square", "circle")}
    torch.save({"meta": meta, "state_dict": randomise(detector).state_dict()}, tmp_path / "mask_rcnn.pth")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "classifier").symlink_to(atto_run)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command(place: Path, capsys: pytest.CaptureFixture) -> None:
    small = {"classify": FAST, "detect": FAST_DETECT}
    done = commands()
    assert len(done) >= 14
    for command in done:
        words = shlex.split(command)[1:]
        options = [*small[words[1]], "--epochs", "1"] if words[0] == "train" else []
        both = [*words[:2], *options, *words[2:]]  # of an option that is there twice, the command's own counts
        assert cli.main(both) == 0, (command, capsys.readouterr().err)
    assert (place / "timm" / "config.json").is_file()
    assert (place / "again" / "config.json").is_file()
    assert timm.create_model("local-dir:timm/", pretrained=True).num_classes == len(COLOURS)
    assert {Path("features.parquet").is_file(), Path("clip.npy").is_file()} == {True}


def test_a_projection_is_not_for_prediction(place: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["predict", "open_clip.pt", "photo.jpg"]) == 2
    assert "embed" in capsys.readouterr().err
