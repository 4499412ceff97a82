"""The rule by which an image becomes a network's input, stored with the weights and used by everyone after."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from convnext.data.images.decode import WHITE, as_mode
from convnext.errors import ImageError, InputError

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MEAN_COLOUR = [round(255 * mean) for mean in IMAGENET_MEAN]  # zero, once normalised
MOST_RESIZED = 2**25  # pixels: an image of 1×100,000, which a file of 74 bytes can be, would take two seconds
LEAST_CROP = 0.01
MOST_NORMALISED = 1e6  # of means, deviations and their inverse: float32 holds what becomes of pixels
MOST_PIXELS_A_SIDE = 4096  # pixels: a size of 20,000 in a stranger's file would take 5 GB an image
_INTERPOLATIONS = {name.lower(): Image.Resampling[name] for name in ("NEAREST", "BILINEAR", "BICUBIC", "LANCZOS")}


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop, scale to 0..1 and normalise.

    `crop` below 1: the short side is resized to `floor(image_size / crop)` and the centre square cut out.
    `crop` of 1: the whole image is warped to the square. `mean` and `std` are per channel, for values in 0..1.
    `white` is the value of 16-bit images that is white.
    Nonsense raises `InputError`.
    """

    image_size: int
    crop: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    in_chans: int = 3
    white: int = WHITE

    def __post_init__(self) -> None:
        if not 1 <= self.white <= WHITE:
            raise InputError(f"preprocessing: white must lie between 1 and {WHITE}, not {self.white!r}")
        for name in ("image_size", "in_chans"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"preprocessing: {name} must be a positive integer, not {value!r}")
        if self.image_size > MOST_PIXELS_A_SIDE:
            raise InputError(f"preprocessing: image_size must be at most {MOST_PIXELS_A_SIDE}, not {self.image_size}")
        if not is_finite(self.crop) or not LEAST_CROP <= self.crop <= 1:
            raise InputError(f"preprocessing: crop must lie between {LEAST_CROP} and 1, not {self.crop!r}")
        for name in ("mean", "std"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or len(value) != self.in_chans or not all(map(is_finite, value)):
                raise InputError(f"preprocessing: {name} must be {self.in_chans} finite numbers, not {value!r}")
            if max(map(abs, value)) > MOST_NORMALISED:
                raise InputError(f"preprocessing: {name} must be at most {MOST_NORMALISED:g}, not {value!r}")
        if min(self.std) < 1 / MOST_NORMALISED:
            raise InputError(f"preprocessing: std must be at least {1 / MOST_NORMALISED:g}, not {self.std!r}")
        if self.interpolation not in _INTERPOLATIONS:
            known = ", ".join(_INTERPOLATIONS)
            raise InputError(f"preprocessing: interpolation must be one of {known}, not {self.interpolation!r}")

    @classmethod
    def standard(cls, image_size: int, in_chans: int = 3, white: int = WHITE) -> Preprocessing:
        """The papers' evaluation rule: crop 0.875 below 384 pixels, warp from 384 on; bicubic; ImageNet's statistics.

        For other than 3 channels, every channel takes the average of ImageNet's three.
        """
        mean, std = (
            values if in_chans == 3 else (round(sum(values) / 3, 6),) * in_chans
            for values in (IMAGENET_MEAN, IMAGENET_STD)
        )
        return cls(image_size, 0.875 if image_size < 384 else 1.0, mean, std, in_chans=in_chans, white=white)

    @property
    def mode(self) -> str:
        """The Pillow mode of the images it takes: "RGB" for 3 channels, "L" for 1. Others raise `InputError`."""
        if self.in_chans not in (1, 3):
            raise InputError(f"image files give 1 or 3 channels, and this model takes {self.in_chans}: feed it tensors")
        return "RGB" if self.in_chans == 3 else "L"

    def __call__(self, image: Image.Image) -> Tensor:
        """A Pillow image of any size and mode to float32 `[in_chans, image_size, image_size]`.

        The same numbers as timm's evaluation transform (crop mode "center", or "squash" for `crop` 1).
        """
        import torch

        return torch.from_numpy(self.array(image))

    def array(self, image: Image.Image) -> np.ndarray:
        """`__call__`, as an array: without PyTorch."""
        image = as_mode(image, self.mode, self.white)
        size = self.image_size
        if self.crop == 1:
            image = image.resize((size, size), _INTERPOLATIONS[self.interpolation])
        else:
            image = self._resize_short_side(image)
            left, top = round((image.width - size) / 2), round((image.height - size) / 2)
            image = image.crop((left, top, left + size, top + size))
        pixels = np.asarray(image).reshape(size, size, self.in_chans)
        values = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)  # bytes are moved faster
        values /= np.float32(255)
        values -= np.array(self.mean, dtype=np.float32)[:, None, None]
        values /= np.array(self.std, dtype=np.float32)[:, None, None]
        return values

    def _resize_short_side(self, image: Image.Image) -> Image.Image:
        short = math.floor(self.image_size / self.crop)
        width, height = image.size
        long = int(short * max(width, height) / min(width, height))
        if short * long > MOST_RESIZED:
            raise ImageError(
                f"image of {width}×{height} pixels is too elongated to be resized to {short} pixels across"
            )
        return image.resize((short, long) if width <= height else (long, short), _INTERPOLATIONS[self.interpolation])

    def to_images(self, pixels: Tensor) -> list[Image.Image]:
        """Pictures of preprocessed images `[N, in_chans, H, W]`: in colour, or of other than 3 channels their mean."""
        return [picture_of(each, self.mean, self.std) for each in pixels]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Any) -> Preprocessing:
        """The inverse of `to_dict`; unknown, missing or senseless entries raise `InputError`.

        Versions before it wrote no `white`.
        """
        if not isinstance(values, dict):
            raise InputError(f"preprocessing: expected a table of settings, not {type(values).__name__}")
        known = {field.name for field in fields(cls)}
        values = {"white": WHITE, **values}
        wrong = sorted(set(values) ^ known)
        if wrong:
            kind = "missing" if wrong[0] in known else "unknown"
            raise InputError(f"preprocessing: {kind} entry {wrong[0]!r}; it has {', '.join(sorted(known))}")
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**plain)


def picture_of(
    pixels: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Image.Image:
    """A picture of a normalised image `[C, H, W]`: in colour, or of other than 3 channels their mean."""
    import torch

    scale, shift = (torch.tensor(values)[:, None, None] for values in (std, mean))
    values = (255 * (pixels.float().cpu() * scale + shift)).clamp(0, 255).round().byte()
    if len(values) != 3:
        return Image.fromarray(values.float().mean(0).byte().numpy())
    return Image.fromarray(np.ascontiguousarray(values.permute(1, 2, 0).numpy()))


def is_finite(value: Any) -> bool:
    """Whether a value is a finite number that a float holds."""
    most = sys.float_info.max  # `math.isfinite` fails for an integer beyond it
    return isinstance(value, int | float) and not isinstance(value, bool) and -most <= value <= most
