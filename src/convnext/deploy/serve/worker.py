"""A worker: a process that holds every model, and answers one batch after the other.

Messages come on its standard input and go to its standard output; what libraries print goes to standard error. It
ends when its input does: a front process that was killed leaves no worker behind.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
import time
from importlib.util import find_spec
from typing import Any, BinaryIO

from convnext.cores import usable_cores
from convnext.deploy.serve.frames import Frame, pack_frame, read_frame
from convnext.deploy.serve.logs import log_as_json
from convnext.errors import InputError

log = logging.getLogger("convnext.serve")


def run_worker() -> None:
    """Load the models that the first message names, then answer batches until the input ends."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group; the front process says when to end
        signal.signal(number, signal.SIG_IGN)
    setup = read_frame(incoming).header
    frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(incoming, frames), daemon=True).start()
    log_as_json()
    try:
        models = _loaded(setup)
    except InputError as error:
        _send(outgoing, {"error": str(error)})
        return
    facts = [{**model.facts(), "together": model.together} for model in models.values()]
    _send(outgoing, {"models": facts})
    while True:
        header, contents = frames.get()
        start = time.perf_counter()
        try:
            replies = models[header["model"]].answer(header["kind"], contents, header["options"])
            status, parts = [reply.status for reply in replies], [reply.content for reply in replies]
        except MemoryError:
            status, parts = [413] * len(contents), [b"the image takes more memory than there is"] * len(contents)
        except Exception:  # a fault of ours is answered, and the next batch too
            log.exception("a batch could not be computed")
            status, parts = [500] * len(contents), [b"the model failed on this image"] * len(contents)
        _send(outgoing, {"status": status, "seconds": time.perf_counter() - start}, parts)


def _loaded(setup: dict[str, Any]) -> dict[str, Any]:
    """The models by name, ready for their first image."""
    from convnext.deploy.serve.served import ServedModel
    from convnext.runtime.device import keep_fp32, pick_device

    keep_fp32()
    how = setup["how"]
    if pick_device(how["device"]).type == "cpu":
        keep_to(share_of_cores(setup["number"], setup["workers"]))
    models = {}
    for name, source in setup["models"].items():
        models[name] = ServedModel(name, source, setup["pixels"], **how)
        models[name].warm_up()
    if find_spec("openvino") is not None:
        from convnext.inference.backends.openvino import make_no_more

        make_no_more()
    return models


def share_of_cores(number: int, workers: int) -> list[int]:
    """The cores of the worker with this number, from 0, of so many: as many for each, at least one."""
    there = usable_cores()
    each = max(1, len(there) // workers)
    return [there[(number * each + place) % len(there)] for place in range(each)]


def keep_to(cores: list[int]) -> None:
    """Have every engine compute on these cores alone, whatever its own option is called."""
    import torch

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))


def _listen(incoming: BinaryIO, frames: queue.SimpleQueue[Frame]) -> None:
    """Take what comes, also while a batch is computed; when nothing can come any more, end the process."""
    try:
        while True:
            frames.put(read_frame(incoming))
    except EOFError:
        os._exit(0)


def _send(outgoing: BinaryIO, header: dict[str, Any], parts: list[bytes] | None = None) -> None:
    try:
        outgoing.write(pack_frame(header, parts or []))
        outgoing.flush()
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    run_worker()
