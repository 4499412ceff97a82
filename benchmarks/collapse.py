"""Collapse and selectivity of V1 and V2, trained with labels and by FCMAE: figures 4 and 5 of ConvNeXt V2 in miniature.

    python benchmarks/collapse.py IMAGENETTE --work FOLDER [--epochs 20] [--json FILE] [--plot FILE]

Four networks of one size learn from the same images for the same epochs at 96 pixels, under AdamW alone and from the
papers' first weights. Then each block's cosine distance between channels, and its channels' class selectivity, are
measured on the validation images. A network whose run lies in FOLDER is not trained again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from small_sets import convnext
from tables import Column
from timing import write_result

from convnext.tasks.analyze import collapse, selectivity

MODELS = {"V1": "convnext_atto", "V2": "convnextv2_atto"}
COMMON = ("--image-size", 96, "--muon-lr-scale", "none", "--depthwise-init", "normal", "--precision", "fp32")
WITH_LABELS = ("--recipe", "small_data", "--base-lr", 8e-3)
COLUMNS: list[Column] = [
    {"name": "network"},
    {"name": "top-1", "digits": 1},
    {"name": "distance, smallest", "digits": 2},
    {"name": "distance, mean", "digits": 2},
    {"name": "selectivity, mean", "digits": 2},
    {"name": "selectivity, last block", "digits": 2},
]


def train(data: Path, work: Path, epochs: int) -> dict[str, Path]:
    """Runs by what they are called."""
    runs = {}
    for generation, model in MODELS.items():
        for how, command, images in (("labels", ("train", "classify"), data), ("FCMAE", ("pretrain",), data / "train")):
            run = runs[f"{generation}, {how}"] = work / f"{how}-{model}"
            if not (run / "result.json").exists():
                more = WITH_LABELS if how == "labels" else ()
                words = (*command, images, "--model", model, "--epochs", epochs, "--out", run, "--resume", "auto")
                convnext(*words, *COMMON, *more)
    return runs


def draw(curves: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Each figure over the blocks in a panel, V1 in one colour and V2 in the other, FCMAE dashed."""
    figure = Figure(figsize=(10, 3.6))
    panels = figure.subplots(1, 2)
    for panel, title in zip(panels, ("feature cosine distance", "class selectivity, mean of channels"), strict=True):
        for name, values in curves[title].items():
            colour, line = "C0" if name.startswith("V1") else "C1", "--" if name.endswith("FCMAE") else "-"
            panel.plot(range(1, len(values) + 1), values, line, color=colour, marker=".", label=name)
        panel.set(title=title, xlabel="block", ylim=(0, None))
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    parser.add_argument("--plot", type=Path, help="a picture of both figures over the blocks")
    args = parser.parse_args()
    runs = train(args.data, args.work, args.epochs)
    sources, looks = [str(run) for run in runs.values()], args.work / "looks"
    found: dict[str, list[dict[str, Any]]] = {
        "feature cosine distance": collapse(sources, str(args.data / "val"), looks),
        "class selectivity, mean of channels": selectivity(sources, str(args.data), looks, split="val"),
    }
    figure = {"feature cosine distance": "distance", "class selectivity, mean of channels": "mean"}
    curves = {
        title: {name: [row[figure[title]] for row in rows if row["source"] == str(run)] for name, run in runs.items()}
        for title, rows in found.items()
    }
    rows = []
    for name, run in runs.items():
        top1 = json.loads((run / "result.json").read_text()).get("top1")
        distance, chosen = (curves[title][name] for title in found)
        rows.append([name, top1, min(distance), np.mean(distance), np.mean(chosen), chosen[-1]])
        print(*rows[-1])
    if args.plot:
        draw(curves, args.plot)
    if args.json:
        note = (
            f"Atto at 96 pixels, {args.epochs} epochs of 3,000 images of Imagenette, AdamW, one run each; measured "
            "on the 1,000 validation images."
        )
        title = "What V1 and V2 have learned, with labels and by FCMAE"
        write_result(args.json, title=title, columns=COLUMNS, rows=rows, seed=0, note=note)


if __name__ == "__main__":
    main()
