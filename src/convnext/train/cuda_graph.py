"""Forward and backward pass as a CUDA graph: recorded once, and then started whole, without a launch for each kernel.

A GPU computes most kernels of a small network faster than a CPU can launch them.
"""

from __future__ import annotations

import copy
import gc
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from convnext.config import TrainConfig
from convnext.runtime import distributed

BEFORE = 3
"""Calls in a row before the recorded one: operators are chosen, compiled, and given their memory in them."""

Replay = Callable[[], object]
Shapes = list[tuple[torch.Size, torch.dtype]]


class Recorded(NamedTuple):
    """A recorded pass, and the memory that it reads and writes."""

    shapes: Shapes
    argument: Any
    places: list[Tensor]  # of the argument's tensors
    loss: Tensor
    gradients: list[tuple[nn.Parameter, Tensor]]
    replay: Replay


log = logging.getLogger("convnext")


class GraphedStep:
    """Calls `compute`, which leaves gradients in the parameters and returns the loss; after a few calls, by its record.

    A recorded pass reads its inputs where they lay then, so those of each call are copied there. It writes its
    gradients, which are not added to others, and its loss to the same places every time. Random numbers are the ones
    that `compute` would draw.

    Args:
        compute: forward and backward pass, without waiting for the GPU. It finds no gradients in the parameters.
        model: whose gradients it computes.
        inputs: the tensors that an argument of `compute` holds. Where their shapes stay changed, the call is recorded
            again.
        record: calls a function, and returns its result and what will do the same again.
    """

    def __init__(
        self,
        compute: Callable[[Any], Tensor],
        model: nn.Module,
        inputs: Callable[[Any], list[Tensor]],
        record: Callable[[Callable[[], Tensor]], tuple[Tensor, Replay]] | None = None,
    ) -> None:
        self.compute, self.parameters, self.inputs = compute, list(model.parameters()), inputs
        self.record = record or record_on_gpu
        self.works = True
        self.last: Shapes = []  # of the call before
        self.calls = 0  # with these, in a row
        self.recorded: Recorded | None = None

    def __call__(self, argument: Any) -> Tensor:
        """The loss. It is overwritten by the next call."""
        tensors = self.inputs(argument)
        shapes = [(t.shape, t.dtype) for t in tensors]
        self.calls = self.calls + 1 if shapes == self.last else 1
        self.last = shapes
        if self.recorded is None or shapes != self.recorded.shapes:
            if not self.works or self.calls <= BEFORE:
                return self.compute(argument)
            self.recorded = None  # its memory is free for the next
            self.recorded = self.begin(argument, shapes)
            if self.recorded is None:
                return self.compute(argument)
        for place, tensor in zip(self.recorded.places, tensors, strict=True):
            place.copy_(tensor)
        self.recorded.replay()
        for parameter, gradient in self.recorded.gradients:
            parameter.grad = gradient
        return self.recorded.loss

    def begin(self, argument: Any, shapes: Shapes) -> Recorded | None:
        """Record the pass; where that cannot be done, say so once."""
        state = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        own = copy.deepcopy(argument)  # what is computed of it while recording is there only after a replay
        try:
            loss, replay = self.record(lambda: self.compute(own))
        except RuntimeError as error:
            reason = str(error).split("\n")[0]
            log.warning("a step cannot be recorded as a CUDA graph (%s): kernels are launched one by one", reason)
            self.works = False
            for parameter in self.parameters:
                parameter.grad = None
            if state is not None:
                forget_recording(state)
            return None
        gradients = [(p, p.grad) for p in self.parameters if p.grad is not None]
        return Recorded(shapes, own, self.inputs(own), loss, gradients, replay)


def pays(config: TrainConfig) -> bool:
    """Whether a run's steps are to be recorded, on a GPU.

    With `deterministic` they are not: a resumed run's first steps are unrecorded, and nobody promises the same bits.
    Nor with `checkpointing`, which keeps the state of the random numbers as no recording can.
    """
    kept_apart = config.deterministic or config.checkpointing
    return config.cuda_graph and not kept_apart and distributed.count() == config.accumulate == 1


def record_on_gpu(work: Callable[[], Tensor]) -> tuple[Tensor, Replay]:
    """Record a function's kernels, which run when they are replayed. `RuntimeError` if it waits for the GPU."""
    torch.cuda.synchronize()
    gc.collect()
    torch.cuda.empty_cache()
    graph = torch.cuda.CUDAGraph()
    # Threads that load images may do meanwhile what a recording may not.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = work()
    return result, graph.replay


def forget_recording(state: Tensor) -> None:
    """Give the GPU a generator of random numbers that takes no part in a recording that failed."""
    device = torch.cuda.current_device()
    generator = torch.cuda.default_generators[device]
    generator.graphsafe_set_state(torch.Generator(device=f"cuda:{device}").graphsafe_get_state())
    generator.set_state(state)
