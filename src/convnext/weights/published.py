"""The published weights: what there is.

Sources: the official repositories' lists; of files on the Hub by timm, timm's configurations and the tables of its
model cards; torchvision's weights; the papers for what none of these says. Top-1 is ImageNet-1K accuracy in percent.

Official names are those of the files without `_ema`, and say `22k_1k` wherever a 22K model was fine-tuned on
ImageNet-1K. The official V2 files of that kind are called `22k` alone, though their heads have 1000 classes. timm's
copies have timm's names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from convnext.variants import VARIANTS

BASE_URL = "https://dl.fbaipublicfiles.com/convnext/"
DINOV3_URL = "https://dl.fbaipublicfiles.com/dinov3/"
"""Address of DINOv3's files, which are given only to those who have accepted the licence."""
_TORCHVISION_URL = "https://download.pytorch.org/models/"

CENTRE = 0.9999
"""A share for `crop` that takes the centre square as large as the image's short side; 1 would warp the whole image."""

CLIP_COLOURS = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
_HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.\w+$")

WeightsTask = Literal["classify", "embed", "pretrain", "detect", "segment"]


@dataclass(frozen=True)
class PublishedWeights:
    """One published file.

    Args:
        name: what it is called here.
        url: its address; or on the Hugging Face Hub `hf:ORG/NAME`, or `hf:ORG/NAME/FILE`.
        variant: the network, a name of `convnext models`.
        task: what it is for; "embed" has neither classes nor a decoder, "pretrain" is an encoder to fine-tune.
        image_size: side of the images it was trained on, in pixels.
        num_classes: outputs of its head; 0 without one.
        licence: of the weights, a name of `licences.RESTRICTIONS`.
        source: who trained it.
        figures: published figures by name.
        preprocessing: what differs from the papers' rule: "crop", "mean", "std", "interpolation"; none: nothing.
        width: numbers of its embedding, where that is its answer; else 0.
    """

    name: str
    url: str
    variant: str
    task: WeightsTask
    image_size: int
    num_classes: int
    licence: str
    source: str
    figures: Mapping[str, float] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    width: int = 0

    @property
    def top1(self) -> float | None:
        """ImageNet-1K accuracy in percent at `image_size`, where it was published."""
        return self.figures.get("top-1")

    @property
    def sha256(self) -> str:
        """The first digits of the file's SHA-256, where its name says them; else empty."""
        found = _DIGEST.search(self.url)
        return found[1] if found else ""


def _top1(value: float | None) -> dict[str, float]:
    return {} if value is None else {"top-1": value}


# Meta's V2 and V1.


def _v2(size: str, trained: str, image_size: int, num_classes: int, top1: float | None) -> PublishedWeights:
    variant = f"convnextv2_{size}"
    folder, file = {
        "1k_fcmae": ("pt_only", f"1k_{image_size}_fcmae"),
        "1k": ("im1k", f"1k_{image_size}_ema"),
        "22k_1k": ("im22k", f"22k_{image_size}_ema"),
    }[trained]
    suffix = f"{image_size}_fcmae" if trained == "1k_fcmae" else f"{image_size}"
    name = f"{variant}_{trained.removesuffix('_fcmae')}_{suffix}"
    url = f"{BASE_URL}convnextv2/{folder}/{variant}_{file}.pt"
    task: WeightsTask = "classify" if num_classes else "pretrain"
    return PublishedWeights(name, url, variant, task, image_size, num_classes, "CC-BY-NC-4.0", "Meta", _top1(top1))


def _v1(size: str, trained: str, image_size: int, top1: float | None, ema: str = "") -> PublishedWeights:
    variant = f"convnext_{size}"
    name = f"{variant}_{trained}_{image_size}"
    url, classes = f"{BASE_URL}{name}{ema}.pth", 21841 if trained == "22k" else 1000
    return PublishedWeights(name, url, variant, "classify", image_size, classes, "MIT", "Meta", _top1(top1))


