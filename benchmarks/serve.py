"""Serving under load: `convnext serve` against the bare predictor, transformers' pipeline behind FastAPI, and LitServe.

    python benchmarks/serve.py [--model convnextv2_atto] [--size 224] [--seconds 20] [--minutes 5] [--repeats 3]
                               [--images FOLDER] [--only throughput,latency] [--json FILE] [--latency-json FILE]

All sides hold the same random weights in fp32 and answer about the same JPEG files with the five best labels, on this
machine's loopback; the client shares its cores, and its share is stated.

predictor   `convnext.load(...)` called with lists of the files' bytes, 64 at a time, in one process: no http
ours        `convnext serve`, the file as the body
pipeline    a plain FastAPI server around transformers' image-classification pipeline, the file as a form
litserve    LitServe around the bare predictor, batches of 16, the file as a form; with one and two workers, of which
            the faster counts. It needs `pip install litserve`, and is left out where it is not installed.

Throughput is that of 16 connections that each wait for their answer (by `hey`, where Debian's is installed, else by a
client of our own), the sides in turn; the median of the repeats. Latency is that of requests which come at a fixed
rate, whatever the server does (an open loop), from the time when each was due: at 50 % and 90 % of the throughput, and
at three times that for some minutes, with the memory of all the server's processes.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from load import Side, at_rate, throughput
from PIL import Image
from tables import Row
from timing import machine, say, write_result

import convnext

THROUGHPUT: list[dict] = [
    {"name": "side", "head": ""},
    {"name": "images/s", "digits": 1},
    {"name": "ours is × as fast", "digits": 2},
    {"name": "client's share of the cores", "digits": 2},
]
LATENCY: list[dict] = [
    {"name": "load", "head": "load"},
    {"name": "requests/s", "digits": 1},
    {"name": "answered", "digits": 0},
    {"name": "shed", "digits": 0},
    {"name": "failed", "digits": 0},
    {"name": "p50 ms", "digits": 1},
    {"name": "p95 ms", "digits": 1},
    {"name": "p99 ms", "digits": 1},
    {"name": "memory MB, first", "digits": 0},
    {"name": "memory MB, last", "digits": 0},
]

PIPELINE = """
import io, sys
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image
from transformers import pipeline

label = pipeline("image-classification", sys.argv[1], device="cpu")
app = FastAPI()

@app.post("/predict")
def predict(image: UploadFile):
    return label(Image.open(io.BytesIO(image.file.read())).convert("RGB"), top_k=5)

uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
"""
LITSERVE = """
import sys
import litserve
import convnext

class Labels(litserve.LitAPI):
    def setup(self, device):
        self.predictor = convnext.load(sys.argv[1], device="cpu")

    def decode_request(self, request):
        return request["image"].file.read()

    def batch(self, inputs):
        return inputs

    def predict(self, contents):
        return self.predictor(list(contents))

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"labels": output}

if __name__ == "__main__":
    api = Labels(max_batch_size=16, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(sys.argv[3]), timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
"""
PREDICTOR = """
import sys, time
from pathlib import Path
import convnext

predictor = convnext.load(sys.argv[1], device="cpu")
contents = [path.read_bytes() for path in sorted(Path(sys.argv[2]).iterdir())]
contents = (contents * 64)[:64]
predictor(contents), predictor(contents)
start, count = time.perf_counter(), 0
while time.perf_counter() - start < float(sys.argv[3]):
    predictor(contents)
    count += len(contents)
print(count / (time.perf_counter() - start))
"""


def write_files(folder: Path, count: int = 32) -> list[Path]:
    """JPEG files of 500×375 pixels, of smooth shapes with fine noise."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)) + rng.normal(0, 6, (375, 500, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:03}.jpg", quality=90)
    return sorted(folder.iterdir())


def write_model(folder: Path, name: str, size: int) -> tuple[Path, Path]:
    """Random weights in our layout and transformers'."""
    torch.manual_seed(0)
    source, names = folder / "x.safetensors", [str(number) for number in range(1000)]
    meta = {"task": "classify", "classes": names, "multi_label": False, "image_size": size}
    convnext.save_weights(convnext.create_model(name, num_classes=1000), source, meta=meta)
    convnext.convert(source, folder / "hf", "hf")
    return source, folder / "hf"


