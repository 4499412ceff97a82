"""Exported detectors: that they find what the network finds, at any size, much or nothing, and are used like it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import FAST_DETECT, fails, make_objects
from PIL import Image
from stubs import Painted, StubDetector, painted, pixels_of
from torch import Tensor
from torchvision.ops import box_iou
from vacuous import nonempty

import convnext
from convnext import InputError, cli
from convnext.data.images.whole_image import WholeImage
from convnext.deploy.export import detector as checks
from convnext.deploy.export.detector import Bound, counterparts
from convnext.deploy.export.write import export
from convnext.inference.detector import Detector
from convnext.models.detection.exporting import detect
from convnext.models.detection.rcnn import RCNN, Detections, create_detector
from convnext.storage.exports import FORMATS
from convnext.weights import read_meta, save_weights

CLASSES = ["ant", "bee", "cat"]
SMALL: dict[str, Any] = {"fpn_dim": 32, "linear_dim": 64, "mask_convs": 1}
SIZES = [(200, 333), (64, 64), (33, 60), (31, 300), (256, 320)]
"""The traced one, three whose maps have fewer than 1000 anchors, and one whose finest has far more."""


def make_detector(place: Path, *, finds: bool = True, outside: bool = False, **parts: Any) -> Path:
    """Weights of a detector that finds something in any noise, or nothing, or looks outside the image alone."""
    torch.manual_seed(0)
    model = create_detector("convnextv2_atto", num_classes=len(CLASSES), **SMALL, **parts)
    with torch.no_grad():
        model.rpn.head.cls_logits.weight *= 5
        model.rpn.head.bbox_pred.bias[::4] += 1e6 if outside else 0
        for stage in model.box_stages:
            stage.head.classify.weight *= 20
            stage.head.box.weight *= 3
            stage.head.classify.bias[0] += 0 if finds else 1e4
    transform = {"short": 96, "long": 160}
    meta = {"task": "detect", "model": "convnextv2_atto", "classes": CLASSES, "category_ids": [1, 2, 7]}
    save_weights(model, place, meta={**meta, "parts": {**SMALL, **parts}, "transform": transform})
    return place


def images_of(sizes: list[tuple[int, int]]) -> list[Tensor]:
    rng = torch.Generator().manual_seed(1)
    return [torch.randn(3, *size, generator=rng) for size in sizes]


def assert_same_objects(own: Detections, found: Detections) -> None:
    """Each object is where the other has it; those of nearly equal scores may have changed places."""
    assert len(own.scores) == len(found.scores)
    torch.testing.assert_close(own.scores, found.scores, atol=1e-3, rtol=0)
    if not len(own.scores):
        return
    assert (found.scores.diff() <= 0).all()
    near = (own.boxes[:, None] - found.boxes).abs().amax(2) < 1
    near &= own.labels[:, None] == found.labels
    assert near.any(1).float().mean() >= 0.97
    one, another = torch.where(near & torch.eye(len(near), dtype=torch.bool))
    assert (box_iou(own.boxes[one], found.boxes[another]).diagonal() > 0.9).all()
    if len(own.masks):
        assert found.masks.shape == own.masks.shape
        assert (own.masks[one] - found.masks[another]).abs().mean() < 1e-3


DETECTORS: dict[str, dict[str, Any]] = {
    "mask": {},
    "cascade": {"cascade": True, "box_convs": 1, "head_norm": "batch", "class_agnostic": True},
    "boxes": {"cascade": True, "masks": False, "average": "logits", "round_anchors": False, "roi_samples": 0},
    "soft": {"soft_nms": True, "size_divisor": 32},
    "nothing": {"finds": False},
    "outside": {"outside": True, "cascade": True, "box_convs": 1, "head_norm": "group"},
}


@pytest.mark.parametrize("kind", DETECTORS)
def test_what_is_exported_computes_the_networks_answer(kind: str, tmp_path: Path) -> None:
    """Run by PyTorch, without an exporter."""
    model = convnext.load(make_detector(tmp_path / "own.safetensors", **DETECTORS[kind]), device="cpu").model
    for image in nonempty(images_of(SIZES)):
        with torch.inference_mode():
            own, found = model([image])[0], [each[0] for each in detect(model, image[None])]
        assert bool(len(own.scores)) == (kind not in ("nothing", "outside"))
        assert_same_objects(own, Detections(*found, *([] if model.mask_heads else [torch.zeros(0, 1, 1)])))


@pytest.fixture(scope="module")
def mask_rcnn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Weights of a Mask R-CNN that finds many objects, and their ONNX file."""
    root = tmp_path_factory.mktemp("mask")
    source = make_detector(root / "own.safetensors")
    assert cli.main(["export", str(source), "--out", str(root / "own.onnx")]) == 0
    return source, root / "own.onnx"


