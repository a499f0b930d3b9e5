#!/usr/bin/env python3
"""PyTorch behind FastAPI and uvicorn, doing what a querier does with `predict`: 32 draws of a LeNet-5 (20-50-500) from a factorised Gaussian, mean
probabilities and both parts of the uncertainty; one process, with as many threads as there are processors.

    peers/predict.py fresh|advance PORT

`fresh` draws the weights for each question, `advance` draws them once. POST /predict takes a row's 784 bytes, and answers JSON.
"""
import math
import os
import sys

import fastapi
import torch
import torch.nn.functional as F
import uvicorn

torch.set_num_threads(os.cpu_count())
torch.manual_seed(1)
mode, port, draws = sys.argv[1], int(sys.argv[2]), 32
shapes = [(20, 1, 5, 5), (20,), (50, 20, 5, 5), (50,), (500, 800), (500,), (10, 500), (10,)]
means = [torch.randn(s) * math.sqrt(2 / math.prod(s[1:])) if len(s) > 1 else torch.zeros(s) for s in shapes]
deviations = [torch.full(s, 0.02) for s in shapes]


def draw():
    return [m + s * torch.randn_like(m) for m, s in zip(means, deviations)]


def network(x, w):
    x = F.relu(F.max_pool2d(F.conv2d(x, w[0], w[1]), 2))
    x = F.relu(F.max_pool2d(F.conv2d(x, w[2], w[3]), 2))
    return F.linear(F.relu(F.linear(x.flatten(1), w[4], w[5])), w[6], w[7])


kept = [draw() for _ in range(draws)]
app = fastapi.FastAPI()


@app.post("/predict")
async def predict(request: fastapi.Request):
    raw = bytearray(await request.body())
    with torch.inference_mode():
        x = (torch.frombuffer(raw, dtype=torch.uint8).reshape(-1, 1, 28, 28).float() / 255 - 0.286) / 0.353
        logs = torch.stack([network(x, w) for w in (kept if mode == "advance" else (draw() for _ in range(draws)))]).log_softmax(-1)
        p = logs.exp()
        mean = p.mean(0)
        total, aleatoric = -(mean * mean.clamp_min(1e-30).log()).sum(-1), -(p * logs).sum(-1).mean(0)
        return {"probabilities": mean.tolist(), "totalEntropy": total.tolist(), "aleatoric": aleatoric.tolist(), "epistemic": (total - aleatoric).tolist()}


uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")
