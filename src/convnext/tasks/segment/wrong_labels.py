"""Regions of label maps that may be wrong, by a segmenter's answers, as problems."""

from __future__ import annotations

from collections.abc import Iterable

from convnext.data.check.problem import Problem
from convnext.data.exclude import read_exclude
from convnext.data.map_loading import WholeBatch, map_eval_loader
from convnext.data.parts import left_parts
from convnext.data.problems import Problems
from convnext.data.sources.label_maps import SegmentationSet, examine_label_maps, with_model_classes
from convnext.data.sources.segmentation import read_label_maps
from convnext.errors import InputError
from convnext.inference.segmenter import Segmenter
from convnext.printing import progress
from convnext.tasks.load import load
from convnext.tasks.segment.config import SegmentConfig
from convnext.tasks.segment.evaluate import label_rules_of_model
from convnext.tasks.segment.wrong_regions import WrongRegion, find_wrong_regions, pixel_answers, pixel_habits

LEAST_REGION_SCORE = 0.2
"""Least score of what is shown: below, it is more often the segmenter that is wrong."""
THRESHOLD_IMAGES = 100
"""Images that say how sure the segmenter is of each class."""


def problems_of_regions(config: SegmentConfig, source: str) -> list[Problem]:
    """Regions of all parts that the segmenter at `source` speaks against, worst first."""
    segmenter = load(source, device=config.device, backend="torch")
    if not isinstance(segmenter, Segmenter):
        raise InputError(f"{source} is no segmenter; wrong regions are found by one, best trained on these data")
    parts, faults = read_label_maps(config.data, label_rules_of_model(source), form=config.format)
    found = []
    for part, data in left_parts(config.data, parts, read_exclude(config.exclude)).items():
        usable = fitting(data, segmenter, config.data, faults)
        found += [(part, usable, each) for each in suspects(segmenter, usable, part or "images", config.workers)]
    found = [each for each in found if each[2].score >= LEAST_REGION_SCORE]
    return [problem_of_region(*each) for each in sorted(found, key=lambda each: -each[2].score)]


def fitting(data: SegmentationSet, segmenter: Segmenter, name: str, faults: Problems) -> SegmentationSet:
    """The images whose label maps can be used, with the segmenter's classes."""
    return examine_label_maps(with_model_classes(data, segmenter.classes, name)[0], faults).data


def suspects(segmenter: Segmenter, data: SegmentationSet, name: str, workers: int) -> list[WrongRegion]:
    """Wrong regions of one part, under a bar."""
    how = {"batch_size": 1, "workers": workers}
    sample = data.spread(THRESHOLD_IMAGES)
    with progress(name, len(sample) + len(data)) as advance:

        def counted(batches: Iterable[WholeBatch]) -> Iterable[WholeBatch]:
            for batch in batches:
                yield batch
                advance(1)

        sampled = counted(map_eval_loader(sample, segmenter.transform, **how))
        habits = pixel_habits(pixel_answers(segmenter, sampled), len(segmenter.classes))
        return find_wrong_regions(segmenter, counted(map_eval_loader(data, segmenter.transform, **how)), habits)


def problem_of_region(part: str, data: SegmentationSet, region: WrongRegion) -> Problem:
    """The problem that a wrong region is: its class, the likelier class, and the box that shows it."""
    label, suggested = data.classes[region.label], data.classes[region.suggested]
    x0, y0, x1, y1 = (round(value, 1) for value in region.box)
    return Problem(
        kind="region",
        part=part,
        paths=(str(data.images[region.image].file),),
        words=f"{label}, looks like {suggested}, {100 * region.area:.2g} % of the image",
        score=round(region.score, 6),
        label=label,
        suggested=suggested,
        box=(x0, y0, x1, y1),
    )
