"""`convnext predict` with a depth estimator: depths of many images, as 16-bit PNGs and as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convnext.inference.depth import DepthEstimator, draw_depths, least_median_most
from convnext.printing import complain, counted, printable, to_json
from convnext.storage.files import whole_file
from convnext.tasks.predicting import Outputs, Readable

_MAP_END, _PICTURE_END = ".png", "-depth.png"
"""Suffixes of the files that are written for an image: its map, and a picture for people."""
MOST_STORED = 65535
"""Largest number that a map of 16 bits holds."""
LEAST_STEPS = 50
"""A map's number below which rounding changes it by more than 1 %."""


def estimate_inputs(
    estimator: DepthEstimator,
    images: list[tuple[str, Any]],
    *,
    as_json: bool,
    out: Path | None = None,
) -> int:
    """Print the least, median and largest depth of every image, and write `NAME.png` (16 bits, depths times the
    model's `depth_scale`), `NAME-depth.png` (colours) and `depths.json` to `out`. What 16 bits cannot hold is said.

    Returns 0, 1 if some image was unreadable, 2 if all were. With `as_json`, a line `{"image", "least", "median",
    "most"}` an image.
    """
    outputs = Outputs(out, images, (_MAP_END, _PICTURE_END)) if out is not None else None
    rows, beyond, coarse = [], 0, 0
    readable = Readable(images, estimator, estimator.prepare, as_json=as_json)
    with readable.reading() as read:
        for _, name, _, prepared in read:
            depths = estimator.estimate(*prepared)
            least, median, most = least_median_most(depths)
            own = {"image": name, "least": round(least, 4), "median": round(median, 4), "most": round(most, 4)}
            if as_json:
                print(to_json(own), flush=True)
            else:
                print(printable(f"{name}\n  {least:.4g} to {most:.4g}, median {median:.4g}"))
            if outputs is not None:
                stem = outputs.stem(name)
                beyond += most * estimator.depth_scale > MOST_STORED
                coarse += median * estimator.depth_scale < LEAST_STEPS
                rows.append({**own, "file": f"{stem}{_MAP_END}"})
                with whole_file(outputs.folder / f"{stem}{_MAP_END}") as path:
                    depth_picture(depths, estimator.depth_scale).save(path, format="PNG")
                with whole_file(outputs.folder / f"{stem}{_PICTURE_END}") as path:
                    draw_depths(depths).save(path, format="PNG")
    if outputs is not None:
        with whole_file(outputs.folder / "depths.json") as path:
            path.write_text(to_json(rows))
    unit = 1 / estimator.depth_scale
    if beyond:
        complain(
            f"depths beyond {MOST_STORED * unit:g}, the most that 16 bits hold, are cut in {counted(beyond, 'map')}"
        )
    if coarse:
        complain(f"depths are rounded to multiples of {unit:g}, by more than 1 %, in {counted(coarse, 'map')}")
    return readable.status()


def depth_picture(depths: np.ndarray, scale: float) -> Image.Image:
    """A picture of 16 bits, of depths times `scale`, as training takes it; 0 stands for an unknown depth alone."""
    return Image.fromarray(np.rint(depths * scale).clip(1, MOST_STORED).astype(np.uint16))