@pytest.mark.heavy
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_both_engines_find_what_the_network_finds(backend: str, mask_rcnn: tuple[Path, Path]) -> None:
    source, file = mask_rcnn
    own = convnext.load(source, device="cpu").model
    exported = convnext.load(file, backend=backend)
    assert backend in exported.backend
    images = images_of(SIZES)
    with torch.inference_mode():
        expected = own(images)
    assert all(len(each.scores) > 20 for each in nonempty(expected))
    for one, another in zip(expected, exported.model(images), strict=True):
        assert_same_objects(one, another)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("form", "kind"),
    [("openvino", "cascade"), ("onnx", "boxes"), ("onnx", "soft"), ("onnx", "nothing"), ("onnx", "outside")],
)
def test_other_detectors(form: str, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_detector(tmp_path / "own.safetensors", **DETECTORS[kind])
    done = export(source, tmp_path / f"x{FORMATS[form]}", format=form)
    nothing = kind in ("nothing", "outside")
    assert ("nothing is found in the images that the export is checked on" in caplog.text) == nothing
    own = convnext.load(source, device="cpu").model
    images = images_of(SIZES)
    with torch.inference_mode():
        expected = own(images)
    for backend in nonempty({"onnx": ["onnxruntime", "openvino"], "openvino": ["openvino"]}[form]):
        found = convnext.load(done.path, backend=backend).model(images)
        for one, another in nonempty(zip(expected, found, strict=True)):
            assert bool(len(one.scores)) != nothing
            assert_same_objects(one, another)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["mask", "cascade", "soft", "nothing"])
def test_a_compiled_package(kind: str, tmp_path: Path) -> None:
    source = make_detector(tmp_path / "own.safetensors", **DETECTORS[kind])
    export(source, tmp_path / "x.pt2", format="aot")
    own, exported = (convnext.load(path, device="cpu").model for path in (source, tmp_path / "x.pt2"))
    images = images_of(SIZES)
    with torch.inference_mode():
        for one, another in zip(own(images), exported(images), strict=True):
            assert_same_objects(one, another)


