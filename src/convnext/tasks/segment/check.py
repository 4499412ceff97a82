"""Images with label maps, for `convnext check`."""

from __future__ import annotations

from convnext.data.check.part import CheckedData, mapped_part
from convnext.data.parts import divided_parts
from convnext.data.sources.label_maps import examine_label_maps, missing_classes
from convnext.data.sources.segmentation import read_label_maps
from convnext.tasks.segment.config import SegmentConfig
from convnext.tasks.segment.evaluate import label_rules_of_model
from convnext.tasks.segment.read import classes_shown, rules_of
from convnext.tasks.splitting import splitting_of


def checked_label_maps(config: SegmentConfig, source: str | None = None) -> CheckedData:
    """All parts of a data set, each label map read by the config's rules, or by those of the segmenter at `source`.
    `InputError` for what training would refuse."""
    rules = rules_of(config) if source is None else label_rules_of_model(source)
    read = read_label_maps(config.data, rules, form=config.format)
    sets = divided_parts(config.data, read.parts, *splitting_of(config), classes=classes_shown)
    usable = {name: examine_label_maps(data, read.faults) for name, data in sets.items()}
    lacking = missing_classes(usable["train"])
    parts = [
        mapped_part(
            name,
            sets[name],
            data,
            classes=data.classes,
            pixels=dict(zip(data.classes, pixels.tolist(), strict=True)),
        )
        for name, (data, pixels, _) in usable.items()
    ]

    def found(unreadable: list[set[int]]) -> list[str]:
        summary = []
        for part, without in zip(parts, unreadable, strict=True):
            pixels = part.pixels or {}
            total = sum(pixels.values())
            used = f"{part.usable(without)} of {len(part)} images can be used"
            summary.append(f"{part.name}: {used}, {total:,} pixels with a class")
            summary += [f"  {100 * count / max(1, total):6.2f} %  {label}" for label, count in pixels.items()]
            if part.name == "train" and lacking:
                summary.append(lacking)
        return [*summary, *read.faults.notes()]

    return CheckedData(parts, read.faults, found, [])
