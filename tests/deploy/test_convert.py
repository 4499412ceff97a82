"""Weights of this project in other libraries: what they compute there, and that nothing is lost on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from making import FAST, fails
from peers import foreign_model, randomise
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from vacuous import nonempty

import convnext
from convnext import InputError, cli
from convnext.cli.convert import TARGETS
from convnext.data.images.preprocessing import Preprocessing
from convnext.deploy.exchange import RESAMPLE
from convnext.weights import read_meta, save_weights
from convnext.weights.key_tables import WRITABLE

CLASSES = ["ant", "bee", "cat", "dog", "eel"]


def make_weights(place: Path, name: str = "convnextv2_atto", **options: Any) -> Path:
    """A file of random weights, with classes and preprocessing."""
    rule = options.pop("rule", Preprocessing.standard(64))
    classes = options.pop("classes", CLASSES)
    model = randomise(convnext.create_model(name, num_classes=len(classes), in_chans=rule.in_chans, **options))
    meta = {"task": "classify", "classes": classes, "multi_label": False, "preprocessing": rule.to_dict()}
    save_weights(model, place, meta=meta)
    return place


def table(answers: list[list[dict]], classes: list[str]) -> Tensor:
    """Scores `[N, classes]` of answers, which are best first."""
    named = [{one["label"]: one["score"] for one in answer} for answer in answers]
    return torch.tensor([[scores[name] for name in classes] for scores in named])


def own_scores(source: Path, images: list) -> Tensor:
    predictor = convnext.load(source, device="cpu")
    return table(predictor(images, top_k=99), predictor.answers)


def their_scores(folder: Path, images: list, classes: list[str], backend: str | None = None) -> Tensor:
    """By transformers' pipeline, with its default processor or another backend's."""
    how: dict[str, Any] = {"top_k": 99}
    if backend:
        how["image_processor"] = transformers.AutoImageProcessor.from_pretrained(folder, backend=backend)
    pipeline = transformers.pipeline("image-classification", model=str(folder), device="cpu", **how)
    return table(pipeline([Image.open(path).convert("RGB") for path in images]), classes)


@pytest.fixture(scope="module")
def photographs(real_images: Path) -> list[Path]:
    found = sorted((real_images / "imagenette" / "val").rglob("*.JPEG"))
    return found[:: len(found) // 16][:16]


@pytest.fixture(scope="module")
def trained(real_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a few photographs of three classes, a while too short."""
    root = tmp_path_factory.mktemp("trained")
    for folder in sorted((real_images / "imagenette" / "train").iterdir())[:3]:
        for part, chosen in (("train", slice(0, 24)), ("val", slice(24, 32))):
            (root / "data" / part / folder.name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[chosen]:
                (root / "data" / part / folder.name / path.name).symlink_to(path)
    options = [*FAST, "--image-size", "64", "--epochs", "3", "--model", "convnextv2_atto"]
    assert cli.main(["train", "classify", str(root / "data"), "--out", str(root / "run"), *options]) == 0
    return root / "run"


def test_a_run_answers_the_same_in_transformers(trained: Path, photographs: list[Path], tmp_path: Path) -> None:
    own = own_scores(trained, photographs)
    assert own.std(0).min() > 1e-3  # it tells images apart: the comparison means something
    assert cli.main(["convert", str(trained), str(tmp_path / "hf"), "--to", "hf"]) == 0
    classes = convnext.load(trained, device="cpu").answers
    pillow = their_scores(tmp_path / "hf", photographs, classes, "pil")
    default = their_scores(tmp_path / "hf", photographs, classes)
    assert (own - pillow).abs().max() <= 1e-4
    assert (own - default).abs().max() <= 5e-3
    assert torch.equal(own.argmax(1), default.argmax(1))
    model = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "hf")
    assert model.config.id2label == dict(enumerate(classes))
    # AutoBackbone of transformers 5 takes no folder, whoever wrote it: it asks the Hub for a repository of that name.
    backbone = transformers.ConvNextV2Backbone.from_pretrained(tmp_path / "hf").eval()
    network = convnext.create_model("convnextv2_atto", num_classes=3, weights=trained).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        found = backbone(images, output_hidden_states=True).hidden_states
        assert (found[-1] - network.pyramid(images)[-1]).abs().max() <= 1e-4
    assert (own_scores(tmp_path / "hf", photographs) - own).abs().max() < 1e-6  # and it comes back


