"""Frames of videos, by PyAV (the extra `video`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from convnext.data.images.decode import MAX_PIXELS
from convnext.errors import ImageError, InputError

VIDEO_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ogv", ".3gp"))


def videos_are_read() -> bool:
    """Whether PyAV is installed."""
    return find_spec("av") is not None


def count_frames(path: Path, rate: float) -> int:
    """Number of frames of a video at `rate` a second, at least one. `ImageError` if it cannot be read."""
    with _opened(path) as (container, stream):
        seconds = _seconds_by_header(container, stream)
        most = path.stat().st_size  # in bytes: frames that are more are none, whatever a damaged file says
        if seconds is None or seconds * rate > most:
            ends = (packet.pts for packet in container.demux(stream) if packet.pts is not None)
            seconds = float((max(ends, default=0) - (stream.start_time or 0)) * (stream.time_base or 0))
        if seconds * rate > most:
            raise ImageError(f"{path}: not a readable video (its {most} bytes are to last for {seconds:.0f} seconds)")
        return max(1, int(seconds * rate + 1e-6))


def _seconds_by_header(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6


def read_frames(path: Path, rate: float, first: int, count: int) -> list[Image.Image]:
    """The frames shown at (first, first + 1, ...) / `rate` seconds after the beginning, RGB and upright.

    Where a video ends before its header says, its last frame stands for those that are missing. `ImageError` if it
    cannot be read.
    """
    found: list[Image.Image] = []
    last = None
    with _opened(path) as (container, stream):
        base, start = float(stream.time_base or 0) or 1.0, stream.start_time or 0
        container.seek(int(first / rate / base) + start, stream=stream)
        for frame in container.decode(stream):
            now = ((frame.pts or 0) - start) * base
            while len(found) < count and last is not None and now > (first + len(found)) / rate + 1e-6:
                found.append(_picture(last))  # shown until this one
            last = frame
            if len(found) == count:
                return found
        if last is None:
            raise ImageError(f"{path}: a video without frames")
        return found + [_picture(last)] * (count - len(found))


def _picture(frame: Any) -> Image.Image:
    picture = frame.to_image()
    turned = int(getattr(frame, "rotation", 0) or 0)
    return picture.rotate(turned, expand=True) if turned else picture


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A video and its stream of pictures; inside, what is wrong with it is an `ImageError`."""
    if not videos_are_read():
        raise InputError(f"{path}: videos are read where PyAV is installed: pip install 'convnext[video]'")
    import av

    logging.getLogger("libav").setLevel(logging.CRITICAL)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ImageError(f"{path}: a video without pictures")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise ImageError(f"{path}: a video of a kind that is not read")
            stream.thread_count = 1  # each process that loads images has a core
            if stream.width * stream.height > MAX_PIXELS:
                raise ImageError(f"{path}: {stream.width}×{stream.height} pixels are more than are read")
            yield container, stream
    except (av.FFmpegError, OSError, ValueError, OverflowError) as error:
        if isinstance(error, ImageError | InputError):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ImageError(f"{path}: not a readable video ({reason})") from None
