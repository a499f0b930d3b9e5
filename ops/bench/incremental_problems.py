"""Streams of parts for ops/bench/incremental: which rows, in which parts, what is held out. Files go to ~/.cache/accrue/bench/incremental."""
import gzip
import pathlib

import numpy as np

fashion = pathlib.Path("/usr/share/datasets/fashion-mnist")
cache = pathlib.Path.home() / ".cache/accrue/bench/incremental"


def idx(path):
    """The numbers of an IDX file of bytes."""
    with gzip.open(path) as file:
        data = file.read()
    dimensions = data[3]
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


# Means and standard deviations of the channels of a pixel from 0 to 1.
TRANSFORMS = {
    "cifar10": ([0.4912, 0.4821, 0.4465], [0.2457, 0.2429, 0.2611]), "fashion-mnist": ([0.286], [0.353]), "mnist": ([0.1307], [0.3081]),
}


def stored(name, data, part):
    """Pictures and labels of the part `train` or `test`, as the files have them: of cifar10 I420 frames [rows, 1536], else [rows, 28, 28]."""
    if name == "cifar10":
        files = [f"cifar10-train{i}" for i in range(1, 6)] if part == "train" else ["cifar10-test"]
        return tuple(np.concatenate([idx(need(data / f"{file}-{what}-ubyte.gz")) for file in files]) for what in ("i420-idx2", "labels-idx1"))
    folder, prefix = (fashion, "") if name == "fashion-mnist" else (data, "mnist-")
    file = "train" if part == "train" else "t10k"
    return tuple(idx(need(folder / f"{prefix}{file}-{what}-ubyte.gz")) for what in ("images-idx3", "labels-idx1"))


def images(name, data):
    """Training and test pictures with their labels, and the transform of a pixel."""
    sets = [stored(name, data, part) for part in ("train", "test")]
    if name == "cifar10":
        sets = [(rgb(frames), labels) for frames, labels in sets]
    return *sets, TRANSFORMS[name]


def need(path):
    if not path.exists():
        raise SystemExit(f"there is no file {path}: give the folder of the data sets with --data or ACCRUE_DATA (Fashion-MNIST: apt install dataset-fashion-mnist)")
    return path


def rgb(frames):
    """I420 frames [rows, 1536] as RGB [rows, 3, 32, 32], by the rule of full-range JFIF in whole numbers."""
    y = frames[:, :1024].reshape(-1, 32, 32).astype(np.int32)
    b, e = (
        np.repeat(np.repeat(frames[:, start : start + 256].reshape(-1, 16, 16).astype(np.int32) - 128, 2, axis=1), 2, axis=2) for start in (1024, 1280)
    )
    planes = [y + ((91881 * e + 32768) >> 16), y + ((-22554 * b - 46802 * e + 32768) >> 16), y + ((116130 * b + 32768) >> 16)]
    return np.clip(np.stack(planes, axis=1), 0, 255).astype(np.uint8)


def rotated(pictures, degrees):
    """Pictures [rows, height, width] turned about their middle, bilinear."""
    height, width = pictures.shape[1:]
    turn = np.deg2rad(degrees)
    rows, columns = np.mgrid[:height, :width].astype(float)
    y, x = rows - (height - 1) / 2, columns - (width - 1) / 2
    source_y, source_x = np.cos(turn) * y + np.sin(turn) * x + (height - 1) / 2, -np.sin(turn) * y + np.cos(turn) * x + (width - 1) / 2
    top, left = np.floor(source_y).astype(int), np.floor(source_x).astype(int)
    down, right = source_y - top, source_x - left
    result = np.zeros(pictures.shape)
    for dy, dx, weight in ((0, 0, (1 - down) * (1 - right)), (0, 1, (1 - down) * right), (1, 0, down * (1 - right)), (1, 1, down * right)):
        inside = (top + dy >= 0) & (top + dy < height) & (left + dx >= 0) & (left + dx < width)
        result += np.where(inside, weight, 0) * pictures[:, np.clip(top + dy, 0, height - 1), np.clip(left + dx, 0, width - 1)]
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def skewed(labels, parts, rows, rng):
    """Row numbers of parts in which nine of ten rows are of two classes, and the tenth of a mix of classes drawn from a Dirichlet(0.1)."""
    pools = {c: list(rng.permutation(np.flatnonzero(labels == c))) for c in range(10)}
    chosen = []
    for part in range(parts):
        mix = 0.1 * rng.dirichlet(np.full(10, 0.1))
        for c in (2 * part % 10, (2 * part + 1) % 10):
            mix[c] += 0.45
        counts = rng.multinomial(rows, mix)
        numbers = [pools[c].pop() for c in range(10) for _ in range(min(counts[c], len(pools[c])))]
        spare = [n for c in (2 * part % 10, (2 * part + 1) % 10) for n in pools[c]]
        numbers += spare[: rows - len(numbers)]
        chosen.append(rng.permutation(numbers))
    return np.concatenate(chosen)