def test_a_run_answers_the_same_in_timm(trained: Path, photographs: list[Path], tmp_path: Path) -> None:
    done = convnext.convert(trained, tmp_path / "timm", "timm")
    assert (done.path, done.layout, done.notes) == (tmp_path / "timm", "timm", [])
    model = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    transform: Any = timm.data.create_transform(**timm.data.resolve_data_config(model.pretrained_cfg, model=model))
    with torch.inference_mode():
        inputs = torch.stack([transform(Image.open(path).convert("RGB")) for path in photographs])
        assert (model(inputs).softmax(-1) - own_scores(trained, photographs)).abs().max() <= 1e-4
    assert list(model.pretrained_cfg["label_names"]) == convnext.load(trained, device="cpu").classes


@pytest.mark.parametrize(
    ("size", "crop", "processor"),
    [
        (64, 0.875, "ConvNextImageProcessor"),
        (64, 1.0, "ViTImageProcessor"),
        (384, 1.0, "ConvNextImageProcessor"),
        (384, 0.9, "CLIPImageProcessor"),
    ],
)
def test_the_processor_can_state_the_rule(size: int, crop: float, processor: str, tmp_path: Path) -> None:
    """What transformers feeds the network is what we do; of an image whose sides are no multiples of anything."""
    rule = Preprocessing(size, crop, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bilinear")
    convnext.convert(make_weights(tmp_path / "x.safetensors", rule=rule), tmp_path / "hf", "hf")
    written = json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())
    assert written["image_processor_type"] == processor
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (301, 433, 3), dtype=np.uint8))
    theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path / "hf", backend="pil")
    assert (theirs(image, return_tensors="pt")["pixel_values"][0] - rule(image)).abs().max() < 1e-5
    bare = {name: (tmp_path / "hf" / name).read_text() for name in ("config.json", "preprocessor_config.json")}
    (tmp_path / "strangers").mkdir()
    for name, text in bare.items():
        (tmp_path / "strangers" / name).write_text(text)
    save_file(load_file(tmp_path / "hf" / "model.safetensors"), tmp_path / "strangers" / "model.safetensors")
    found = convnext.load(tmp_path / "strangers").preprocessing  # as of a file that we did not write
    assert torch.equal(found(image), rule(image))


def test_a_grey_model_sees_grey_and_colour(tmp_path: Path) -> None:
    """With three channels it sees of a colour image the grey that Pillow makes, but for rounding."""
    source = make_weights(tmp_path / "grey.safetensors", rule=Preprocessing.standard(64, in_chans=1))
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (80, 80), dtype=np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)).save(tmp_path / "colour.png")
    done = convnext.convert(source, tmp_path / "hf", "hf")
    assert done.notes == [
        "the stem for grey images is written for three channels, as the shares of red, green and blue in grey"
    ]
    own = own_scores(source, [tmp_path / "grey.png", tmp_path / "colour.png"])
    theirs = their_scores(tmp_path / "hf", [tmp_path / "grey.png", tmp_path / "colour.png"], CLASSES, "pil")
    assert (own[0] - theirs[0]).abs().max() < 1e-4
    assert (own[1] - theirs[1]).abs().max() < 2e-2


def test_dinov3s_network(tmp_path: Path) -> None:
    source = make_weights(tmp_path / "x.safetensors", "convnext_atto")
    done = convnext.convert(source, tmp_path / "dinov3", "dinov3")
    assert done.notes == ["left out the head: DINOv3's network has none"]
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "dinov3").eval()
    assert type(theirs).__name__ == "DINOv3ConvNextModel"
    images = torch.randn(2, 3, 64, 96)
    own = convnext.create_model("convnext_atto", num_classes=5, weights=source).eval()
    with torch.inference_mode():
        assert (theirs(images).pooler_output - own.embed(images)).abs().max() <= 1e-4
    assert isinstance(convnext.load(tmp_path / "dinov3"), convnext.Embedder)


