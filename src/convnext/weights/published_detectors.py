"""Published detectors (COCO) and segmenters (ADE20K): what there is, and what its authors measured.

Figures are those of the tables beside the files, in percent: average precision of boxes and masks on COCO's val2017,
mean intersection over union on ADE20K's validation images, at one scale and at several with mirroring.
"""

from __future__ import annotations

from convnext.weights.published import BASE_URL, PublishedWeights

_MMDETECTION_V2 = "https://download.openmmlab.com/mmdetection/v3.0/convnextv2/"


def _detector(file: str, size: str, box: float, mask: float) -> PublishedWeights:
    return PublishedWeights(
        name=file,
        url=f"{BASE_URL}coco/{file}.pth",
        variant=f"convnext_{size}",
        task="detect",
        image_size=800,
        num_classes=80,
        licence="MIT",
        source="facebookresearch/ConvNeXt",
        figures={"box_AP": box, "mask_AP": mask},
    )


def _segmenter(size: str, trained: str, side: int, one_scale: float, many_scales: float) -> PublishedWeights:
    file = f"upernet_convnext_{size}_{trained}_{side}x{side}"
    return PublishedWeights(
        name=file,
        url=f"{BASE_URL}ade20k/{file}.pth",
        variant=f"convnext_{size}",
        task="segment",
        image_size=side,
        num_classes=150,
        licence="MIT",
        source="facebookresearch/ConvNeXt",
        figures={"mIoU": one_scale, "mIoU_multi_scale": many_scales},
    )


PUBLISHED_DETECTORS: list[PublishedWeights] = [
    PublishedWeights(
        name="mask_rcnn_convnextv2_base_1k_3x",
        url=f"{_MMDETECTION_V2}mask-rcnn_convnext-v2-b_fpn_lsj-3x-fcmae_coco/"
        "mask-rcnn_convnext-v2-b_fpn_lsj-3x-fcmae_coco_20230113_110947-757ee2dd.pth",
        variant="convnextv2_base",
        task="detect",
        image_size=800,
        num_classes=80,
        # mmdetection's code is Apache-2.0; the backbone began as Meta's FCMAE weights, whose licence binds what is
        # made of them.
        licence="CC-BY-NC-4.0",
        source="open-mmlab/mmdetection",
        figures={"box_AP": 52.9, "mask_AP": 46.4},
    ),
    _detector("mask_rcnn_convnext_tiny_1k_3x", "tiny", 46.2, 41.7),
    _detector("cascade_mask_rcnn_convnext_tiny_1k_3x", "tiny", 50.4, 43.7),
    _detector("cascade_mask_rcnn_convnext_small_1k_3x", "small", 51.9, 45.0),
    _detector("cascade_mask_rcnn_convnext_base_1k_3x", "base", 52.7, 45.6),
    _detector("cascade_mask_rcnn_convnext_base_22k_3x", "base", 54.0, 46.9),
    _detector("cascade_mask_rcnn_convnext_large_22k_3x", "large", 54.8, 47.6),
    _detector("cascade_mask_rcnn_convnext_xlarge_22k_3x", "xlarge", 55.2, 47.7),
    _segmenter("tiny", "1k", 512, 46.0, 46.7),
    _segmenter("small", "1k", 512, 48.7, 49.6),
    _segmenter("base", "1k", 512, 49.1, 49.9),
    _segmenter("base", "22k", 640, 52.6, 53.1),
    _segmenter("large", "22k", 640, 53.2, 53.7),
    _segmenter("xlarge", "22k", 640, 53.6, 54.0),
]
