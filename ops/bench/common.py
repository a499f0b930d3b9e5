"""Shared by the measurements: our programs, virtual environments for peers, daemons of their own, and what is printed."""
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

here = pathlib.Path(__file__).resolve().parent
one_thread = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")


def note(text):
    print(text, file=sys.stderr)


def programs():
    """The folder of a release build's programs, or $ACCRUE_BIN."""
    if "ACCRUE_BIN" in os.environ:
        return pathlib.Path(os.environ["ACCRUE_BIN"])
    root = here.parent.parent
    for product in ("accrue", "accrue-engine"):
        subprocess.run(["swift", "build", "-c", "release", "--product", product], cwd=root, check=True, stdout=sys.stderr)
    return pathlib.Path(subprocess.run(["swift", "build", "-c", "release", "--show-bin-path"], cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())


def environment(name, packages):
    """The folder of programs of a virtual environment in ~/.cache/accrue/bench, made when it is missing."""
    folder = pathlib.Path.home() / ".cache/accrue/bench" / name
    if not (folder / "bin/python").exists():
        note(f"making a virtual environment with {' and '.join(packages)} …")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin/pip", "install", "--quiet", *packages], check=True, stdout=sys.stderr)
    return folder / "bin"


def torch():
    """The Python of an environment with PyTorch; $ACCRUE_TORCH says what pip installs, else 'torch'."""
    return environment("torch", [os.environ.get("ACCRUE_TORCH", "torch"), "numpy"]) / "python"


def learn(program, title, file, path, options=(), changes=()):
    """The JSON lines of 'accrue run' with a pipeline file, which is written to `path`; `changes` are KEY=VALUE of --set, and `title` names the run where it fails."""
    pathlib.Path(path).write_text(json.dumps(file))
    command = [program, "run", path, "--json", *options]
    for change in changes:
        command += ["--set", change]
    done = subprocess.run(command, env=one_thread, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{title}: {done.stderr.strip()}\n{done.stdout.strip()[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextlib.contextmanager
def served(program, pipeline, posterior, changes=(), profile=None):
    """A daemon of its own that serves a posterior, as version 1 of a pipeline file's: (the pipeline's name, the environment to ask it in).

    `profile` is one of the file's, and `changes` are KEY=VALUE of --set.
    """
    with tempfile.TemporaryDirectory(prefix="accrue-bench.") as home:

        def run(environment, *command):
            done = subprocess.run([program, *map(str, command), "--json"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                raise SystemExit(f"accrue {' '.join(map(str, command))}: {done.stderr.strip()}{done.stdout.strip()}")
            return json.loads(done.stdout.splitlines()[0])

        options = [*(["--profile", profile] if profile else []), *(part for change in changes for part in ("--set", change))]
        file = run(one_thread, "pipeline", "validate", pipeline, *options)
        pathlib.Path(home, "pipeline.json").write_text(json.dumps(file))
        with open(f"{home}/log", "w") as log:
            daemon = subprocess.Popen([program, "serve", "--home", home, "--workers", "1", "--json"], env=one_thread, stdout=subprocess.PIPE, stderr=log, text=True)
            try:
                ready = daemon.stdout.readline()
                if not ready:
                    raise SystemExit(pathlib.Path(home, "log").read_text())
                environment = dict(one_thread, ACCRUE_CONNECT=json.loads(ready)["control"])
                name = run(environment, "pipeline", "apply", f"{home}/pipeline.json")["name"]
                run(environment, "posterior", "import", name, "--in", posterior)
                # Until the querier has it, version 0 would answer.
                run(environment, "query", name, "describe", "--at", "1")
                yield name, environment
            finally:
                daemon.terminate()
                daemon.wait()


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(ours, theirs):
    """The median of ratios turn by turn: what disturbs the machine disturbs neighbours alike."""
    return statistics.median(b / a for a, b in zip(ours, theirs))
