"""The one training loop. A task says what a batch's loss is and how a model is measured; the rest is here.

Randomness is never state: data depends on (seed, epoch, image), the network's on (seed, step). So a
resumed run goes on exactly as if it had not stopped.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from convnext.device import pick_device
from convnext.errors import InputError
from convnext.run import Run
from convnext.tasks.task import Task
from convnext.train.checkpoint import load_checkpoint, save_checkpoint
from convnext.train.ema import AveragedModel
from convnext.train.optim import build_optimizers, set_learning_rate
from convnext.train.progress import Progress
from convnext.train.schedule import cosine
from convnext.weights import save_state

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """Trains `task` into `run`; `resume` takes up the run's last checkpoint."""

    def __init__(self, task: Task, run: Run, *, resume: bool = False) -> None:
        self.task, self.run, self.config = task, run, task.config
        config = self.config
        self.device = pick_device(config.device)
        torch.manual_seed(config.seed)
        self.model = task.build_model().to(self.device)
        self.network = torch.compile(self.model) if config.compile else self.model
        self.ema = AveragedModel(self.model, config.ema) if config.ema else None
        self.optimizers = build_optimizers(
            self.model.named_parameters(),
            betas=config.betas,
            muon=config.muon,
            depths=self.model.depths,
            weight_decay=config.weight_decay,
            layer_decay=config.layer_decay,
            layer_groups=config.layer_groups,
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.loader = task.train_loader()
        self.epoch = self.step = 0
        self.best_score = -math.inf
        self.unreadable: dict[str, str] = {}
        if resume:
            self.restore()

    def fit(self) -> dict[str, float]:
        """Train to the last epoch; returns the final metrics."""
        with Progress(self.config.epochs, len(self.loader), self.run, start=self.epoch) as progress:
            while self.epoch < self.config.epochs:
                started = time.perf_counter()
                loss = self.train_epoch(progress)
                seconds = time.perf_counter() - started
                self.epoch += 1
                metrics = self.evaluate()
                images = len(self.loader) * self.config.batch_size
                row = {"epoch": self.epoch, "step": self.step, "loss": loss, "lr": self.learning_rate(), **metrics}
                row |= {"images_per_second": round(images / seconds, 1), "seconds": round(seconds, 1)}
                self.run.log(row)  # before the checkpoint: a resume drops rows that go beyond it
                self.save(metrics)
                progress.end_epoch(row)
        return self.task.finish(self.run, self.device, self.kept())

    def train_epoch(self, progress: Progress) -> float:
        """One pass over the training images; returns the mean loss."""
        self.model.train()
        self.loader.set_epoch(self.epoch)
        total = torch.zeros((), device=self.device)
        for batch in self.loader:
            for path, reason in self.task.unreadable(batch):
                self.report_unreadable(path, reason)
            loss = self.train_step(batch)
            total += loss
            progress.advance(loss, self.step, self.learning_rate())
        mean = (total / len(self.loader)).item()
        if not math.isfinite(mean):
            raise InputError(
                f"the loss became {mean} in epoch {self.epoch + 1}: lower --base-lr, set --clip-grad 1 or use "
                f"--precision fp32; the last good checkpoint is {self.run.checkpoint}"
            )
        return mean

    def train_step(self, batch: Any) -> torch.Tensor:
        """One step of the optimizer; returns the batch's mean loss, on the device."""
        config = self.config
        self.seed_step()
        set_learning_rate(self.optimizers, self.learning_rate())
        parts = list(self.task.parts(batch, self.device))
        images = sum(count for count, _ in parts)
        total = torch.zeros((), device=self.device)
        for count, part in parts:
            with torch.autocast(self.device.type, DTYPES[config.precision], enabled=config.precision != "fp32"):
                loss = self.task.loss(self.network, part) * (count / images)
            self.scaler.scale(loss).backward()
            total += loss.detach()
        if config.clip_grad is not None:
            for optimizer in self.optimizers:
                self.scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_grad)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self.model.zero_grad(set_to_none=True)
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.model, self.step)
        return total

    def learning_rate(self) -> float:
        """The rate for the next step, from the batch size and the time gone."""
        config = self.config
        return cosine(
            self.step / len(self.loader),
            peak=config.base_lr * config.batch_size / 256,
            final=config.min_lr,
            epochs=config.epochs,
            warmup_epochs=config.warmup_epochs,
        )

    def seed_step(self) -> None:
        """Make drop path and mixup a function of (seed, step)."""
        seed = np.random.SeedSequence([self.config.seed, self.step]).generate_state(1)[0]
        torch.manual_seed(int(seed))
        np.random.seed(seed)

    def evaluate(self) -> dict[str, float]:
        """Metrics of the weights the run keeps."""
        return self.task.evaluate(self.kept(), self.device, self.run, self.epoch)

    def kept(self) -> nn.Module:
        """The weights the run keeps: the averaged ones if EMA is on."""
        return self.ema.model if self.ema is not None else self.model.eval()

    def report_unreadable(self, path: str, reason: str) -> None:
        """List an unreadable image in the run, once."""
        if path not in self.unreadable:
            self.unreadable[path] = reason
            with open(self.run.path / "unreadable.txt", "a", encoding="utf-8") as file:
                file.write(f"{reason}\n")

    def save(self, metrics: dict[str, float]) -> None:
        """Write the epoch's weights, the best so far, and all state to resume from."""
        weights = self.kept().state_dict()
        save_state(self.run.weights, weights, self.task.meta())
        if self.task.score is not None and metrics[self.task.score] > self.best_score:
            self.best_score = metrics[self.task.score]
            save_state(self.run.best, weights, self.task.meta())
        state = {
            "epoch": self.epoch,
            "step": self.step,
            "best_score": self.best_score,
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict() if self.ema is not None else None,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "unreadable": self.unreadable,
        }
        save_checkpoint(self.run.checkpoint, state)

    def restore(self) -> None:
        """Take up the run's last checkpoint."""
        state = load_checkpoint(self.run.checkpoint)
        self.epoch, self.step, self.best_score = state["epoch"], state["step"], state["best_score"]
        self.unreadable = state["unreadable"]
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.model.load_state_dict(state["ema"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
        self.run.forget_after(self.epoch)


def train(task: Task, out: Path, *, resume: bool, overwrite: bool) -> dict[str, float]:
    """Train `task` into the run directory `out`; returns the final metrics."""
    if resume:
        trainer = Trainer(task, Run.reopen(out), resume=True)
    else:
        trainer = Trainer(task, Run(out))  # before anything is written: weights that do not fit leave no trace
        Run.create(out, task.config.to_dict(), overwrite=overwrite)
    try:
        return trainer.fit()
    except KeyboardInterrupt:
        hint = "continue with --resume" if trainer.run.checkpoint.is_file() else "no epoch was finished"
        raise InputError(f"interrupted; {out} is kept: {hint}") from None
