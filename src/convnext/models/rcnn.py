"""Mask R-CNN and Cascade Mask R-CNN on a ConvNeXt (He et al. 2017; Cai and Vasconcelos 2018; ConvNeXt, section 3.3).

The pyramid's four maps, a LayerNorm on each, go through a feature pyramid network; a region proposal network says where
something may be; one stage (Mask R-CNN) or three (Cascade) say what it is, and each has a mask head. Regions, pooling
and losses of the proposals are torchvision's.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, batched_nms
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from convnext.data.annotated import Objects
from convnext.models import region_pool
from convnext.models.box_head import CODE_WEIGHTS, BoxHead, BoxStage, Norm
from convnext.models.encoder import create_encoder
from convnext.models.mask_head import MaskHead, mask_loss
from convnext.models.region_pool import LEVELS, RegionPool
from convnext.models.soft_nms import soft_nms
from convnext.nn.backbone import ConvNeXt
from convnext.nn.norm import LayerNorm

STRIDES = (*region_pool.STRIDES, 64)
CASCADE = (0.5, 0.6, 0.7)
STAGE_WEIGHTS = (1.0, 0.5, 0.25)


class Detections(NamedTuple):
    """n objects of an image, best first.

    `boxes` x0, y0, x1, y1 `[n, 4]` in its pixels, `scores` `[n]`, `labels` `[n]`, `masks` `[n, side, side]`: the
    probability, over the box, that a point belongs to the object; `[0, 1, 1]` from a detector without masks.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor


class ProposalHead(RPNHead):
    """torchvision's, with outputs in fp32: boxes in bf16 would lie pixels off."""

    def __init__(self, dim: int, anchors: int) -> None:
        super().__init__(dim, anchors)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()  # by width: its own, for 256 channels, are too small for a narrow head

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, codes = super().forward(x)
        return [t.float() for t in logits], [t.float() for t in codes]