@pytest.mark.heavy
@pytest.mark.parametrize(("form", "precision"), [("onnx", "fp16"), ("openvino", "fp16"), ("openvino", "bf16")])
def test_lower_precisions(form: str, precision: str, trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = trained
    done = export(run, tmp_path / f"x{FORMATS[form]}", format=form, precision=precision, images=data / "val")
    assert done.difference <= checks.OBJECT_BOUNDS[precision].score


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data and a run of detection."""
    root = tmp_path_factory.mktemp("objects")
    data, out = make_objects(root / "data"), root / "run"
    assert cli.main(["train", "detect", str(data), "--out", str(out), *FAST_DETECT]) == 0
    return data, out


@pytest.mark.heavy
def test_an_export_is_a_source_like_another(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data, run = trained
    file = tmp_path / "x.onnx"
    export(run, file, images=data / "val")
    first, second = (convnext.evaluate(str(source), str(data), device="cpu") for source in (run, file))
    assert first.keys() == second.keys()
    for name, value in nonempty(first.items()):
        assert second[name] == pytest.approx(value, abs=0.1), name
    image = sorted((data / "val").iterdir())[0]
    own, exported = (convnext.load(source, device="cpu") for source in (run, file))
    for mine, theirs in nonempty(zip(own(image, 0.01), exported(image, 0.01), strict=True)):
        assert mine["score"] == pytest.approx(theirs["score"], abs=1e-3)
    capsys.readouterr()
    rows = []
    for source in (run, file):
        options = ["--json", "--threshold", "0.05", "--tile", "48", "--out", str(tmp_path / f"{source.name}-drawn")]
        assert cli.main(["predict", str(source), str(image), *options]) == 0
        rows.append(json.loads(capsys.readouterr().out)["objects"])
    assert [row["category_id"] for row in rows[0]] == [row["category_id"] for row in rows[1]]
    for mine, theirs in zip(*rows, strict=True):
        np.testing.assert_allclose(mine["bbox"], theirs["bbox"], atol=1)
    with pytest.raises(InputError, match="an export of this network has no embeddings"):
        exported.embed(image)
    assert "is an export" in fails(capsys, "export", file, "--out", tmp_path / "y.onnx")


@pytest.mark.heavy
def test_what_is_known_travels_inside(mask_rcnn: tuple[Path, Path]) -> None:
    """The rules too by which objects are chosen; they are beside the file for programs that are not ours."""
    _, file = mask_rcnn
    meta = read_meta(file)
    assert meta["category_ids"] == [1, 2, 7]
    assert meta["export"]["batch"] == [1, 1]
    assert meta["export"]["outputs"] == ["boxes", "scores", "labels", "masks"]
    rules = {"score_threshold": 0.05, "nms_iou": 0.5, "most_objects": 100, "soft_nms": False}
    assert rules.items() <= meta["export"].items()
    beside = json.loads(Path(f"{file}.json").read_text())
    assert beside["export"] == meta["export"]
    assert beside["transform"]["short"] == 96
    exported = convnext.load(file)
    assert exported.classes == CLASSES
    assert exported.model.NMS_IOU == 0.5
    objects = exported(Image.fromarray(np.random.default_rng(0).integers(0, 256, (75, 90, 3), dtype=np.uint8)))
    assert {each["label"] for each in objects} <= set(CLASSES)
    assert all(each["mask"].shape == (75, 90) for each in objects)


def detections(scores: list[float], shift: float = 0.0) -> Detections:
    boxes = torch.tensor([[20.0 * i, 0, 20 * i + 10, 10] for i in range(len(scores))]).reshape(-1, 4) + shift
    return Detections(boxes, torch.tensor(scores), torch.zeros(len(scores), dtype=torch.int64), torch.zeros(0, 1, 1))


def test_counterparts_by_hand() -> None:
    bound = Bound(1, 0.01, 0.01, 0)
    own = detections([0.9, 0.6, 0.055])
    found = counterparts(own, detections([0.905, 0.7, 0.055]), bound, least=0.05)
    assert found[0] == pytest.approx(0.005)
    assert found[1].isnan()
    assert len(found) == 2  # the third may be cut off
    assert counterparts(own, detections([0.9, 0.6], shift=1.5), bound, least=0.05).isnan().all()
    assert counterparts(own, detections([]), bound, least=0.05).isnan().all()
    assert counterparts(detections([]), own, bound, least=0.05).shape == (0,)
    labels = own._replace(labels=torch.ones(3, dtype=torch.int64))
    assert counterparts(own, labels, bound, least=0.05).isnan().all()
    drawn, other = (own._replace(masks=torch.full((3, 4, 4), value)) for value in (0.5, 0.52))
    assert counterparts(drawn, other, bound, least=0.05).isnan().all()
    assert not counterparts(drawn, drawn, bound, least=0.05).isnan().any()


class Rules(StubDetector):
    """A network whose answers are known, and the rules by which it chooses them."""

    SCORE_THRESHOLD, DECAYED, MAX_DETECTIONS, soft_nms = 0.05, 0.001, 100, False


class Exported(torch.nn.Module):
    """An export of it, whose boxes are moved by so many pixels and which finds so many objects at most."""

    engine, outputs = "onnxruntime", Detections._fields

    def __init__(self, moved: float = 0, most: int = 100) -> None:
        super().__init__()
        self.moved, self.most = moved, most

    def run(self, images: Tensor) -> dict[str, Tensor]:
        found = StubDetector().find(pixels_of(images[0]))
        found = found._replace(boxes=found.boxes + self.moved)
        return {name: value[: self.most][None] for name, value in found._asdict().items()}


@pytest.mark.parametrize(
    ("precision", "export", "missed"),
    [
        ("fp32", {}, 0),
        ("fp32", {"moved": 1.5}, 8),  # two objects in two sizes, as the network and as the export sees them
        ("fp16", {"moved": 1.5}, 0),
        ("fp16", {"moved": 2.5}, 8),
        ("fp32", {"most": 1}, 2),
    ],
)
def test_a_difference_beyond_the_bound_is_not_written(precision: str, export: dict[str, Any], missed: int) -> None:
    predictor: Any = Detector(Rules(), ["a", "b", "c"], [1, 2, 3], WholeImage(80, 200))  # type: ignore[arg-type]  # a stub
    image = painted((100, 80), Painted(0, 0.9, (10, 20, 40, 60)), Painted(2, 0.5, (60, 5, 90, 45)))
    verify = partial(checks.verify_detector, predictor, Exported(**export), [image], precision)  # type: ignore[arg-type]  # a stub
    if not missed:
        assert verify() == 0
        return
    with pytest.raises(InputError, match=f"the export is not written: {missed} of [68] objects are not where the"):
        verify()


def test_the_last_of_as_many_as_may_be_found_can_be_another(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Which of two of nearly one score comes last is chance; the others are compared."""
    monkeypatch.setattr(Rules, "MAX_DETECTIONS", 2)
    predictor: Any = Detector(Rules(), ["a", "b", "c"], [1, 2, 3], WholeImage(80, 200))  # type: ignore[arg-type]  # a stub
    image = painted((100, 80), Painted(0, 0.9, (10, 20, 40, 60)), Painted(2, 0.5, (60, 5, 90, 45)))
    last: Any = Exported(most=1)
    assert checks.verify_detector(predictor, last, [image], "fp32") == 0
    assert not caplog.text
    moved: Any = Exported(moved=1.5)
    with pytest.raises(InputError, match="4 of 4 objects are not where"):
        checks.verify_detector(predictor, moved, [image], "fp32")


def test_that_nothing_is_found_is_said(caplog: pytest.LogCaptureFixture) -> None:
    predictor: Any = Detector(Rules(), ["a", "b", "c"], [1, 2, 3], WholeImage(80, 200))  # type: ignore[arg-type]  # a stub
    exported: Any = Exported()
    assert checks.verify_detector(predictor, exported, [Image.new("RGB", (90, 120))], "fp32") == 0
    assert "nothing is found in the images that the export is checked on" in caplog.text


def test_a_detector_says_what_an_export_of_it_holds() -> None:
    for masks in (True, False):
        model: RCNN = create_detector("convnextv2_atto", num_classes=1, masks=masks, **SMALL)
        transform = WholeImage(64, 64)
        outputs = convnext.Detector(model, ["a"], [1], transform).outputs
        assert outputs == ("boxes", "scores", "labels", "masks")[: 4 if masks else 3]
