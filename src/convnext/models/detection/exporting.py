"""A detector's answer about one image, in operations that exporters know.

It is what `RCNN.forward` answers: the same parts in the same order, for one image instead of groups of images. How many
regions and objects there are is left to the exported program, so nothing here asks for it as a number of Python's
(`len`) or branches on it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._higher_order_ops import while_loop
from torchvision.ops import box_iou, clip_boxes_to_image, nms, remove_small_boxes

from convnext.models.detection.proposals import BEST_OF_A_LEVEL, NMS_IOU, PROPOSED, SMALLEST, ProposalNetwork
from convnext.models.detection.rcnn import RCNN, padded
from convnext.models.detection.roi_align import LEVELS, RegionPool, torchvision_pool


def detect(model: RCNN, images: Tensor) -> tuple[Tensor, ...]:
    """Detect the n objects in a normalised image `[1, 3, H, W]`, best first, as in `Detections`.

    Boxes `[1, n, 4]`, scores `[1, n]`, labels `[1, n]`, and masks `[1, n, side, side]` where the detector draws them.
    """
    size = (images.shape[2], images.shape[3])
    features = model.pyramid(padded(images[0], model.size_divisor)[None])
    regions = propose(model.rpn, list(features.values()), size)
    answers: list[Tensor] = []
    for i, stage in enumerate(model.box_stages):
        logits, codes = stage.head(pool(model.box_pool, features, regions))
        answers.append(logits)
        if i + 1 < len(model.box_stages):
            regions = stage.refine(codes, logits[:, 1:].argmax(1), regions, size)
    boxes, scores, labels = select(model, stage.decode(codes, regions, size), model.average(answers), size)
    found = [boxes[None], scores[None], labels[None]]
    if model.mask_heads:
        pooled = pool(model.mask_pool, features, boxes)
        every = torch.arange(labels.shape[0], device=labels.device)
        found.append(torch.stack([head(pooled)[every, labels].sigmoid() for head in model.mask_heads]).mean(0)[None])
    return tuple(found)


def propose(rpn: ProposalNetwork, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
    """The best regions of an image of height and width, `[r, 4]`, as `ProposalNetwork.best` chooses them.

    The last one is empty, and so are the boxes that come of it: norms are not traced, nor run by ONNX Runtime, where
    there may be no region at all.
    """
    rpn.anchors.set_cell_anchors(torch.float32, maps[0].device)
    anchors = rpn.anchors.grid_anchors([list(x.shape[2:]) for x in maps], [])
    boxes, scores = [], []
    for logits, codes, places in zip(*rpn.head(maps), anchors, strict=True):
        flat = logits.permute(0, 2, 3, 1).flatten().float()
        moved = codes.permute(0, 2, 3, 1).reshape(-1, 4).float()
        top = flat.topk(torch.sym_min(BEST_OF_A_LEVEL[False], flat.shape[0])).indices
        own = clip_boxes_to_image(rpn.coder.decode_single(moved[top], places[top]), size)
        real = remove_small_boxes(own, SMALLEST)
        own, score = own[real], flat[top[real]].sigmoid()
        kept = nms(own, score, NMS_IOU)
        boxes.append(own[kept])
        scores.append(score[kept])
    best = torch.cat(boxes)[torch.cat(scores).argsort(descending=True)[:PROPOSED]]
    return torch.cat([best, best.new_zeros(1, 4)])


def pool(how: RegionPool, features: dict[str, Tensor], regions: Tensor) -> Tensor:
    """An image's regions `[r, 4]`, pooled by torchvision's operator: `[r, C, side, side]`."""
    level = how.level_of([regions]).clamp(0, len(LEVELS) - 1)
    maps = [features[name] for name in LEVELS]
    return torchvision_pool(how.side, regions, torch.zeros_like(level), level, maps, how.samples)


def select(model: RCNN, boxes: Tensor, probabilities: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Choose boxes, scores and labels as `RCNN.select` does.

    Boxes of different classes are moved apart, so that none suppresses another's.
    """
    boxes, scores, labels = model.candidates(boxes, probabilities)
    apart = boxes + labels[:, None] * torch.full((1,), size[0] + size[1])
    if model.soft_nms:
        kept, scores = soft_nms_loop(apart, scores, iou=model.NMS_IOU, least=model.DECAYED, most=model.MAX_DETECTIONS)
    else:
        kept = nms(apart, scores, model.NMS_IOU)[: model.MAX_DETECTIONS]
        scores = scores[kept]
    return boxes[kept], scores, labels[kept]


def soft_nms_loop(boxes: Tensor, scores: Tensor, *, iou: float, least: float, most: int) -> tuple[Tensor, Tensor]:
    """`soft_nms.soft_nms` of boxes of one class, as a loop of the program's own."""
    boxes = torch.cat([boxes, boxes.new_zeros(1, 4)])  # there is always one, with no score
    scores = torch.cat([scores, scores.new_zeros(1)])
    steps = torch.arange(most)

    def goes_on(step: Tensor, scores: Tensor, kept: Tensor, values: Tensor) -> Tensor:
        return (step < most) & (scores.amax(0) >= least)

    def take_best(step: Tensor, scores: Tensor, kept: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        value, best = scores.topk(1)
        overlap = box_iou(boxes[best], boxes)[0]
        decayed = torch.where(overlap > iou, scores * (1 - overlap), scores)  # its own becomes 0
        return step + 1, decayed, torch.where(steps == step, best, kept), torch.where(steps == step, value, values)

    start = (torch.zeros((), dtype=torch.int64), scores, torch.zeros_like(steps), torch.zeros(most))
    _, _, kept, values = while_loop(goes_on, take_best, start)
    real = values >= least
    return kept[real], values[real]


@torch.library.register_fake("torchvision::nms", allow_override=True)
def _any_number(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Shape of what NMS keeps. By torchvision's own it is 2 or more, and a compiled program refuses to keep fewer."""
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)
