#!/usr/bin/env python3
"""PyTorch's training step of the models in `accrue bench step`: the same mathematics in the usual way of writing it, on one thread.
Natural-gradient steps are held against Adam on the deterministic network: no prior, no average.

    peers/step.py MODEL INFERENCE eager|compiled

Answers each line on standard input, a number of steps, with a JSON line of their times in milliseconds; the line "peak" with this machine's best rate of
matrix products and the operations that a step's products need when they are done densely.
"""
import json
import math
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
import torch.nn.functional as F

torch.set_num_threads(1)
torch.manual_seed(1)
model, inference, mode = sys.argv[1:4]
batch, rows = 128, 128 * 20

MODELS = {
    # shape of a row, then layers: weight shape, padding of a convolution
    "lenet5": ((1, 28, 28), [((20, 1, 5, 5), 0), ((50, 20, 5, 5), 0), ((500, 800), None), ((10, 500), None)]),
    "conv3": ((3, 32, 32), [((32, 3, 3, 3), 1), ((64, 32, 3, 3), 1), ((128, 64, 3, 3), 1), ((10, 2048), None)]),
    "mlp": ((784,), [((400, 784), None), ((400, 400), None), ((10, 400), None)]),
}
shape, layers = MODELS[model]
variational, plain = inference == "variational", inference == "naturalGradient"
inputs, targets = torch.rand((rows,) + shape), torch.randperm(rows) % 10

means, scales, precisions = [], [], []
for weight, _ in layers:
    fan_in = math.prod(weight[1:])
    for tensor in (torch.randn(weight) * math.sqrt(2 / fan_in), torch.zeros(weight[0])):
        means.append(tensor.requires_grad_())
        scales.append(torch.full_like(tensor, math.log(0.02)).requires_grad_())
        precisions.append(torch.full_like(tensor, float(fan_in)))
prior_means = [torch.zeros_like(m) for m in means]
prior_scales = [-0.5 * p.log() for p in precisions]
averages, taken = [m.detach().clone() for m in means], 0
optimiser = torch.optim.Adam(means + scales if variational else means, lr=3e-3)


def affine(index, x):
    (_, padding), w, b = layers[index], means[2 * index], means[2 * index + 1]

    def apply(x, w, b):
        return F.linear(x, w, b) if padding is None else F.conv2d(x, w, b, padding=padding)

    m = apply(x, w, b)
    if not variational:
        return m
    v = apply(x * x, torch.exp(2 * scales[2 * index]), torch.exp(2 * scales[2 * index + 1]))
    return m + torch.sqrt(v + 1e-16) * torch.randn_like(m)


def network(x):
    for index, (_, padding) in enumerate(layers):
        if padding is None and x.dim() > 2:
            x = x.flatten(1)
        x = affine(index, x)
        if index < len(layers) - 1:
            x = torch.relu(x)
            if padding is not None:
                x = F.max_pool2d(x, 2)
    return x


def loss_of(x, y):
    loss = F.cross_entropy(network(x), y)
    if variational:
        divergence = 0
        for m, s, m0, s0 in zip(means, scales, prior_means, prior_scales):
            divergence = divergence + (0.5 * (torch.exp(2 * (s - s0)) + (m - m0) ** 2 * torch.exp(-2 * s0) - 1) - (s - s0)).sum()
        return loss + divergence / rows
    if plain:
        return loss
    return loss + sum((p * (m - m0) ** 2).sum() for p, m, m0 in zip(precisions, means, prior_means)) * (0.5 / rows)


loss_now = torch.compile(loss_of) if mode == "compiled" else loss_of


def step():
    global taken
    chosen = torch.randperm(rows)[:batch]
    x, y = inputs[chosen], targets[chosen]
    optimiser.zero_grad()
    loss = loss_now(x, y)
    loss.backward()
    optimiser.step()
    if not variational and not plain:
        taken += 1
        with torch.no_grad():
            torch._foreach_lerp_(averages, means, 1 / taken)
    return loss.item()


def milliseconds(work, count):
    times = []
    for _ in range(count):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def peak():
    a, b = torch.rand(768, 768), torch.rand(768, 768)
    best = min(milliseconds(lambda: a @ b, 20))
    size, operations = shape[-1], 0
    for index, (weight, padding) in enumerate(layers):
        positions = 1
        if padding is not None:
            size = size + 2 * padding - weight[2] + 1
            positions = size * size
            size //= 2
        # Forward, gradient by weights, and by inputs except in the first layer.
        operations += 2 * batch * positions * math.prod(weight) * (2 if index == 0 else 3)
    return {"gigaflops": 2 * 768**3 / best / 1e6, "operations": operations * (2 if variational else 1)}


for _ in range(3):
    step()
for line in sys.stdin:
    answer = peak() if line.strip() == "peak" else {"ms": milliseconds(step, int(line)), "torch": torch.__version__}
    print(json.dumps(answer), flush=True)
