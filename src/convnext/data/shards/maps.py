"""Reading images with label maps from tar shards of this machine, as `pack_maps` packs them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from convnext.data.shards.members import places_of
from convnext.data.shards.read import MAP_SUFFIX, ShardIndex, local_index, unreadable_index, what_is_packed
from convnext.data.sources.label_maps import (
    HIGHEST,
    IGNORED,
    LOWEST,
    LabelRules,
    SegmentationSet,
    class_table,
    drawn_table,
)
from convnext.data.sources.maps import MappedImage

MapSource = Literal["numbers", "published", "colours", "segments", "outlines"]
"""Origins of the numbers in packed label maps: published ones are of a known set, and segments of panoptic maps."""


class MapMeaning(NamedTuple):
    """Meaning of the numbers in packed label maps.

    Fields:
        source: what they come from, which says how the rules of a training apply to them.
        rules: those where training gives none.
        void: the number of what is no class among colours and segments.
    """

    source: MapSource
    rules: LabelRules
    void: int | None = None

    def said(self) -> dict[str, Any]:
        """The meaning as JSON values, for the index."""
        return {**self._asdict(), "rules": asdict(self.rules)}

    def table(self, classes: tuple[str, ...], given: LabelRules) -> tuple[tuple[str, ...], np.ndarray]:
        """The classes, and the class of each number (`SegmentationSet.table`), by the rules of a training."""
        if self.source == "outlines":
            return drawn_table(classes, given)
        if self.source in ("published", "colours"):  # which do not count classes from 1
            given = replace(given, reduce_zero_label=False)
        own = given == LabelRules() or self.source == "segments"
        table = class_table(classes, self.rules if own else given)
        if self.void is not None:
            table[self.void - LOWEST] = IGNORED
        return classes, table


def find_map_shards(data: Path) -> dict[str, ShardIndex]:
    """The parts of a folder of shards of images with label maps, by name; none of other data."""
    if what_is_packed(data) != "maps":
        return {}
    index = local_index(data)
    return dict.fromkeys(index.splits, index)


def read_map_shards(
    folder: Path, index: ShardIndex, rules: LabelRules, parts: Collection[str]
) -> dict[str, SegmentationSet]:
    """Some parts of a folder of shards. `InputError` for an index that cannot be read."""
    try:
        places_of(index, folder)
        meaning = _meaning(index.said["maps"])
        names, table = meaning.table(index.classes, rules)
        keys = index.table.column("key").to_pylist()
        if not all(isinstance(key, str) for key in keys):
            raise ValueError("it has images without a name")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise unreadable_index(folder, error) from None
    images: dict[str, list[MappedImage]] = {part: [] for part in parts}
    for at, name, key in zip(index.shard.tolist(), index.names, keys, strict=True):
        if (own := images.get(index.splits[at])) is not None:
            tar = folder / index.files[at]
            own.append(MappedImage(tar / name, tar / f"{name}{MAP_SUFFIX}", key))
    return {part: SegmentationSet(names, table, tuple(own)) for part, own in images.items()}


def _meaning(said: Mapping[str, Any]) -> MapMeaning:
    source, rules, void = said["source"], LabelRules(**said["rules"]), said["void"]
    if source not in get_args(MapSource):
        raise ValueError("it does not say what its label maps come from")
    if void is not None and (type(void) is not int or not 0 <= void <= HIGHEST):
        raise ValueError("it has a number of no class that is none")
    if type(rules.ignore_index) is not int or type(rules.reduce_zero_label) is not bool:
        raise ValueError("it has rules of label maps that are none")
    if rules.label_map is not None and not isinstance(rules.label_map, dict):
        raise ValueError("it has rules of label maps that are none")
    return MapMeaning(source, rules, void)
