"""Labelled images, for `convnext check`."""

from __future__ import annotations

from convnext.data.check.part import CheckedData, lines_of_images, part_of_images
from convnext.data.image_set import read_all_parts
from convnext.data.problems import Problems
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.splitting import splitting_of


def checked_images(config: ClassifyConfig) -> CheckedData:
    """All parts of a data set. `InputError` for what training would refuse."""
    how = splitting_of(config)._asdict()
    read = read_all_parts(config.data, multi_label=config.multi_label, form=config.format, **how)
    parts = [part_of_images(samples) for samples in read]

    def found(unreadable: list[set[int]]) -> list[str]:
        return [line for pair in zip(parts, unreadable, strict=True) for line in lines_of_images(*pair)]

    return CheckedData(parts, Problems(), found, [])
