"""Exported models: which files they are, and what is known of them.

An export holds a network's computation, not weights to train. What this project knows of it travels inside, as JSON
under the key `convnext`; of it, `export` says how it was made and what it takes.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from convnext.errors import WeightsError

KEY = "convnext"
FORMATS = {"onnx": ".onnx", "openvino": ".xml", "aot": ".pt2"}
"""Suffix of each format's files."""
VERSION = 1
"""Version of an export's metadata; files with a higher one are refused."""


def is_export(path: str | Path) -> bool:
    """Whether a file is an exported model, by its suffix."""
    return Path(path).suffix in FORMATS.values()


def export_meta(path: Path) -> dict[str, Any]:
    """Metadata of an exported model.

    Raises:
        WeightsError: a damaged file, one that this project did not write, or of a newer version.
    """
    read = {".onnx": _of_onnx, ".xml": _of_openvino, ".pt2": _of_package}[path.suffix]
    text = read(path)
    try:
        meta = json.loads(text or "")
        version = meta["export"]["version"]
    except (ValueError, TypeError, KeyError):
        raise WeightsError(f"{path} does not say how it is used: `convnext export` did not write it") from None
    if version > VERSION:
        raise WeightsError(f"{path} was written by a newer version of convnext; install that")
    return meta


def _of_onnx(path: Path) -> str | None:
    try:
        import onnxruntime
    except ImportError:
        raise missing("onnxruntime", path) from None
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of types of its own, which share no base
        raise damaged(path, error) from None
    return session.get_modelmeta().custom_metadata_map.get(KEY)


def _of_openvino(path: Path) -> str | None:
    try:
        found = ElementTree.parse(path).getroot().find(f"./rt_info/{KEY}")
    except (ElementTree.ParseError, OSError) as error:
        raise damaged(path, error) from None
    return None if found is None else found.get("value")


def _of_package(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as package:
            for name in package.namelist():
                if name.endswith("_metadata.json"):
                    return json.loads(package.read(name)).get(KEY)
    except (zipfile.BadZipFile, OSError, ValueError, AttributeError) as error:
        raise damaged(path, error) from None
    return None


def damaged(path: Path, error: Exception) -> WeightsError:
    """Error for an export that its engine cannot open."""
    reason = (str(error) or type(error).__name__).splitlines()[0][:200]
    return WeightsError(f"{path} is no {path.suffix} model, or was damaged or cut short: {reason}")


def missing(package: str, path: Path) -> WeightsError:
    """Error for an export whose engine is not installed."""
    return WeightsError(f"{path} is run by {package}, which is not installed: pip install 'convnext[export]'")
