"""The folder that `convnext push` uploads: what is in it, and that other libraries and this one open it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from huggingface_hub import ModelCard
from making import FAST_DETECT, FAST_SEGMENT, copied, fails, make_depths, make_objects, make_scenes, names_in
from PIL import Image
from vacuous import nonempty

import convnext
from convnext import InputError, cli
from convnext.runs.directory import OWN
from convnext.runs.lock import locked
from convnext.weights import read_meta

NAME = "someone/colours"


@pytest.fixture(scope="module")
def run(atto_run: Path) -> Path:
    return atto_run


@pytest.fixture(scope="module")
def folders(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What would be pushed of a run, by layout."""
    place = tmp_path_factory.mktemp("folders")
    for layout in ("hf", "timm"):
        options = ["--layout", layout, "--dry-run", "--out", str(place / layout)]
        assert cli.main(["push", str(run), NAME, *options]) == 0
    return {layout: place / layout for layout in ("hf", "timm")}


def test_the_folder_holds_weights_their_use_the_card_and_its_pictures(run: Path, folders: dict[str, Path]) -> None:
    card = (run / "README.md").read_text()
    shown = {name for name in OWN if f"]({name})" in card}
    assert {"curves.png", "confusion.png"} <= shown
    both = {"README.md", "config.json", "model.safetensors"} | shown
    assert names_in(folders["hf"]) == both | {"preprocessor_config.json"}
    assert names_in(folders["timm"]) == both
    for name in shown:
        assert (folders["hf"] / name).read_bytes() == (run / name).read_bytes()
    config = json.loads((folders["timm"] / "config.json").read_text())
    assert (config["architecture"], config["label_names"]) == ("convnextv2_atto", ["blue", "green", "red"])
    assert read_meta(run)["calibration"]
    assert all(
        read_meta(folder)["calibration"] == read_meta(run)["calibration"] for folder in nonempty(folders.values())
    )
    assert {"input_size", "mean", "std", "crop_pct", "interpolation"} <= config["pretrained_cfg"].keys()


def test_the_libraries_give_the_run_s_logits(run: Path, folders: dict[str, Path]) -> None:
    own = convnext.load(run, device="cpu", backend="torch").model
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    theirs = transformers.AutoModelForImageClassification.from_pretrained(folders["hf"]).eval()
    as_timm = timm.create_model(f"local-dir:{folders['timm']}", pretrained=True).eval()
    with torch.inference_mode():
        logits = own(images)
        assert logits.std(0).min() > 1e-3  # it tells images apart: the comparison means something
        assert (theirs(images).logits - logits).abs().max() <= 1e-5
        assert (as_timm(images) - logits).abs().max() <= 1e-5
    assert theirs.config.id2label == {0: "blue", 1: "green", 2: "red"}


@pytest.mark.parametrize(("layout", "library"), [("hf", "transformers"), ("timm", "timm")])
def test_the_card_is_the_run_s_with_metadata_in_front(
    layout: str, library: str, run: Path, folders: dict[str, Path]
) -> None:
    card, own = ModelCard.load(folders[layout] / "README.md"), ModelCard.load(run / "README.md")
    assert card.text == own.text
    assert card.data.to_dict() == {**own.data.to_dict(), "library_name": library}
    assert card.data.tags == ["convnext", "convnextv2_atto"]


