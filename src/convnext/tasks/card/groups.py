"""Sections of a model card on metrics by group, from the `groups.json` of `convnext evaluate --out`, of any data."""

from __future__ import annotations

from convnext.analysis.subgroups import LEAST_IMAGES
from convnext.reports.card import MOST_ROWS, code_span, escaped, markdown_table
from convnext.runs.facts import are_own_figures
from convnext.tasks.card.stored import Stored


def intervals_of(stored: Stored) -> dict[str, list[float]]:
    """Intervals of the run's own figures: those of its end, or of groups that were measured on the same images."""
    for group in stored.groups.get("groups", ()):
        if group["by"] == "all" and are_own_figures(stored.run, group["metrics"]):
            return group["intervals"]
    return stored.facts.get("intervals") or {}


def measured_on(stored: Stored) -> str:
    """The images that groups were measured on, in words; empty where older versions did not store it."""
    data, split = stored.groups.get("data"), stored.groups.get("split")
    if not data:
        return ""
    return f"{'all' if split == 'all' else f'the {split}'} images of {code_span(data)}"


def by_group(stored: Stored) -> str:
    """Metrics by group, and the largest gaps."""
    groups = [group for group in stored.groups.get("groups", ()) if group["by"] != "all"]
    if not groups:
        how = "`convnext evaluate . DATA --groups TABLE --out .` does, by columns of a table"
        return f"Not measured: {how}." if stored.measured else ""
    metric = stored.groups["metric"]
    rows = []
    for group in groups[:MOST_ROWS]:
        ends, value = group["intervals"].get(metric), group["metrics"].get(metric)
        known = f"{ends[0]:.2f} to {ends[1]:.2f}" if ends else f"fewer than {LEAST_IMAGES} images say too little"
        figure = "" if value is None else f"{value:.2f}"
        rows.append([escaped(group["by"]), escaped(group["group"]), f"{group['images']:,}", figure, known])
    table = markdown_table(["by", "group", "images", metric, "95 % interval"], rows)
    gaps = "\n".join(
        f"- {escaped(gap['by'])}: {escaped(gap['lowest'])} is {gap['gap']:.2f} below {escaped(gap['highest'])} "
        f"({gap['low']:.2f} to {gap['high']:.2f})"
        for gap in stored.groups["gaps"]
    )
    more = f"\n\nand {len(groups) - MOST_ROWS} more groups in `groups.csv`" if len(groups) > MOST_ROWS else ""
    where = f"Measured on {measured_on(stored)}.\n\n" if measured_on(stored) else ""
    return f"{where}{table}{more}" + (f"\n\nThe largest gaps:\n\n{gaps}" if gaps else "")


def weakest_groups(stored: Stored) -> list[tuple[str, str]]:
    """Facts on the lowest group of each column whose gap's interval lies above 0: a title, and the gap in words."""
    where = f", on {measured_on(stored)}" if measured_on(stored) else ""
    return [
        (
            f"Weakest group by {escaped(gap['by'])}",
            f"{escaped(gap['lowest'])}, {gap['gap']:.2f} below {escaped(gap['highest'])} in {gap['metric']}{where}",
        )
        for gap in stored.groups.get("gaps", ())
        if gap["low"] > 0
    ]
