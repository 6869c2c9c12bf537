"""What the two benchmarks on a GPU share: their arguments, the time that is left, compilation ahead of it, and rivals that fail.

WORKER.py OWN.jsonl OUT.md OUT.json [--until SECONDS] [--cpu]
  --until  of time.time(): then no measurement is begun any more. Tables are written after each one and say what they lack.
  --cpu    a rehearsal: everything once, compilation included, in tiny shapes on the CPU
"""

import argparse
import gc
import multiprocessing
import os
import signal
import time

# Processes beside each other are as many as there are cores; what one has compiled, the others find on the disk.
os.environ |= {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_FX_GRAPH_CACHE": "1", "TORCHINDUCTOR_AUTOGRAD_CACHE": "1"}

import torch
import torch._functorch.config

# Compiled gradients are timed more than once with what one forward pass has kept.
torch._functorch.config.donated_buffer = False
torch.backends.cuda.matmul.allow_tf32 = False

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("own")
parser.add_argument("markdown")
parser.add_argument("json")
parser.add_argument("--until", type=float, default=float("inf"))
parser.add_argument("--cpu", action="store_true")
ARGUMENTS = parser.parse_args()
CPU = ARGUMENTS.cpu
DEVICE = "cpu" if CPU else "cuda"
# What a measurement whose graphs lie in the cache takes at most, about; compiling takes several times as long.
NEEDED = 5


def seconds_left():
    return ARGUMENTS.until - time.time()


def device_name():
    return "CPU, rehearsal" if CPU else torch.cuda.get_device_name()


def synchronize():
    if not CPU:
        torch.cuda.synchronize()


def attempt(measure, *arguments):
    """What it measured; a rival that cannot is a result too."""
    try:
        return measure(*arguments)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


class TimeUp(BaseException):
    """Not an error of whoever is interrupted."""


def interrupt(*_):
    raise TimeUp


def attempt_alone(measure, *arguments):
    """With all the memory: graphs and what else an earlier measurement left are dropped first. Nothing where the time is up before the end,
    as a compilation may take longer than what is left."""
    torch.compiler.reset()
    gc.collect()
    if not CPU:
        torch.cuda.empty_cache()
    signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, min(max(seconds_left(), 0.1), 3600))
        return attempt(measure, *arguments)
    except TimeUp:
        return {}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def compile_ahead(run, tasks, processes):
    """run(*task) in processes beside each other, so that torch.compile finds its results on the disk when they are measured. Takes half of
    the time that is left at most; what it has not compiled then is compiled where it is measured."""
    limit = min(seconds_left() / 2, 1200)
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=4) as pool:
        pending = pool.starmap_async(attempt_alone, [(run, *task) for task in tasks], chunksize=1)
        pending.wait(limit)


class Failures:
    """Messages of failed measurements as footnotes of a table: the same message once."""

    def __init__(self):
        self.numbers = {}

    def cell(self, error):
        number = self.numbers.setdefault(error, len(self.numbers) + 1)
        return f"failed ({number})"

    def notes(self):
        return "".join(f"\n({number}) {error.replace('|', '/')}\n" for error, number in self.numbers.items())


def write(file, text):
    """At once, whole: the process may be ended at any time."""
    with open(f"{file}.new", "w") as out:
        out.write(text)
    os.replace(f"{file}.new", file)
