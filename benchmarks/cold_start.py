"""A program's first answer about one image: `convnext predict` with exports, against transformers' pipeline.

    python benchmarks/cold_start.py [--repeats 7] [--json FILE]

Programs are started in turn, with the same weights and image, and run to their end; a time is the median. Beside them
stands `import torch` alone, which a compiled package needs, and ONNX files and OpenVINO's do not.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timing import machine, say, write_result

import convnext

NAME, CLASSES = "convnextv2_atto", 1000
PIPELINE = "import sys; from transformers import pipeline; pipeline('image-classification', sys.argv[1])(sys.argv[2])"
COLUMNS: list[dict] = [
    {"name": "program", "head": ""},
    {"name": "seconds", "digits": 2},
    {"name": "of the pipeline", "digits": 2},
    {"name": "of import torch", "digits": 2},
]


def programs(folder: Path) -> dict[str, list[str]]:
    """Commands by name, with the files that they need written to `folder`."""
    torch.manual_seed(0)
    source, image = folder / "x.safetensors", folder / "x.jpg"
    names = [str(number) for number in range(CLASSES)]
    model = convnext.create_model(NAME, num_classes=CLASSES)
    convnext.save_weights(model, source, meta={"task": "classify", "classes": names, "multi_label": False})
    convnext.convert(source, folder / "hf", "hf")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 25, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((500, 400), Image.Resampling.BICUBIC).save(image)
    predict = [sys.executable, "-m", "convnext", "predict"]
    found = {}
    for format, suffix in (("onnx", ".onnx"), ("openvino", ".xml"), ("aot", ".pt2")):
        out = convnext.export(source, folder / f"x{suffix}", format=format).path
        backends = ("onnxruntime", "openvino") if format == "onnx" else (format,)
        for backend in backends:
            name = f"convnext predict x{suffix}" + (f" --backend {backend}" if format == "onnx" else "")
            found[name] = [*predict, str(out), str(image), "--backend", backend]
    return found | {
        "convnext predict x.safetensors": [*predict, str(source), str(image)],
        "transformers' pipeline": [sys.executable, "-c", PIPELINE, str(folder / "hf"), str(image)],
        "import torch": [sys.executable, "-c", "import torch"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        commands = programs(Path(folder))
        times: dict[str, list[float]] = {name: [] for name in commands}
        for repeat in range(-1, args.repeats):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                if repeat >= 0:
                    times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(taken) for name, taken in times.items()}
    rows: list[list] = []
    for name, seconds in median.items():
        rows.append([name, seconds, seconds / median["transformers' pipeline"], seconds / median["import torch"]])
        say(COLUMNS, rows)
    if args.json:
        note = f"{NAME}, one image of 500×400 pixels, started in turn, medians of {args.repeats}."
        title = "A program's first answer, from its start to its end"
        write_result(args.json, title=title, columns=COLUMNS, rows=rows, peers=("transformers",), note=note)


if __name__ == "__main__":
    main()
