"""Differences over the same rows, with their standard errors."""
import math

import numpy as np


def placements(values, others):
    """For each value the share of the others that it is above, ties counting half."""
    others = np.sort(others)
    return (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / (2 * len(others))


def auroc(strange, known):
    """The chance that a stranger's value is the larger one (Mann and Whitney's statistic over all pairs)."""
    return float(placements(strange, known).mean())


def placed(first, second):
    """What each row adds to the difference of two AUROCs over the same rows, each (strange, known): strangers' parts and known rows' (DeLong, DeLong &
    Clarke-Pearson 1988). The mean of either is the difference."""
    strange = placements(first[0], first[1]) - placements(second[0], second[1])
    known = placements(second[1], second[0]) - placements(first[1], first[0])
    return strange, known


def difference(seeds):
    """Mean over seeds of a difference, its standard error over rows and, from two seeds on, over seeds.

    Of each seed: arrays of rows' parts, one or (of an AUROC) two, whose means are each the difference. Rows are the same for all seeds.
    """
    sides = [np.mean(parts, axis=0) for parts in zip(*seeds)]
    each = [float(seed[0].mean()) for seed in seeds]
    result = {
        "difference": float(np.mean(each)), "standardError": math.sqrt(sum(side.var(ddof=1) / len(side) for side in sides)), "seeds": each,
    }
    if len(each) > 1:
        result["seedError"] = float(np.std(each, ddof=1) / math.sqrt(len(each)))
    return result
