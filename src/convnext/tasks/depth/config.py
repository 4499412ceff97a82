"""Options of a depth run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from convnext.options import POSITIVE, RANGE, option
from convnext.tasks.map_config import MapConfig


@dataclass(frozen=True)
class DepthConfig(MapConfig):
    """A depth run."""

    TASK: ClassVar[str] = "depth"
    FIXED: ClassVar[tuple[str, ...]] = ("in_chans", "stem_patch", "stratify")

    depth_scale: float = option(
        1000.0,
        "value in a depth map that stands for 1 (a metre): 1000 where maps hold millimetres, 256 for KITTI's files",
        group="data",
        common=True,
        within=POSITIVE,
    )
    scale: tuple[float, float] = option(
        (1.0, 1.5),
        "smallest and largest random factor on a training image's size, by which its depths are divided",
        group="augmentation",
        within=RANGE,
    )
    loss: Literal["l1", "log_l1"] = option(
        "log_l1",
        "l1: error of the depths; log_l1: error of their logarithms, which weighs near things more",
        common=True,
    )
