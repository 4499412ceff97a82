"""The one training loop. A task says what a batch's loss is and how a model is measured; the rest is here.

Randomness is never state: data depends on (seed, epoch, image), the network's on (seed, step). So a
resumed run goes on exactly as if it had not stopped, in the middle of an epoch too.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from convnext.data.fingerprint import what_changed
from convnext.errors import InputError, Stopped
from convnext.nn.depthwise.smooth import start_smooth
from convnext.runs.directory import Run
from convnext.runtime import distributed
from convnext.runtime.device import autocast, choose_compile, choose_precision, pick_device, prepare, runs_ahead
from convnext.tasks.base import Moment, Task
from convnext.train import cuda_graph, nonfinite, parallel
from convnext.train.checkpoint import Checkpoints, tensors_of
from convnext.train.cuda_graph import GraphedStep
from convnext.train.ema import AveragedModel
from convnext.train.failure import reason_of
from convnext.train.first_look import draw_first_look
from convnext.train.length import Epochs, Hours
from convnext.train.optim import build_optimizers, set_learning_rate
from convnext.train.outcome import Outcome
from convnext.train.progress import Progress
from convnext.train.schedule import learning_rate_at
from convnext.train.stop_signal import Interruption, StopSignal, agreed
from convnext.train.tracking import Curves
from convnext.train.unreadable import Unreadable
from convnext.weights import read_meta, save_state
from convnext.weights.licences import inherited

log = logging.getLogger("convnext")


class Trainer:
    """Trains `task` into `run`; `resume` takes up its last checkpoint. Hours count from `began`, else from now."""

    def __init__(self, task: Task, run: Run, *, resume: bool = False, began: float | None = None) -> None:
        self.task, self.run, self.config = task, run, task.config
        if task.config.patience is not None and task.score is None:
            raise InputError("patience waits for a better score on validation images, of which this task has none")
        config, began = self.config, time.monotonic() if began is None else began
        self.device = pick_device(config.device)
        prepare(self.device, config.deterministic)
        self.precision = choose_precision(self.device, config.precision)
        torch.manual_seed(config.seed)
        self.model = task.build_model().to(self.device)
        if config.depthwise_init == "smooth" and config.init is None:
            start_smooth(self.model)
        self.terms = {} if config.init is None else inherited(read_meta(config.init))
        self.ema = AveragedModel(self.model, config.ema) if config.ema else None
        sharded = parallel.is_fsdp(self.model, config.parallel)
        self.whole = parallel.WholeModel(self.model, sharded)
        if sharded:
            parallel.refuse_what_cannot_be_sharded(
                self.model, muon_lr_scale=config.muon_lr_scale, precision=self.precision
            )
            parallel.shard(self.model, self.device)
            if self.ema is not None:
                parallel.shard(self.ema.model, self.device)
        self.beside: dict[str, nn.Module] = {} if self.ema is None else {"average": self.ema.model}
        if (extra := task.extra(self.model)) is not None:
            self.beside["extra"] = extra.to(self.device)
        self.network = parallel.replicate(self.model, self.device)
        self.optimizers = build_optimizers(
            self.model,
            betas=config.betas,
            muon_lr_scale=config.muon_lr_scale,
            weight_decay=config.weight_decay,
            layer_decay=config.layer_decay,
            layer_groups=config.layer_groups,
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.loader = task.train_loader()
        self.length = Epochs(config.epochs, len(self.loader))
        if config.hours is not None:
            self.length = Hours(config.hours, config.epochs, len(self.loader), measured=task.measured(), began=began)
        self.fingerprint = distributed.gather(task.fingerprint() if distributed.rank() == 0 else None)[0]
        # A GPU decides by itself whether to leave a step out, and goes on before that is read here.
        ahead = runs_ahead(self.device)
        self.late = ahead and not sharded and not self.scaler.is_enabled()
        self.graphed: GraphedStep | None = None
        if self.late and task.inputs is not None and cuda_graph.pays(config):
            self.graphed = GraphedStep(self.forward_backward, self.model, task.inputs)
        compiled = choose_compile(self.device, self.length.steps, config.compile, bool(self.graphed))
        self.step_network = task.compile(self.network) if compiled else self.network
        if distributed.rank() == 0 and ahead:
            how = ("compiled" if compiled else "not compiled") + (", as a CUDA graph" if self.graphed else "")
            log.info("on %s: %s, %s, %d loading processes", self.device, self.precision, how, config.workers)
        self.epoch = 0
        self.ended = 0  # the step after which the last epoch was measured
        self.spent = 0.0  # seconds of this epoch's steps before `began`, when this process began to train on it
        self.began: float | None = None
        self.waiting: Outcome | None = None
        self.losses, self.counted = 0.0, 0  # the sum of this epoch's losses, and of how many steps
        self.best_score, self.waited = -math.inf, 0  # and how many evaluations there were since
        self.unreadable = Unreadable(run, images=len(task.train), most=config.max_unreadable)
        self.nonfinite = nonfinite.NonFinite(run, config.max_nonfinite)
        self.stop = StopSignal()
        self.checkpoints = Checkpoints(run.checkpoints, config.keep_checkpoints)
        self.saved = (0, -1)  # epoch and step of the last checkpoint
        if resume:
            self.restore()

    @property
    def step(self) -> int:
        """Steps that are done, over all epochs."""
        return self.length.step

    def fit(self) -> dict[str, float]:
        """Train to the last epoch; returns the final metrics.

        Raises:
            Stopped: a signal said so; the state is saved.
            InputError: the run cannot go on; its state is saved where that can be done.
        """
        curves = Curves(self.run, self.step, self.config.track)
        try:
            with self.stop, Progress(self.length, curves) as progress:
                self.length.begin()
                while not self.is_done():
                    self.train_epoch(progress)
                    self.end_epoch(progress)
                    self.stop_if_told()
                self.checkpoints.finish()
            with self.stop, self.may_be_left():
                kept = self.kept()
                return curves.end(self.task.finish(self.run, self.device, kept) if distributed.rank() == 0 else {})
        except Interruption as told:
            self.leave(told)
        except KeyboardInterrupt:
            with suppress(InputError):  # whoever interrupts is told what can be resumed, not why a write failed
                self.checkpoints.finish()
            raise
        except (InputError, RuntimeError, MemoryError) as error:
            if (reason := reason_of(error, self.config.batch_size)) is None:
                raise
            self.rescue(whole=isinstance(error, InputError))  # memory may have run short while weights were moved
            hint = "; continue with --resume" if self.run.can_resume() else ""
            raise InputError(f"{reason}; stopped after step {self.step}{hint}") from error
        finally:
            self.loader.close()
            curves.close()

    def is_done(self) -> bool:
        """Whether all is trained and measured, or `patience` evaluations in a row have found no better score."""
        patience = self.config.patience
        return (self.length.is_over and self.ended == self.step) or (patience is not None and self.waited >= patience)

    def train_epoch(self, progress: Progress) -> None:
        """Train on the rest of a pass over the training images."""
        self.model.train()
        self.loader.set_epoch(self.epoch, self.step - self.ended)
        self.began = time.perf_counter()
        batches = iter(self.loader)
        while not self.length.is_over and (batch := self.next_batch(batches)) is not None:
            if self.step == 0:
                draw_first_look(self.task, self.run, self.task.parts(batch, self.device, self.begin_step()))
            loss = self.train_step(batch)
            progress.advance(loss, self.learning_rate())
            self.unreadable.note(self.task.unreadable(batch))
            ends = self.length.is_over or self.step % len(self.loader) == 0
            if self.config.save_every and self.step % self.config.save_every == 0 and not ends:
                self.save()
            self.stop_if_told()

    def seconds(self) -> float:
        """Time of this epoch's steps so far, also before the stops in it; measuring is not part of it."""
        return self.spent + (0.0 if self.began is None else time.perf_counter() - self.began)

    def next_batch(self, batches: Iterator[Any]) -> Any:
        """The next of an epoch's batches, or None; waiting for it ends with a signal to stop."""
        with self.may_be_left():
            return next(batches, None)

    def may_be_left(self) -> AbstractContextManager[None]:
        """A context that a signal to stop leaves at once; with several processes, which must agree, the second one."""
        return self.stop.at_once() if distributed.count() == 1 else nullcontext()

    def leave(self, told: Interruption) -> NoReturn:
        """End the run after a signal to stop: save a whole state that is not saved yet, and raise `Stopped`."""
        ended = self.is_done()
        with suppress(InputError):  # whoever stops it is told what can be resumed, not why a write failed
            if told.whole and distributed.count() == 1 and self.saved != (self.epoch, self.step) and not ended:
                self.save()
            self.checkpoints.finish()
        where = "while its report was written" if ended else f"in step {self.step + 1}"
        hint = "continue with --resume" if self.run.can_resume() else "it has no checkpoint yet"
        raise Stopped(f"told to stop; {self.run.path} ended {where}: {hint}", told.signal) from None

    def stop_if_told(self) -> None:
        """Save and stop, if one of the processes got a signal to."""
        if distributed.total_count(self.stop.received):
            if self.saved != (self.epoch, self.step):
                self.save()
            self.checkpoints.finish()
            message = f"told to stop; {self.run.path} is saved after step {self.step}: continue with --resume"
            raise Stopped(message, agreed(distributed.gather(self.stop.received)))

    def rescue(self, whole: bool = True) -> None:
        """Before an error ends the run: save what can be saved of a `whole` state, if it is not."""
        with suppress(InputError):  # it may be the saving that failed
            # A process that fails alone has but its own part. And a step with unreadable images is better done again:
            # it may be the folder that is gone.
            alone = distributed.count() == 1
            if whole and alone and not self.unreadable.found and self.saved != (self.epoch, self.step):
                self.save()
            self.checkpoints.finish()

    def end_epoch(self, progress: Progress) -> None:
        """Measure, write the epoch's row, its weights and a checkpoint."""
        self.catch_up()
        measuring = time.perf_counter()
        self.spent, self.began = self.seconds(), None
        kept = self.kept()
        last, metrics = self.length.is_over, {}
        if last or self.length.may_measure():
            with self.may_be_left():
                metrics = self.task.evaluate(kept, self.device, self.run, self.epoch + 1, last=last)
        if metrics:
            self.length.note_measuring(time.perf_counter() - measuring)
        loss = self.losses / self.counted if self.counted else math.nan
        row = {"epoch": self.epoch + 1, "step": self.step, "loss": loss, "lr": self.learning_rate(), **metrics}
        row |= {
            "images_per_second": round((self.step - self.ended) * self.config.batch_size / self.spent, 1),
            "seconds": round(self.spent, 1),
        }
        score = metrics.get(self.task.score, -math.inf) if self.task.score is not None else -math.inf
        if distributed.rank() == 0:
            self.run.log(row)  # before the checkpoint: a resume drops rows that go beyond it
            self.run.forget_measurements()
            weights = kept.state_dict()
            meta = self.task.meta() | self.terms
            save_state(self.run.weights, weights, meta)
            if score > self.best_score:
                save_state(self.run.best, weights, meta)
        # Only now is the epoch done: what fails before is done again by the resumed run.
        self.epoch += 1
        self.ended = self.step
        self.waited = 0 if score > self.best_score else self.waited + (self.task.score in metrics)
        self.best_score = max(self.best_score, score)
        self.losses, self.counted, self.spent = 0.0, 0, 0.0
        self.save()
        progress.end_epoch(row)

    def train_step(self, batch: Any) -> float:
        """One step of the optimizer, or none where loss or gradient are not finite.

        Returns the mean loss of the last step that is read: this one, or on a GPU the one before, nan at first.
        """
        moment = self.begin_step()
        set_learning_rate(self.optimizers, self.learning_rate())
        parts = list(self.task.parts(batch, self.device, moment))
        images = sum(count for count, _ in parts)
        total = torch.zeros((), device=self.device)
        for number, (count, part) in enumerate(parts, 1):
            with parallel.no_grad_sync(self.network, number < len(parts)):
                total += self.graphed(part) if self.graphed else self.forward_backward(part, count / images)
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = parallel.total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        self.length.advance()
        outcome = Outcome(self.epoch + 1, self.step, batch, distributed.all_sum(total) / distributed.count(), norm)
        if self.late or outcome.read()[2]:
            self.update(norm, outcome.nonfinite)
        self.scaler.update()
        self.model.zero_grad(set_to_none=True)
        known, self.waiting = (self.waiting, outcome) if self.late else (outcome, None)
        return math.nan if known is None else self.settle(known)

    def forward_backward(self, part: Any, share: float = 1.0) -> Tensor:
        """Add the gradient of a part's loss, times the part's share of the batch; returns that loss."""
        with autocast(self.device, self.precision):
            loss = self.task.loss(self.step_network, part) * share
        self.scaler.scale(loss).backward()
        return loss.detach()

    def update(self, norm: Tensor, nonfinite: Tensor) -> None:
        """Move the weights, and their average; on a GPU, where `nonfinite` is 1 weights stay as they are."""
        if self.config.clip_grad is not None:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.config.clip_grad, norm)
        for optimizer in self.optimizers:
            if self.late:
                optimizer.grad_scale, optimizer.found_inf = None, nonfinite  # type: ignore[attr-defined]  # torch's types lack what fused ones read
            self.scaler.step(optimizer)
        if self.ema is not None:
            self.ema.update(self.model, self.step)
        self.task.after_step(self.model, self.step, self.length.steps)

    def settle(self, outcome: Outcome) -> float:
        """Count a step, or record one that was left out. `InputError` if too many in a row were. Returns its loss."""
        loss, norm, finite = outcome.read()
        if finite:
            self.losses += loss
            self.counted += 1
            self.nonfinite.in_a_row = 0
            return loss
        if self.scaler.is_enabled() and math.isfinite(loss) and self.scaler.get_scale() > 1:
            return loss  # a large gradient in fp16 is how its scale is found, not a fault
        self.nonfinite.in_a_row += 1
        paths = [path for part in distributed.gather(self.task.sources(outcome.batch)) for path in part]
        row = {"epoch": outcome.epoch, "step": outcome.step, "loss": str(loss), "gradient": str(norm)}
        if distributed.rank() == 0:
            self.nonfinite.record({**row, "images": paths})
        if self.nonfinite.in_a_row >= self.nonfinite.limit:
            raise InputError(self.nonfinite.advice())
        return loss

    def catch_up(self) -> None:
        """Settle the step whose outcome has not been read yet, if any."""
        outcome, self.waiting = self.waiting, None
        if outcome is not None:
            self.settle(outcome)

    def learning_rate(self) -> float:
        """The rate for the next step."""
        return learning_rate_at(self.length.position, self.config, steps=len(self.loader))

    def begin_step(self) -> Moment:
        """Make all draws functions of (seed, step).

        Drop path draws from torch's own generator, for each process another; mixup from numpy's, the same in all; and
        so is the moment's, for what is drawn for a whole batch.
        """
        seed = [self.config.seed, self.step]
        shared, own = (np.random.SeedSequence(s).generate_state(1)[0] for s in (seed, [*seed, distributed.rank() + 1]))
        torch.manual_seed(int(own))
        np.random.seed(shared)
        return Moment(
            done=self.length.position / self.config.epochs,
            passes=self.step / len(self.loader),
            draws=torch.Generator().manual_seed(int(shared)),
        )

    def kept(self) -> nn.Module:
        """The weights the run keeps: the averaged ones if EMA is on."""
        return self.whole.of(self.ema.model if self.ema is not None else self.model)

    def save(self) -> None:
        """Write all state to resume from."""
        self.catch_up()
        state = {
            "epoch": self.epoch,
            "step": self.step,
            "ended": self.ended,
            "length": self.length.state(),
            "losses": self.losses,
            "counted": self.counted,
            "spent": self.seconds(),
            "best_score": self.best_score,
            "waited": self.waited,
            "nonfinite_in_a_row": self.nonfinite.in_a_row,
            "scaler": self.scaler.state_dict(),
            "unreadable": self.unreadable.share(),
            "data": self.fingerprint,
        }
        self.checkpoints.save(self.epoch, self.step, tensors_of(self.model, self.beside, self.optimizers), state)
        self.saved = (self.epoch, self.step)

    def restore(self) -> None:
        """Take up the run's last checkpoint."""
        state = self.checkpoints.load(self.model, self.beside, self.optimizers)
        data, begun = self.config.data, self.run.read_config()
        if changed := what_changed(state, self.fingerprint, data=data, begun=begun["data"], steps=len(self.loader)):
            raise InputError(f"{self.run.path} was begun on other data than {data}: {changed}")
        if begun["batch_size"] != (batch := self.config.batch_size):
            raise InputError(f"{self.run.path} was begun with batch_size {begun['batch_size']}, not {batch}")
        self.length.restore(state["step"], state.get("length", {}))
        self.epoch, self.best_score = state["epoch"], state["best_score"]
        self.ended = state.get("ended", self.epoch * len(self.loader))
        self.losses, self.counted, self.waited = state["losses"], state["counted"], state.get("waited", 0)
        self.spent = state.get("spent", 0.0)
        self.nonfinite.in_a_row = state["nonfinite_in_a_row"]
        if state["scaler"]:  # empty after another precision than fp16: the scale is found anew
            self.scaler.load_state_dict(state["scaler"])
        self.saved = (self.epoch, self.step)
        self.unreadable.restore(state["unreadable"])
        if distributed.rank() == 0:
            self.checkpoints.set_aside_after(self.epoch, self.step)
            self.run.forget_after(self.epoch, self.step)
            self.run.write_json("config.json", self.config.to_dict())  # a resume may change some of it
