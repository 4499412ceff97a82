"""A detector's answer, loss and gradient for an image are its own: the other images of a batch change none of them."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from vacuous import nonempty

from convnext.models.detection.objects import Objects
from convnext.models.detection.rcnn import RCNN, Detections, create_detector
from convnext.models.detection.sampling import draw_balanced

SIZES = [(70, 100), (128, 64), (64, 40), (100, 70)]
KEYS = [11, 22, 33, 44]


def detector(version: int, **parts: object) -> RCNN:
    """With weights large enough that padding would be seen, and every image has objects to find."""
    torch.manual_seed(0)
    name = "convnextv2_atto" if version == 2 else "convnext_atto"
    model = create_detector(name, num_classes=3, fpn_dim=32, linear_dim=64, mask_convs=1, **parts)
    with torch.no_grad():
        for path, parameter in model.backbone.named_parameters():
            if path.endswith(("grn.gamma", "grn.beta", "bias")) or (version == 1 and path.endswith(".gamma")):
                parameter.add_(0.3 * torch.randn_like(parameter))
        for stage in model.box_stages:
            stage.head.classify.weight.mul_(10)
    return model


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3, *size, generator=generator) for size in SIZES]


def objects() -> list[Objects]:
    found = []
    for (height, width), count in zip(SIZES, (2, 1, 0, 3), strict=True):
        masks = torch.zeros(count, height, width, dtype=torch.uint8)
        boxes = torch.tensor([[4.0 + 6 * i, 8, 26 + 6 * i, 40] for i in range(count)]).reshape(-1, 4)
        for mask in masks:
            mask[8:40, 4:26] = 1
        found.append(Objects(boxes, torch.arange(count) % 3, masks))
    return found


def same(found: Detections, alone: Detections) -> None:
    """The same objects; those whose scores differ by rounding alone may have changed places."""
    assert len(found.boxes) == len(alone.boxes) > 0
    differences = torch.cdist(found.boxes, alone.boxes) + 1e3 * (found.labels[:, None] != alone.labels)
    nearest = differences.argmin(1)
    assert len(set(nearest.tolist())) == len(nearest)
    alone = Detections(*(part[nearest] for part in alone))
    assert torch.equal(found.labels, alone.labels)
    torch.testing.assert_close(found.boxes, alone.boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.scores, alone.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.masks, alone.masks, atol=1e-4, rtol=0)


PARTS = [
    pytest.param(1, {}, id="V1"),
    pytest.param(2, {}, id="V2"),
    pytest.param(2, {"cascade": True, "box_convs": 1, "head_norm": "group"}, id="V2-cascade"),
]


@pytest.mark.parametrize(("version", "parts"), PARTS)
def test_an_image_is_answered_as_alone_in_any_batch(version: int, parts: dict) -> None:
    model, given = detector(version, **parts).eval(), images()
    with torch.no_grad():
        alone = [model([image])[0] for image in given]
        for count in (2, 4):
            for order in list(itertools.permutations(range(4), count))[:: 5 if count == 2 else 11]:
                for place, found in zip(order, model([given[i] for i in order]), strict=True):
                    same(found, alone[place])


@pytest.mark.heavy
def test_compiled_it_answers_as_alone_too() -> None:
    """Two images of one size after padding, and one of another."""
    model, given = detector(2).eval(), images()
    model.backbone.compile(dynamic=True)
    with torch.no_grad():
        alone = [model([image])[0] for image in given]
        for place, found in zip((2, 0, 3), model([given[i] for i in (2, 0, 3)]), strict=True):
            same(found, alone[place])


def loss_of(model: RCNN, chosen: list[int]) -> Tensor:
    given, truth = images(), objects()
    losses = model([given[i] for i in chosen], [truth[i] for i in chosen], [KEYS[i] for i in chosen])
    return torch.stack(list(losses.values())).sum()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize(("version", "parts"), PARTS)
def test_a_batchs_loss_and_gradient_are_the_mean_of_its_images(version: int, parts: dict) -> None:
    """Alone, in halves, and in another order: so parts and processes add up to the whole."""
    model = detector(version, **parts).train()
    whole = loss_of(model, [0, 1, 2, 3])
    whole.backward()
    expected = gradients(model)
    for division in ([[0], [1], [2], [3]], [[0, 3], [1, 2]], [[3, 1, 0, 2]]):
        total = 0.0
        for chosen in division:
            loss = loss_of(model, chosen) * (len(chosen) / 4)
            loss.backward()
            total += loss.item()
        assert total == pytest.approx(whole.item(), abs=1e-5)
        for name, gradient in gradients(model).items():
            scale = expected[name].abs().max().clamp(min=1e-3)
            torch.testing.assert_close(gradient / scale, expected[name] / scale, atol=1e-3, rtol=0, msg=name)


@pytest.mark.parametrize("parts", [{}, {"cascade": True, "box_convs": 1, "head_norm": "group"}])
def test_an_image_without_objects_is_all_background(parts: dict) -> None:
    """Its own losses are those written out here, and in a batch each counts half."""
    model, given, truth = detector(2, rois_per_image=2000, **parts).train(), images(), objects()
    answers: list[Tensor] = []
    for stage in model.box_stages:
        stage.head.register_forward_hook(lambda _, __, found: answers.append(found[0]))
    negative = model([given[2]], [truth[2]], [KEYS[2]])
    weights = [1.0, 0.5, 0.25]
    for i, logits in nonempty(enumerate(answers)):  # of all regions that were proposed
        assert len(logits) > 10
        assert negative[f"class_{i}"].item() == pytest.approx(-weights[i] * logits.log_softmax(1)[:, 0].mean().item())
    for name, loss in nonempty(negative.items()):
        assert loss.isfinite()
        assert loss == 0 or name == "loss_objectness" or name.startswith("class_")
    positive = model([given[0]], [truth[0]], [KEYS[0]])
    assert all(loss > 0 for loss in nonempty(positive.values()))
    for order in ([0, 2], [2, 0]):
        both = model([given[i] for i in order], [truth[i] for i in order], [KEYS[i] for i in order])
        assert both.keys() == negative.keys()
        for name, loss in nonempty(both.items()):
            alone = (negative[name].item() + positive[name].item()) / 2
            assert loss.item() == pytest.approx(alone, rel=1e-4, abs=1e-6), name


def test_anchors_of_an_image_without_objects_are_all_background() -> None:
    proposals = detector(2).rpn
    logits, codes = torch.linspace(-3, 3, 100), torch.randn(100, 4)
    anchors = torch.tensor([0.0, 0, 9, 9]) + torch.arange(100.0)[:, None]
    scores, boxes = proposals.image_losses(logits, codes, anchors, torch.zeros(0, 4), 5)
    assert scores.item() == pytest.approx(F.softplus(logits).mean().item())
    assert boxes == 0


def test_padding_would_change_the_answer() -> None:
    """What the tests above would see: the same image on a larger canvas has other maps."""
    model = detector(2).eval()
    image = images()[2]
    with torch.no_grad():
        own = model.backbone(F.pad(image, (0, 24)).unsqueeze(0))[-1]
        larger = model.backbone(F.pad(image, (0, 88, 0, 64)).unsqueeze(0))[-1][:, : own.shape[1], : own.shape[2]]
    assert (own - larger).abs().max() > 0.01 * own.abs().max()


def test_what_is_drawn_depends_on_the_candidate_and_not_on_its_place() -> None:
    torch.manual_seed(0)
    numbers = torch.randperm(5000)[:1000]
    labels = (torch.rand(1000) < 0.1).long() - (torch.rand(1000) < 0.1).long()
    drawn = draw_balanced(labels, numbers, 7, size=128, positive=0.25)
    assert (labels[drawn] > 0).sum() == 32
    assert (labels[drawn] == 0).sum() == 96
    order = torch.randperm(1000)
    again = order[draw_balanced(labels[order], numbers[order], 7, size=128, positive=0.25)]
    assert set(again.tolist()) == set(drawn.tolist())
    other = draw_balanced(labels, numbers, 8, size=128, positive=0.25)
    assert set(other.tolist()) != set(drawn.tolist())


def test_every_candidate_is_drawn_equally_often() -> None:
    labels, numbers = torch.zeros(200), torch.arange(200)
    counts = torch.zeros(200)
    for key in range(2000):
        counts[draw_balanced(labels, numbers, key, size=20, positive=0.5)] += 1
    assert counts.mean() == 200
    assert 0.8 < counts.std() / (200 * 0.9) ** 0.5 < 1.2


def test_few_candidates_are_all_drawn() -> None:
    labels = torch.tensor([1, 0, -1, 1, 0])
    assert draw_balanced(labels, torch.arange(5), 3, size=128, positive=0.25).tolist() == [0, 1, 3, 4]
