"""Validation images that are training images too, byte for byte, at the cost of a look at the files' sizes.

Of files, only those are read whose size is that of a file in the other part: first their ends, which tell pictures of
one camera and form from each other, and whole where the ends are equal. What took long is remembered, by the names,
sizes and dates of all files.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import blake2b
from typing import Any

from convnext.data.fingerprint import READERS, digest_of_files, states_of_files
from convnext.data.image_set import ImageSet
from convnext.data.shards.members import read_member
from convnext.errors import ImageError, InputError
from convnext.storage.files import cache_folder, whole_file

END = 4096
"""Bytes at the end of a file that are compared first."""
LONG = 1.0
"""Seconds from which a result is worth remembering."""
AT_ONCE = 256
"""Files that are read before the clock is looked at again."""


def count_copies(data: str, train: Any, val: Any, *, seconds: float) -> int | None:
    """The images of `val` whose bytes are those of an image of `train`; None where that would take more than so many
    seconds, or images would have to be fetched or decoded for it."""
    begun = time.monotonic()
    if isinstance(train, ImageSet) and (train.images is not None or train.members is not None):
        return _count_inside(train, val, begun + seconds)
    files = {"train": train.sources, "val": val.sources}
    states = {name: states_of_files(own) for name, own in files.items()}
    memory = cache_folder() / "copies" / f"{digest_of_files(data, files, states)}.json"
    with suppress(OSError, ValueError, LookupError, TypeError):  # not kept, or damaged: it is counted anew
        return int(json.loads(memory.read_text())["copies"])
    sizes = {name: [state.size for state in own] for name, own in states.items()}
    suspects = {name: _of_shared_size(own, sizes, name) for name, own in files.items()}
    for most in (END, None):
        digests = {name: _digests(own, most, begun + seconds) for name, own in suspects.items()}
        if (ours := digests["train"]) is None or (theirs := digests["val"]) is None:
            return None
        shared = set(ours.values()) & set(theirs.values())
        suspects = {
            name: [file for file in suspects[name] if own.get(file) in shared]
            for name, own in (("train", ours), ("val", theirs))
        }
    copies = set(suspects["val"])
    count = sum(file in copies for file in val.sources)
    if time.monotonic() - begun > LONG:
        with suppress(OSError, InputError):  # what cannot be kept is counted again the next time
            memory.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(memory) as temporary:
                temporary.write_text(json.dumps({"copies": count}))
    return count


def _of_shared_size(files: Sequence[str], sizes: dict[str, list[int]], name: str) -> list[str]:
    shared = set(sizes["train"]) & set(sizes["val"])
    own = zip(files, sizes[name], strict=True)
    return list(dict.fromkeys(file for file, size in own if size > 0 and size in shared))


def _digests(files: Sequence[str], most: int | None, end: float) -> dict[str, bytes] | None:
    """The digest of each file's size and end, or of all of it; without those that cannot be read. None where the time
    is up."""

    def digest(file: str) -> bytes:
        try:
            with open(file, "rb") as opened:
                size = os.fstat(opened.fileno()).st_size
                opened.seek(0 if most is None else max(0, size - most))
                return blake2b(opened.read(), digest_size=16, key=size.to_bytes(8, "big")).digest()
        except OSError:
            with suppress(ImageError):  # reading it for training names it
                if (inside := read_member(file)) is not None:
                    last = inside if most is None else inside[-most:]
                    return blake2b(last, digest_size=16, key=len(inside).to_bytes(8, "big")).digest()
            return b""

    found: dict[str, bytes] = {}
    with ThreadPoolExecutor(READERS) as threads:
        for first in range(0, len(files), AT_ONCE):
            if time.monotonic() > end:
                return None
            some = files[first : first + AT_ONCE]
            found.update((file, own) for file, own in zip(some, threads.map(digest, some), strict=True) if own)
    return found


def _count_inside(train: ImageSet, val: ImageSet, end: float) -> int | None:
    """Number of validation images that are training images too, among images in memory or in shards of this machine."""
    sizes = {name: _stored_sizes(part) for name, part in (("train", train), ("val", val))}
    if (ours := sizes["train"]) is None or (theirs := sizes["val"]) is None:
        return None
    shared = set(ours) & set(theirs)
    found: list[list[bytes]] = []
    for part, own in ((train, ours), (val, theirs)):
        digests = []
        for content in _contents(part, [place for place, size in enumerate(own) if size in shared]):
            if time.monotonic() > end:
                return None
            digests.append(blake2b(content, digest_size=16).digest())
        found.append(digests)
    trained = set(found[0])
    return sum(digest in trained for digest in found[1])


def _stored_sizes(part: ImageSet) -> Sequence[int] | None:
    if part.images is not None:
        return [part.images[0].nbytes] * len(part)
    return None if part.members is None else part.members.sizes()


def _contents(part: ImageSet, places: Sequence[int]) -> Iterator[bytes]:
    for place in places:
        with suppress(ImageError):  # reading it for training names it
            yield part.content(place) if part.images is None else part.images[place].tobytes()
