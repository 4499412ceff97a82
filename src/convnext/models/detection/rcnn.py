"""Mask R-CNN and Cascade Mask R-CNN on a ConvNeXt (He et al. 2017; Cai and Vasconcelos 2018; ConvNeXt, section 3.3).

The pyramid's four maps, a LayerNorm on each, go through a feature pyramid network; a region proposal network says where
something may be; one stage (Mask R-CNN) or three (Cascade) say what it is, and each has a mask head.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork, batched_nms
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from convnext.models.detection import roi_align as region_pool
from convnext.models.detection.box_head import CODE_WEIGHTS, BoxHead, BoxNorm, BoxStage
from convnext.models.detection.mask_head import MaskHead, mask_loss
from convnext.models.detection.objects import Objects
from convnext.models.detection.proposals import Anchors, ProposalNetwork, Regions
from convnext.models.detection.roi_align import LEVELS, SAMPLES, RegionPool
from convnext.models.detection.soft_nms import soft_nms
from convnext.models.encoder import create_encoder
from convnext.nn.backbone import ConvNeXt
from convnext.nn.norm import LayerNorm
from convnext.nn.parameters import BACKBONE
from convnext.runtime.distributed import is_split

PYRAMID_STRIDES = (*region_pool.STRIDES, 64)
CASCADE = (0.5, 0.6, 0.7)
STAGE_WEIGHTS = (1.0, 0.5, 0.25)

Average = Literal["probabilities", "logits"]


class Detections(NamedTuple):
    """n objects of an image, best first.

    `boxes` x0, y0, x1, y1 `[n, 4]` in its pixels, `scores` `[n]`, `labels` `[n]`, `masks` `[n, side, side]`: the
    probability, over the box, that a point belongs to the object; `[0, 1, 1]` from a detector without masks.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor


class Group(NamedTuple):
    """Images of one padded size: their places in the batch, themselves, and the pyramid's maps."""

    places: list[int]
    images: ImageList
    features: dict[str, Tensor]


