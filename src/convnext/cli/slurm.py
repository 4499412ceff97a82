"""A training command that submits itself to SLURM, and is queued again when its time is up.

submitit starts the processes, as many on a machine as it has GPUs, and they find each other as under `torchrun`. Before
the time is up SLURM sends a signal; the run saves itself, and the job is queued again with `--resume auto`.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convnext.errors import InputError, nearest


def _number(text: str) -> float:
    if not 0 < (number := float(text)) < math.inf:
        raise ValueError
    return number


SLURM_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "nodes": ("nodes", int),
    "gpus": ("gpus_per_node", int),
    "cpus": ("cpus_per_task", int),
    "hours": ("timeout_min", lambda text: math.ceil(_number(text) * 60)),
    "memory": ("mem_gb", _number),
    "partition": ("slurm_partition", str),
    "account": ("slurm_account", str),
    "qos": ("slurm_qos", str),
    "constraint": ("slurm_constraint", str),
}
"""Settings of `--slurm`: submitit's name for each, and its type."""
NOTICE = 300
"""Seconds before the end of its time at which a job is told."""
REQUEUES = 10_000
"""A run ends by itself; until then it is queued again."""


class Job:
    """Job of each process on the cluster: a command, as `execute` takes it, which returns an exit status."""

    def __init__(self, execute: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> None:
        self.execute, self.args = execute, args

    def __call__(self) -> None:
        from submitit.helpers import TorchDistributedEnvironment

        # submitit's own handlers, which queue the job again; while it trains, the run has others, which save it first.
        handlers = {128 + number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
        TorchDistributedEnvironment().export(overwrite=True)
        status = self.execute(self.args)
        handler = handlers.get(status)
        if callable(handler):
            handler(status - 128, None)  # the first process does not come back from here
        elif status:
            sys.exit(status)

    def checkpoint(self) -> Any:
        """The job to queue again: this one."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit_job(
    execute: Callable[[argparse.Namespace], int], args: argparse.Namespace, *, cluster: str = "slurm"
) -> tuple[str, Path]:
    """Queue a training command as `args.slurm` says; returns the job's number, and the folder of its logs.

    `InputError` for keys that are not in `SLURM_OPTIONS`, for a run that is there already and not to be resumed, or
    where there is no SLURM.
    """
    if args.overwrite:
        raise InputError("--slurm goes on with what it finds, so --overwrite has no place; delete the run first")
    parameters = {"nodes": 1, "gpus_per_node": 1, "timeout_min": 24 * 60, **parse_job(args.slurm)}
    out = args.out.resolve()
    if (out / "config.json").is_file() and not args.resume:
        raise InputError(f"{args.out} already exists; continue it with --resume, or choose another --out")
    submitit = _submitit()
    logs = out.with_name(f"{out.name}.slurm")
    if cluster == "slurm":
        own = ["--kill-on-bad-exit=1"]  # if one process fails, the others would wait for it
        if cpus := parameters.get("cpus_per_task"):
            own.append(f"--cpus-per-task={cpus}")  # which srun does not take over from sbatch in some versions
        parameters |= {"slurm_signal_delay_s": NOTICE, "slurm_srun_args": own}
        parameters |= {"slurm_additional_parameters": {"requeue": True}}
    args = argparse.Namespace(**{**vars(args), "slurm": None, "resume": "auto"})
    try:
        executor = submitit.AutoExecutor(folder=logs, cluster=cluster, **{f"{cluster}_max_num_timeout": REQUEUES})
        executor.update_parameters(name=out.name, tasks_per_node=max(1, parameters["gpus_per_node"]), **parameters)
        job = executor.submit(Job(execute, args))
    except (RuntimeError, OSError) as error:
        reason = next(reversed(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"cannot submit to SLURM: {reason}") from None
    return job.job_id, logs


def _submitit() -> Any:
    """The library, imported without what it does to logging: it would close the handlers of everything else, of which
    absl's (TensorBoard's) closes the stream that was stderr when it was made."""
    configures = os.environ.get("SUBMITIT_LOG_LEVEL")
    os.environ["SUBMITIT_LOG_LEVEL"] = "NOCONFIG"
    try:
        import submitit
    except ImportError:
        raise InputError("--slurm needs submitit: pip install 'convnext[slurm]'") from None
    finally:  # the job, which has the process to itself, may write its log
        del os.environ["SUBMITIT_LOG_LEVEL"]
        if configures is not None:
            os.environ["SUBMITIT_LOG_LEVEL"] = configures
    return submitit


def parse_job(options: str) -> dict[str, Any]:
    """Submitit's parameters from KEY=VALUE,KEY=VALUE. `InputError` for what is not in `SLURM_OPTIONS`."""
    parameters = {}
    for option in filter(None, options.split(",")):
        key, _, text = option.partition("=")
        if key not in SLURM_OPTIONS:
            raise InputError(f"--slurm has no '{key}'; {nearest(key, list(SLURM_OPTIONS))}")
        name, kind = SLURM_OPTIONS[key]
        try:
            parameters[name] = kind(text)
        except (ValueError, OverflowError):
            raise InputError(f"--slurm {key} takes a number, not '{text}'") from None
    return parameters
