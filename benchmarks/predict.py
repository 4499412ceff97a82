"""From JPEG files to the five best labels, in images a second: ours against transformers' pipeline and timm.

    python benchmarks/predict.py IMAGENETTE [--model convnextv2_atto] [--threads 2] [--repeats 5] [--json FILE]

Two sets: 256 images of the folder given, and 64 JPEG files of 1500×2000 pixels made from it, with fine noise. All sides
hold the same random weights in fp32 and take batches of 16; ours are computed by what `load` chooses, which is OpenVINO
where it is installed, the others' by PyTorch, not compiled:

ours        `convnext.load(...)`, called with a list of paths
pipeline    transformers' image-classification pipeline, called with a list of paths; with its default processor and
            with Pillow's, each with no loading process and with two, of which the faster counts
timm        its model and its transform in a loop, or behind a DataLoader of two processes that live on, in either
            memory format, of which the faster counts

Before anything is timed, each side's pixels are compared with ours, in steps of 1/255; all but the default processor's
must lie within one, and the sides' first labels must be the same where pixels are. Calls take turns; figures are
medians.
"""

from __future__ import annotations

import argparse
import tempfile
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import transformers
from PIL import Image
from timing import machine, medians, say, write_result
from timm.data import create_transform
from torch.utils.data import DataLoader, Dataset

import convnext
from convnext.data.images.preprocessing import IMAGENET_STD, Preprocessing
from convnext.data.sources.image_files import find_images

BATCH, TOP = 16, 5
WORKERS = 2
COLUMNS: list[dict] = [
    {"name": "images"},
    {"name": "side"},
    {"name": "images/s", "digits": 1},
    {"name": "ours is × as fast", "digits": 2},
    {"name": "most that pixels differ, 1/255", "digits": 2},
]
Call = Callable[[], list[list[str]]]


def make_large(paths: Sequence[Path], folder: Path) -> list[Path]:
    """JPEG files of 1500×2000 pixels of photographs scaled up, with noise in place of the detail that they lack."""
    noise = np.random.default_rng(0)
    made = []
    for number, path in enumerate(paths):
        image = Image.open(path).convert("RGB").resize((1500, 2000), Image.Resampling.BICUBIC)
        pixels = np.asarray(image) + noise.normal(0, 4, (2000, 1500, 3))
        made.append(folder / f"{number}.jpg")
        Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)).save(made[-1], quality=90)
    return made


def weights(name: str, folder: Path) -> Path:
    """Random weights, GRN's included, with the papers' preprocessing."""
    torch.manual_seed(0)
    model = convnext.create_model(name)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if ".grn." in key:
                parameter.normal_(std=0.1)
    meta = {"preprocessing": Preprocessing.standard(224).to_dict()}
    convnext.save_weights(model, folder / "ours.safetensors", meta=meta)
    return folder / "ours.safetensors"


class Transformed(Dataset):
    """Files as timm's transform gives them."""

    def __init__(self, paths: Sequence[Path], transform: Any) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