_V2_22K = {
    "nano": {224: 82.1, 384: 83.4},
    "tiny": {224: 83.9, 384: 85.1},
    "base": {224: 86.8, 384: 87.7},
    "large": {224: 87.3, 384: 88.2},
    "huge": {384: 88.7, 512: 88.9},
}
_V1_22K = {
    "tiny": {224: 82.9, 384: 84.1},
    "small": {224: 84.6, 384: 85.8},
    "base": {224: 85.8, 384: 86.8},
    "large": {224: 86.6, 384: 87.5},
    "xlarge": {224: 87.0, 384: 87.8},
}
_V1_384 = {"base": 85.1, "large": 85.5}
_V2_SIZES = ["atto", "femto", "pico", "nano", "tiny", "base", "large", "huge"]
_ISOTROPIC = {"small": 78.7, "base": 82.0, "large": 82.6}


def _isotropic(size: str, top1: float) -> PublishedWeights:
    variant, url = f"convnext_isotropic_{size}", f"{BASE_URL}convnext_iso_{size}_1k_224_ema.pth"
    return PublishedWeights(f"{variant}_1k_224", url, variant, "classify", 224, 1000, "MIT", "Meta", _top1(top1))


# torchvision's. Its shares of the short side are 224 of 236, 230, 232 and 232 pixels.

_TORCHVISION = [
    # size, digits of the SHA-256, top-1, crop
    ("tiny", "983f1562", 82.520, 0.949),
    ("small", "0c510722", 83.616, 0.9739),
    ("base", "6075fbad", 84.062, 0.9655),
    ("large", "ea097f82", 84.414, 0.9655),
]


def _torchvision(size: str, digits: str, top1: float, crop: float) -> PublishedWeights:
    variant, licence, source = f"convnext_{size}", "BSD-3-Clause", "torchvision"
    name, url = f"{variant}_torchvision", f"{_TORCHVISION_URL}{variant}-{digits}.pth"
    rule = {"crop": crop, "interpolation": "bilinear"}
    return PublishedWeights(name, url, variant, "classify", 224, 1000, licence, source, _top1(top1), rule)


# Meta's features without labels: DINOv3 and EUPE, each with timm's copy.

_DINOV3 = [
    # size, width, digits of the SHA-256, accuracy on ImageNet-ReaL at 256 and 512 pixels
    ("tiny", 768, "21b726bb", 86.6, 87.7),
    ("small", 768, "296db49d", 87.9, 88.7),
    ("base", 1024, "801f2ba9", 88.5, 89.2),
    ("large", 1536, "61fa432d", 88.9, 89.4),
]


def _dinov3(size: str, width: int, digits: str, at_256: float, at_512: float) -> list[PublishedWeights]:
    variant, model, tag = f"convnext_{size}", f"dinov3_convnext_{size}", "pretrain_lvd1689m"
    figures = {"IN-ReaL at 256": at_256, "IN-ReaL at 512": at_512}
    name, hub = f"{variant}_dinov3_lvd1689m", f"hf:facebook/dinov3-convnext-{size}-pretrain-lvd1689m"
    places: list[tuple[str, str, int, dict[str, Any]]] = [
        (name, f"{DINOV3_URL}{model}/{model}_{tag}-{digits}.pth", 256, {"crop": 1.0}),
        (f"{name}_hf", hub, 224, {"crop": 1.0, "interpolation": "bilinear"}),
        (f"{variant}.dinov3_lvd1689m", f"hf:timm/{variant}.dinov3_lvd1689m", 224, {"crop": CENTRE}),
    ]
    return [
        PublishedWeights(name, url, variant, "embed", side, 0, "DINOv3", "Meta", figures, rule, width)
        for name, url, side, rule in places
    ]


def _eupe(size: str, width: int) -> list[PublishedWeights]:
    variant, model, licence = f"convnext_{size}", f"EUPE-ConvNeXt-{size[0].upper()}", "FAIR-Noncommercial-Research"
    places = [
        (f"{variant}_eupe", f"hf:facebook/{model}/{model}.pt", {"crop": 1.0}),
        (f"{variant}.eupe_lvd1689m", f"hf:timm/{variant}.eupe_lvd1689m", {"crop": CENTRE}),
    ]
    return [
        PublishedWeights(name, url, variant, "embed", 256, 0, licence, "Meta", {}, rule, width)
        for name, url, rule in places
    ]


