"""Numbers that publications name, beside their source; those of recipes are in tests/tasks.

Detectors: Mask R-CNN (arXiv 1703.06870), Cascade R-CNN (1906.09756) and FPN (1612.03144) in mmdetection's values, which
ConvNeXt's were trained with; segmenters: UPerNet (1807.10221) in mmsegmentation's.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from vacuous import nonempty

from convnext.analysis.robustness import ALEXNET
from convnext.data.images import preprocessing
from convnext.models.detection import box_head, proposals, rcnn, roi_align
from convnext.models.detection.box_head import BoxHead
from convnext.models.detection.mask_head import MaskHead
from convnext.models.detection.rcnn import RCNN, create_detector
from convnext.models.segmentation import losses, upernet
from convnext.models.segmentation.upernet import create_segmenter
from convnext.nn.norm import GRN, LayerNorm
from convnext.tasks.depth.config import DepthConfig
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.detect.recipes import V1_CASCADE
from convnext.tasks.recipes import build_config
from convnext.tasks.segment.config import SegmentConfig
from convnext.train.schedule import learning_rate_at
from convnext.weights.published_detectors import PUBLISHED_DETECTORS


@pytest.fixture(scope="module")
def detectors() -> tuple[RCNN, RCNN]:
    """Mask R-CNN and Cascade Mask R-CNN of 80 classes, without weights."""
    with torch.device("meta"):
        whole = {"num_classes": 80}
        cascade = {"cascade": True, "box_convs": 4, "head_norm": "batch"}
        return create_detector("convnext_tiny", **whole), create_detector("convnext_tiny", **whole, **cascade)


def test_a_cascades_stages() -> None:
    """Cascade R-CNN: overlaps .5, .6, .7, loss weights 1, .5, .25, and one over its deviations .1 .1 .2 .2, .05 .05 .1
    .1, .033 .033 .067 .067."""
    assert rcnn.CASCADE == (0.5, 0.6, 0.7)
    assert rcnn.STAGE_WEIGHTS == (1.0, 0.5, 0.25)
    deviations = [[1 / weight for weight in weights] for weights in box_head.CODE_WEIGHTS]
    published = [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]
    for own, their in zip(deviations, published, strict=True):
        assert own == pytest.approx(their, rel=0.02)


def test_regions_that_are_learnt_from(detectors: tuple[RCNN, RCNN]) -> None:
    """256 anchors of an image, half of them on objects, by overlaps of .7 and .3; 512 regions, a quarter on objects."""
    for detector, overlaps in zip(detectors, ([0.5], [0.5, 0.6, 0.7]), strict=True):
        matcher = detector.rpn.matcher
        assert (matcher.high_threshold, matcher.low_threshold, matcher.allow_low_quality_matches) == (0.7, 0.3, True)
        assert detector.rpn.coder.weights == (1.0, 1.0, 1.0, 1.0)
        stages = list(detector.box_stages)
        assert [stage.matcher.high_threshold for stage in stages] == overlaps
        assert [stage.matcher.low_threshold for stage in stages] == overlaps
        assert [stage.coder.weights for stage in stages] == list(box_head.CODE_WEIGHTS[: len(stages)])
        assert [(stage.rois_per_image, stage.POSITIVE) for stage in stages] == [(512, 0.25)] * len(stages)
        assert [stage.giou for stage in stages] == [len(stages) == 3] * len(stages)
    assert proposals.LEARNT == 256
    assert (proposals.NMS_IOU, proposals.PROPOSED) == (0.7, 1000)
    assert proposals.BEST_OF_A_LEVEL == {True: 2000, False: 1000}


def test_anchors_are_eight_strides_large(detectors: tuple[RCNN, RCNN]) -> None:
    """Of ratios .5, 1, 2, on maps of strides 4 to 64."""
    assert rcnn.PYRAMID_STRIDES == (4, 8, 16, 32, 64)
    assert proposals.RATIOS == (0.5, 1.0, 2.0)
    anchors = detectors[0].rpn.anchors
    anchors.set_cell_anchors(torch.float32, torch.device("cpu"))
    assert len(anchors.cell_anchors) == 5
    for stride, cell in zip(rcnn.PYRAMID_STRIDES, anchors.cell_anchors, strict=True):
        width, height = (cell[:, 2:] - cell[:, :2]).unbind(1)
        assert (height / width).tolist() == pytest.approx([0.5, 1, 2], rel=0.05)
        assert (height * width).sqrt().tolist() == pytest.approx([8 * stride] * 3, rel=0.02)


def widths(head: nn.Module, kind: type[nn.Module]) -> list[tuple[int, int]]:
    """Inputs and outputs of its layers of a kind."""
    names = {nn.Linear: ("in_features", "out_features"), nn.Conv2d: ("in_channels", "out_channels")}[kind]
    return [(getattr(m, names[0]), getattr(m, names[1])) for m in head.modules() if isinstance(m, kind)]


def test_heads(detectors: tuple[RCNN, RCNN]) -> None:
    """FPN of 256 channels; RoIAlign of 7 and 14 cells; two layers of 1024, or four convolutions and one; masks by four
    convolutions."""
    plain, cascade = detectors
    assert (plain.box_pool.side, plain.mask_pool.side) == (7, 14)
    assert (roi_align.STRIDES, roi_align.SAMPLES) == ((4, 8, 16, 32), 2)
    (stage,) = plain.box_stages
    assert widths(stage.head, nn.Linear) == [(256 * 49, 1024), (1024, 1024), (1024, 81), (1024, 320)]
    assert widths(stage.head, nn.Conv2d) == []
    assert len(cascade.box_stages) == len(cascade.mask_heads) == 3
    for stage in cascade.box_stages:
        assert isinstance(stage.head, BoxHead)
        assert widths(stage.head, nn.Conv2d) == [(256, 256)] * 4
        assert widths(stage.head, nn.Linear)[:1] == [(256 * 49, 1024)]
    for head in (*plain.mask_heads, *cascade.mask_heads):
        assert isinstance(head, MaskHead)
        assert widths(head, nn.Conv2d) == [(256, 256)] * 4 + [(256, 80)]


def test_what_is_kept_of_an_image(detectors: tuple[RCNN, RCNN]) -> None:
    for detector in nonempty(detectors):
        assert (detector.SCORE_THRESHOLD, detector.NMS_IOU, detector.MAX_DETECTIONS) == (0.05, 0.5, 100)


def test_giou_weighs_ten() -> None:
    """A box beside its object, of the same size and half over it: GIoU is IoU, 1/3."""
    stage = box_head.BoxStage(
        BoxHead(1, 1, 1, convs=0, linear_dim=1, norm="none", class_agnostic=True),
        iou=0.5,
        code_weights=box_head.CODE_WEIGHTS[0],
        giou=True,
        rois_per_image=1,
    )
    region, truth = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, 0, 15, 10]])
    parts: Any = (torch.zeros(1, 2), torch.zeros(1, 1, 4), region, torch.tensor([1]), truth, torch.ones(1))
    class_loss, box_loss = stage.losses(*parts)
    assert class_loss.item() == pytest.approx(math.log(2))
    assert box_loss.item() == pytest.approx(10 * (1 - 1 / 3), abs=1e-3)


def test_a_segmenters_head() -> None:
    """512 channels, pools of 1, 2, 3, 6, dropout .1; an auxiliary head of 256 on the third stage, weight .4."""
    with torch.device("meta"):
        segmenter = create_segmenter("convnext_tiny", num_classes=150)
    assert segmenter.pooling.sides == upernet.POOLS == (1, 2, 3, 6)
    assert widths(segmenter.classify, nn.Conv2d) == [(512, 150)]
    assert widths(segmenter.auxiliary, nn.Conv2d) == [(384, 256), (256, 150)]
    assert [m.p for m in segmenter.modules() if isinstance(m, nn.Dropout2d)] == [0.1, 0.1]
    for config in (SegmentConfig(model="convnext_tiny"), DepthConfig(model="convnext_tiny")):
        assert config.aux_weight == 0.4


def test_hard_pixels_are_below_seven_tenths() -> None:
    """Online hard example mining as mmsegmentation has it; at least a sixteenth."""
    assert (losses.SURE, losses.LEAST) == (0.7, 1 / 16)


def test_statistics_of_pixels() -> None:
    """ImageNet's mean and deviation, as all of the family's weights were trained with."""
    assert preprocessing.IMAGENET_MEAN == (0.485, 0.456, 0.406)
    assert preprocessing.IMAGENET_STD == (0.229, 0.224, 0.225)


def test_norms_have_the_papers_eps() -> None:
    assert LayerNorm(4).eps == 1e-6
    x = torch.full((1, 1, 1, 2), 1e-6)  # of which a norm over one position is 1e-6, as large as eps
    norm = GRN(2)
    nn.init.ones_(norm.gamma)
    assert (norm(x) / x).flatten().tolist() == pytest.approx([1.5, 1.5], rel=1e-3)


@pytest.mark.parametrize(
    ("recipe", "model", "epochs", "rate"),
    [
        ("mask_rcnn_v2", "convnextv2_base", (20, 27, 33), 1e-4),
        ("mask_rcnn_v1", "convnext_tiny", (20, 27, 33), 1e-4),
        ("cascade_v1", "convnext_base", (20, 27, 33), 2e-4),
    ],
)
def test_a_detectors_rate_falls_to_a_tenth(recipe: str, model: str, epochs: tuple[int, ...], rate: float) -> None:
    """After 27 epochs and again after 33, of 36."""
    config = build_config(recipe, model, DetectConfig)
    rates = [learning_rate_at(epoch, config, steps=1000) for epoch in epochs]
    assert rates == pytest.approx([rate, rate / 10, rate / 100])
    warm = config.warmup_steps / 1000
    assert learning_rate_at(warm / 4, config, steps=1000) == pytest.approx(rate / 4)
    assert learning_rate_at(26.99, config, steps=1000) == pytest.approx(rate)


def test_a_segmenters_rate_falls_in_a_line() -> None:
    """160,000 steps from 1e-4 to 0, under a warm-up of 1500 steps."""
    config = build_config("upernet_v1", "convnext_tiny", SegmentConfig)
    for step, share in ((750, 0.5 * (1 - 750 / 160_000)), (1500, 1 - 1500 / 160_000), (80_000, 0.5), (160_000, 0)):
        assert learning_rate_at(step / 16_000, config, steps=16_000) == pytest.approx(1e-4 * share, abs=1e-12)


def test_detection_recipes_of_the_first_version() -> None:
    """ConvNeXt's released configurations: 36 epochs, AdamW, decay .05, short sides 480 to 800."""
    values = dict(
        batch_size=16, epochs=36, milestones=(27, 33), weight_decay=0.05, scale_jitter=None, short_sides=(480, 800),
        max_side=1333, test_size=800, layer_groups="group", soft_nms=False, fpn_dim=256, linear_dim=1024, mask_convs=4,
        anchor_scale=8.0, class_agnostic=False, rois_per_image=512, hflip=0.5, vflip=0.0, colour=0.0,
    )  # fmt: skip
    assert list(V1_CASCADE) == ["convnext_tiny", "convnext_small", "convnext_base"]
    for recipe, models, own in (
        ("mask_rcnn_v1", ["convnext_tiny"], dict(cascade=False, box_convs=0, head_norm="none", layer_decay=0.95)),
        ("cascade_v1", ["convnext_tiny", "convnext_small"], dict(cascade=True, head_norm="batch", layer_decay=0.7)),
        ("cascade_v1", ["convnext_base"], dict(cascade=True, box_convs=4, layer_decay=0.8)),
    ):
        for model in nonempty(models):
            config = build_config(recipe, model, DetectConfig)
            expected = {**values, **own}
            assert {name: getattr(config, name) for name in expected} == expected


