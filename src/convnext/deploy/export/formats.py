"""Writing an exported program in each format, with what is known of it inside."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from torch.export import ExportedProgram

from convnext.errors import InputError
from convnext.storage.exports import KEY

PRECISIONS = {"onnx": ("fp32", "fp16"), "openvino": ("fp32", "fp16", "bf16"), "aot": ("fp32", "bf16")}
"""Precisions of each format. OpenVINO's fp16 is that of the stored weights, and its bf16 that of the computation."""
TALKATIVE = ("torch.onnx", "torch.utils.cpp_extension", "nncf")
"""Loggers that tell of an exporter's own doings."""
LARGEST_ONNX = 2**31 - 2**24
"""Bytes of weights, at most: protobuf's limit, less some for the network itself."""


def write_onnx(program: ExportedProgram, path: Path, meta: dict[str, Any]) -> None:
    """One ONNX file, weights inside."""
    _onnx(program, path, meta)


def write_openvino(
    program: ExportedProgram, path: Path, meta: dict[str, Any], adapt: Callable[[Any], Any] | None = None
) -> None:
    """OpenVINO's `.xml` and, beside it, `.bin`; by way of ONNX, whose sizes stay free.

    `adapt` makes another model of OpenVINO's own before it is written.
    """
    with needs("openvino"):
        import openvino
    onnx = path.with_suffix(".onnx")
    _onnx(program, onnx, meta)
    model = openvino.convert_model(onnx)
    onnx.unlink()
    if adapt is not None:
        model = adapt(model)
    model.set_rt_info(json.dumps(meta), [KEY])
    openvino.save_model(model, path, compress_to_fp16=meta["export"]["precision"] == "fp16")


def note(path: Path, meta: dict[str, Any]) -> None:
    """Give an OpenVINO file other metadata."""
    tree = ElementTree.parse(path)
    entry = tree.find(f"./rt_info/{KEY}")
    assert entry is not None
    entry.set("value", json.dumps(meta))
    tree.write(path)


def write_package(program: ExportedProgram, path: Path, meta: dict[str, Any]) -> None:
    """PyTorch's compiled package, for the kind of processor that this machine has."""
    from torch._inductor import aoti_compile_and_package

    with quietly():
        aoti_compile_and_package(
            program, package_path=str(path), inductor_configs={"aot_inductor.metadata": {KEY: json.dumps(meta)}}
        )


def _onnx(program: ExportedProgram, path: Path, meta: dict[str, Any]) -> None:
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if size > LARGEST_ONNX:
        raise InputError(
            f"an ONNX file holds 2 GB, and this network {size / 1e9:.1f}: take --format aot, or onnx in fp16"
        )
    with needs("onnxscript"):
        import onnxscript  # noqa: F401 # what torch's exporter needs
    import torch

    with quietly():
        written = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["images"],
            output_names=list(meta["export"]["outputs"]),
            verbose=False,
            external_data=False,
        )
    assert written is not None
    written.model.metadata_props[KEY] = json.dumps(meta)
    written.save(path, external_data=False)


@contextmanager
def needs(package: str) -> Iterator[None]:
    """Inside, `package` is imported; `InputError` where it is not installed."""
    try:
        yield
    except ImportError:
        reason = f"this format needs {package}, which is not installed: pip install 'convnext[export]'"
        raise InputError(reason) from None


@contextmanager
def quietly() -> Iterator[None]:
    """Without what exporters and compilers print of themselves."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")  # about the exporters' own code, which a user cannot mend
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
