"""Compute cells on an existing Dask cluster; results come back to the client, which stores them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from thesis_repro.lab.engine import Cell, CellError, call
from thesis_repro.lab.store import Result, Store, pack, unpack

CONNECT_SECONDS = 10


def compute_all(cells: dict[str, Cell], scheduler: str, store: Store) -> Iterator[CellError | None]:
    """Compute the cells that the store lacks; yields once per cell as it finishes.

    A worker takes one cell at a time when it carries the Dask resource GPU=1 and the cell asks
    for cuda. A cell whose worker died goes to another one.

    Raises
    ------
    CellError
        If dask is not installed, the scheduler does not answer, or versions differ.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise CellError(
            "--scheduler needs dask and distributed: pip install 'thesis-repro[cluster]'"
        ) from None
    missing = {}
    for key, cell in cells.items():
        if store.get(key) is None:
            missing[key] = cell
        else:
            yield None
    if not missing:
        return
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise CellError(
            f"no Dask scheduler answers at {scheduler} within {CONNECT_SECONDS} s "
            f"({type(error).__name__}); start one with: dask scheduler"
        ) from None
    with client:
        _same_versions(client)
        futures = {}
        for key, cell in missing.items():
            resources = {"GPU": 1} if str(getattr(cell.config, "device", "")) == "cuda" else {}
            future = client.submit(
                _work, cell, key, key=f"cell-{key}", pure=False, resources=resources, retries=2
            )
            futures[future] = key
        for future in as_completed(futures):
            key = futures[future]
            try:
                outcome = future.result()
            except Exception as error:
                yield CellError(
                    f"{missing[key].name} was lost on the cluster: {type(error).__name__}: {error}"
                )
                continue
            if isinstance(outcome, bytes):
                store.put(key, unpack(outcome))
                yield None
            else:
                yield CellError(*outcome)


def _work(cell: Cell, key: str) -> bytes | tuple[str, str]:
    """On the worker: compute one cell from its own code and check that the code is the same."""
    if cell.key != key:
        return (
            f"{cell.name}: the worker's code, torch or device differs from the client's; install "
            f"the same version on both",
            "",
        )
    with tempfile.TemporaryDirectory() as folder:
        try:
            result: Result = call(cell, Path(folder))
        except CellError as error:
            return str(error), error.details
    return pack(result)


def _same_versions(client: object) -> None:
    def versions() -> dict[str, str]:
        import importlib.metadata
        import platform

        found = {"python": ".".join(platform.python_version_tuple()[:2])}
        for package in ("torch", "numpy", "distributed", "thesis-repro"):
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                found[package] = "absent"
        return found

    ours = versions()
    theirs: dict[str, dict[str, str]] = client.run(versions)  # type: ignore[attr-defined]
    for found in theirs.values():
        for package, version in found.items():
            if version != ours[package]:
                raise CellError(
                    f"version skew: {package} is {ours[package]} here and {version} on a worker; "
                    f"install the same environment on both"
                )