def test_alexnets_errors() -> None:
    """Hendrycks and Dietterich (arXiv 1903.12261), whose mean corruption error divides by them."""
    assert ALEXNET == {
        "gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640, "defocus_blur": 0.819880,
        "glass_blur": 0.826268, "motion_blur": 0.785948, "zoom_blur": 0.798360, "snow": 0.866816, "frost": 0.826572,
        "fog": 0.819324, "brightness": 0.564592, "contrast": 0.853204, "elastic_transform": 0.646056,
        "pixelate": 0.717840, "jpeg_compression": 0.606500,
    }  # fmt: skip


def test_figures_of_published_detectors_and_segmenters() -> None:
    """Average precision of boxes and masks on COCO, and mean intersection over union on ADE20K at one scale and at
    several: tables 3 and 4 of A ConvNet for the 2020s; of V2, mmdetection's model zoo."""
    found = {
        each.name.removesuffix(f"_{each.image_size}x{each.image_size}"): tuple((each.figures or {}).values())
        for each in PUBLISHED_DETECTORS
    }
    assert found == {
        "mask_rcnn_convnextv2_base_1k_3x": (52.9, 46.4),
        "mask_rcnn_convnext_tiny_1k_3x": (46.2, 41.7),
        "cascade_mask_rcnn_convnext_tiny_1k_3x": (50.4, 43.7),
        "cascade_mask_rcnn_convnext_small_1k_3x": (51.9, 45.0),
        "cascade_mask_rcnn_convnext_base_1k_3x": (52.7, 45.6),
        "cascade_mask_rcnn_convnext_base_22k_3x": (54.0, 46.9),
        "cascade_mask_rcnn_convnext_large_22k_3x": (54.8, 47.6),
        "cascade_mask_rcnn_convnext_xlarge_22k_3x": (55.2, 47.7),
        "upernet_convnext_tiny_1k": (46.0, 46.7),
        "upernet_convnext_small_1k": (48.7, 49.6),
        "upernet_convnext_base_1k": (49.1, 49.9),
        "upernet_convnext_base_22k": (52.6, 53.1),
        "upernet_convnext_large_22k": (53.2, 53.7),
        "upernet_convnext_xlarge_22k": (53.6, 54.0),
    }
