"""This package as a wheel, so that what answers elsewhere is what answered here, released or not."""

from __future__ import annotations

import base64
import hashlib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import convnext
from convnext.errors import InputError


def write_wheel(folder: Path) -> str:
    """Write this package, as it is installed here, as a wheel into a folder; returns the file's name.

    The same package gives the same bytes. `InputError` where it runs without being installed.
    """
    try:
        own = distribution("convnext")
    except PackageNotFoundError:
        raise InputError("no wheel can be written of convnext, which is not installed here: pip install it") from None
    about = f"convnext-{own.version}.dist-info"
    contents = {**_package(), **_description(own, about)}
    rows = [f"{name},{_digest(content)},{len(content)}" for name, content in contents.items()]
    contents[f"{about}/RECORD"] = "\n".join([*rows, f"{about}/RECORD,,", ""]).encode()
    name = f"convnext-{own.version}-py3-none-any.whl"
    with ZipFile(folder / name, "w", ZIP_DEFLATED) as wheel:
        for path, content in contents.items():
            entry = ZipInfo(path)  # of 1980, whenever it is written
            entry.external_attr, entry.compress_type = 0o644 << 16, ZIP_DEFLATED
            wheel.writestr(entry, content)
    return name


def _package() -> dict[str, bytes]:
    """The package's files by their paths in a wheel."""
    root = Path(convnext.__file__).parent
    inner = {path: path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file()}
    return {
        f"convnext/{name.as_posix()}": path.read_bytes()
        for path, name in inner.items()
        if not any(part.startswith((".", "__pycache__")) for part in name.parts)
    }


def _description(own: Distribution, about: str) -> dict[str, bytes]:
    """A wheel's metadata for installers: requirements, commands, licence."""
    wheel = "Wheel-Version: 1.0\nGenerator: convnext\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    texts = {name: own.read_text(name) for name in ("METADATA", "entry_points.txt", "licenses/LICENSE")}
    return {f"{about}/{name}": (text or "").encode() for name, text in {**texts, "WHEEL": wheel}.items()}


def _digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
