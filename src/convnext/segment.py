"""Segmentation from a user's point of view: check data, choose a recipe, train or resume, evaluate."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from convnext import processes
from convnext.config import SegmentConfig
from convnext.data.label_maps import LabelMapSplits, examine, read_label_maps
from convnext.data.segmented import segmentation_eval_loader
from convnext.deploy.predictor import load
from convnext.deploy.segmenter import Segmenter
from convnext.device import pick_device
from convnext.errors import InputError
from convnext.evaluate.miou import figures, measure
from convnext.recipes import build_config, segment_recipe
from convnext.run import Run, resumed_config
from convnext.tasks.segment import Segmentation
from convnext.weights import are_trained

log = logging.getLogger("convnext")


def read(config: SegmentConfig) -> LabelMapSplits:
    """The data of a run."""
    return read_label_maps(
        config.data,
        ignore_index=config.ignore_index,
        reduce_zero_label=config.reduce_zero_label,
        label_map=config.label_map,
        val_fraction=config.val_fraction,
    )


def build_task(data: str, out: Path, given: dict[str, Any], recipe: str | None, resume: bool) -> Segmentation:
    """The task of a new run on `data`, or of the one at `out`; `given` are options that override the recipe's.

    Every label map is read first: what is wrong with one is said before training starts.
    """
    if resume:
        config = resumed_config(SegmentConfig, data, out, given)
    else:
        config = SegmentConfig().override({**given, "data": data})
        images = len(read(config).train)
        name = recipe or segment_recipe(config.model, images=images, trained=are_trained(config.init))
        config = build_config(name, config.model, SegmentConfig).override({**given, "data": data})
    splits = read(config)
    examined = examine(splits.train, splits.faults)
    val = examine(splits.val, splits.faults).data
    for line in splits.faults.lines():
        log.warning("%s: left out %s", data, line)
    return Segmentation(config, examined.data, val, examined.pixels)


def check(config: SegmentConfig) -> tuple[list[str], list[str]]:
    """What there is in a data set, line by line, and what is wrong with it; every image is opened.

    `InputError` for what `build_task` would refuse.
    """
    splits = read(config)
    summary = []
    for name, part in (("train", splits.train), ("val", splits.val)):
        data, pixels = examine(part, splits.faults, decode=True)
        total = max(1, int(pixels.sum()))
        summary.append(f"{name}: {len(data)} of {len(part)} images can be used, {total:,} pixels with a class")
        summary += [
            f"  {100 * count / total:6.2f} %  {label}"
            for label, count in zip(part.classes, pixels.tolist(), strict=True)
        ]
    return summary, splits.faults.lines()


def evaluate_source(
    source: str,
    data: str,
    split: str,
    *,
    batch_size: int,
    workers: int,
    device: str,
    scales: tuple[float, ...] | None = None,
    flip: bool = False,
) -> dict[str, Any]:
    """Figures of a segmenter on a split of `data`, in percent, with the count of images.

    With `scales` and `flip`, of the mean over several views. Under `torchrun`, each process sees its share of the
    images, and all get the whole's metrics. `InputError` where the data has other classes.
    """
    if split == "all":
        raise InputError("a segmenter is measured on one split: --split val or train")
    segmenter = load(source)
    assert isinstance(segmenter, Segmenter)
    segmenter.scales, segmenter.flip = scales or segmenter.scales, flip
    # Numbers mean in this data what they meant in the run's.
    stored = SegmentConfig.from_dict(Run(Path(source)).read_config()) if Path(source).is_dir() else SegmentConfig()
    splits = read(replace(stored, data=data))
    part, faults = (splits.val if split == "val" else splits.train), splits.faults
    if list(part.classes) != segmenter.classes:
        raise InputError(f"{data}: its classes are not the model's ({', '.join(segmenter.classes[:5])})")
    part = examine(part, faults).data
    for line in faults.lines():
        log.warning("%s: left out %s", data, line)
    where = pick_device(device)
    with processes.joined(where):
        segmenter.model.to(where)
        batches = segmentation_eval_loader(
            part,
            segmenter.transform,
            batch_size=1,
            workers=workers,
            rank=processes.rank(),
            processes=processes.count(),
        )
        matrix = sum(processes.gather(measure(segmenter, batches)))
    return {**figures(matrix), "split": split, "images": len(part)}