def predictor_rate(source: Path, images: Path, seconds: float) -> float:
    """Images a second of the bare predictor."""
    command = [sys.executable, "-c", PREDICTOR, str(source), str(images), str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="convnextv2_atto")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--only", default="throughput,latency")
    parser.add_argument("--json", type=Path, help="write the throughput and its origin too")
    parser.add_argument("--latency-json", type=Path, help="write the latency and its origin too")
    args = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = args.images or folder / "images"
        if args.images is None:
            images.mkdir()
            write_files(images)
        contents = [path.read_bytes() for path in sorted(images.iterdir())][:64]
        source, peer = write_model(folder, args.model, args.size)
        sides = sides_of(source, peer, folder)
        rows: list[Row] = []
        if "throughput" in args.only:
            rows = compare(sides, source, images, contents, folder, args)
        latencies = measure_latency(sides[0], contents, folder, args) if "latency" in args.only else []
    for path, columns, found, title in (
        (args.json, THROUGHPUT, rows, "Serving: throughput of 16 connections"),
        (args.latency_json, LATENCY, latencies, "Serving: latency of requests at fixed rates"),
    ):
        if path is not None:
            note = f"{args.model} at {args.size} pixels, random weights, fp32; loads are shares of the throughput."
            write_result(path, title=title, columns=columns, rows=found, note=note, peers=("transformers", "openvino"))


def sides_of(source: Path, peer: Path, folder: Path) -> list[Side]:
    """The servers; ours is the first."""
    python = sys.executable
    ours = [python, "-m", "convnext", "serve", str(source), "--device", "cpu", "--port", "{port}"]
    (folder / "pipeline.py").write_text(PIPELINE)
    pipeline = [python, str(folder / "pipeline.py"), str(peer), "{port}"]
    sides = [Side("ours", ours, "/v1/predict", as_form=False), Side("pipeline", pipeline, "/predict", as_form=True)]
    if find_spec("litserve") is not None:
        (folder / "lit.py").write_text(LITSERVE)
        for workers in ("1", "2"):
            command = [python, str(folder / "lit.py"), str(source), "{port}", workers]
            sides.append(Side(f"litserve, workers {workers}", command, "/predict", as_form=True))
    return sides


def compare(
    sides: Sequence[Side],
    source: Path,
    images: Path,
    contents: Sequence[bytes],
    folder: Path,
    args: argparse.Namespace,
) -> list[Row]:
    """Rows on the throughput of all sides."""
    rates: dict[str, list[float]] = {"predictor": [], **{side.name: [] for side in sides}}
    shares: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(args.repeats):
        rates["predictor"].append(predictor_rate(source, images, args.seconds))
        for side in sides:
            with side.running(contents) as (port, _):
                rate, share = throughput(port, side, contents, folder, args.seconds)
            rates[side.name].append(rate)
            shares[side.name].append(share)
    ours, rows = statistics.median(rates["ours"]), []
    for name, found in rates.items():
        rate = statistics.median(found)
        share = statistics.median(shares[name]) if name in shares else None
        rows.append([name, rate, ours / rate, share])
        say(THROUGHPUT, rows)
    return rows


def measure_latency(side: Side, contents: Sequence[bytes], folder: Path, args: argparse.Namespace) -> list[Row]:
    """Rows on our server at rates below and above its capacity."""
    rows: list[Row] = []
    with side.running(contents) as (port, process):
        capacity, _ = throughput(port, side, contents, folder, args.seconds)
        for name, share, seconds in (
            ("50 %", 0.5, 3 * args.seconds),
            ("90 %", 0.9, 3 * args.seconds),
            ("3 ×", 3.0, 60 * args.minutes),
        ):
            rows.append(at_rate(name, port, side, process, contents, share * capacity, seconds))
            say(LATENCY, rows)
    return rows


if __name__ == "__main__":
    main()