class RCNN(nn.Module):
    """A detector.

    Args:
        backbone: gives the pyramid; its last norm and head are not used.
        num_classes: without the background.
        cascade: three stages that learn boxes by GIoU, instead of one.
        class_agnostic: one box for all classes instead of one for each.
        masks: whether it draws outlines.
        fpn_dim: channels of the pyramid network and the heads.
        linear_dim: width of the box heads' linear layers.
        box_convs, mask_convs: convolutions in the heads.
        head_norm: of the box heads' convolutions ("batch" is synchronised between processes on CUDA).
        anchor_scale: an anchor's side in strides.
        round_anchors: to whole pixels.
        code_weights: of the box codes of each stage, one over the deviations of their targets.
        roi_samples: points of a region's cell on each side, 0 for as many as it has cells of the map.
        size_divisor: images are padded to multiples of it.
        average: what is averaged over the stages, probabilities or logits.
        rois_per_image: how many regions of an image a stage learns from.
        soft_nms: soft-NMS instead of NMS.
    """

    SCORE_THRESHOLD, NMS_IOU, MAX_DETECTIONS = 0.05, 0.5, 100
    DECAYED = 1e-3  # least score after soft-NMS

    parameter_rules = BACKBONE.extended(
        decay=(
            (r"^norms\.\d\.weight$", False),  # LayerNorms, one on each map
            (r"^(fpn|rpn|box_stages|mask_heads)\..*\.weight$", True),
        ),
        matrices=(r"(^fpn\..*|^rpn\.head\.conv\..*|^(box_stages|mask_heads)\..*\.(linear\.\d|conv))\.weight$",),
    )

    def __init__(
        self,
        backbone: ConvNeXt,
        *,
        num_classes: int,
        cascade: bool = False,
        class_agnostic: bool = False,
        masks: bool = True,
        fpn_dim: int = 256,
        linear_dim: int = 1024,
        box_convs: int = 0,
        mask_convs: int = 4,
        head_norm: BoxNorm = "none",
        anchor_scale: float = 8.0,
        round_anchors: bool = True,
        code_weights: Sequence[tuple[float, float, float, float]] = CODE_WEIGHTS,
        roi_samples: int = SAMPLES,
        size_divisor: int = PYRAMID_STRIDES[-1],
        average: Average = "probabilities",
        rois_per_image: int = 512,
        soft_nms: bool = False,
    ) -> None:
        super().__init__()
        self.backbone, self.soft_nms = backbone, soft_nms
        self.size_divisor = size_divisor
        self.average = {"probabilities": mean_probabilities, "logits": mean_logits}[average]
        self.depths = backbone.depths
        self.norms = nn.ModuleList(LayerNorm(width) for width in backbone.dims)
        self.fpn = FeaturePyramidNetwork(list(backbone.dims), fpn_dim, extra_blocks=LastLevelMaxPool())
        sides = [anchor_scale * stride for stride in PYRAMID_STRIDES]
        self.rpn = ProposalNetwork(fpn_dim, Anchors(sides, PYRAMID_STRIDES, rounded=round_anchors))
        self.box_pool, self.mask_pool = RegionPool(7, roi_samples), RegionPool(14, roi_samples)
        overlaps = CASCADE if cascade else CASCADE[:1]
        self.box_stages: Any = nn.ModuleList(
            BoxStage(
                BoxHead(
                    fpn_dim,
                    7,
                    num_classes,
                    convs=box_convs,
                    linear_dim=linear_dim,
                    norm=head_norm,
                    class_agnostic=class_agnostic,
                ),
                iou=overlap,
                code_weights=weights,
                giou=cascade,
                rois_per_image=rois_per_image,
            )
            for overlap, weights in zip(overlaps, code_weights, strict=False)
        )
        self.mask_heads = nn.ModuleList(MaskHead(fpn_dim, num_classes, convs=mask_convs) for _ in overlaps if masks)

    def forward(self, images: list[Tensor], objects: list[Objects] | None = None, keys: list[int] | None = None) -> Any:
        """Normalised images `[3, H, W]` of any sizes, with objects, to losses by name; without, to `Detections`.

        An image's answer and loss do not depend on the others, and the batch's losses are the mean of its images' own.
        `keys` are numbers, one an image, by which the regions are drawn that are learnt from; without, they are random.
        """
        groups = self.grouped(images)
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        if objects is not None and keys is None:
            keys = torch.randint(2**62, (len(images),)).tolist()
        regions = [Regions(torch.empty(0), torch.empty(0))] * len(images)
        losses: dict[str, Tensor] = {}
        for places, batch, features in groups:
            scored = self.rpn(batch, list(features.values()))
            for place, proposed in zip(places, self.rpn.propose(scored, batch.image_sizes), strict=True):
                regions[place] = proposed
            if objects is not None and keys is not None:
                own = self.rpn.losses(scored, [objects[i].boxes for i in places], [keys[i] for i in places])
                for name, loss in own.items():
                    losses[name] = losses.get(name, 0) + loss * (len(places) / len(images))
        if objects is None or keys is None:
            return self.detect(groups, [proposed.boxes for proposed in regions], sizes)
        return {**losses, **self.stage_losses(groups, regions, objects, sizes, keys)}

    def grouped(self, images: list[Tensor]) -> list[Group]:
        """The images by size, padded with zeros at the right and bottom to multiples of `size_divisor`, with their
        maps.

        Only images of one padded size go through the network together. Were a smaller one padded to the size of a
        larger, GRN's norms and the convolutions near its border would see the padding, and its answer would be another.
        """
        places: dict[tuple[int, int] | int, list[int]] = {}
        for place, image in enumerate(images):
            # Split among processes, the network must be called equally often in all of them.
            key = place if is_split(self) else padded_size(image, self.size_divisor)
            places.setdefault(key, []).append(place)
        groups = []
        for own in places.values():
            batch = torch.stack([padded(images[i], self.size_divisor) for i in own])
            sizes = [(images[i].shape[1], images[i].shape[2]) for i in own]
            groups.append(Group(own, ImageList(batch, sizes), self.pyramid(batch)))
        return groups

    def pyramid(self, batch: Tensor) -> dict[str, Tensor]:
        """Images `[N, 3, H, W]`, padded, to the feature pyramid's maps `[N, C, h, w]` by level, the finest first."""
        maps = [norm(x).permute(0, 3, 1, 2) for norm, x in zip(self.norms, self.backbone(batch), strict=True)]
        return self.fpn(OrderedDict(zip(LEVELS, maps, strict=True)))

    def pooled(self, pool: RegionPool, groups: list[Group], regions: list[Tensor]) -> Tensor:
        """Every image's boxes `[r, 4]`, pooled from its group's maps: `[R, C, side, side]`, in the images' order."""
        parts = [torch.empty(0)] * len(regions)
        for group in groups:
            own = [regions[i] for i in group.places]
            pooled = pool(group.features, own).split([len(boxes) for boxes in own])
            for place, part in zip(group.places, pooled, strict=True):
                parts[place] = part
        return torch.cat(parts)

    def stage_losses(
        self,
        groups: list[Group],
        regions: list[Regions],
        objects: list[Objects],
        sizes: list[tuple[int, int]],
        keys: list[int],
    ) -> dict[str, Tensor]:
        """Losses of classes, boxes and masks by stage: means over the images, of an image over its regions."""
        losses: dict[str, Tensor] = {}
        for i, stage in enumerate(self.box_stages):
            sampled, labels, matches = stage.sample(regions, objects, keys)
            chosen = [own.boxes for own in sampled]
            logits, codes = stage.head(self.pooled(self.box_pool, groups, chosen))
            targets = [
                truth.boxes[m] if len(truth.boxes) else b for truth, m, b in zip(objects, matches, chosen, strict=True)
            ]
            parts = (torch.cat(chosen), torch.cat(labels), torch.cat(targets), share_of_regions(chosen))
            class_loss, box_loss = stage.losses(logits, codes, *parts)
            losses |= {f"class_{i}": STAGE_WEIGHTS[i] * class_loss, f"box_{i}": STAGE_WEIGHTS[i] * box_loss}
            if self.mask_heads:
                positive = [torch.where(label > 0)[0] for label in labels]
                boxes, own_labels, own = (
                    [values[p] for values, p in zip(parts, positive, strict=True)]
                    for parts in (chosen, labels, matches)
                )
                masks = self.mask_heads[i](self.pooled(self.mask_pool, groups, boxes))
                shapes = [truth.masks for truth in objects]
                loss = mask_loss(masks, boxes, torch.cat(own_labels), own, shapes, share_of_regions(boxes))
                losses[f"mask_{i}"] = STAGE_WEIGHTS[i] * loss
            if i + 1 < len(self.box_stages):
                counts, label = [len(boxes) for boxes in chosen], torch.cat(labels)
                best = torch.where(label > 0, label - 1, logits[:, 1:].argmax(1))
                refined = (codes.detach().split(counts), best.split(counts), chosen, sizes)
                moved = [stage.refine(*part) for part in zip(*refined, strict=True)]
                regions = [Regions(boxes, own.ids) for boxes, own in zip(moved, sampled, strict=True)]
        return losses

    def detect(self, groups: list[Group], regions: list[Tensor], sizes: list[tuple[int, int]]) -> list[Detections]:
        """Detections in each image, from its proposed regions."""
        counts = [len(boxes) for boxes in regions]
        answers: list[Tensor] = []
        for i, stage in enumerate(self.box_stages):
            logits, codes = stage.head(self.pooled(self.box_pool, groups, regions))
            answers.append(logits)
            if i + 1 < len(self.box_stages):
                parts = (codes.split(counts), logits[:, 1:].argmax(1).split(counts), regions, sizes)
                regions = [stage.refine(*part) for part in zip(*parts, strict=True)]
        boxes = [stage.decode(*part) for part in zip(codes.split(counts), regions, sizes, strict=True)]
        probabilities = self.average(answers).split(counts)
        found = [self.select(*part) for part in zip(boxes, probabilities, strict=True)]
        if not self.mask_heads:
            return [Detections(*each, each[0].new_zeros(0, 1, 1)) for each in found]
        pooled = self.pooled(self.mask_pool, groups, [each[0] for each in found])
        labels = torch.cat([each[2] for each in found])
        every = torch.arange(len(labels), device=labels.device)
        drawn = torch.stack([head(pooled)[every, labels].sigmoid() for head in self.mask_heads]).mean(0)
        return [
            Detections(*each, masks)
            for each, masks in zip(found, drawn.split([len(each[0]) for each in found]), strict=True)
        ]

    def select(self, boxes: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes `[R, boxes, 4]` and probabilities `[R, 1 + classes]` to boxes, scores and labels of what is kept."""
        candidates, values, label = self.candidates(boxes, probabilities)
        if self.soft_nms:
            kept, values = soft_nms(
                candidates, values, label, iou=self.NMS_IOU, least=self.DECAYED, most=self.MAX_DETECTIONS
            )
            return candidates[kept], values, label[kept]
        kept = batched_nms(candidates, values, label, self.NMS_IOU)[: self.MAX_DETECTIONS]
        return candidates[kept], values[kept], label[kept]

    def candidates(self, boxes: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels of what is likely enough and not empty, of the arguments of `select`."""
        scores = probabilities[:, 1:]
        region, label = torch.where(scores > self.SCORE_THRESHOLD)
        values = scores[region, label]
        found = boxes[region, label if boxes.shape[1] > 1 else 0]
        real = ((found[:, 2:] - found[:, :2]) > 1e-2).all(1)
        return found[real], values[real], label[real]


def mean_probabilities(answers: list[Tensor]) -> Tensor:
    """The stages' logits `[R, 1 + classes]` to the mean of their probabilities."""
    return sum((logits.softmax(1) / len(answers) for logits in answers), torch.zeros((), device=answers[0].device))


def mean_logits(answers: list[Tensor]) -> Tensor:
    """The stages' logits `[R, 1 + classes]` to the probabilities of their mean, as in mmdetection."""
    return torch.stack(answers).mean(0).softmax(1)


def padded_size(image: Tensor, divisor: int) -> tuple[int, int]:
    """Height and width of an image `[3, H, W]`, rounded up to multiples of a divisor."""
    # In positive numbers: an exported division of negative ones would round up.
    height, width = ((side + divisor - 1) // divisor * divisor for side in image.shape[1:])
    return height, width


def padded(image: Tensor, divisor: int) -> Tensor:
    """An image with zeros at the right and bottom, up to its `padded_size`."""
    height, width = padded_size(image, divisor)
    return F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1]))


def share_of_regions(boxes: list[Tensor]) -> Tensor:
    """Weight of each region in a mean over images of their means over regions, `[R]`; `boxes` are of each image."""
    counts = torch.tensor([len(own) for own in boxes], device=boxes[0].device)
    return (1 / (len(boxes) * counts.float())).repeat_interleave(counts)


def create_detector(name: str, *, num_classes: int, encoder: dict[str, Any] | None = None, **parts: Any) -> RCNN:
    """Build a detector on a model of the family: Mask R-CNN or its relatives, with random heads.

    Args:
        name: one of `list_models()`, but for isotropic ones.
        num_classes: classes of objects, without the background.
        encoder: arguments of `models.encoder.create_encoder`, by name: `weights`, `drop_path_rate`, ...
        parts: arguments of `RCNN`, by name: `masks`, `cascade`, `fpn_dim`, ...

    Returns:
        A module that takes a list of normalised images `[3, H, W]` of any sizes, and gives `Detections` of each; with
        the `Objects` of each, losses by name.

    Raises:
        InputError: an unknown name, an isotropic model, or weights that do not fit.
    """
    return RCNN(create_encoder(name, **(encoder or {})), num_classes=num_classes, **parts)
