"""What a statement is for a key: the same under every Python."""

import hashlib

from thesis_repro.lab.statements import read

TEXT = '''
class A:
    kinds = []

    def f(self):
        g()
        return None


async def h(x=(), *, y: int = 1):
    """Said."""
    return [f"{z!r}" for z in x if not y], lambda: {}
'''


def test_a_statement_counts_the_same_under_every_python() -> None:
    """The hash is that of Python 3.11; other versions have fields that it lacks, or leave some out.

    Where it changes, every key of the store does.
    """
    found = "\n".join(part.dump for part in read(TEXT, "pack.x", False).statements)
    assert hashlib.sha256(found.encode()).hexdigest() == (
        "8cafa759194c7273c5ea162d173d419dce803569547e18b26c8fb823cd6829e6"
    )
