"""Compute cells on an existing Dask cluster; results come back to the client, which stores them."""

import socket
import uuid
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from thesis_repro.lab.cells import Cell, CellError, compute
from thesis_repro.lab.store import Store, pack, unpack
from thesis_repro.lab.threads import limited

CONNECT_SECONDS = 10
PACKAGES = ("thesis-repro", "torch", "numpy", "distributed")


def compute_all(
    cells: dict[str, Cell], scheduler: str, store: Store, fresh: bool = False
) -> Iterator[CellError | None]:
    """Compute the cells that the store lacks; yields once per cell as it finishes.

    A cell that asks for cuda goes to workers with the Dask resource GPU=1, one at a time each.
    A cell whose worker died goes to another one. A worker keeps in its own store what its cells
    need to resume.

    Raises
    ------
    CellError
        If dask is not installed, the scheduler does not answer or goes away, versions differ, or
        no worker has the GPU that a cell needs.
    """
    try:
        from distributed import as_completed
    except ImportError:
        raise CellError(
            "--scheduler needs dask and distributed: pip install dask distributed"
        ) from None
    missing = {key: cell for key, cell in cells.items() if store.get(key) is None}
    yield from [None] * (len(cells) - len(missing))
    if not missing:
        return
    with _client(scheduler) as client:
        _same_versions(client)
        if any(cell.device == "cuda" for cell in missing.values()):
            _some_gpu(client, scheduler)
        waiting = _submitted(client, missing, fresh)
        for future in as_completed(list(waiting), loop=client.loop):
            key = waiting.pop(future)  # lets the worker forget it
            try:
                outcome = future.result()
            except Exception as error:
                if client.status != "running" or type(error).__name__ == "FutureCancelledError":
                    raise CellError(
                        f"the Dask scheduler at {scheduler} went away; {len(waiting) + 1} cells "
                        f"are not computed, finished ones are kept"
                    ) from None
                said = " ".join(str(error).split())
                yield CellError(f"{cells[key]} was lost: {type(error).__name__}: {said}")
                continue
            if isinstance(outcome, bytes):
                with store.lock(key):
                    if store.get(key) is None:  # a worker may share the store
                        store.put(key, unpack(outcome))
            yield None if isinstance(outcome, bytes) else CellError(*outcome)


def _client(scheduler: str) -> Any:
    from distributed import Client

    try:
        _knock(scheduler)  # a Client that fails to connect leaves a thread behind
        return Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise CellError(
            f"no Dask scheduler answers at {scheduler} within {CONNECT_SECONDS} s "
            f"({type(error).__name__}: {error}); start one with: dask scheduler"
        ) from None


def _submitted(client: Any, missing: dict[str, Cell], fresh: bool) -> dict[Any, str]:
    """Hand in cells; returns the key of each future."""
    token = uuid.uuid4().hex if fresh else None

    def submit(key: str, cell: Cell) -> Any:
        resources = {"GPU": 1} if cell.device == "cuda" else {}
        about = (_work, cell, key, token)
        return client.submit(*about, key=f"cell-{key}", pure=False, resources=resources)

    return {submit(key, cell): key for key, cell in missing.items()}


def _knock(scheduler: str) -> None:
    """Open a connection and close it, or raise OSError or ValueError."""
    address = urlsplit(scheduler)
    if address.scheme not in ("tcp", "tls") or not (address.hostname and address.port):
        raise ValueError("an address reads tcp://HOST:PORT")
    socket.create_connection((address.hostname, address.port), CONNECT_SECONDS).close()


def _work(cell: Cell, key: str, token: str | None) -> bytes | tuple[str, str]:
    """On the worker: compute one cell from its own code, having checked that this is the same."""
    _settle()
    if cell.key != key:
        return (
            f"{cell}: the worker's code or torch differs from the client's; install the same "
            f"version on both",
            "",
        )
    try:
        return pack(compute(cell, renewed=None if token is None else _renewed(token)))
    except CellError as error:
        return str(error), error.details


@cache
def _renewed(token: str) -> set[str]:
    """The keys that this worker has computed in the fresh run of this token."""
    return set()


def _settle() -> None:
    """Compute with one thread from now on: a worker's threads share the libraries."""
    import torch

    _limit()
    torch.set_num_threads(1)  # each thread has a number of its own
    limited.set(True)


@cache
def _limit() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def _same_versions(client: Any) -> None:
    found = client.get_versions(packages=PACKAGES)
    ours = _versions(found["client"])
    for theirs in map(_versions, found["workers"].values()):
        for package, version in ours.items():
            if theirs[package] != version:
                raise CellError(
                    f"version skew: {package} is {version} here and {theirs[package]} on a "
                    f"worker; install the same environment on both"
                )


def _versions(about: dict[str, Any]) -> dict[str, str]:
    python = ".".join(about["host"]["python"].split(".")[:2])
    packages = {name: about["packages"].get(name) or "absent" for name in PACKAGES}
    return {"python": python, **packages}


def _some_gpu(client: Any, scheduler: str) -> None:
    offers = client.run(_gpus)
    if offers and not any(offers.values()):
        raise CellError(
            f"no worker at {scheduler} offers a GPU; start one with: dask worker {scheduler} "
            f'--nthreads 1 --resources "GPU=1"'
        )


def _gpus(dask_worker: Any) -> float:
    return float(dask_worker.state.total_resources.get("GPU", 0))
