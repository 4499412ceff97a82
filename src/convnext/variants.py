"""The family: every size, once.

V1: "A ConvNet for the 2020s" (arXiv 2201.03545), table 9; its isotropic networks, table 2. V2: "ConvNeXt V2"
(arXiv 2301.00808), table 15 and section 5. V1 smaller than Tiny, and those with other stems, norms and heads, are
timm's, xxlarge OpenCLIP's. Parameters are for 1000 classes and MACs for one 224x224 image; figures the papers print
rounded are rounded here too. Top-1 is ImageNet-1K accuracy in percent at 224, None where nobody published weights for
it: V1 trained from scratch (xlarge and large_mlp: from more images, as there is no other), V2 after FCMAE pre-training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from convnext.errors import InputError, nearest


@dataclass(frozen=True)
class Variant:
    """One member of the family; `depths` and `dims` are blocks and channels per stage.

    Args:
        stem: "patch" (the papers' 4×4 patches), "overlap", "tiered" or "gelu" (timm's two 3×3 convolutions: of equal
            width, the first of half the width, with a GELU between), or "isotropic" (16×16 patches without a norm).
        norm: "layer", "rms" or "std" (`nn.norm`).
        eps: what the norm adds to the variance.
        norm_first: the last norm stands before pooling.
        head_hidden: width of a hidden layer of the head; 0 for none.
        layer_scale: whether V1's blocks have LayerScale.
    """

    name: str
    version: int
    depths: tuple[int, ...]
    dims: tuple[int, ...]
    parameters: int
    macs: int
    top1: float | None
    stem: Literal["patch", "overlap", "tiered", "gelu", "isotropic"] = "patch"
    norm: Literal["layer", "rms", "std"] = "layer"
    eps: float = 1e-6
    norm_first: bool = False
    head_hidden: int = 0
    layer_scale: bool = True

    @property
    def backbone(self) -> tuple[Any, ...]:
        """Key of the network up to its last map, equal for members that differ in the head alone."""
        return self.version, self.depths, self.dims, self.stem, self.norm, self.eps

    @property
    def is_hierarchical(self) -> bool:
        """Whether it has the four maps that a pyramid is built on."""
        return len(self.dims) == 4


M = 10**6

_TABLE = [
    # name               version  depths         dims                      parameters   MACs            top-1
    Variant("convnextv2_atto", 2, (2, 2, 6, 2), (40, 80, 160, 320), 3_708_400, 551_718_080, 76.7),
    Variant("convnextv2_femto", 2, (2, 2, 6, 2), (48, 96, 192, 384), 5_233_240, 784_892_544, 78.5),
    Variant("convnextv2_pico", 2, (2, 2, 6, 2), (64, 128, 256, 512), 9_066_280, 1_374_072_320, 80.3),
    Variant("convnextv2_nano", 2, (2, 2, 8, 2), (80, 160, 320, 640), 15_623_800, 2_454_926_720, 81.9),
    Variant("convnextv2_tiny", 2, (3, 3, 9, 3), (96, 192, 384, 768), 28_635_496, 4_469_631_744, 83.0),
    Variant("convnextv2_base", 2, (3, 3, 27, 3), (128, 256, 512, 1024), 88_717_800, 15_382_561_792, 84.9),
    Variant("convnextv2_large", 2, (3, 3, 27, 3), (192, 384, 768, 1536), 198 * M, 34_400 * M, 85.8),
    Variant("convnextv2_huge", 2, (3, 3, 27, 3), (352, 704, 1408, 2816), 660 * M, 115_000 * M, 86.3),
    Variant("convnextv2_small", 2, (3, 3, 27, 3), (96, 192, 384, 768), 50_318_440, 8_704_586_496, None),
    Variant("convnext_tiny", 1, (3, 3, 9, 3), (96, 192, 384, 768), 28 * M, 4_500 * M, 82.1),
    Variant("convnext_small", 1, (3, 3, 27, 3), (96, 192, 384, 768), 50 * M, 8_700 * M, 83.1),
    Variant("convnext_base", 1, (3, 3, 27, 3), (128, 256, 512, 1024), 89 * M, 15_400 * M, 83.8),
    Variant("convnext_large", 1, (3, 3, 27, 3), (192, 384, 768, 1536), 198 * M, 34_400 * M, 84.3),
    Variant("convnext_xlarge", 1, (3, 3, 27, 3), (256, 512, 1024, 2048), 350 * M, 60_900 * M, 87.0),
    # timm's
    Variant("convnext_zepto_rms", 1, (2, 2, 4, 2), (32, 64, 128, 256), 2_155_656, 301_883_904, 72.8, norm="std"),
    Variant("convnext_zepto_rms_ols", 1, (2, 2, 4, 2), (32, 64, 128, 256), 2_164_232, 336_806_400, 73.2, "gelu", "std"),
    Variant("convnext_atto", 1, (2, 2, 6, 2), (40, 80, 160, 320), 3_695_520, 551_718_080, 75.7),
    Variant("convnext_atto_ols", 1, (2, 2, 6, 2), (40, 80, 160, 320), 3_702_912, 580_920_512, 75.9, "tiered"),
    Variant("convnext_atto_rms", 1, (2, 2, 6, 2), (40, 80, 160, 320), 3_693_040, 547_012_480, None, norm="rms"),
    Variant("convnext_femto", 1, (2, 2, 6, 2), (48, 96, 192, 384), 5_217_784, 784_892_544, 77.5),
    Variant("convnext_femto_ols", 1, (2, 2, 6, 2), (48, 96, 192, 384), 5_226_520, 818_309_760, 77.9, "tiered"),
    Variant("convnext_pico", 1, (2, 2, 6, 2), (64, 128, 256, 512), 9_045_672, 1_374_072_320, 79.5),
    Variant("convnext_pico_ols", 1, (2, 2, 6, 2), (64, 128, 256, 512), 9_061_928, 1_433_079_296, 79.5, "tiered"),
    Variant("convnext_nano", 1, (2, 2, 8, 2), (80, 160, 320, 640), 15_593_560, 2_454_926_720, 80.8),
    Variant("convnext_nano_ols", 1, (2, 2, 8, 2), (80, 160, 320, 640), 15_649_560, 2_650_613_120, 80.9, "overlap"),
    Variant("convnext_tiny_hnf", 1, (3, 3, 9, 3), (96, 192, 384, 768), 28 * M, 4_500 * M, 82.2, norm_first=True),
    # of CLIP's towers
    Variant("convnext_large_mlp", 1, (3, 3, 27, 3), (192, 384, 768, 1536), 200 * M, 34_400 * M, None, head_hidden=1536),
    Variant("convnext_xxlarge", 1, (3, 4, 30, 3), (384, 768, 1536, 3072), 846 * M, 151_700 * M, None, eps=1e-5),
    # isotropic
    Variant("convnext_isotropic_small", 1, (18,), (384,), 22 * M, 4_300 * M, 78.7, "isotropic", layer_scale=False),
    Variant("convnext_isotropic_base", 1, (18,), (768,), 87 * M, 16_900 * M, 82.0, "isotropic", layer_scale=False),
    Variant("convnext_isotropic_large", 1, (36,), (1024,), 306 * M, 59_700 * M, 82.6, "isotropic"),
]

VARIANTS: dict[str, Variant] = {variant.name: variant for variant in _TABLE}


def list_models() -> list[str]:
    """Names of every model of the family."""
    return list(VARIANTS)


def find_variant(name: str) -> Variant:
    """The variant called `name`; `InputError` with the nearest names if there is none."""
    try:
        return VARIANTS[name]
    except KeyError:
        raise InputError(f"unknown model '{name}'; {nearest(name, list_models())}") from None


def values_of(table: dict[str, dict[str, Any]], model: str, recipe: str) -> dict[str, Any]:
    """The model's row. `InputError` where it has none."""
    if model not in table:
        raise InputError(f"recipe {recipe} is for {', '.join(table)}, not {model}; --recipe names another")
    return table[model]
