"""`convnext predict` with a segmenter: label maps of many images, drawn over copies and written as index PNGs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convnext.inference.draw import colours, draw_labels
from convnext.inference.segmenter import Segmenter
from convnext.printing import printable, to_json
from convnext.storage.files import whole_file
from convnext.tasks.predicting import Outputs, Readable


def segment_inputs(
    segmenter: Segmenter,
    images: list[tuple[str, Any]],
    *,
    as_json: bool,
    out: Path | None = None,
) -> int:
    """Print the classes' shares of every image, and write `NAME.png` (indices, with a palette), `NAME-overlay.png` and
    `shares.json` to `out`.

    Returns 0, 1 if some image was unreadable, 2 if all were. With `as_json`, a line `{"image", "shares"}` an image.
    """
    outputs = Outputs(out, images) if out is not None else None
    rows = []
    readable = Readable(images, segmenter, segmenter.prepare, as_json=as_json)
    with readable.reading() as read:
        for _, name, image, prepared in read:
            labels = segmenter.label(*prepared)
            found = class_shares(labels, segmenter.classes)
            own = {"image": name, "shares": found}
            if as_json:
                print(to_json(own), flush=True)
            else:
                lines = (f"  {share:.4f}  {label}\n" for label, share in found.items())
                print(printable(f"{name}\n{''.join(lines)}"), end="")
            if outputs is not None:
                stem = outputs.stem(name)
                rows.append({**own, "file": f"{stem}.png"})
                with whole_file(outputs.folder / f"{stem}.png") as path:
                    index_picture(labels, len(segmenter.classes)).save(path, format="PNG")
                with whole_file(outputs.folder / f"{stem}-overlay.png") as path:
                    draw_labels(image, labels, segmenter.classes).save(path, format="PNG")
    if outputs is not None:
        with whole_file(outputs.folder / "shares.json") as path:
            path.write_text(to_json(rows))
    return readable.status()


def class_shares(labels: np.ndarray, classes: list[str]) -> dict[str, float]:
    """The share of the pixels that each class has, the largest first; those that are there."""
    counts = np.bincount(labels.ravel(), minlength=len(classes))
    order = [i for i in np.argsort(-counts, kind="stable").tolist() if counts[i]]
    return {classes[i]: round(float(counts[i] / labels.size), 6) for i in order}


def index_picture(labels: np.ndarray, classes: int) -> Image.Image:
    """A picture whose pixels are class numbers: with a palette, or of 16 bits for more than 256 classes."""
    if classes > 256:
        return Image.fromarray(labels)
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette([value for colour in colours(classes) for value in colour])
    return picture
