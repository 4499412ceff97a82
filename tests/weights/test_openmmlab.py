"""Detectors and segmenters of mmdetection, mmsegmentation and the official V1, against their own formulas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import openmmlab_detectors as detectors
import openmmlab_networks as networks
import pytest
import torch
from making import FAST_DETECT, FAST_SEGMENT, fails, make_objects, make_scenes
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import convnext
from convnext import WeightsError, cli
from convnext.inference.whole_images import arguments_of
from convnext.models.detection.rcnn import create_detector
from convnext.models.segmentation.upernet import create_segmenter
from convnext.tasks.load import task_of_weights
from convnext.variants import VARIANTS
from convnext.weights import read_meta, read_tensors
from convnext.weights.openmmlab import describe_whole, own_names
from convnext.weights.published import PublishedWeights
from convnext.weights.published_detectors import PUBLISHED_DETECTORS

ATTO, TINY = ((2, 2, 6, 2), (40, 80, 160, 320)), ((3, 3, 9, 3), (96, 192, 384, 768))
DETECTORS: dict[str, Any] = {
    "Mask R-CNN, V2": (ATTO, {"v2": True, "cascade": False}),
    "Mask R-CNN, V1": (TINY, {"v2": False, "cascade": False}),
    "Cascade Mask R-CNN, V1": (TINY, {"v2": False, "cascade": True}),
}
LETTERS = ("a", "b", "c", "d", "e")


def written(network: torch.nn.Module, path: Path, classes: tuple[str, ...] = ()) -> Path:
    """A file as mmcv writes them, of random values."""
    networks.randomise(network, 0)
    torch.save({"meta": {"CLASSES": classes, "epoch": 36}, "state_dict": network.state_dict()}, path)
    return path


def detector(kind: str, **sizes: int) -> detectors.Detector:
    shape, options = DETECTORS[kind]
    return detectors.Detector(*shape, **options, **{"classes": len(LETTERS), **sizes}).eval()


@pytest.fixture(scope="module")
def photo(real_images: Path) -> Image.Image:
    """640 by 480 pixels."""
    return Image.open(min((real_images / "coco100" / "train").glob("*.jpg"))).convert("RGB")


def normalised(image: Image.Image, short: int, long: int) -> Tensor:
    """mmcv's `Resize` with `keep_ratio`, without its rounding to whole grey levels, and `Normalize`."""
    scale = min(short / min(image.size), long / max(image.size))
    size = int(image.height * scale + 0.5), int(image.width * scale + 0.5)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    mean, std = (torch.tensor(each)[:, None, None] for each in (networks.MEAN, networks.STD))
    return (F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)[0] - mean) / std


