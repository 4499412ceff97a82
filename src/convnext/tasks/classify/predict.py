"""`convnext predict` with a classifier: labels of many images, of which some may be unreadable."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

from convnext.errors import ImageError, InputError
from convnext.inference.reading import BATCH, read_ahead
from convnext.printing import complain, printable, status_of, to_json

if TYPE_CHECKING:
    from pathlib import Path

    from convnext.inference.classifier import ImageClassifier, Label
    from convnext.inference.portable import PortableClassifier


def label_inputs(
    predictor: ImageClassifier | PortableClassifier,
    images: list[tuple[str, Any]],
    *,
    as_json: bool,
    single: bool,
    top_k: int = 5,
    out: Path | None = None,
    format: str | None = None,
) -> int:
    """Print the labels of every image, in order; returns 0, 1 if some image was unreadable, 2 if all were.

    With a folder `out` and a `format`, csv or parquet, the first label of each is written too (`reports.prelabels`).

    With `as_json`, a single named file gives a line `[{"label", "score"}, ...]`; anything else gives a
    line `{"image", "labels"}` for each image, and `{"image", "error"}` for an unreadable one.
    """
    if top_k < 1:
        raise InputError(f"--top-k must be at least 1, not {top_k}")
    if (out is None) != (format is None):
        raise InputError("a classifier's labels are written with --out FOLDER and --format csv or parquet, both")
    bad, rows = 0, []
    with closing(answers(predictor, images, top_k)) as answered:
        for name, answer in answered:
            if isinstance(answer, ImageError):
                bad += 1
                complain(answer)
                if as_json and not single:
                    print(to_json({"image": name, "error": str(answer)}))
                continue
            rows.append((name, answer[0]["label"], answer[0]["score"]))
            if as_json:
                print(to_json(answer if single else {"image": name, "labels": answer}), flush=True)
            else:
                lines = "".join(f"  {label['score']:.4f}  {label['label']}\n" for label in answer)
                print(printable(f"{name}\n{lines}"), end="")
    if out is not None and format is not None:
        from convnext.reports.prelabels import write_classes  # which imports PyTorch

        write_classes(format, out, rows)
    return status_of(bad, len(images))


def answers(
    predictor: ImageClassifier | PortableClassifier, images: list[tuple[str, Any]], top_k: int
) -> Generator[tuple[str, list[Label] | ImageError]]:
    """Labels, or the error, of each image in order; readable ones go through the network in batches."""
    names = (name for name, _ in images)
    with read_ahead((image for _, image in images), predictor.read, predictor.prepare, ahead=BATCH) as results:
        while batch := list(islice(results, BATCH)):
            inputs: Any = [result for result in batch if not isinstance(result, ImageError)]
            labels = iter(predictor.labels(inputs, top_k) if inputs else [])
            for result in batch:
                yield next(names), result if isinstance(result, ImageError) else next(labels)
