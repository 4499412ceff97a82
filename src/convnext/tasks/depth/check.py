"""Images with depth maps, for `convnext check`."""

from __future__ import annotations

from convnext.data.check.part import CheckedData, mapped_part
from convnext.data.parts import divided_parts
from convnext.data.sources.depth_maps import DEPTH_FOLDER, examine_depths, read_depth_maps
from convnext.data.sources.maps import find_map_parts
from convnext.tasks.depth.config import DepthConfig
from convnext.tasks.splitting import splitting_of


def checked_depths(config: DepthConfig) -> CheckedData:
    """All parts of a data set; every depth map is read. `InputError` for what training would refuse."""
    found_parts = find_map_parts(config.data, DEPTH_FOLDER)
    read, faults = read_depth_maps(config.data, config.depth_scale, found_parts)
    sets = divided_parts(config.data, read, *splitting_of(config))
    usable = {name: examine_depths(data, faults) for name, data in sets.items()}
    parts = [mapped_part(name, sets[name], data) for name, (data, _) in usable.items()]

    def found(unreadable: list[set[int]]) -> list[str]:
        return [
            f"{part.name}: {part.usable(without)} of {len(part)} images can be used, "
            f"{spread.pixels:,} known depths from {spread.least:g} to {spread.most:g}, {spread.mean:.4g} on average"
            for part, without, (_, spread) in zip(parts, unreadable, usable.values(), strict=True)
        ]

    return CheckedData(parts, faults, found, [])
