"""Locks between processes, where the file system has them."""

import errno
import fcntl
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

NOT_LOCKABLE = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
"""What the kernel says where a file system has no locks: Lustre and NFS, as some mount them."""

NO_LOCKS = "this file system has no locks: do not start the same work twice at a time"


@contextmanager
def exclusive(
    path: Path,
    *,
    waiting: Callable[[], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Hold a lock file against other processes; the kernel frees it when a process dies.

    Where the file system has no locks the work goes on without one, and that is said once.

    Parameters
    ----------
    path : Path
        The lock file, made if need be.
    waiting : callable, optional
        Called when another process holds the lock, before waiting for it.
    say : callable, optional
        Takes the line about a file system without locks; a warning otherwise.

    Raises
    ------
    OSError
        If the file cannot be made: in one line, with its path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is not None:
                    waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NOT_LOCKABLE:
                raise
            _without_locks() if say is None else say(NO_LOCKS)
        yield


@cache
def _without_locks() -> None:
    warnings.warn(NO_LOCKS, stacklevel=2)


def lockable(folder: Path) -> bool:
    """Whether files in this folder can be locked."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NOT_LOCKABLE:
                raise
            return False
    return True