def test_the_same_run_gives_the_same_bytes(run: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    """Else a second push would send everything again."""
    for number in range(4):
        again = tmp_path / str(number)
        convnext.push(run, NAME, layout="hf", out=again, dry_run=True)
        assert {name: (again / name).read_bytes() for name in names_in(again)} == {
            name: (folders["hf"] / name).read_bytes() for name in names_in(folders["hf"])
        }


def test_a_dry_run_writes_into_the_run_and_asks_nobody(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    mine = copied(run, tmp_path / "mine")
    for _ in range(2):  # the second one takes the first one's place
        (mine / "hub").mkdir(exist_ok=True)
        (mine / "hub" / "stale.txt").touch()
        capsys.readouterr()
        assert cli.main(["push", str(mine), NAME, "--dry-run", "--json"]) == 0
        done = json.loads(capsys.readouterr().out)
        assert done["folder"] == str(mine / "hub")
        assert done["url"] is None
        assert done["commit"] is None
        assert done["files"] == {name: (mine / "hub" / name).stat().st_size for name in names_in(mine / "hub")}
        assert "stale.txt" not in done["files"]
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()
    assert "exists already; name a new folder" in fails(capsys, "push", mine, NAME, "--dry-run", "--out", taken)
    assert names_in(taken) == {"file"}


def test_pictures_of_the_data_are_said_and_can_be_left_out(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Of the pictures in the run, those that the card shows are published, and none of another place."""
    mine = copied(run, tmp_path / "mine")
    for name in ("new.png", "checkpoints/inner.png", "unnamed.png"):
        Image.new("RGB", (2, 2)).save(mine / name)
    Image.new("RGB", (2, 2)).save(tmp_path / "outside.png")
    shown = "![a](new.png) <img width='9' src=\"./curves.png\"> ![b](checkpoints/inner.png) ![c](../outside.png)"
    (mine / "README.md").write_text(f"# Card\n\n{shown} ![d](https://x.org/y.png) ![e](none.png) ![f](config.json)\n")
    capsys.readouterr()
    assert cli.main(["push", str(mine), NAME, "--dry-run"]) == 0
    assert "new.png shows images of the data; --no-galleries leaves them out" in capsys.readouterr().err
    fixed = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert names_in(mine / "hub") == fixed | {"new.png", "curves.png"}
    assert cli.main(["push", str(mine), NAME, "--dry-run", "--no-galleries"]) == 0
    assert "left out: new.png shows images of the data" in capsys.readouterr().err
    assert names_in(mine / "hub") == fixed | {"curves.png"}
    assert "new.png" not in (mine / "hub" / "README.md").read_text()


def test_a_network_of_neither_library_goes_in_our_layout(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = pretrain(colours, tmp_path / "pretrained")
    assert cli.main(["push", str(out), NAME, "--dry-run", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1])["layout"] == "convnext"
    assert "transformers and timm have no class for this network: pushed in this project's own layout" in said.err
    assert (out / "hub" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    config = json.loads((out / "hub" / "config.json").read_text())
    assert (config["library_name"], config["task"], config["mask_ratio"]) == ("convnext", "pretrain", 0.6)
    assert not {"data", "out"} & config.keys()
    assert ModelCard.load(out / "hub" / "README.md").data.library_name == "convnext"
    image = Image.new("RGB", (64, 64), (200, 10, 10))
    embedding = convnext.load(out, device="cpu").embed(image)
    assert (convnext.load(out / "hub", device="cpu").embed(image) == embedding).all()
    line = fails(capsys, "push", out, NAME, "--dry-run", "--layout", "timm")
    assert "timm has no class for what `convnext pretrain` trains: leave out --layout" in line


def pretrain(colours: Path, out: Path) -> Path:
    options = ["--image-size", "64", "--epochs", "1", "--batch-size", "8", "--workers", "0", "--decoder-dim", "32"]
    assert cli.main(["pretrain", str(colours / "train"), "--out", str(out), *options]) == 0
    return out


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("task", "make", "options", "tag"),
    [
        ("segment", make_scenes, [*FAST_SEGMENT, "--ignore-index", "9"], "image-segmentation"),
        ("detect", make_objects, FAST_DETECT, "object-detection"),
        ("depth", make_depths, FAST_SEGMENT, "depth-estimation"),
    ],
)
def test_dense_networks_answer_as_the_run_does(
    task: str, make: Any, options: list[str], tag: str, tmp_path: Path
) -> None:
    data = make(tmp_path / "data")
    assert cli.main(["train", task, str(data), "--out", str(tmp_path / "run"), *options, "--epochs", "1"]) == 0
    made = convnext.push(tmp_path / "run", NAME, dry_run=True)
    assert made.layout == "convnext"
    assert ModelCard.load(made.folder / "README.md").data.pipeline_tag == tag
    picture = next(data.rglob("val/*.png"))
    first, second = (repr(convnext.load(place, device="cpu")(picture)) for place in (tmp_path / "run", made.folder))
    assert first == second


def test_what_transformers_cannot_open_is_for_timm_or_for_us(run: Path, tmp_path: Path) -> None:
    """Weights of other members in place of the run's own."""
    for number, (model, layout) in enumerate([("convnext_atto_ols", "timm"), ("convnext_isotropic_small", "convnext")]):
        mine = copied(run, tmp_path / str(number))
        network = convnext.create_model(model, num_classes=3)
        meta = {"task": "classify", "classes": ["blue", "green", "red"], "multi_label": False}
        convnext.save_weights(network, mine / "model.safetensors", meta=meta)
        made = convnext.push(mine, NAME, dry_run=True)
        assert made.layout == layout
        assert made.notes[0].startswith("transformers cannot open it: the hf layout ")
        with pytest.raises(InputError, match=f"the hf layout .*{model}"):
            convnext.push(mine, NAME, dry_run=True, layout="hf")


def test_only_a_run_that_has_ended_is_pushed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    mine = copied(run, tmp_path / "mine")
    with locked(mine):
        assert "mine is being trained; publish it when it has ended" in fails(capsys, "push", mine, NAME, "--dry-run")
    (mine / "README.md").unlink()
    assert "mine has not ended: end its training with --resume" in fails(capsys, "push", mine, NAME, "--dry-run")
    assert "is not a run" in fails(capsys, "push", tmp_path, NAME, "--dry-run")
    assert not (mine / "hub").exists()
