"""Freed memory is kept, so that allocating again costs no page faults."""

import subprocess
import sys

import pytest

from thesis_repro.lab import memory

FAULTS = """
import resource, torch
from thesis_repro.lab import memory
assert {keep} is False or memory.keep_freed()
def work():
    for _ in range(20):
        torch.ones(5_000_000)  # 20 MB each
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep):
    code = FAULTS.replace("{keep}", str(keep))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_repeated_allocations_fault_no_pages():
    if not memory.keep_freed():
        pytest.skip("no glibc here")
    assert faults(True) < 200


def test_another_system_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory.keep_freed.__wrapped__() is False


def test_another_c_library_is_left_alone(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", missing)
    assert memory.keep_freed.__wrapped__() is False
