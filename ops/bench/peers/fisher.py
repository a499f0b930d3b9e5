#!/usr/bin/env python3
"""The diagonal of the true Fisher information of LeNet-5 in PyTorch: vmap over grad, labels drawn from the model, on one thread.

    peers/fisher.py ROWS REPEATS [CHUNK]

Prints a JSON line with times in milliseconds. CHUNK rows go through vmap at once.
"""
import json
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
import torch.nn.functional as F
from torch.func import functional_call, grad, vmap

torch.set_num_threads(1)
torch.manual_seed(1)
rows, repeats = int(sys.argv[1]), int(sys.argv[2])
chunk = int(sys.argv[3]) if len(sys.argv) > 3 else 100
network = torch.nn.Sequential(
    torch.nn.Conv2d(1, 20, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Conv2d(20, 50, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
    torch.nn.Flatten(), torch.nn.Linear(800, 500), torch.nn.ReLU(), torch.nn.Linear(500, 10))
weights = {name: tensor.detach() for name, tensor in network.named_parameters()}
inputs = torch.rand(rows, 1, 28, 28)


def loss(weights, x, y):
    return F.cross_entropy(functional_call(network, weights, (x[None],)), y[None])


gradients = vmap(grad(loss), in_dims=(None, 0, 0))


def fisher():
    sums = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    for start in range(0, rows, chunk):
        x = inputs[start : start + chunk]
        with torch.no_grad():
            y = torch.distributions.Categorical(logits=network(x)).sample()
        for name, each in gradients(weights, x, y).items():
            sums[name] += (each * each).sum(0)
    return sums


times = []
for _ in range(repeats + 1):
    start = time.perf_counter()
    fisher()
    times.append((time.perf_counter() - start) * 1e3)
print(json.dumps({"ms": times[1:], "torch": torch.__version__}))
