"""What detectors and segmenters share: they see whole images, at a short side."""

from __future__ import annotations

from convnext.errors import InputError
from convnext.tasks.detect.data import WholeImage


class SeesWholeImages:
    """Resizes images by `transform`, at the size that the model was trained for or at another."""

    transform: WholeImage

    def resize(self, image_size: int | None, crop: float | None = None) -> dict[str, float]:
        """Set the short side of images, in pixels; returns `{"image_size": ...}` if it is not the model's own.

        `InputError` for a crop, which only classifiers take.
        """
        if crop is not None:
            raise InputError("--crop is for classifiers: others see whole images")
        if image_size is None or image_size == self.transform.short:
            return {}
        self.transform = self.transform.resized(image_size)
        return {"image_size": image_size}
