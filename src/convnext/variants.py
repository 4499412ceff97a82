"""The family: every size, once.

V1: "A ConvNet for the 2020s" (arXiv 2201.03545), table 9. V2: "ConvNeXt V2" (arXiv 2301.00808),
table 15 and section 5. Parameters are for 1000 classes and MACs for one 224x224 image; figures
the papers print rounded are rounded here too. Top-1 is ImageNet-1K accuracy in percent at 224:
V1 trained from scratch (xlarge: from 22K, as there is no other), V2 after FCMAE pre-training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convnext.errors import InputError, nearest


@dataclass(frozen=True)
class Variant:
    """One member of the family; `depths` and `dims` are blocks and channels per stage."""

    name: str
    version: int
    depths: tuple[int, int, int, int]
    dims: tuple[int, int, int, int]
    parameters: int
    macs: int
    top1: float


_TABLE = [
    # name               version  depths         dims                      parameters   MACs            top-1
    Variant("convnextv2_atto", 2, (2, 2, 6, 2), (40, 80, 160, 320), 3_708_400, 551_718_080, 76.7),
    Variant("convnextv2_femto", 2, (2, 2, 6, 2), (48, 96, 192, 384), 5_233_240, 784_892_544, 78.5),
    Variant("convnextv2_pico", 2, (2, 2, 6, 2), (64, 128, 256, 512), 9_066_280, 1_374_072_320, 80.3),
    Variant("convnextv2_nano", 2, (2, 2, 8, 2), (80, 160, 320, 640), 15_623_800, 2_454_926_720, 81.9),
    Variant("convnextv2_tiny", 2, (3, 3, 9, 3), (96, 192, 384, 768), 28_635_496, 4_469_631_744, 83.0),
    Variant("convnextv2_base", 2, (3, 3, 27, 3), (128, 256, 512, 1024), 88_717_800, 15_382_561_792, 84.9),
    Variant("convnextv2_large", 2, (3, 3, 27, 3), (192, 384, 768, 1536), 198_000_000, 34_400_000_000, 85.8),
    Variant("convnextv2_huge", 2, (3, 3, 27, 3), (352, 704, 1408, 2816), 660_000_000, 115_000_000_000, 86.3),
    Variant("convnext_tiny", 1, (3, 3, 9, 3), (96, 192, 384, 768), 28_000_000, 4_500_000_000, 82.1),
    Variant("convnext_small", 1, (3, 3, 27, 3), (96, 192, 384, 768), 50_000_000, 8_700_000_000, 83.1),
    Variant("convnext_base", 1, (3, 3, 27, 3), (128, 256, 512, 1024), 89_000_000, 15_400_000_000, 83.8),
    Variant("convnext_large", 1, (3, 3, 27, 3), (192, 384, 768, 1536), 198_000_000, 34_400_000_000, 84.3),
    Variant("convnext_xlarge", 1, (3, 3, 27, 3), (256, 512, 1024, 2048), 350_000_000, 60_900_000_000, 87.0),
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
        raise InputError(f"recipe {recipe} is for {', '.join(table)}, not {model}")
    return table[model]
