"""Keep freed memory in the process: on glibc a training step then faults in no new pages.

Activations are larger than glibc's limit for blocks of their own, so each is mapped, zeroed by the
kernel page by page, and unmapped again. That is a quarter of a small net's training step on a CPU.
"""

import ctypes
import sys
from functools import cache

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
LARGEST_BLOCK = 32 * 2**20
"""The largest limit that glibc takes: blocks up to here come from the heap."""


@cache
def keep_freed() -> bool:
    """Tell glibc to keep up to 2 GiB of freed memory; False where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = (
        (M_MMAP_THRESHOLD, LARGEST_BLOCK),
        (M_TRIM_THRESHOLD, 2**31 - 1),
        (M_TOP_PAD, 2 * LARGEST_BLOCK),
    )
    return all(mallopt(name, value) == 1 for name, value in settings)
