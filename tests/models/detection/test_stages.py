"""A cascade's stages: how their losses are weighed, and which class's box a stage hands to the next."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from convnext.models.detection import rcnn
from convnext.models.detection.box_head import CODE_WEIGHTS, BoxHead, BoxStage
from convnext.models.detection.objects import Objects
from convnext.models.detection.rcnn import RCNN, create_detector


def cascade() -> RCNN:
    torch.manual_seed(0)
    return create_detector("convnextv2_atto", num_classes=3, fpn_dim=16, linear_dim=16, mask_convs=1, cascade=True)


def one_object() -> Objects:
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[:, 8:48, 10:50] = 1
    return Objects(torch.tensor([[10.0, 8, 50, 48]]), torch.tensor([2]), mask)


IMAGE = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_each_stages_losses_have_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = cascade()
    own = detector([IMAGE], [one_object()], [5])
    monkeypatch.setattr(rcnn, "STAGE_WEIGHTS", (1.0, 1.0, 1.0))
    unweighed = detector([IMAGE], [one_object()], [5])
    assert {name for name in own if name[-1] in "012"} == {
        f"{k}_{i}" for k in ("class", "box", "mask") for i in range(3)
    }
    for i, weight in enumerate((1.0, 0.5, 0.25)):
        for kind in ("class", "box", "mask"):
            assert own[f"{kind}_{i}"].item() == pytest.approx(weight * unweighed[f"{kind}_{i}"].item(), rel=1e-4)
            assert own[f"{kind}_{i}"].item() > 0


def stage_of(classes: int, *, agnostic: bool = False) -> BoxStage:
    head = BoxHead(1, 1, classes, convs=0, linear_dim=1, norm="none", class_agnostic=agnostic)
    return BoxStage(head, iou=0.5, code_weights=CODE_WEIGHTS[0], giou=False, rois_per_image=4)


def test_a_region_is_moved_to_where_its_class_lies() -> None:
    """Class k's code moves it by k widths: its first number is shifts in widths, times ten."""
    regions = torch.tensor([[0.0, 0, 10, 20], [100, 0, 110, 20], [50, 50, 70, 60]])
    codes = torch.zeros(3, 4, 4)
    codes[:, :, 0] = 10 * torch.arange(4.0)
    moved = stage_of(4).refine(codes, torch.tensor([2, 0, 3]), regions, (1000, 1000))
    expected = [[20.0, 0, 30, 20], [100, 0, 110, 20], [110, 50, 130, 60]]
    torch.testing.assert_close(moved, torch.tensor(expected))
    alike = stage_of(4, agnostic=True).refine(codes[:, 1:2], torch.tensor([2, 0, 3]), regions, (1000, 1000))
    torch.testing.assert_close(alike, regions + torch.tensor([[10.0, 0, 10, 0], [10, 0, 10, 0], [20, 0, 20, 0]]))
    assert stage_of(4).refine(codes, torch.tensor([3, 3, 3]), regions, (30, 60))[:, 2].tolist() == [40, 60, 60]


def refined(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The classes by which regions are refined from now on."""
    found: list[Tensor] = []
    refine = BoxStage.refine

    def recorded(self: BoxStage, codes: Tensor, best: Tensor, regions: Tensor, size: Any) -> Tensor:
        found.append(best)
        return refine(self, codes, best, regions, size)

    monkeypatch.setattr(BoxStage, "refine", recorded)
    return found


def test_in_training_a_regions_class_is_its_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the background's regions are moved by the likeliest class."""
    detector, best = cascade(), refined(monkeypatch)
    with torch.no_grad():
        for stage in detector.box_stages:
            stage.head.classify.bias[2] = 1e3  # class 1
    labels: list[Tensor] = []
    sample = BoxStage.sample

    def recorded(self: BoxStage, *arguments: Any) -> Any:
        found = sample(self, *arguments)
        labels.append(found[1][0])
        return found

    monkeypatch.setattr(BoxStage, "sample", recorded)
    detector([IMAGE], [one_object()], [5])
    assert (len(best), len(labels)) == (2, 3)
    for own, label in zip(best, labels[:2], strict=True):
        assert (label == 3).any()
        assert torch.equal(own, torch.where(label > 0, 2, 1))


def test_after_it_a_regions_class_is_the_likeliest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that are no background."""
    detector, best = cascade().eval(), refined(monkeypatch)
    with torch.no_grad():
        for stage in detector.box_stages:
            stage.head.classify.bias[:] = torch.tensor([2e3, 0.0, 0.0, 1e3])
        detector([IMAGE])
    assert len(best) == 2
    for own in best:
        assert set(own.tolist()) == {2}
