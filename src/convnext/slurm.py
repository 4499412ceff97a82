"""A training command that submits itself to SLURM, and is queued again when it is preempted or its time is up.

submitit starts the processes, as many on a machine as it has GPUs, and they find each other as under `torchrun`. Before
the time is up SLURM sends a signal; the run saves itself, and the job is queued again with `--resume auto`.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convnext.errors import InputError, nearest

OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "nodes": ("nodes", int),
    "gpus": ("gpus_per_node", int),
    "cpus": ("cpus_per_task", int),
    "hours": ("timeout_min", lambda text: round(float(text) * 60)),
    "memory": ("mem_gb", float),
    "partition": ("slurm_partition", str),
    "account": ("slurm_account", str),
    "qos": ("slurm_qos", str),
    "constraint": ("slurm_constraint", str),
}
"""What `--slurm` takes: submitit's name for it, and its type."""
NOTICE = 300
"""Seconds before the end of its time at which a job is told."""
REQUEUES = 10_000
"""A run ends by itself; until then it is queued again."""


class Job:
    """What runs on the cluster, in each process: the command line, given how it is called."""

    def __init__(self, main: Callable[[list[str]], int], arguments: list[str]) -> None:
        self.main, self.arguments = main, arguments

    def __call__(self) -> None:
        from submitit.helpers import TorchDistributedEnvironment

        # submitit's own handlers, which queue the job again; while it trains, the run has others, which save it first.
        handlers = {128 + number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
        TorchDistributedEnvironment().export(overwrite=True)
        status = self.main(self.arguments)
        handler = handlers.get(status)
        if callable(handler):
            handler(status - 128, None)  # the first process does not come back from here
        elif status:
            sys.exit(status)

    def checkpoint(self) -> Any:
        """What is queued again: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(
    main: Callable[[list[str]], int], arguments: list[str], out: Path, options: str, *, cluster: str = "slurm"
) -> tuple[str, Path]:
    """Queue `main(arguments)` as a job that trains into `out`; returns its number, and the folder of its logs.

    `options` is KEY=VALUE,KEY=VALUE of `OPTIONS`. `InputError` for others, for a run that is there already and is not
    to be resumed, or where there is no SLURM.
    """
    parameters = {"nodes": 1, "gpus_per_node": 1, "timeout_min": 24 * 60, **parse(options)}
    if (out / "config.json").is_file() and not any(a.split("=")[0] == "--resume" for a in arguments):
        raise InputError(f"{out} already exists; continue it with --resume, or choose another --out")
    try:
        import submitit
    except ImportError:
        raise InputError("--slurm needs submitit: pip install 'convnext[slurm]'") from None
    logs = out.with_name(f"{out.name}.slurm")
    try:
        executor = submitit.AutoExecutor(folder=logs, cluster=cluster, **{f"{cluster}_max_num_timeout": REQUEUES})
        executor.update_parameters(
            name=out.name,
            tasks_per_node=max(1, parameters["gpus_per_node"]),
            **{f"{cluster}_signal_delay_s": NOTICE} if cluster == "slurm" else {},
            **parameters,
        )
        job = executor.submit(Job(main, resuming(arguments)))
    except (RuntimeError, OSError, submitit.core.utils.FailedJobError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"cannot submit to SLURM: {reason}") from None
    return job.job_id, logs


def resuming(arguments: list[str]) -> list[str]:
    """The arguments of a command that goes on where there is something to go on from."""
    if arguments[-1:] == ["--resume"]:
        return [*arguments, "auto"]
    return [*arguments, "--resume", "auto"]  # the last one counts


def parse(options: str) -> dict[str, Any]:
    """Submitit's parameters from KEY=VALUE,KEY=VALUE. `InputError` for what is not in `OPTIONS`."""
    parameters = {}
    for option in filter(None, options.split(",")):
        key, _, text = option.partition("=")
        if key not in OPTIONS:
            raise InputError(f"--slurm has no '{key}'; {nearest(key, list(OPTIONS))}")
        name, kind = OPTIONS[key]
        try:
            parameters[name] = kind(text)
        except ValueError:
            raise InputError(f"--slurm {key} takes a number, not '{text}'") from None
    return parameters
