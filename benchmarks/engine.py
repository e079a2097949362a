"""How fast the engine is: two workers against one, and the cost of a cell in one process.

Starts a Dask scheduler and workers on loopback. Prints each figure beside its limit; exits with
1 if one is missed. Run it on a machine that is otherwise idle: python benchmarks/engine.py
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from thesis_repro.lab.cells import Cell, Result
from thesis_repro.lab.engine import run
from thesis_repro.lab.places import STORE
from thesis_repro.lab.store import Store

CELLS = 200
SLEEP = 0.05
LEAST_RATIO = 1.7
MOST_MS = 5.0
ROUNDS = 3


@dataclass(frozen=True)
class Nap:
    i: int
    seconds: float
    device: str = "cpu"


def nap(config: Nap) -> Result:
    """Cell: sleep."""
    time.sleep(config.seconds)
    return Result({"i": config.i})


def overhead(folder: Path) -> float:
    """Milliseconds that the engine adds to an empty cell in one process, fsync included.

    The least of some rounds: what else the machine does can only add.
    """
    store = Store(folder / "alone")
    run([Cell(nap, Nap(-1, 0.0))], store=store, progress=False)  # imports
    rounds = []
    for _ in range(ROUNDS):
        cells = [Cell(nap, Nap(i, 0.0)) for i in range(CELLS)]
        start = time.perf_counter()
        run(cells, store=store, fresh=True, progress=False)
        rounds.append(1000 * (time.perf_counter() - start) / CELLS)
    return min(rounds)


def rate(folder: Path, workers: int) -> float:
    """Sleeping cells per second on a cluster of so many workers of one thread."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = ["worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny"]
    environment = {
        **os.environ,
        STORE: str(folder / f"workers-{workers}"),
        "PYTHONPATH": str(Path(__file__).parent),
    }
    with ExitStack() as stack:
        for command in [scheduler, *[[*worker, "--local-directory", str(folder)]] * workers]:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        _wait(port, workers)
        store = Store(folder / f"client-{workers}")
        warm = [Cell(nap, Nap(-i, SLEEP)) for i in range(1, 4 * workers + 1)]
        run(warm, scheduler=address, store=store, progress=False)
        cells = [Cell(nap, Nap(i, SLEEP)) for i in range(CELLS)]
        start = time.perf_counter()
        run(cells, scheduler=address, store=store, progress=False)
        return CELLS / (time.perf_counter() - start)


def _wait(port: int, workers: int) -> None:
    from distributed import Client

    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    with Client(f"tcp://127.0.0.1:{port}", set_as_default=False) as client:
        client.wait_for_workers(workers, timeout=120)


def main() -> int:
    """Measure and print; returns the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        added = overhead(Path(folder))
        one, two = (rate(Path(folder), workers) for workers in (1, 2))
    good = (two / one >= LEAST_RATIO, added <= MOST_MS)
    print(f"{CELLS} cells that sleep {1000 * SLEEP:.0f} ms, on loopback:")
    print(f"  one worker {one:.1f} cells/s, two workers {two:.1f} cells/s")
    print(f"  ratio {two / one:.2f}, at least {LEAST_RATIO}: {'met' if good[0] else 'MISSED'}")
    print(f"in one process, added to a cell: {added:.2f} ms, at most {MOST_MS}: ", end="")
    print("met" if good[1] else "MISSED")
    return 0 if all(good) else 1


if __name__ == "__main__":
    # workers import this module by its name; as __main__ it would be another one
    from engine import main as imported

    sys.exit(imported())
