"""ImageNet-C's corruptions of images (Hendrycks and Dietterich, arXiv 1903.12261), made as images are loaded.

The corruptions themselves are those of the package imagecorruptions. Their random numbers depend on the image's pixels,
the corruption and the severity alone: not on the order of images, their files' names or the number of processes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from convnext.data.images.preprocessing import Preprocessing
from convnext.data.images.whole_image import WholeImage
from convnext.errors import ImageError, InputError
from convnext.storage.files import whole_file

COMMON = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
"""The fifteen that are measured."""
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The four beside them."""
ALL = COMMON + EXTRA
SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST_CORRUPTED = 32
"""Least side of an image that can be corrupted, in pixels."""


def require_corruptions() -> None:
    """Load the package that makes them, so that loading processes need not. `InputError` if it is not installed."""
    try:
        corrupted(Image.new("RGB", (SMALLEST_CORRUPTED, SMALLEST_CORRUPTED)), "glass_blur", 1, 0)  # compiles it
    except ImportError as error:
        raise InputError("corruptions are made by an extra: pip install 'convnext[robustness]'") from error


@dataclass(frozen=True)
class Corruption:
    """A corruption at a severity from 1 to 5, of images that are first resized to a short side, or not.

    Args:
        name: one of `COMMON` or `EXTRA`.
        severity: how strong.
        short: side in pixels; None leaves images as they are.
        kept: a folder in which corrupted images are kept, for the next network that sees them.
    """

    name: str
    severity: int
    short: int | None = None
    kept: Path | None = None

    def __call__(self, image: Image.Image) -> Image.Image:
        """The corrupted image, in the image's mode. `ImageError` for one that is too small."""
        seed = blake2b(image.tobytes() + f"{image.size} {self.name} {self.severity}".encode(), digest_size=16)
        path = None if self.kept is None else self.kept / f"{seed.hexdigest()}.npy"
        if path is not None and path.exists():
            return Image.fromarray(np.load(path)).convert(image.mode)
        found = corrupted(self.resized(image), self.name, self.severity, int(seed.hexdigest()[:8], 16))
        if path is not None:
            with whole_file(path) as temporary, open(temporary, "wb") as file:
                np.save(file, found)
        return Image.fromarray(found).convert(image.mode)

    def resized(self, image: Image.Image) -> Image.Image:
        """The image at the short side."""
        if self.short is None:
            return image
        scale = self.short / min(image.size)
        return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)


def corrupted(image: Image.Image, name: str, severity: int, seed: int) -> np.ndarray:
    """The corrupted image, uint8 `[H, W, 3]`. `ImageError` for one that is too small."""
    from imagecorruptions import corrupt

    if min(image.size) < SMALLEST_CORRUPTED:
        raise ImageError(f"an image of {image.width}×{image.height} pixels is too small to be corrupted")
    own_seed = {"seed": seed} if name in ("impulse_noise", "glass_blur") else {}  # which do not ask numpy's
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        return corrupt(np.asarray(image.convert("RGB")), severity=severity, corruption_name=name, **own_seed)
    finally:
        np.random.set_state(before)


@dataclass(frozen=True)
class CorruptedSquare(Preprocessing):
    """A preprocessing of corrupted images."""

    corruption: Corruption | None = None

    def array(self, image: Image.Image) -> np.ndarray:
        return super().array(image if self.corruption is None else self.corruption(image))


@dataclass(frozen=True)
class CorruptedWhole(WholeImage):
    """A transform of corrupted images."""

    corruption: Corruption | None = None

    def __call__(self, image: Image.Image) -> Tensor:
        return super().__call__(image if self.corruption is None else self.corruption(image))


def seen_through(transform: Any, corruption: Corruption) -> CorruptedSquare | CorruptedWhole:
    """How a network sees images that are corrupted first."""
    values = {field.name: getattr(transform, field.name) for field in dataclasses.fields(transform)}
    kind = CorruptedSquare if isinstance(transform, Preprocessing) else CorruptedWhole
    return kind(**values, corruption=corruption)
