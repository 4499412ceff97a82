"""Images with depth maps, 16-bit PNG of depths times a scale, with 0 where the depth is not known.

DEPTH_FOLDER/images/train/a/1.jpg   DEPTH_FOLDER/depth/train/a/1.png
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from convnext.data.images.decode import WHITE, decode_image, read_bytes, upright_size_of_file
from convnext.data.problems import UNUSABLE, Problems
from convnext.data.sources.maps import MappedImage, MappedSet, check_sizes, find_map_parts, find_pairs
from convnext.errors import ImageError, InputError

DEPTH_FOLDER, DEPTH_KIND = "depth", "depth map"


@dataclass(frozen=True)
class DepthSet(MappedSet):
    """Images with depth maps, of one part; `scale` is the number in a map that is one unit."""

    scale: float
    images: tuple[MappedImage, ...]
    classes: tuple[str, ...] = ()

    def open(self, index: int, white: int = WHITE) -> tuple[Image.Image, np.ndarray]:
        """Image `index` and its depths, float32 `[H, W]`, 0 where they are not known.

        `ImageError` if one of the two cannot be read, or they differ in size.
        """
        image = self.images[index]
        picture = decode_image(read_bytes(image.file), "RGB", name=str(image.file), white=white)
        depths = read_depths(image.map, self.scale)
        check_sizes(image, picture.size, depths, kind=DEPTH_KIND)
        return picture, depths


class Depths(NamedTuple):
    """Spread of the known depths of a set, and of their logarithms."""

    pixels: int
    least: float
    most: float
    mean: float
    std: float
    log_mean: float
    log_std: float


def read_depths(path: Path, scale: float) -> np.ndarray:
    """The depths in a map, float32 `[H, W]`, 0 where they are not known. `ImageError` for one that cannot be read, has
    colours, or has negative numbers."""
    image = decode_image(read_bytes(path), None, name=str(path))
    if image.mode not in ("L", "I", "I;16", "I;16B", "F"):
        raise ImageError(f"{path}: {image.mode} pixels, not depths; save it as a 16-bit grey PNG")
    depths = np.asarray(image).astype(np.float32) / np.float32(scale)
    if not (np.isfinite(depths) & (depths >= 0)).all():
        raise ImageError(f"{path}: depths that are negative or not finite; 0 says that one is not known")
    return depths


def read_depth_maps(data: str, scale: float, only: Collection[str]) -> tuple[dict[str, DepthSet], Problems]:
    """The parts of a folder that are called `only`; images without a map are left out. `InputError` if none is left."""
    faults, parts = Problems(), {}
    for part, name in find_map_parts(data, DEPTH_FOLDER).items():
        if part in only:
            images = find_pairs(Path(data), name, DEPTH_FOLDER, faults, kind=DEPTH_KIND)
            if not images:
                raise InputError(f"{Path(data) / 'images' / name}: no image with a {DEPTH_KIND}{_first(faults)}")
            parts[part] = DepthSet(scale, images)
    return parts, faults


def examine_depths(data: DepthSet, faults: Problems) -> tuple[DepthSet, Depths]:
    """Reads every depth map of a part, and the size of every image.

    Images that cannot be used are left out and added to `faults`. `InputError` where nothing is left.
    """

    def one(image: MappedImage) -> np.ndarray | str:
        try:
            depths = read_depths(image.map, data.scale)
            check_sizes(image, upright_size_of_file(image.file), depths, kind=DEPTH_KIND)
        except ImageError as error:
            return str(error)
        known = depths[depths > 0].astype(np.float64)
        if not len(known):
            return f"{image.map}: no depth in it is known"
        logs = np.log(known)
        return np.array(
            [len(known), known.min(), known.max(), known.sum(), (known**2).sum(), logs.sum(), (logs**2).sum()]
        )

    kept, found = [], []
    with ThreadPoolExecutor() as threads:
        for image, result in zip(data.images, threads.map(one, data.images), strict=True):
            if isinstance(result, str):
                faults.add(UNUSABLE, result)
            else:
                kept.append(image)
                found.append(result)
    if not kept:
        raise InputError(f"no image can be used{_first(faults)}")
    table = np.stack(found)
    count, _, _, total, squares, logs, log_squares = table.sum(0)
    mean, log_mean = total / count, logs / count
    std, log_std = (max(0.0, s / count - m**2) ** 0.5 for s, m in ((squares, mean), (log_squares, log_mean)))
    spread = Depths(int(count), table[:, 1].min(), table[:, 2].max(), mean, std, log_mean, log_std)
    return replace(data, images=tuple(kept)), spread


def _first(faults: Problems) -> str:
    lines = faults.lines()
    return f"; {lines[0]}" if lines else ""
