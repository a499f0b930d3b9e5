#!/usr/bin/env python3
"""Flower's FedAvg aggregation of states of random numbers.

    peers/merge.py STATES WEIGHTS REPEATS

Prints a JSON line with times in milliseconds: of `aggregate`, the arithmetic on arrays alone, and of `FedAvg.aggregate_fit`, what Flower's server does
with the results that its clients sent: parameters from bytes, the mean, and bytes again.
"""
import importlib.metadata
import json
import logging
import statistics
import sys
import time

import numpy
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters
from flwr.server.strategy import FedAvg
from flwr.server.strategy.aggregate import aggregate

logging.disable(logging.CRITICAL)
states, weights, repeats = map(int, sys.argv[1:4])
random = numpy.random.default_rng(1)
parts = [([random.random(weights, dtype=numpy.float32)], 100 + index) for index in range(states)]
results = [(None, FitRes(Status(Code.OK, ""), ndarrays_to_parameters(arrays), rows, {})) for arrays, rows in parts]
server = FedAvg()


def median_ms(work):
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[1:])


print(json.dumps({
    "aggregateMs": median_ms(lambda: aggregate(parts)), "aggregateFitMs": median_ms(lambda: server.aggregate_fit(1, results, [])),
    "flower": importlib.metadata.version("flwr")}))
