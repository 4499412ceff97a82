"""Muon's steps in processes that `torchrun` started, with weights split among them and without."""

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard

from convnext.train.muon import Muon

torch.distributed.init_process_group("gloo")
results = []
for split in (False, True):
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(8, 17), nn.Linear(17, 3), nn.Conv2d(1, 5, 3)])
    if split:
        for layer in layers:
            fully_shard(layer)
    weights = [layer.weight for layer in layers]
    optimizer = Muon(weights, lr=0.1)
    for _ in range(3):
        lines, images = torch.randn(4, 8), torch.randn(2, 1, 6, 6)  # the same in each
        optimizer.zero_grad()
        (layers[1](layers[0](lines)).square().sum() + layers[2](images).square().sum()).backward()
        optimizer.step()
    results.append([weight.full_tensor() if split else weight.detach() for weight in weights])
torch.testing.assert_close(results[0], results[1])
torch.distributed.destroy_process_group()