@pytest.mark.parametrize("layout", ["timm", "hf", "torchvision", "mmpretrain"])
def test_there_and_back_nothing_changes(layout: str, tmp_path: Path) -> None:
    name = "convnext_tiny" if layout == "torchvision" else "convnext_atto"
    source = make_weights(tmp_path / "x.safetensors", name)
    there = tmp_path / ("there" if layout in ("timm", "hf") else "there.safetensors")
    convnext.convert(source, there, layout)
    convnext.convert(there, tmp_path / "back.safetensors", "official")
    before, after = load_file(source), load_file(tmp_path / "back.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in nonempty(before))
    kept, meta = read_meta(source), read_meta(tmp_path / "back.safetensors")
    assert {key: meta[key] for key in kept} == kept
    assert meta["layout"] == layout


def test_the_layout_that_weights_came_in_is_written_back(tmp_path: Path) -> None:
    """In half precision too: timm's tiny_hnf holds convolutions where its width would say linear layers."""
    foreign = {key: tensor.half() for key, tensor in foreign_model("timm", "convnext_tiny_hnf", 3).state_dict().items()}
    save_file(foreign, tmp_path / "timm.safetensors")
    command = ["convert", str(tmp_path / "timm.safetensors"), str(tmp_path / "own.safetensors"), "--to", "official"]
    assert cli.main(command) == 0
    assert cli.main(["convert", command[2], str(tmp_path / "back"), "--to", "original"]) == 0
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert back.keys() == foreign.keys()
    assert all(back[key].dtype == torch.float16 and torch.equal(back[key], foreign[key]) for key in foreign)


def test_a_pretrained_encoder(tmp_path: Path, colours: Path, capsys: pytest.CaptureFixture) -> None:
    """The decoder is kept by the layouts that have one, and said to be left out by others."""
    options = ["--image-size", "64", "--epochs", "1", "--batch-size", "8", "--workers", "0", "--decoder-dim", "16"]
    assert cli.main(["pretrain", str(colours), "--out", str(tmp_path / "run"), *options]) == 0
    run = load_file(tmp_path / "run" / "model.safetensors")
    assert cli.main(["convert", str(tmp_path / "run"), str(tmp_path / "fcmae.safetensors"), "--to", "fcmae"]) == 0
    file = load_file(tmp_path / "fcmae.safetensors")
    assert file["encoder.stages.0.0.dwconv.kernel"].shape == (49, 40)
    again = convnext.weights.files.read_file(tmp_path / "fcmae.safetensors", decoder=True).state
    assert len(again) == len(run)
    capsys.readouterr()
    assert cli.main(["convert", str(tmp_path / "run"), str(tmp_path / "timm"), "--to", "timm"]) == 0
    assert "tensors of the pre-training decoder" in capsys.readouterr().err
    model = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True, features_only=True)
    assert len(model(torch.zeros(1, 3, 64, 64))) == 4


def test_a_licence_goes_along(tmp_path: Path) -> None:
    name = "convnextv2_atto_1k_224_ema.pt"  # by which published weights are known
    model = convnext.create_model("convnextv2_atto")
    torch.save({"model": model.state_dict()}, tmp_path / name)
    for place, layout in (("own.safetensors", "official"), ("hf", "hf"), ("timm", "timm")):
        done = convnext.convert(tmp_path / name, tmp_path / place, layout)
        assert any("CC-BY-NC" in note for note in done.notes)
        assert read_meta(tmp_path / place)["licence"] == "CC-BY-NC-4.0"
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["license"] == "CC-BY-NC-4.0"
    convnext.convert(tmp_path / "own.safetensors", tmp_path / "second", "timm")
    assert read_meta(tmp_path / "second")["licence"] == "CC-BY-NC-4.0"


def test_bad_input_is_a_line_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = make_weights(tmp_path / "x.safetensors")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    (tmp_path / "folder.safetensors").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for out, layout, line in (
        ("taken", "hf", "exists already; name a new folder"),
        ("out", "torchvision", "the torchvision layout has no name for 'stages.0.0.grn.gamma' of convnextv2_atto"),
        ("out.bin", "mmpretrain", "weights are written as .safetensors"),
        ("out", "isotropic", "the isotropic layout cannot hold convnextv2_atto, which is not isotropic"),
        ("no/where", "hf", "cannot write"),
        ("no/where.safetensors", "timm", "cannot write"),
        ("folder.safetensors", "timm", "exists already; name a new place"),
        ("x.safetensors", "official", "exists already; name a new place"),
    ):
        fails(capsys, ["convert", str(source), str(tmp_path / out), "--to", layout], line)
    fails(capsys, ["convert", str(tmp_path / "absent.pt"), str(tmp_path / "out"), "--to", "hf"], "no such weight file")
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(InputError, match="unknown layout 'tim'; nearest: timm"):
        convnext.convert(source, tmp_path / "out.safetensors", "tim")
    five = make_weights(tmp_path / "five.safetensors", rule=Preprocessing(64, 1.0, (0.5,) * 5, (0.2,) * 5, in_chans=5))
    with pytest.raises(InputError, match="transformers' processors give 3 channels, and this model takes 5"):
        convnext.convert(five, tmp_path / "out", "hf")


def test_the_commands_layouts_are_those_there_are() -> None:
    assert (*WRITABLE, "original") == TARGETS


def test_filters_have_pillows_numbers() -> None:
    assert set(RESAMPLE) == {"nearest", "lanczos", "bilinear", "bicubic"}
    assert {name: Image.Resampling[name.upper()].value for name in RESAMPLE} == RESAMPLE
