"""`convnext predict`: many images, of which some may be unreadable."""

from __future__ import annotations

from pathlib import Path

from convnext.data.sources.inputs import expand
from convnext.tasks.load import load, task_of_weights


def predict_inputs(
    source: str,
    inputs: list[str],
    *,
    top_k: int,
    device: str,
    as_json: bool,
    out: Path | None,
    threshold: float,
    tile: int | None,
    image_size: int | None = None,
    crop: float | None = None,
) -> int:
    """Print what a model says of every image, in order; returns 0, 1 if some image was unreadable, 2 if all were."""
    images = list(expand(inputs))
    predictor = load(source, device=device)
    predictor.see(image_size, crop)
    single = len(inputs) == 1 and len(images) == 1 and images[0][0] in (inputs[0], "-")
    options = {"as_json": as_json, "single": single, "out": out}
    return task_of_weights(source).answer(predictor, images, **options, top_k=top_k, threshold=threshold, tile=tile)