class Anchors(AnchorGenerator):
    """torchvision's, in fp32 whatever the maps' type, for the same reason."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        return super().forward(image_list, [x[:, :1].float() for x in feature_maps])


class RCNN(nn.Module):
    """A detector.

    Args:
        backbone: gives the pyramid; its last norm and head are not used.
        classes: without the background.
        cascade: three stages that learn boxes by GIoU, instead of one.
        agnostic: one box for all classes instead of one for each.
        masks: whether it draws outlines.
        dim: channels of the pyramid network and the heads.
        linear: width of the box heads' linear layers.
        box_convs, mask_convs: convolutions in the heads.
        norm: of the box heads' convolutions ("batch" is synchronised between processes on CUDA).
        anchor_scale: an anchor's side in strides.
        regions: how many of an image a stage learns from.
        soft: soft-NMS instead of NMS.
    """

    SCORE, OVERLAP, MOST = 0.05, 0.5, 100
    DECAYED = 1e-3  # least score after soft-NMS

    def __init__(
        self,
        backbone: ConvNeXt,
        *,
        classes: int,
        cascade: bool = False,
        agnostic: bool = False,
        masks: bool = True,
        dim: int = 256,
        linear: int = 1024,
        box_convs: int = 0,
        mask_convs: int = 4,
        norm: Norm = "none",
        anchor_scale: float = 8.0,
        regions: int = 512,
        soft: bool = False,
    ) -> None:
        super().__init__()
        self.backbone, self.soft = backbone, soft
        self.depths = backbone.depths
        self.norms = nn.ModuleList(LayerNorm(width) for width in backbone.dims)
        self.fpn = FeaturePyramidNetwork(list(backbone.dims), dim, extra_blocks=LastLevelMaxPool())
        anchors = Anchors(tuple((anchor_scale * s,) for s in STRIDES), ((0.5, 1.0, 2.0),) * len(STRIDES))
        self.rpn = RegionProposalNetwork(
            anchors,
            ProposalHead(dim, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2000, "testing": 1000},
            post_nms_top_n={"training": 1000, "testing": 1000},
            nms_thresh=0.7,
        )
        self.box_pool, self.mask_pool = RegionPool(7), RegionPool(14)
        overlaps = CASCADE if cascade else CASCADE[:1]
        self.box_stages: Any = nn.ModuleList(
            BoxStage(
                BoxHead(dim, 7, classes, convs=box_convs, linear=linear, norm=norm, agnostic=agnostic),
                iou=overlap,
                code_weights=weights,
                giou=cascade,
                regions=regions,
            )
            for overlap, weights in zip(overlaps, CODE_WEIGHTS, strict=False)
        )
        self.mask_heads = nn.ModuleList(
            MaskHead(dim, classes, convs=mask_convs, norm="none") for _ in overlaps if masks
        )

    def forward(self, images: list[Tensor], objects: list[Objects] | None = None) -> Any:
        """Normalised images `[3, H, W]` of any sizes, with objects, to losses by name; without, to `Detections`."""
        batch, sizes = self.pad(images)
        maps = self.backbone(batch)
        maps = [norm(x).permute(0, 3, 1, 2) for norm, x in zip(self.norms, maps, strict=True)]
        features = self.fpn(OrderedDict(zip(LEVELS, maps, strict=True)))
        if objects is None:
            regions, _ = self.rpn(ImageList(batch, sizes), features)
            return self.detect(features, regions, sizes)
        targets = [{"boxes": truth.boxes} for truth in objects]
        regions, losses = self.rpn(ImageList(batch, sizes), features, targets)
        return {**losses, **self.stage_losses(features, regions, objects, sizes)}

    def pad(self, images: list[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
        """One batch, padded with zeros at the right and bottom to multiples of the last stride; the images' sizes."""
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        stride = STRIDES[-1]
        height, width = (-(-max(side) // stride) * stride for side in zip(*sizes, strict=True))
        return torch.stack([F.pad(i, (0, width - i.shape[2], 0, height - i.shape[1])) for i in images]), sizes

    def stage_losses(
        self, features: dict[str, Tensor], regions: list[Tensor], objects: list[Objects], sizes: list[tuple[int, int]]
    ) -> dict[str, Tensor]:
        """Of classes, boxes and masks, by stage."""
        losses: dict[str, Tensor] = {}
        for i, stage in enumerate(self.box_stages):
            chosen, labels, matches = stage.sample(regions, objects)
            logits, codes = stage.head(self.box_pool(features, chosen))
            targets = [
                truth.boxes[m] if len(truth.boxes) else b for truth, m, b in zip(objects, matches, chosen, strict=True)
            ]
            class_loss, box_loss = stage.losses(logits, codes, torch.cat(chosen), torch.cat(labels), torch.cat(targets))
            losses |= {f"class_{i}": STAGE_WEIGHTS[i] * class_loss, f"box_{i}": STAGE_WEIGHTS[i] * box_loss}
            if self.mask_heads:
                positive = [torch.where(label > 0)[0] for label in labels]
                boxes, own_labels, own = (
                    [values[p] for values, p in zip(parts, positive, strict=True)]
                    for parts in (chosen, labels, matches)
                )
                masks = self.mask_heads[i](self.mask_pool(features, boxes))
                shapes = [truth.masks for truth in objects]
                losses[f"mask_{i}"] = STAGE_WEIGHTS[i] * mask_loss(masks, boxes, torch.cat(own_labels), own, shapes)
            if i + 1 < len(self.box_stages):
                counts, label = [len(boxes) for boxes in chosen], torch.cat(labels)
                best = torch.where(label > 0, label - 1, logits[:, 1:].argmax(1))
                parts = (codes.detach().split(counts), best.split(counts), chosen, sizes)
                regions = [stage.refine(*part) for part in zip(*parts, strict=True)]
        return losses

    def detect(
        self, features: dict[str, Tensor], regions: list[Tensor], sizes: list[tuple[int, int]]
    ) -> list[Detections]:
        """What is in each image, from its proposed regions."""
        counts = [len(boxes) for boxes in regions]
        probabilities = torch.zeros((), device=regions[0].device)
        for i, stage in enumerate(self.box_stages):
            logits, codes = stage.head(self.box_pool(features, regions))
            probabilities = probabilities + logits.softmax(1) / len(self.box_stages)
            if i + 1 < len(self.box_stages):
                parts = (codes.split(counts), logits[:, 1:].argmax(1).split(counts), regions, sizes)
                regions = [stage.refine(*part) for part in zip(*parts, strict=True)]
        boxes = [stage.decode(*part) for part in zip(codes.split(counts), regions, sizes, strict=True)]
        found = [self.select(*part) for part in zip(boxes, probabilities.split(counts), strict=True)]
        if not self.mask_heads:
            return [Detections(*each, each[0].new_zeros(0, 1, 1)) for each in found]
        pooled = self.mask_pool(features, [each[0] for each in found])
        labels = torch.cat([each[2] for each in found])
        every = torch.arange(len(labels), device=labels.device)
        drawn = torch.stack([head(pooled)[every, labels].sigmoid() for head in self.mask_heads]).mean(0)
        return [
            Detections(*each, masks)
            for each, masks in zip(found, drawn.split([len(each[0]) for each in found]), strict=True)
        ]

    def select(self, boxes: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes `[R, boxes, 4]` and probabilities `[R, 1 + classes]` to boxes, scores and labels of what is kept."""
        scores = probabilities[:, 1:]
        region, label = torch.where(scores > self.SCORE)
        values = scores[region, label]
        candidates = boxes[region, label if boxes.shape[1] > 1 else 0]
        real = ((candidates[:, 2:] - candidates[:, :2]) > 1e-2).all(1)
        candidates, values, label = candidates[real], values[real], label[real]
        if self.soft:
            kept, values = soft_nms(candidates, values, label, iou=self.OVERLAP, least=self.DECAYED, most=self.MOST)
            return candidates[kept], values, label[kept]
        kept = batched_nms(candidates, values, label, self.OVERLAP)[: self.MOST]
        return candidates[kept], values[kept], label[kept]


def create_detector(name: str, *, classes: int, encoder: dict[str, Any] | None = None, **parts: Any) -> RCNN:
    """A detector on a model of the family; `encoder` are arguments of `create_encoder`, `parts` of `RCNN`."""
    return RCNN(create_encoder(name, **(encoder or {})), classes=classes, **parts)
