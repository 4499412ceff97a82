"""`convnext serve`."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from convnext.cli.command import Command, Parser, add_device, add_engine
from convnext.errors import InputError
from convnext.printing import flag_of

BELOW = 10**6
"""Upper bound, exclusive, of every numeric option except --port."""


def _options(command: Parser) -> None:
    command.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="runs, weight files, exports, published names or hf:ORG/NAME; NAME=SOURCE chooses what clients call one",
    )
    command.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on; 0.0.0.0: other machines too"
    )
    command.add_argument(
        "--port", type=int, default=8000, metavar="N", help="port to listen on; 0: a free one, which is printed"
    )
    command.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that compute, each with all models and its share of the cores; without: one a core, at most 4, "
        "and one on an accelerator",
    )
    command.add_argument(
        "--max-batch",
        type=int,
        default=16,
        metavar="N",
        help="images that an accelerator computes together, at most; no effect on a CPU",
    )
    command.add_argument(
        "--max-wait-ms",
        type=float,
        default=5,
        metavar="MS",
        help="milliseconds that an accelerator's batch waits for more images; no effect on a CPU",
    )
    command.add_argument(
        "--queue", type=int, default=256, metavar="N", help="images that may wait; requests beyond that get status 503"
    )
    command.add_argument("--max-mb", type=float, default=32, metavar="MB", help="largest request, in MB")
    command.add_argument("--max-megapixels", type=float, default=50, metavar="N", help="largest image, in megapixels")
    command.add_argument("--max-images", type=int, default=64, metavar="N", help="most images in a request")
    command.add_argument(
        "--timeout",
        type=float,
        default=30,
        metavar="S",
        help="seconds that a request may take to arrive, again to be computed, and again for its answer to be received",
    )
    command.add_argument(
        "--samples", type=Path, metavar="FOLDER", help="images that the page offers; without: those in RUN/samples"
    )
    command.add_argument(
        "--framed-by", metavar="ORIGIN", help="site that may show the page in a frame, as https://example.org"
    )
    command.add_argument(
        "--calibrated",
        action="store_true",
        help="answer with the calibration that training fitted, as `convnext predict --calibrated` does",
    )
    add_device(command)
    add_engine(command)


def _run(args: argparse.Namespace) -> None:
    from convnext.deploy.serve.limits import Limits

    for name in ("workers", "max_batch", "queue", "max_mb", "max_megapixels", "max_images", "timeout"):
        if (value := getattr(args, name)) is not None and not 0 < value < BELOW:
            raise InputError(f"{flag_of(name)} must be more than 0 and less than {BELOW}, not {value}")
    if not 0 <= args.max_wait_ms < BELOW:
        raise InputError(f"--max-wait-ms must be 0 or more and less than {BELOW}, not {args.max_wait_ms}")
    if not 0 <= args.port < 2**16:
        raise InputError(f"--port must lie between 0 and 65535, not {args.port}")
    if args.framed_by is not None and not re.fullmatch(r"https?://[a-z0-9.-]+(:\d+)?", args.framed_by, re.IGNORECASE):
        raise InputError(f"--framed-by takes a site as https://example.org, not {args.framed_by}")
    try:
        from convnext.deploy.serve.server import TOKEN, Serving, named_sources, serve
    except ImportError as error:
        raise InputError(f"serving needs {error.name}: pip install 'convnext[serve]'") from None
    serve(
        Serving(
            models=named_sources(args.sources),
            host=args.host,
            port=args.port,
            workers=args.workers,
            max_batch=args.max_batch,
            max_wait=args.max_wait_ms / 1000,
            how={
                "device": args.device,
                "backend": args.backend,
                "precision": args.precision,
                "calibrated": args.calibrated,
            },
            samples=args.samples,
            token=os.environ.get(TOKEN) or None,
            limits=Limits(
                body=round(args.max_mb * 2**20),
                pixels=round(args.max_megapixels * 1e6),
                images=args.max_images,
                seconds=args.timeout,
                queue=args.queue,
            ),
            framed_by=args.framed_by,
        )
    )


SERVE = Command("serve", "answer requests over http, with a page to try a model on", _options, _run)