# timm's own, and LAION's CLIP towers by timm: all Apache-2.0.


def _timm(
    name: str,
    image_size: int,
    num_classes: int,
    figures: Mapping[str, float],
    *,
    crop: float,
    width: int = 0,
    source: str = "timm",
    statistics: Mapping[str, tuple[float, ...]] | None = None,
) -> PublishedWeights:
    task: WeightsTask = "embed" if width else "classify"
    about = (name.split(".")[0], task, image_size, num_classes, "Apache-2.0", source, figures)
    return PublishedWeights(name, f"hf:timm/{name}", *about, {"crop": crop, **(statistics or {})}, width)


_SMALL = [
    # name, crop, top-1 at 224 and 288 pixels
    ("convnext_atto.d2_in1k", 0.875, 75.7, 77.0),
    ("convnext_atto_ols.a2_in1k", 0.875, 75.9, 77.2),
    ("convnext_femto.d1_in1k", 0.875, 77.5, 78.7),
    ("convnext_femto_ols.d1_in1k", 0.875, 77.9, 78.9),
    ("convnext_pico.d1_in1k", 0.875, 79.5, 80.4),
    ("convnext_pico_ols.d1_in1k", 0.95, 79.5, 80.5),
    ("convnext_nano.d1h_in1k", 0.95, 80.8, 81.5),
    ("convnext_nano_ols.d1h_in1k", 0.95, 80.9, 81.6),
    ("convnext_nano.in12k_ft_in1k", 0.95, 82.3, 82.9),
    ("convnext_tiny_hnf.a2h_in1k", 0.95, 82.2, 82.6),
]
_ZEPTO = [
    # name, crop, top-1
    ("convnext_zepto_rms.ra4_e3600_r224_in1k", 0.875, 72.8),
    ("convnext_zepto_rms_ols.ra4_e3600_r224_in1k", 0.9, 73.2),
]
_IN12K = [
    # name, pixels, classes, crop, top-1
    ("convnext_nano.in12k", 224, 11821, 0.95, None),
    ("convnext_nano.r384_in12k", 384, 11821, CENTRE, None),
    ("convnext_nano.r384_ad_in12k", 384, 11821, CENTRE, None),
    ("convnext_nano.r384_in12k_ft_in1k", 384, 1000, CENTRE, None),
    ("convnext_tiny.in12k", 224, 11821, 0.95, None),
    ("convnext_tiny.in12k_ft_in1k", 224, 1000, 0.95, 84.2),
    ("convnext_tiny.in12k_ft_in1k_384", 384, 1000, 1.0, 85.1),
    ("convnext_small.in12k", 224, 11821, 0.95, None),
    ("convnext_small.in12k_ft_in1k", 224, 1000, 0.95, 85.2),
    ("convnext_small.in12k_ft_in1k_384", 384, 1000, 1.0, 86.2),
]
_CLIP_TUNED = [
    # name, pixels, classes, crop, top-1
    ("convnext_base.clip_laion2b_augreg_ft_in12k", 256, 11821, CENTRE, None),
    ("convnext_base.clip_laion2b_augreg_ft_in12k_in1k", 256, 1000, CENTRE, 86.3),
    ("convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384", 384, 1000, 1.0, 87.1),
    ("convnext_base.clip_laion2b_augreg_ft_in1k", 256, 1000, CENTRE, 86.2),
    ("convnext_base.clip_laiona_augreg_ft_in1k_384", 384, 1000, CENTRE, 86.5),
    ("convnext_large_mlp.clip_laion2b_augreg_ft_in12k_384", 384, 11821, 1.0, None),
    ("convnext_large_mlp.clip_laion2b_augreg_ft_in1k", 256, 1000, CENTRE, 87.3),
    ("convnext_large_mlp.clip_laion2b_augreg_ft_in1k_384", 384, 1000, 1.0, 87.8),
    ("convnext_large_mlp.clip_laion2b_soup_ft_in12k_320", 320, 11821, CENTRE, None),
    ("convnext_large_mlp.clip_laion2b_soup_ft_in12k_384", 384, 11821, 1.0, None),
    ("convnext_large_mlp.clip_laion2b_soup_ft_in12k_in1k_320", 320, 1000, CENTRE, 88.0),
    ("convnext_large_mlp.clip_laion2b_soup_ft_in12k_in1k_384", 384, 1000, 1.0, 88.3),
    ("convnext_xxlarge.clip_laion2b_soup_ft_in12k", 256, 11821, CENTRE, None),
    ("convnext_xxlarge.clip_laion2b_soup_ft_in1k", 256, 1000, CENTRE, 88.6),
]
_CLIP_TOWERS = [
    # name, pixels, width of the projection, zero-shot top-1
    ("convnext_base.clip_laion2b", 256, 640, None),
    ("convnext_base.clip_laion2b_augreg", 256, 640, None),
    ("convnext_base.clip_laiona", 256, 640, None),
    ("convnext_base.clip_laiona_320", 320, 640, None),
    ("convnext_base.clip_laiona_augreg_320", 320, 640, None),
    ("convnext_large_mlp.clip_laion2b_augreg", 256, 768, None),
    ("convnext_large_mlp.clip_laion2b_ft_320", 320, 768, None),
    ("convnext_large_mlp.clip_laion2b_ft_soup_320", 320, 768, 76.85),
    ("convnext_xxlarge.clip_laion2b_rewind", 256, 1024, None),
    ("convnext_xxlarge.clip_laion2b_soup", 256, 1024, 79.47),
]

