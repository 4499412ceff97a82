"""Runs several commands one after the other in the processes that `torchrun` started, which it would else start anew.

    torchrun ... commands.py '[["pretrain", ...], ["evaluate", ...]]'

Losses of all steps go to TensorBoard, not only some.
"""

import json
import sys

import torch

from convnext import cli
from convnext.runtime import distributed
from convnext.train import progress

progress.LOG_EVERY = 1
with distributed.process_group(torch.device("cpu")):
    for arguments in json.loads(sys.argv[1]):
        status = cli.main(arguments)
        if status:
            sys.exit(status)
