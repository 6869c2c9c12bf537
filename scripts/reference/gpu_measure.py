"""What the two benchmarks on a GPU share: arguments, ceilings, the time that is left, compilation ahead of it, and rivals that fail.

WORKER.py OWN.jsonl OUT.md OUT.json [--until SECONDS] [--cpu]
  --until  of time.time(): then no measurement is begun any more. Tables are written after each one and say what they lack.
  --cpu    a rehearsal: everything once, compilation included, in tiny shapes on the CPU
"""

import argparse
import gc
import multiprocessing
import os
import signal
import statistics
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
DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
# What a measurement whose graphs lie in the cache takes at most, about; compiling takes several times as long.
NEEDED = 5


def seconds_left():
    return ARGUMENTS.until - time.time()


def device_name():
    return "CPU, rehearsal" if CPU else torch.cuda.get_device_name()


def synchronize():
    if not CPU:
        torch.cuda.synchronize()


def microseconds(run):
    """Median of ten groups; each long enough for the clock."""
    if CPU:
        run()
        return 1.0
    for _ in range(3):
        run()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def group(runs):
        begin.record()
        for _ in range(runs):
            run()
        end.record()
        synchronize()
        return 1e3 * begin.elapsed_time(end) / runs

    runs = max(3, min(1000, int(30e3 / max(group(3), 1.0))))
    return statistics.median(group(runs) for _ in range(10))


def ceilings():
    """Operations of a type and bytes a second that this device reaches: in a large product, in a large copy, both ways counted."""
    if CPU:
        return {"bf16": 1.0, "f32": 1.0, "bytesPerSecond": 1.0}
    result = {}
    for name, dtype in DTYPES.items():
        a, b = (torch.randn(8192, 8192, device=DEVICE, dtype=dtype) for _ in range(2))
        result[name] = 2 * 8192**3 / (microseconds(lambda: torch.matmul(a, b)) * 1e-6)
        del a, b
    source = torch.empty(2**31, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    result["bytesPerSecond"] = 2 * 2**31 / (microseconds(lambda: target.copy_(source)) * 1e-6)
    return result


RATES = "TFLOP/s | of the matrix ceiling | GB/s | of the copy's"


def rates(operations, moved, seconds, limits, dtype):
    """The cells of these columns: rates of operations and bytes that nobody can avoid, and their shares of the ceilings."""
    operations, moved = operations / seconds, moved / seconds
    shares = [f"{100 * rate / ceiling:.0f} %" for rate, ceiling in ((operations, limits[dtype]), (moved, limits["bytesPerSecond"]))]
    return [f"{operations / 1e12:.1f}", shares[0], f"{moved / 1e9:.0f}", shares[1]]


def ceilings_text(limits):
    return (
        f"Ceilings of the same run: {limits['bf16'] / 1e12:.0f} TFLOP/s (bf16) and {limits['f32'] / 1e12:.1f} TFLOP/s (fp32) in products of "
        f"8192 x 8192 x 8192, {limits['bytesPerSecond'] / 1e12:.2f} TB/s in a copy, both ways counted."
    )


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