def problem(name, data, validate, quick=False):
    """A stream by name, as the keys of a pipeline file; `each`: rows of the hold-out on which every version is scored; `unlike`: whether parts differ, and the
    hold-out's first chunk is like the first part.

    With `validate` the last tenth of the training rows is held out, and the test rows are not read from. `quick`: a quarter of a part's rows, half of those held out.
    """
    base = name.split("/")[0]
    kind = name.split("/")[1] if "/" in name else "iid"
    train, test, (mean, deviation) = images(base, data)
    order = np.arange(len(train[1]))
    if validate:
        cut = len(order) * 9 // 10
        test = train[0][cut:], train[1][cut:]
        train = train[0][:cut], train[1][:cut]
    parts, rows = (5, 9_000 if validate else 10_000) if base == "cifar10" else (9 if validate else 10, 6_000)
    if quick:
        rows, test = rows // 4, tuple(part[: len(part) // 2] for part in test)
    shape = list(train[0].shape[1:])
    rng = np.random.default_rng(1)
    held, held_rows, each = test, 1_000, 1_000
    if kind == "small":
        parts, rows = 10, 125 if quick else 500
    elif kind == "rotated":
        parts, rows, held_rows = 10, 500 if quick else 2_000, 250 if quick else 500
        angles = np.linspace(0, 90, parts)
        train = np.concatenate([rotated(train[0][i * rows : (i + 1) * rows], a) for i, a in enumerate(angles)]), train[1][: parts * rows]
        held = np.concatenate([rotated(test[0][i * held_rows : (i + 1) * held_rows], a) for i, a in enumerate(angles)]), test[1][: parts * held_rows]
        each = parts * held_rows
    elif kind == "skewed":
        parts, rows = 5, 1_000 if quick else 4_000
        chosen = skewed(train[1], parts, rows, rng)
        train = train[0][chosen], train[1][chosen]
        # Chunks of two classes each, in the order of the parts, again and again.
        held_rows = 100 if quick else 200
        pairs = [np.flatnonzero(test[1] // 2 == pair) for pair in range(parts)]
        turns = min(len(pair) for pair in pairs) // held_rows
        turned = [pair[i * held_rows : (i + 1) * held_rows] for i in range(turns) for pair in pairs]
        chosen = np.concatenate(turned + [pair[turns * held_rows :] for pair in pairs])
        held, each = (test[0][chosen], test[1][chosen]), parts * held_rows
    elif kind == "sorted":
        # Every part is alike, but its rows are sorted by class, so that shards are not.
        chosen = np.concatenate([i * rows + np.argsort(train[1][i * rows : (i + 1) * rows], kind="stable") for i in range(parts)])
        train = train[0][chosen], train[1][chosen]
    train = train[0][: parts * rows], train[1][: parts * rows]
    cache.mkdir(parents=True, exist_ok=True)
    files = {}
    for role, (pictures, labels) in (("train", train), ("held", held)):
        for what, array in (("inputs", pictures), ("targets", labels)):
            path = cache / f"{name.replace('/', '-')}-{'validate' if validate else 'test'}{'-quick' if quick else ''}-{role}-{what}.npy"
            np.save(path, np.ascontiguousarray(array))
            files[role, what] = str(path)
    return {
        "schema": [
            {"name": "inputs", "role": "input", "dtype": "U8", "shape": shape, "transform": {"scale": 1 / 255, "mean": mean, "standardDeviation": deviation}},
            {"name": "targets", "role": "target", "dtype": "U8", "shape": [], "classes": [str(c) for c in range(10)]},
        ],
        "model": {"kind": "conv3" if base == "cifar10" else "lenet5"},
        "epochs": 50 if kind == "small" else 5,
        "source": {"tensors": {what: files["train", what] for what in ("inputs", "targets")}, "rowsPerChunk": rows},
        "holdout": {"tensors": {what: files["held", what] for what in ("inputs", "targets")}, "rowsPerChunk": held_rows},
        "each": each,
        "parts": parts,
        "unlike": kind in ("rotated", "skewed"),
    }
