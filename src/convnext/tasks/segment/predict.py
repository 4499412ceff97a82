"""`convnext predict` with a segmenter: label maps of many images, drawn over copies and written as index PNGs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from convnext.errors import InputError
from convnext.inference.arrays import pixels_of_classes
from convnext.inference.draw import colours, draw_labels, index_picture
from convnext.inference.segmenter import Segmenter
from convnext.printing import printable, to_json
from convnext.reports.label_maps import MAP_FORMS, LabelMapWriter
from convnext.reports.prelabels import check_image_names
from convnext.storage.files import whole_file
from convnext.tasks.predicting import Outputs, Readable

_MAP_END, _PICTURE_END = ".png", "-overlay.png"
"""Suffixes of the files that are written for an image: its map, and a picture for people."""


def segment_inputs(
    segmenter: Segmenter,
    images: list[tuple[str, Any]],
    *,
    as_json: bool,
    out: Path | None = None,
    format: str | None = None,
) -> int:
    """Print the classes' shares of every image, and write `NAME.png` (indices, with a palette), `NAME-overlay.png` and
    `shares.json` to `out`; with a `format`, label maps or outlines that an annotation program imports instead
    (`reports.label_maps`).

    Returns 0, 1 if some image was unreadable, 2 if all were. With `as_json`, a line `{"image", "shares"}` an image.
    """
    if format is not None and (out is None or format not in MAP_FORMS):
        raise InputError(f"--format is one of {', '.join(MAP_FORMS)}, and --out FOLDER says where it is written")
    outputs = writer = None
    if format is not None:
        check_image_names(format, [name for name, _ in images])
    if out is not None:
        outputs = Outputs(out, images, (_MAP_END, _PICTURE_END))
    if out is not None and format is not None:
        writer = LabelMapWriter(format, out, segmenter.classes, [name for name, _ in images])
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
            if writer is not None:
                writer.add(name, labels)
            elif outputs is not None:
                stem = outputs.stem(name)
                rows.append({**own, "file": f"{stem}{_MAP_END}"})
                with whole_file(outputs.folder / f"{stem}{_MAP_END}") as path:
                    index_picture(labels, colours(len(segmenter.classes))).save(path, format="PNG")
                with whole_file(outputs.folder / f"{stem}{_PICTURE_END}") as path:
                    draw_labels(image, labels, segmenter.classes).save(path, format="PNG")
    if writer is not None:
        writer.finish()
    elif outputs is not None:
        with whole_file(outputs.folder / "shares.json") as path:
            path.write_text(to_json(rows))
    return readable.status()


def class_shares(labels: np.ndarray, classes: list[str]) -> dict[str, float]:
    """The share of the pixels that each class has, the largest first; those that are there."""
    return {classes[place]: round(count / labels.size, 6) for place, count in pixels_of_classes(labels).items()}
