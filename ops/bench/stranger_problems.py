"""Problems of ops/bench/strangers: pictures that are learned, held-out ones of their kind, and strangers. Files go to ~/.cache/accrue/bench/strangers."""
import pathlib

import numpy as np

from incremental_problems import TRANSFORMS, stored

cache = pathlib.Path.home() / ".cache/accrue/bench/strangers"
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def held(arrays, validate, quick):
    """The rows that are asked for, of those of a held-out set or, with `validate`, the last tenth of the training rows."""
    rows = len(arrays[0])
    start = rows * 9 // 10 if validate else 0
    end = start + (rows - start) // 4 if quick else rows
    return [array[start:end] for array in arrays]


def problem(name, data, validate=False, quick=False):
    """A problem by name: `file`, keys of a pipeline file; `known`, `targets` and `strange`, files of held-out rows.

    `cifar10-five`: the first five classes are learned, the other five are strangers (as in the paper's code); pictures are pooled to 16×16. `mnist`: strangers are
    Fashion-MNIST's clothes. With `validate` all three are of the last tenth of the training rows, which are not learned. `quick`: a quarter of the rows.
    """
    learned, other = "mnist" if name == "mnist" else "cifar10", "train" if validate else "test"
    train, known = stored(learned, data, "train"), stored(learned, data, other)
    if name == "mnist":
        strange = stored("fashion-mnist", data, other)[:1]
        inputs = {"shape": [28, 28], "transform": {"scale": 1 / 255}}
        classes, model = [str(digit) for digit in range(10)], "lenet5"
    else:
        frames, labels = known
        known, strange = (frames[labels < 5], labels[labels < 5]), (frames[labels >= 5],)
        train = tuple(array[train[1] < 5] for array in train)
        mean, deviation = TRANSFORMS["cifar10"]
        inputs = {"shape": [1536], "transform": {"format": "i420", "pool": 2, "scale": 1 / 255, "mean": mean, "standardDeviation": deviation}}
        classes, model = CIFAR10[:5], "conv3"
    if validate:
        train = tuple(array[: len(array) * 9 // 10] for array in train)
    if quick:
        train = tuple(array[: len(array) // 4] for array in train)
    known, strange = held(known, validate, quick), held(strange, validate, quick)
    cache.mkdir(parents=True, exist_ok=True)
    files = {}
    for what, array in (("inputs", train[0]), ("targets", train[1]), ("known", known[0]), ("known-targets", known[1]), ("strange", strange[0])):
        files[what] = cache / f"{name}{'-validate' if validate else ''}{'-quick' if quick else ''}-{what}.npy"
        np.save(files[what], np.ascontiguousarray(array))
    return {
        "file": {
            "name": "bench", "method": "StochasticBatchNorm", "round": {"chunks": 1},
            "schema": [
                {"name": "inputs", "role": "input", "dtype": "U8", **inputs},
                {"name": "targets", "role": "target", "dtype": "U8", "shape": [], "classes": classes},
            ],
            "settings": {"model": {"kind": model, "batchNorm": True}, "epochs": 2 if quick else 10, "batch": 64, "scoreDraws": 1},
            "source": {"tensors": {what: str(files[what]) for what in ("inputs", "targets")}},
        },
        "known": files["known"], "targets": files["known-targets"], "labels": known[1], "strange": files["strange"], "rows": max(len(known[1]), len(strange[0])),
    }
