"""UperNet: published sizes, images of any size, both norms, and what it learns by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from vacuous import nonempty

from convnext.data.sources.label_maps import IGNORED
from convnext.models.segmentation.losses import class_weights, dice_loss, segmentation_loss
from convnext.models.segmentation.upernet import Conv, create_segmenter, enlarge, resize_map

SMALL = {"fpn_dim": 32, "aux_dim": 16}


@pytest.mark.parametrize(("model", "millions"), [("tiny", 60), ("small", 82), ("base", 122)])
def test_as_large_as_published(model: str, millions: float) -> None:
    with torch.device("meta"):
        segmenter = create_segmenter(f"convnext_{model}", num_classes=150)
    assert sum(p.numel() for p in segmenter.parameters()) / 1e6 == pytest.approx(millions, abs=1)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_logits_have_the_images_size_and_everything_learns(norm: str) -> None:
    torch.manual_seed(0)
    segmenter = create_segmenter("convnextv2_atto", num_classes=3, head_norm=norm, **SMALL)
    logits, auxiliary = segmenter(torch.randn(2, 3, 65, 99))
    assert logits.shape == auxiliary.shape == (2, 3, 65, 99)
    (logits.square().mean() + auxiliary.square().mean()).backward()
    last = ("backbone.norm.", "backbone.head.")
    assert all(p.grad is not None for name, p in segmenter.named_parameters() if not name.startswith(last))
    with torch.no_grad():
        for size in ((1, 1), (7, 200), (64, 64)):
            assert segmenter.eval()(torch.randn(1, 3, *size)).shape == (1, 3, *size)


def test_a_narrow_head_starts_with_logits_as_large_as_a_wide_one() -> None:
    spreads = []
    for dim in (32, 512):
        torch.manual_seed(0)
        segmenter = create_segmenter("convnextv2_atto", num_classes=11, fpn_dim=dim, aux_dim=dim)
        with torch.no_grad():
            spreads.append([logits.std(1).mean() for logits in segmenter(torch.randn(2, 3, 64, 64))])
    for narrow, wide in nonempty(zip(*spreads, strict=True)):
        assert 0.7 < narrow / wide < 1.4


def test_images_go_on_beyond_their_border() -> None:
    """An edge there, as zeros would make, is taken for an upright thing."""
    torch.manual_seed(0)
    segmenter = create_segmenter("convnextv2_atto", num_classes=3, **SMALL).eval()
    image = torch.randn(1, 3, 40, 70)
    with torch.no_grad():
        whole = segmenter(F.pad(image, (0, 26, 0, 24), mode="replicate"))
        assert torch.equal(segmenter(image), whole[:, :, :40, :70])


def test_one_image_alone_trains_with_group_norm() -> None:
    segmenter = create_segmenter("convnextv2_atto", num_classes=2, head_norm="group", **SMALL)
    assert segmenter(torch.randn(1, 3, 32, 32))[0].isfinite().all()


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 4, 12, 10), torch.randint(-1, 4, (2, 12, 10))


def test_cross_entropy_is_over_all_pixels(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = pair
    expected = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum") / labels.numel()
    torch.testing.assert_close(segmentation_loss(logits, labels, ignore_index=IGNORED), expected)
    halves = [segmentation_loss(a[None], b[None], ignore_index=IGNORED) for a, b in zip(logits, labels, strict=True)]
    torch.testing.assert_close(torch.stack(halves).mean(), expected)
    weights = torch.tensor([0.0, 1, 2, 3])
    weighed = F.cross_entropy(logits, labels, weight=weights, ignore_index=IGNORED, reduction="sum") / labels.numel()
    torch.testing.assert_close(segmentation_loss(logits, labels, ignore_index=IGNORED, weights=weights), weighed)


def test_hard_pixels_alone_teach(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = pair
    logits = (logits * 3).requires_grad_()
    segmentation_loss(logits, labels, ignore_index=IGNORED, hard=True).backward()
    true = logits.softmax(1).gather(1, labels.clamp(min=0)[:, None])[:, 0]
    taught = logits.grad.abs().sum(1) > 0
    assert torch.equal(taught, (true <= 0.7) & (labels != IGNORED))
    nothing = torch.full_like(labels, IGNORED)
    assert segmentation_loss(logits, nothing, ignore_index=IGNORED, hard=True) == 0


def test_dice_is_of_overlaps() -> None:
    labels = torch.tensor([[[0, 0, 1, IGNORED]]])
    right = F.one_hot(labels.clamp(min=0), 3).permute(0, 3, 1, 2) * 50.0
    assert dice_loss(right, labels, IGNORED) == pytest.approx(0, abs=1e-6)
    assert dice_loss(right.roll(1, 1), labels, IGNORED) == pytest.approx(1, abs=1e-6)
    assert dice_loss(right, torch.full_like(labels, IGNORED), IGNORED) == 0


def test_rare_classes_weigh_more() -> None:
    weights = class_weights(np.array([90, 10, 0]))
    torch.testing.assert_close(weights, torch.tensor([100 / 180, 100 / 20, 0.0]))
    weights = class_weights(np.array([90, 10, 0]), power=0.5)
    torch.testing.assert_close(weights, torch.tensor([0.8333, 2.5, 0.0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("size", "others"), [((16, 24), [(8, 12), (4, 6), (2, 3)]), ((5, 7), [(3, 4), (9, 2), (1, 1)])]
)
def test_maps_convolved_before_they_are_enlarged_give_the_same(size, others):
    torch.manual_seed(0)
    conv = Conv(12 + 4 * len(others), 6, 3, "group")
    maps = [torch.randn(2, 12, *size), *(torch.randn(2, 4, *each) for each in others)]
    results = []
    for enlarged in (False, True):
        inputs = [x.clone().requires_grad_() for x in maps]
        smaller = [resize_map(x, size) for x in inputs[1:]]
        out = conv(torch.cat([inputs[0], *smaller], dim=1)) if enlarged else conv(*inputs)
        conv.zero_grad()
        out.pow(2).sum().backward()
        results.append([out, conv.conv.weight.grad.clone(), *(x.grad for x in inputs)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "size"), [((2, 11, 8, 12), (32, 48)), ((1, 3, 5, 1), (7, 9)), ((1, 2, 6, 6), (6, 6))]
)
def test_logits_are_enlarged_as_pytorch_does(shape, size):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(enlarge(x, size), resize_map(x, size), rtol=1e-5, atol=1e-5)
