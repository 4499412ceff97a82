"""Inference on a CPU by every engine, against the best that others offer, on the same weights.

    python benchmarks/inference.py [--only tiny] [--repeats 9] [--threads 2] [--json FILE]

Two rows a cell: `core` is what `pip install .` brings (PyTorch, and PyTorch compiled), against timm, timm
compiled with frozen weights, and transformers; `extras` is OpenVINO on our weights, or our int8 export, against
the best of these and of ONNX Runtime and OpenVINO on timm's own export, made for that shape alone. int8 of others is
NNCF with its defaults on that export. A contestant is a process of its own, for their threads disturb each other, and
calls go round in random order: each has one, after a pause, then each the next. A time is the median. Logits are
compared before anything is timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import machine, say, write_result
from torch.utils.flop_counter import FlopCounterMode

SIDE, CLASSES = 224, 1000
PAUSE = 0.05
"""Seconds before each call, in which the threads of the one before it cease to wait for more work."""
CELLS = [
    *[(f"convnextv2_{size}", batch) for size in ("atto", "tiny") for batch in (1, 16)],
    ("convnextv2_base", 1),
]
PRECISIONS = ("fp32", "bf16", "int8")
CORE = {"fp32": ("ours eager", "ours compiled"), "bf16": ("ours eager", "ours compiled"), "int8": ()}
EXTRAS = {
    "fp32": ("ours openvino", "ours compiled"),
    "bf16": ("ours openvino", "ours compiled"),
    "int8": ("ours int8",),
}
PEERS = {
    "fp32": ("timm", "timm compiled", "transformers"),
    "bf16": ("timm", "timm compiled", "transformers"),
    "int8": (),
}
PEER_EXTRAS = {"fp32": ("onnxruntime", "openvino"), "bf16": ("openvino",), "int8": ("nncf",)}
COLUMNS: list[dict] = [
    {"name": "case", "head": ""},
    {"name": "ours"},
    {"name": "ms", "digits": 1},
    {"name": "best peer"},
    {"name": "its ms", "digits": 1},
    {"name": "ratio", "digits": 2},
    {"name": "of the peak", "digits": 2},
    {"name": "load, s", "digits": 1},
    {"name": "difference", "digits": 5},
]

Call = Callable[[np.ndarray], Any]


def weights(name: str) -> torch.nn.Module:
    """Our network with random weights, so scaled that logits differ."""
    import convnext

    torch.manual_seed(0)
    model = convnext.create_model(name, num_classes=CLASSES).eval().requires_grad_(False)
    for key, parameter in model.named_parameters():
        if ".grn." in key:
            parameter.normal_(std=0.1)
        if key.endswith("pwconv2.weight") or key == "head.weight":
            parameter.mul_(5)
    return model


def timm_model(name: str) -> torch.nn.Module:
    """timm's network with our weights, in the memory format that is its fastest."""
    import timm

    from convnext.weights.layouts import from_official

    model = timm.create_model(name)
    model.load_state_dict(from_official(weights(name).state_dict(), "timm"))
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def calling(run: Callable, precision: str) -> Call:
    """A call of a PyTorch network of that type."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def call(images: np.ndarray) -> torch.Tensor:
        with torch.inference_mode():
            tensor = torch.from_numpy(images).to(dtype, memory_format=torch.channels_last)
            return run(tensor).float()

    return call


def build(who: str, name: str, batch: int, precision: str, folder: Path) -> Call:
    """A contestant, ready to be called."""
    if who.startswith("ours") and who != "ours int8":
        from convnext.inference.backends.network import use_backend

        model: Any = weights(name)
        use_backend(model, {"eager": "torch", "compiled": "compile"}.get(who[5:], who[5:]), precision)
        if who == "ours openvino":
            return lambda images: model(torch.from_numpy(images))
        return calling(model, precision)
    if who in ("timm", "timm compiled"):
        from torch._inductor import config

        config.freezing = True
        model = timm_model(name).to(torch.bfloat16 if precision == "bf16" else torch.float32)
        return calling(torch.compile(model) if who == "timm compiled" else model, precision)
    if who == "transformers":
        from transformers import ConvNextV2ForImageClassification

        model = ConvNextV2ForImageClassification.from_pretrained(folder / f"{name}-hf").eval()
        model.to(torch.bfloat16 if precision == "bf16" else torch.float32, memory_format=torch.channels_last)
        return calling(lambda images: model(images).logits, precision)
    if who == "ours int8":
        import convnext

        network = convnext.load(folder / f"{name}-int8.xml").model
        return lambda images: network(torch.from_numpy(images))
    if who == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(folder / f"{name}-{batch}.onnx", options)
        return lambda images: torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images})[0])
    import openvino

    hint = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    file = folder / (f"{name}-{batch}-nncf.xml" if who == "nncf" else f"{name}-{batch}.onnx")
    compiled = openvino.Core().compile_model(file, "CPU", hint)
    return lambda images: torch.from_numpy(compiled(images)[0])


def contestant(pipe: Any, threads: int, *what: Any) -> None:
    """A process: says how long it took to be ready for a second call, and its logits; then the time of each call."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    images = pictures(what[2])
    begin = time.perf_counter()
    call = build(*what)
    found = call(images)
    pipe.send((time.perf_counter() - begin, found[:2].numpy()))
    for _ in range(3):
        call(images)
    while pipe.recv():
        start = time.perf_counter()
        call(images)
        pipe.send(1000 * (time.perf_counter() - start))