PUBLISHED = [
    *(_v2(size, "1k_fcmae", 224, 0, None) for size in _V2_SIZES),
    *(_v2(size, "1k", 224, 1000, VARIANTS[f"convnextv2_{size}"].top1) for size in _V2_SIZES),
    *(_v2(size, "22k_1k", side, 1000, top1) for size, row in _V2_22K.items() for side, top1 in row.items()),
    *(_v1(size, "1k", 224, VARIANTS[f"convnext_{size}"].top1, "_ema") for size in ("tiny", "small", "base", "large")),
    *(_v1(size, "1k", 384, top1) for size, top1 in _V1_384.items()),
    *(_v1(size, "22k", 224, None) for size in _V1_22K),
    *(
        _v1(size, "22k_1k", side, top1, "_ema" if size == "xlarge" else "")
        for size, row in _V1_22K.items()
        for side, top1 in row.items()
    ),
    *(_isotropic(size, top1) for size, top1 in _ISOTROPIC.items()),
    *(_torchvision(*row) for row in _TORCHVISION),
    *(entry for row in _DINOV3 for entry in _dinov3(*row)),
    *(entry for row in (("tiny", 768), ("small", 768), ("base", 1024)) for entry in _eupe(*row)),
    *(_timm(name, 224, 1000, {"top-1": low, "top-1 at 288": high}, crop=crop) for name, crop, low, high in _SMALL),
    *(_timm(name, 224, 1000, _top1(top1), crop=crop, statistics=_HALF) for name, crop, top1 in _ZEPTO),
    *(_timm(name, side, classes, _top1(top1), crop=crop) for name, side, classes, crop, top1 in _IN12K),
    *(
        _timm(name, side, classes, _top1(top1), crop=crop, statistics=CLIP_COLOURS)
        for name, side, classes, crop, top1 in _CLIP_TUNED
    ),
    *(
        _timm(
            name,
            side,
            0,
            {} if zero is None else {"zero-shot top-1": zero},
            crop=CENTRE,
            width=width,
            source="LAION",
            statistics=CLIP_COLOURS,
        )
        for name, side, width, zero in _CLIP_TOWERS
    ),
]
"""Every classifier, embedding and encoder."""