@pytest.mark.parametrize("size", [64, pytest.param(160, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("kind", DETECTORS)
def test_a_detector_answers_as_by_its_own_formulas(kind: str, size: int, photo: Image.Image, tmp_path: Path) -> None:
    network = detector(kind)
    found = convnext.load(written(network, tmp_path / "x.pth", LETTERS), device="cpu")
    found.see(image_size=size)
    inputs = found.transform(photo)
    assert (inputs - normalised(photo, size, round(1333 * size / 800))).abs().max() < 1 / 57  # a grey level
    expected = network(inputs)
    scale = torch.tensor([photo.width / inputs.shape[2], photo.height / inputs.shape[1]] * 2)
    objects = found(photo, threshold=0)
    labels = torch.tensor([LETTERS.index(each["label"]) for each in objects])
    scores, boxes = (torch.tensor([each[name] for each in objects]) for name in ("score", "box"))
    assert 20 < len(objects) == len(expected.boxes)
    assert len(labels.unique()) > 1
    # Neighbours whose scores are equal to the last digit may change places.
    apart = (boxes[:, None] - expected.boxes * scale).abs().amax(2) + 1e4 * (labels[:, None] != expected.labels)
    same = apart.argmin(1)
    assert same.unique().numel() == len(objects)
    assert apart.amin(1).max() < 0.1
    torch.testing.assert_close(scores, expected.scores[same], atol=1e-4, rtol=0)
    masks = torch.stack([torch.from_numpy(each["mask"]) for each in objects])
    drawn = [
        detectors.paste(*each, (photo.height, photo.width)) for each in zip(expected.masks[same], boxes, strict=True)
    ]
    assert (masks != torch.stack(drawn)).sum() <= 1e-4 * masks.sum()


def test_a_published_file_has_its_licence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By its name; the V2 detector began as Meta's FCMAE weights."""
    name = next(Path(entry.url).name for entry in PUBLISHED_DETECTORS if "v2" in entry.variant)
    found = convnext.load(written(detector("Mask R-CNN, V2"), tmp_path / name), device="cpu")
    assert caplog.text.count("licensed CC-BY-NC-4.0") == 1
    convnext.save_weights(found.model, tmp_path / "again.safetensors")
    assert convnext.weights.read_meta(tmp_path / "again.safetensors")["licence"] == "CC-BY-NC-4.0"


def test_a_detector_sees_images_at_the_published_size(tmp_path: Path) -> None:
    found = convnext.load(written(detector("Mask R-CNN, V2"), tmp_path / "x.pth"), device="cpu")
    assert (found.transform.short, found.transform.long) == (800, 1333)
    assert found.classes == ["0", "1", "2", "3", "4"]
    assert found.category_ids == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        pytest.param(ATTO, 64, id="V2-64"),
        pytest.param(ATTO, 512, id="V2-512"),
        pytest.param(TINY, 64, id="V1-64"),
        pytest.param(TINY, 512, id="V1-512", marks=pytest.mark.heavy),
    ],
)
def test_a_segmenter_answers_as_by_its_own_formulas(
    shape: Any, window: int, photo: Image.Image, tmp_path: Path
) -> None:
    network = networks.Segmenter(*shape, v2=shape is ATTO, classes=5).eval()
    found = convnext.load(written(network, tmp_path / "x.pth", LETTERS), device="cpu")
    assert (found.window, found.stride) == (512, 341)
    found.see(image_size=96)
    found.window, found.stride = window, window * 2 // 3
    inputs = found.transform(photo)
    assert (inputs - normalised(photo, 96, 384)).abs().max() < 1 / 57
    expected = network(inputs, window, window * 2 // 3)
    torch.testing.assert_close(found.scores(inputs), expected, atol=1e-4, rtol=1e-4)
    labels = networks.resize(expected[None], (photo.height, photo.width))[0].argmax(0)
    answer = torch.from_numpy(found(photo).astype(np.int64))
    assert (answer != labels).sum() <= 2  # of 307,200: where two classes are equal to the last digit
    assert len(labels.unique()) > 2


def sizes_of(entry: PublishedWeights) -> Any:
    variant = VARIANTS[entry.variant]
    return variant.depths, variant.dims, variant.version == 2


@pytest.mark.parametrize("entry", PUBLISHED_DETECTORS, ids=lambda entry: entry.name)
def test_every_published_file_fits_whole(entry: PublishedWeights) -> None:
    """Its names and shapes, at full size, are all those of the network that is built for it."""
    depths, dims, v2 = sizes_of(entry)
    with torch.device("meta"):
        if entry.task == "detect":
            heads: Any = {"cascade": "cascade" in entry.name, "mask_convs": 4, "dim": 256, "hidden": 1024}
            network: torch.nn.Module = detectors.Detector(depths, dims, v2=v2, classes=80, **heads)
        else:
            network = networks.Segmenter(depths, dims, v2=v2, classes=150, dim=512, aux=256)
        state = own_names(network.state_dict())
        meta = describe_whole(state, None, entry.image_size)
        assert meta is not None
        create: Any = {"detect": create_detector, "segment": create_segmenter}[meta["task"]]
        own = create(meta["model"], num_classes=len(meta["classes"]), **arguments_of(meta)).state_dict()
    assert {name: tensor.shape for name, tensor in own.items()} == {name: t.shape for name, t in state.items()}
    assert (meta["task"], meta["model"]) == (entry.task, entry.variant)
    assert len(meta["classes"]) == entry.num_classes == len(set(meta["classes"]))
    assert meta["transform"]["short"] == entry.image_size
    if entry.task == "detect":
        assert meta["parts"]["soft_nms"] == v2
        named = dict(zip(meta["classes"], meta["category_ids"], strict=True))
        assert (named["person"], named["stop sign"], named["toothbrush"]) == (1, 13, 90)
    else:
        assert (meta["classes"][7], meta["classes"][149], meta["labels"]["reduce_zero_label"]) == ("bed", "flag", True)


def test_published_entries_are_told_apart() -> None:
    for field in ("name", "url"):
        assert len({getattr(entry, field) for entry in PUBLISHED_DETECTORS}) == len(PUBLISHED_DETECTORS) == 14
    assert {e.licence for e in PUBLISHED_DETECTORS if "v2" in e.variant} == {"CC-BY-NC-4.0"}


def test_a_detector_is_measured_and_predicts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = written(detector("Mask R-CNN, V2", classes=2), tmp_path / "x.pth", ("square", "circle"))
    data = make_objects(tmp_path / "data", train=1, val=1)
    assert cli.main(["evaluate", str(path), str(data), "--json", "--workers", "0", "--image-size", "64"]) == 0
    assert "mask_AP" in json.loads(capsys.readouterr().out.splitlines()[-1])
    assert cli.main(["predict", str(path), str(data / "val" / "0.png"), "--json", "--threshold", "0.1"]) == 0
    objects = json.loads(capsys.readouterr().out.splitlines()[-1])["objects"]
    assert {"square", "circle"} >= {each["category"] for each in objects} > set()
    assert {1, 2} >= {each["category_id"] for each in objects}


def test_a_segmenter_is_measured_and_predicts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    network = networks.Segmenter(*ATTO, v2=True, classes=3)
    path = written(network, tmp_path / "x.pth", ("sky", "ground", "box"))
    data = make_scenes(tmp_path / "data", train=1, val=1)
    for file in data.glob("annotations/*/*.png"):  # 9 is no class, and a file of mmsegmentation does not say so
        labels = np.array(Image.open(file))
        Image.fromarray(np.where(labels == 9, 255, labels).astype(np.uint8)).save(file)
    assert cli.main(["evaluate", str(path), str(data), "--json", "--workers", "0", "--image-size", "64"]) == 0
    assert "mIoU" in json.loads(capsys.readouterr().out.splitlines()[-1])
    assert cli.main(["predict", str(path), str(data / "images" / "val" / "0.png"), "--json"]) == 0
    shares = json.loads(capsys.readouterr().out.splitlines()[-1])["shares"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)


STILL = ["--base-lr", "0", "--min-lr", "0", "--weight-decay", "0", "--drop-path", "0", "--epochs", "1"]


def test_a_detector_starts_one_of_other_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(detector("Mask R-CNN, V2", dim=16, hidden=32), tmp_path / "x.pth", LETTERS)
    data, out = make_objects(tmp_path / "data", train=2, val=1), tmp_path / "run"
    command = ["train", "detect", str(data), *FAST_DETECT, "--model", "convnextv2_atto", "--init", str(path)]
    assert cli.main([*command, "--out", str(out), *STILL]) == 0
    assert "tensors of neck and heads fit and are taken" in caplog.text
    assert "left out what does not fit: box_stages, mask_heads" in caplog.text
    given, trained = read_tensors(path), read_tensors(out)
    fitting = [name for name in given if name in trained and given[name].shape == trained[name].shape]
    assert {"fpn.layer_blocks.0.0.weight", "rpn.head.bbox_pred.bias", "norms.3.weight"} < set(fitting)
    assert all(torch.equal(given[name], trained[name]) for name in fitting)
    parts = read_meta(out)["parts"]
    assert (parts["round_anchors"], parts["size_divisor"], parts["roi_samples"]) == (False, 32, 0)
    assert convnext.load(out, device="cpu").model.size_divisor == 32


def test_a_segmenter_starts_one_of_other_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(networks.Segmenter(*ATTO, v2=True, classes=5, dim=32, aux=16), tmp_path / "x.pth", LETTERS)
    data, out = make_scenes(tmp_path / "data", train=4, val=1), tmp_path / "run"
    command = ["train", "segment", str(data), *FAST_SEGMENT, "--model", "convnextv2_atto", "--init", str(path)]
    assert cli.main([*command, "--ignore-index", "9", "--out", str(out), *STILL]) == 0
    assert "left out what does not fit: auxiliary, classify" in caplog.text
    given, trained = read_tensors(path), read_tensors(out)
    for name in ("pooling.fuse.conv.weight", "lateral.2.conv.weight", "backbone.stages.2.5.grn.gamma"):
        assert torch.equal(given[name], trained[name])


def test_what_is_not_used_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(detector("Mask R-CNN, V2"), tmp_path / "x.pth")
    content = torch.load(path)
    torch.save(content["state_dict"] | {"roi_head.semantic_head.weight": torch.zeros(2)}, path)
    with caplog.at_level("INFO"):
        convnext.load(path, device="cpu")
    assert "not used of the weights: roi_head.semantic_head.weight" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: s.pop("neck.fpn_convs.2.conv.bias"), "lack fpn.layer_blocks.2.0.bias"),
        (lambda s: s.pop("rpn_head.rpn_cls.weight"), "without rpn.head.cls_logits.weight"),
        (lambda s: s.pop("roi_head.bbox_head.fc_cls.weight"), "without box_stages.0.head.classify.weight"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("roi_head.bbox_head.")], "without box_stages"),
        (lambda s: s.pop("backbone.norm2.weight"), "lack norms.2.weight"),
        (lambda s: s.pop("backbone.stages.1.1.depthwise_conv.weight"), "not a ConvNeXt of the family"),
        (lambda s: s.update({"rpn_head.rpn_cls.weight": torch.zeros(9, 16, 1, 1)}), "three anchors"),
        (lambda s: s.update({"roi_head.bbox_head.fc_reg.weight": torch.zeros(12, 32)}), "another shape of"),
        (lambda s: s.update({"roi_head.bbox_head.fc_cls.bias": torch.tensor(1.0)}), "another shape of"),
        (lambda s: s.update({"neck.fpn_convs.0.conv.bias": torch.full((16,), torch.nan)}), "not finite"),
    ],
)
def test_a_file_that_lacks_a_part_is_refused(
    spoil: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = written(detector("Mask R-CNN, V2"), tmp_path / "x.pth")
    state = torch.load(path)["state_dict"]
    spoil(state)
    torch.save(state, path)
    with pytest.raises(WeightsError, match=said):
        convnext.load(path)
    Image.new("RGB", (40, 40)).save(tmp_path / "x.png")
    line = fails(capsys, "predict", path, tmp_path / "x.png")
    assert str(path) in line
    assert said in line


def test_another_head_leaves_the_backbone(tmp_path: Path) -> None:
    """Of a RetinaNet the backbone alone can be used."""
    path = written(detector("Mask R-CNN, V1"), tmp_path / "x.pth")
    state = torch.load(path)["state_dict"]
    backbone = {name: tensor for name, tensor in state.items() if name.startswith("backbone.")}
    torch.save(backbone | {"bbox_head.retina_cls.weight": torch.zeros(9, 16, 3, 3)}, path)
    assert task_of_weights(path).name == "classify"
    report = convnext.load_weights(convnext.create_model("convnext_tiny", num_classes=2), path)
    assert any("bbox_head, norms" in note for note in report.notes)