def pictures(batch: int) -> np.ndarray:
    """Normalised images, of smooth random colours."""
    torch.manual_seed(1)
    small = torch.randn(batch, 3, 14, 14)
    return torch.nn.functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear").numpy()


def prepare(name: str, batch: int, precision: str, folder: Path) -> None:
    """Write the files that contestants read."""
    import convnext

    source, other = folder / f"{name}.safetensors", folder / f"{name}-hf"
    if not source.exists():
        names = [str(number) for number in range(CLASSES)]
        convnext.save_weights(weights(name), source, meta={"task": "classify", "classes": names, "multi_label": False})
        convnext.convert(source, other, "hf")
    onnx = folder / f"{name}-{batch}.onnx"
    if not onnx.exists():
        torch.onnx.export(timm_model(name), (torch.from_numpy(pictures(batch)),), onnx, dynamo=True, verbose=False)
    if precision != "int8":
        return
    if not (folder / f"{name}-int8.xml").exists():
        convnext.export(source, folder / f"{name}-int8.xml", format="openvino", int8=calibration(folder))
    import nncf
    import openvino

    model = openvino.Core().read_model(onnx)
    batches = [pictures(batch) + np.float32(0.1 * shift) for shift in range(max(2, 32 // batch))]
    openvino.save_model(nncf.quantize(model, nncf.Dataset(batches)), folder / f"{name}-{batch}-nncf.xml")


def calibration(folder: Path) -> Path:
    """A folder of 32 images, to find the ranges of activations by."""
    from PIL import Image

    place = folder / "calibration"
    place.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(32):
        small = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
        small.resize((256, 256), Image.Resampling.BILINEAR).save(place / f"{number}.png")
    return place


def peak(precision: str) -> float:
    """Operations per second of a large matrix product, the best of ten."""
    matrix = torch.ones(2048, 2048, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times)


def operations(name: str) -> int:
    """Operations of an image's forward pass, two a multiplication with its addition."""
    import timm

    model = timm.create_model(name).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, SIDE, SIDE))
    return counter.get_total_flops()


def race(who: list[str], repeats: int, threads: int, *what: Any) -> dict[str, tuple[float, float, np.ndarray]]:
    """Milliseconds, seconds until ready, and logits of each contestant."""
    context = multiprocessing.get_context("spawn")
    pipes, ready = {}, {}
    for each in who:
        pipes[each], end = context.Pipe()
        context.Process(target=contestant, args=(end, threads, each, *what), daemon=True).start()
        ready[each] = pipes[each].recv()  # one after the other: each gets ready with all cores
    times: dict[str, list[float]] = {each: [] for each in who}
    order = random.Random(0)
    for _ in range(repeats):
        for each in order.sample(who, len(who)):
            time.sleep(PAUSE)
            pipes[each].send(True)
            times[each].append(pipes[each].recv())
    for pipe in pipes.values():
        pipe.send(False)
    return {each: (statistics.median(times[each]), *ready[each]) for each in who}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cells whose name holds this text, as `atto, batch 1, bf16`")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    extras = all(importlib.util.find_spec(name) for name in ("openvino", "onnxruntime", "nncf"))
    print(f"{machine()}; {args.threads} threads", flush=True)
    peaks = {precision: peak(precision) for precision in ("fp32", "bf16")}
    rows: list[list] = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, batch in CELLS:
            work = operations(name) * batch
            expected = weights(name)(torch.from_numpy(pictures(batch)[:2])).numpy()
            span = expected.max() - expected.min()
            for precision in PRECISIONS:
                cell = f"{name}, batch {batch}, {precision}"
                if args.only not in cell:
                    continue
                prepare(name, batch, precision, Path(temporary))
                sides = [("core", CORE[precision], PEERS[precision])]
                if extras:
                    sides.append(("extras", EXTRAS[precision], (*PEERS[precision], *PEER_EXTRAS[precision])))
                everybody = list(dict.fromkeys(each for _, ours, peers in sides for each in (*ours, *peers)))
                found = race(everybody, args.repeats, args.threads, name, batch, precision, Path(temporary))
                for each, (_, _, logits) in found.items():
                    off = np.abs(logits - expected[: len(logits)]).max() / span
                    assert off < {"fp32": 1e-4, "bf16": 5e-2, "int8": 1.0}[precision], (cell, each, off)
                for side, ours, peers in sides:
                    if not ours:
                        continue
                    mine, peer = (min(group, key=lambda each: found[each][0]) for group in (ours, peers))
                    ms, load, logits = found[mine]
                    share = work / (ms / 1000) / peaks[precision] if precision in peaks else None
                    off = float(np.abs(logits - expected[: len(logits)]).max() / span)
                    row = [f"{cell}, {side}", mine, ms, peer, found[peer][0], found[peer][0] / ms, share, load, off]
                    rows.append(row)
                    say(COLUMNS, rows)
                print("  " + ", ".join(f"{each} {ms:.1f}" for each, (ms, _, _) in found.items()), flush=True)
    if args.json:
        note = (
            f"{args.threads} threads; medians of {args.repeats} calls in turn, a process for each contestant; products "
            f"{peaks['fp32'] / 1e9:.0f} GFLOP/s in fp32 and {peaks['bf16'] / 1e9:.0f} in bf16. `difference` is the "
            "largest from PyTorch's logits in fp32, as a share of their range."
        )
        title = "Inference on a CPU, each engine against the best of others"
        peers = ("timm", "transformers", "onnxruntime", "openvino", "nncf")
        write_result(args.json, title=title, columns=COLUMNS, rows=rows, peers=peers, note=note)


if __name__ == "__main__":
    main()
