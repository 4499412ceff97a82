"""`convnext predict` with a detector: objects of many images, drawn on copies and written as COCO's results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from convnext.data.rle import from_mask
from convnext.errors import InputError
from convnext.inference.detector import Detector, Found
from convnext.inference.draw import Drawn, draw_objects
from convnext.inference.tiles import find_in_tiles
from convnext.printing import printable, to_json
from convnext.reports.prelabels import OBJECT_FORMS, PredictedImage, check_image_names, write_objects
from convnext.storage.files import whole_file
from convnext.tasks.predicting import Outputs, Readable


def detect_inputs(
    detector: Detector,
    images: list[tuple[str, Any]],
    *,
    as_json: bool,
    out: Path | None = None,
    threshold: float | None = None,
    tile: int | None = None,
    format: str | None = None,
) -> int:
    """Print the objects of every image, and write drawings and `detections.json` to `out`; with a `format`, what an
    annotation program imports instead (`reports.prelabels`).

    Returns 0, 1 if some image was unreadable, 2 if all were. With `as_json`, a line `{"image", "objects"}` an image.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"--threshold must lie between 0 and 1, not {threshold}")
    if tile is not None and tile < 32:
        raise InputError(f"--tile must be at least 32 pixels, not {tile}")
    if format is not None and (out is None or format not in OBJECT_FORMS):
        raise InputError(f"--format is one of {', '.join(OBJECT_FORMS)}, and --out FOLDER says where it is written")
    if format is not None:
        check_image_names(format, [name for name, _ in images])
    outputs = Outputs(out, images) if out is not None else None
    found_in: list[PredictedImage] = []
    rows: list[dict[str, Any]] = []
    least = detector.least(threshold)
    prepare = partial(_prepared, detector, tile=tile, least=min(least))
    readable = Readable(images, detector, prepare, as_json=as_json)
    with readable.reading() as read:
        for number, name, image, find in read:
            found = [each for each in find() if each.score >= least[each.label]]
            own = [_row(detector, each) for each in found]
            if as_json:
                print(to_json({"image": name, "objects": own}), flush=True)
            else:
                lines = (f"  {each.score:.4f}  {detector.classes[each.label]}  {_box(each)}\n" for each in found)
                print(printable(f"{name}\n{''.join(lines)}"), end="")
            if format is not None:
                found_in.append(PredictedImage(name, image.width, image.height, own))
            elif outputs is not None:
                drawing = f"{outputs.stem(name)}.png"
                rows += [{"image_id": number, "file_name": name, "drawing": drawing, **row} for row in own]
                shown = [Drawn(detector.classes[each.label], each.score, each.box, each.mask) for each in found]
                with whole_file(outputs.folder / drawing) as temporary:
                    draw_objects(image, shown).save(temporary, format="PNG")
    if outputs is not None and format is not None:
        write_objects(format, outputs.folder, detector.classes, found_in)
    elif outputs is not None:
        with whole_file(outputs.folder / "detections.json") as path:
            path.write_text(to_json(rows))
    return readable.status()


def _prepared(detector: Detector, image: Image.Image, tile: int | None, least: float) -> Callable[[], list[Found]]:
    """A call that finds the objects of an image, with all done that needs no network."""
    if tile is not None:
        return lambda: find_in_tiles(detector, image, tile, least=least)
    inputs, size = detector.prepare(image)
    return lambda: detector.find([inputs], [size], least=least)[0]


def _row(detector: Detector, found: Found) -> dict[str, Any]:
    """An object as a row of COCO's results, with the class's name."""
    x0, y0, x1, y1 = found.box
    row: dict[str, Any] = {
        "category_id": detector.category_ids[found.label],
        "category": detector.classes[found.label],
        "score": found.score,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
    }
    return row if found.mask is None else {**row, "segmentation": from_mask(found.mask)}


def _box(found: Found) -> str:
    return " ".join(f"{value:.0f}" for value in found.box)