class Sides:
    """What is compared, each a name and calls that do the same, of which the fastest counts."""

    def __init__(self, name: str, folder: Path) -> None:
        source = weights(name, folder)
        for layout in ("hf", "timm"):
            convnext.convert(source, folder / layout, layout)
        self.ours = convnext.load(source, device="cpu")
        self.names = self.ours.answers
        self.timm = timm.create_model(f"local-dir:{folder / 'timm'}", pretrained=True).eval()
        config = timm.data.resolve_data_config({}, model=self.timm)
        self.transform = create_transform(**config)
        backends = {"pipeline": {}, "pipeline, Pillow's processor": {"backend": "pil"}}
        self.processors = {
            title: transformers.AutoImageProcessor.from_pretrained(folder / "hf", **how)
            for title, how in backends.items()
        }
        self.pipelines = {
            title: transformers.pipeline(
                "image-classification", str(folder / "hf"), image_processor=processor, device="cpu"
            )
            for title, processor in self.processors.items()
        }

    def calls(self, paths: list[Path]) -> dict[str, list[Call]]:
        """All sides, on these files."""
        return {
            "ours": [lambda: self._labels(self.ours(paths, top_k=TOP))],
            **{title: [self._pipeline(title, paths, n) for n in (0, WORKERS)] for title in self.pipelines},
            "timm": self._timm(paths, 0),
            f"timm, {WORKERS} loading processes": self._timm(paths, WORKERS),
        }

    def _labels(self, answers: list[Any]) -> list[list[str]]:
        return [[label["label"] for label in answer] for answer in answers]

    def _pipeline(self, title: str, paths: list[Path], workers: int) -> Call:
        names = [str(path) for path in paths]
        pipeline = self.pipelines[title]
        return lambda: self._labels(pipeline(names, top_k=TOP, batch_size=BATCH, num_workers=workers))

    def _timm(self, paths: list[Path], workers: int) -> list[Call]:
        loader = DataLoader(
            Transformed(paths, self.transform),
            batch_size=BATCH,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

        def call(memory_format: torch.memory_format) -> Call:
            model = timm.create_model(self.timm.default_cfg["architecture"]).eval().to(memory_format=memory_format)
            model.load_state_dict(self.timm.state_dict())

            @torch.inference_mode()
            def run() -> list[list[str]]:
                found = []
                for batch in loader:
                    best = model(batch.to(memory_format=memory_format)).softmax(-1).topk(TOP)
                    scored = zip(best.values.tolist(), best.indices.tolist(), strict=True)
                    found += [[self.names[i] for _, i in zip(*pair, strict=True)] for pair in scored]
                return found

            return run

        return [call(torch.contiguous_format), call(torch.channels_last)]

    def differences(self, paths: Sequence[Path]) -> dict[str, float]:
        """The most that each side's pixels differ from ours, in steps of 1/255."""
        step = torch.tensor(IMAGENET_STD)[:, None, None] * 255
        images = [Image.open(path).convert("RGB") for path in paths]
        ours = [self.ours.transform(self.ours.read(path)) for path in paths]
        theirs: dict[str, list[torch.Tensor]] = {
            title: [torch.as_tensor(np.asarray(processor(image)["pixel_values"][0])) for image in images]
            for title, processor in self.processors.items()
        }
        theirs["timm"] = theirs[f"timm, {WORKERS} loading processes"] = [self.transform(image) for image in images]
        return {
            title: max(((a - b).abs() * step).max().item() for a, b in zip(found, ours, strict=True))
            for title, found in theirs.items()
        }


def measure(sides: Sides, name: str, paths: list[Path], repeats: int) -> list[list]:
    """Rows of the table."""
    differ = {"ours": 0.0, **sides.differences(paths)}
    assert all(most <= 1.001 for title, most in differ.items() if title != "pipeline"), differ
    calls = sides.calls(paths)
    expected = [labels[0] for labels in calls["ours"][0]()]
    chosen: dict[str, Call] = {}
    for title, same in calls.items():
        for call in same:
            agreed = np.mean([labels[0] == label for labels, label in zip(call(), expected, strict=True)])
            assert agreed > (0.95 if differ[title] <= 1.001 else 0.5), (title, agreed)
        chosen[title] = min(same, key=seconds)
    times = medians(list(chosen.values()), repeats)
    speeds = {title: len(paths) / time * 1e3 for title, time in zip(chosen, times, strict=True)}
    return [[name, title, speed, speeds["ours"] / speed, differ[title]] for title, speed in speeds.items()]


def seconds(call: Call) -> float:
    """The faster of two calls."""
    return min(timeit.repeat(call, number=1, repeat=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of images")
    parser.add_argument("--model", default="convnextv2_atto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--count", type=int, default=256, help="images of the folder; of the large ones a quarter")
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    print(f"{machine()}; {args.threads} threads; medians of {args.repeats}", flush=True)
    rows: list[list] = []
    with tempfile.TemporaryDirectory() as scratch:
        found = find_images(args.data)
        small = found[:: max(1, len(found) // args.count)][: args.count]
        large = make_large(small[::4], Path(scratch))
        sides = Sides(args.model, Path(scratch))
        for name, paths in (("Imagenette", small), ("1500×2000", large)):
            for row in measure(sides, f"{len(paths)} of {name}", paths, args.repeats):
                rows.append(row)
                say(COLUMNS, rows)
    if args.json:
        write_result(
            args.json,
            title=f"From JPEG files to labels with {args.model}",
            columns=COLUMNS,
            rows=rows,
            note=f"{args.threads} threads, fp32, eager, batches of {BATCH}; medians of {args.repeats} calls in turn",
            seed=0,
            peers=("timm", "transformers", "pillow"),
        )


if __name__ == "__main__":
    main()
