#!/usr/bin/env python3
"""Exports of a pruned network, built and timed in PyTorch.

    peers/pruned.py FOLDER IMAGES

FOLDER holds the safetensors files `compact`, `csr` and `predicted`; IMAGES are MNIST's. Prints a JSON line; fails if a network does not predict what `predicted` says.
"""
import gzip
import json
import statistics
import sys
import time
import warnings

import numpy
import torch

# PyTorch says at every start that its sparse tensors are young.
warnings.filterwarnings("ignore", category=UserWarning)
torch.set_num_threads(1)
torch.set_grad_enabled(False)
folder, images = sys.argv[1:3]
types = {"F32": numpy.float32, "F64": numpy.float64, "I64": numpy.int64, "I32": numpy.int32}


def read(name):
    data = open(f"{folder}/{name}", "rb").read()
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:8 + size]), data[8 + size:]
    about = json.loads(header.pop("__metadata__")["answer"])
    tensors = {}
    for key, entry in header.items():
        start, end = entry["data_offsets"]
        tensors[key] = torch.from_numpy(numpy.frombuffer(body[start:end], types[entry["dtype"]]).reshape(entry["shape"]).copy())
    return about, tensors, len(data)


def network(about, tensors, weight):
    """The layers as functions."""
    steps = []
    for layer in about["layers"]:
        if layer["kind"] in ("dense", "convolution"):
            w, b = weight(layer), tensors.get(f"{layer['name']}.bias") if layer["bias"] else None
            if layer["kind"] == "dense" and w.layout == torch.sparse_csr:
                steps.append(lambda x, w=w, b=b: (w @ x.T).T + (0 if b is None else b))
            elif layer["kind"] == "dense":
                steps.append(lambda x, w=w, b=b: torch.nn.functional.linear(x, w, b))
            else:
                steps.append(lambda x, w=w, b=b, p=layer["padding"]: torch.nn.functional.conv2d(x, w, b, padding=p))
        elif layer["kind"] == "relu":
            steps.append(torch.relu)
        elif layer["kind"] == "maxPool":
            steps.append(lambda x, n=layer["size"], s=layer["stride"]: torch.nn.functional.max_pool2d(x, n, s))
        elif layer["kind"] == "flatten":
            steps.append(lambda x: x.flatten(1))
        else:
            raise SystemExit(f"a layer of kind {layer['kind']}")

    def apply(x):
        for step in steps:
            x = step(x)
        return x
    return apply


compact, small, compact_bytes = read("compact")
csr, parts, csr_bytes = read("csr")


def sparse(layer):
    name = layer["name"]
    width = layer["inputs"] * layer.get("kernel", 1) ** 2
    return torch.sparse_csr_tensor(parts[f"{name}.rows"].long(), parts[f"{name}.columns"].long(), parts[f"{name}.values"], (layer["outputs"], width))


def dense(layer):
    kernel = layer.get("kernel")
    return sparse(layer).to_dense().reshape([layer["outputs"], layer["inputs"]] + ([kernel, kernel] if kernel else []))


networks = {
    "dense": network(csr, parts, dense),
    "compact": network(compact, small, lambda layer: small[f"{layer['name']}.weight"]),
    # Convolutions have no sparse kernels in PyTorch.
    "csr": network(csr, parts, lambda layer: sparse(layer) if layer["kind"] == "dense" else dense(layer)),
}
_, predicted, _ = read("predicted")
expected = predicted["probabilities"]
pixels = torch.from_numpy(numpy.frombuffer(gzip.open(images).read(), numpy.uint8, offset=16)[:len(expected) * 784].reshape(-1, 784).astype(numpy.float32))
x = (pixels / 255 - 0.1307) / 0.3081
inputs = {name: x for name in networks}
if len(csr["inputShape"]) == 3:
    inputs = {name: x.reshape(-1, 1, 28, 28) for name in networks}
elif "inputs" in small:
    inputs["compact"] = x[:, small["inputs"]]
worst = max((networks[name](inputs[name]).double().softmax(1) - expected).abs().max().item() for name in networks)
if not worst <= 1e-5:
    raise SystemExit(f"an export's probabilities are {worst} from the daemon's")


def ms(name, rows):
    some, times = inputs[name][:rows].contiguous(), []
    repeats = 400 if rows == 1 else 20
    for _ in range(repeats):
        start = time.perf_counter()
        networks[name](some)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


print(json.dumps({
    "torch": torch.__version__, "weights": csr["weights"], "kept": csr["kept"], "compression": csr["compression"], "worst": worst,
    "bytes": {"dense": csr["denseBytes"], "compact": compact_bytes, "csr": csr_bytes},
    "ms": {str(rows): {name: ms(name, rows) for name in networks} for rows in (1, 1000)}}))
