"""Detectors: published sizes, losses that fall to almost nothing, and boxes mapped back to the image."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torchvision.ops import masks_to_boxes
from vacuous import nonempty

import convnext
from convnext.data.images.whole_image import WholeImage
from convnext.data.problems import Problems
from convnext.data.sources.annotated import DetectionSet
from convnext.data.sources.coco import read_coco
from convnext.inference.detector import Detector, paste, place
from convnext.inference.tiles import tile_starts
from convnext.models.detection.mask_head import mask_targets
from convnext.models.detection.objects import Objects
from convnext.models.detection.rcnn import Detections, create_detector
from convnext.models.detection.soft_nms import soft_nms
from convnext.tasks.detect.data import DetectionBatch, DetectionTransform, open_annotated
from convnext.tasks.detect.metrics import coco_eval, coco_metrics, detect_batches
from convnext.weights import save_weights

SMALL = {"fpn_dim": 64, "linear_dim": 128, "mask_convs": 1}


@pytest.mark.parametrize(
    ("model", "parts", "millions", "within"),
    [
        ("convnext_tiny", {}, 48, 0.5),
        ("convnext_tiny", {"cascade": True, "box_convs": 4, "head_norm": "batch"}, 86, 1),
        ("convnext_small", {"cascade": True, "box_convs": 4, "head_norm": "batch"}, 108, 1),
        ("convnext_base", {"cascade": True, "box_convs": 4, "head_norm": "batch"}, 146, 1),
    ],
)
def test_sizes_are_the_published_ones(model: str, parts: dict, millions: float, within: float) -> None:
    with torch.device("meta"):
        detector = create_detector(model, num_classes=80, **parts)
    assert abs(sum(p.numel() for p in detector.parameters()) / 1e6 - millions) < within


def test_narrow_heads_start_with_outputs_as_large_as_wide_ones() -> None:
    spreads = []
    for dim, linear in ((32, 64), (256, 1024)):
        torch.manual_seed(0)
        detector = create_detector("convnextv2_atto", num_classes=11, fpn_dim=dim, linear_dim=linear)
        with torch.no_grad():
            outputs = detector.box_stages[0].head(torch.randn(64, dim, 7, 7))
            objectness, codes = detector.rpn.head([torch.randn(1, dim, 32, 32)])
        spreads.append([x.std() for x in (*outputs, objectness[0], codes[0])])
    for narrow, wide in nonempty(zip(*spreads, strict=True)):
        assert 0.6 < narrow / wide < 1.6


def test_the_backbone_takes_a_classifiers_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = convnext.create_model("convnextv2_atto", num_classes=5)
    save_weights(classifier, tmp_path / "c.safetensors")
    detector = create_detector(
        "convnextv2_atto", num_classes=3, encoder={"weights": tmp_path / "c.safetensors"}, **SMALL
    )
    own = detector.backbone.state_dict()
    assert all(torch.equal(own[name], value) for name, value in classifier.state_dict().items() if name in own)
    assert len(own) == len(classifier.state_dict()) - 4


@pytest.mark.parametrize(
    "parts", [{}, {"cascade": True, "box_convs": 1, "head_norm": "group"}, {"class_agnostic": True}, {"masks": False}]
)
def test_images_without_objects_and_of_several_sizes(parts: dict) -> None:
    torch.manual_seed(0)
    detector = create_detector("convnextv2_atto", num_classes=3, **{**SMALL, **parts})
    images = [torch.randn(3, 70, 100), torch.randn(3, 64, 40)]
    nothing = Objects(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 64, 40, dtype=torch.uint8))
    mask = torch.zeros(1, 70, 100, dtype=torch.uint8)
    mask[:, 20:60, 10:50] = 1
    one = Objects(torch.tensor([[10.0, 20, 50, 60]]), torch.tensor([2]), mask)
    for objects in ([one, nothing], [nothing, nothing]):
        losses = detector(images, objects)
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        assert total.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters() if p.requires_grad)
    with torch.no_grad():
        found = detector.eval()(images)
    for each, image in zip(found, images, strict=True):
        assert (each.boxes >= 0).all()
        assert (each.boxes[:, 2] <= image.shape[2]).all()
        assert (each.boxes[:, 3] <= image.shape[1]).all()


@pytest.mark.heavy
@pytest.mark.parametrize(("cascade", "steps"), [(False, 90), (True, 30)])
def test_eight_images_are_learnt_by_heart(real_images: Path, cascade: bool, steps: int) -> None:
    torch.manual_seed(0)
    whole = read_coco(real_images / "coco100" / "train.json", real_images / "coco100" / "train", Problems())
    few = [i for i in whole.images if 1 <= len(i.annotations) <= 4 and not any(a.crowd for a in i.annotations)]
    data = DetectionSet(whole.classes, whole.category_ids, tuple(few[:8]))
    transform = DetectionTransform((128,), 128, None, hflip=0.0, vflip=0.0, colour=0.0, masks=True)
    pairs = [transform(open_annotated(image), image) for image in data.images]
    parts = {"box_convs": 1, "head_norm": "group"} if cascade else {}
    detector = create_detector("convnextv2_atto", num_classes=80, cascade=cascade, rois_per_image=128, **SMALL, **parts)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-3, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    losses = []
    for step in range(steps):
        chosen = [pairs[(4 * step + i) % 8] for i in range(4)]
        loss = torch.stack(list(detector([c[0] for c in chosen], [c[1] for c in chosen]).values())).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
        losses.append(loss.item())
    assert sum(losses[-2:]) < (0.5 if cascade else 0.3) * sum(losses[:2])
    if cascade:  # its steps take three times as long
        return
    batch = DetectionBatch([pair[0] for pair in pairs], [pair[1] for pair in pairs], list(range(8)), [])
    results = detect_batches(Detector(detector, data.classes, data.category_ids, WholeImage(128, 128)), [batch], data)
    assert coco_metrics(coco_eval(data, results, "segm"))["AP50"] > 0.9


def test_soft_nms_lowers_what_overlaps_and_keeps_the_rest() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30], [0, 0, 10, 10]])
    scores, labels = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0, 0, 0, 1])
    kept, values = soft_nms(boxes, scores, labels, iou=0.5, least=0.05, most=10)
    assert kept.tolist() == [0, 2, 3, 1]
    torch.testing.assert_close(values, torch.tensor([0.9, 0.7, 0.6, 0.8 * 0.2]))
    assert len(soft_nms(boxes, scores, labels, iou=0.5, least=0.5, most=10)[0]) == 3
    assert len(soft_nms(boxes, scores, labels, iou=0.5, least=0.05, most=2)[0]) == 2
    assert len(soft_nms(boxes[:0], scores[:0], labels[:0], iou=0.5, least=0.05, most=2)[0]) == 0


def test_what_was_found_in_a_resized_copy_lies_on_the_image() -> None:
    mask = torch.ones(1, 28, 28)
    found = Detections(torch.tensor([[10.0, 20, 50, 60]]), torch.tensor([0.9]), torch.tensor([1]), mask)
    (each,) = place(found, (100, 80), (250, 160))
    assert each.box == pytest.approx([20, 50, 100, 150])
    rows, columns = each.mask.nonzero()
    assert abs(rows.min() - 50) <= 1
    assert abs(rows.max() - 149) <= 1
    assert abs(columns.min() - 20) <= 1
    assert abs(columns.max() - 99) <= 1


@pytest.mark.parametrize(("top", "left", "radius"), [(20, 31, 4), (7, 50, 9), (58, 2, 3)])
def test_an_object_of_few_pixels_goes_to_the_head_and_back(top: int, left: int, radius: int) -> None:
    rows, columns = torch.meshgrid(torch.arange(80), torch.arange(100), indexing="ij")
    disc = (rows - top - radius).square() + (columns - left - radius).square() <= radius**2
    seen = disc.repeat_interleave(2, 0).repeat_interleave(2, 1)  # at twice the size
    box = masks_to_boxes(seen[None]) + torch.tensor([0.0, 0, 1, 1])
    target = mask_targets([box], [torch.tensor([0])], [seen[None].byte()], 28)
    (found,) = place(Detections(box, torch.ones(1), torch.tensor([0]), target), (160, 200), (80, 100))
    mask = torch.from_numpy(found.mask)
    assert (mask & disc).sum() / (mask | disc).sum() > 0.98
    assert paste(target[0], [left - 0.6, top, left + 0.4, top + 5], (80, 100))[:, left + 1 :].sum() == 0


def test_a_mask_without_area_or_outside_the_image_draws_nothing() -> None:
    mask = torch.ones(28, 28)
    for box in ([5.0, 5, 5, 9], [5.2, 5, 5.3, 9], [-9, 2, -1, 8], [30, 40, 50, 60]):
        assert not paste(mask, box, (20, 10)).any()
    assert paste(mask, [-5, 3.4, 4.6, 99], (20, 10)).sum() == 5 * 17


@pytest.mark.parametrize(("length", "side"), [(100, 200), (200, 200), (201, 200), (1000, 256), (4000, 256)])
def test_tiles_cover_all_and_overlap(length: int, side: int) -> None:
    found = tile_starts(length, side)
    covered = torch.zeros(length, dtype=torch.bool)
    for start in nonempty(found):
        assert start >= 0
        assert start + side <= length or length < side
        covered[start : start + side] = True
    assert covered.all()
    assert max([b - a for a, b in itertools.pairwise(found)], default=0) <= 0.75 * side + 1
