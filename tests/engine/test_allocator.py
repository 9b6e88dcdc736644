"""Freed memory that is kept, by the page faults it spares."""

import ctypes
import subprocess
import sys

import pytest

from engine.allocator import keep_freed

ROUNDS, MIB = 50, 8
PAGES = MIB * 256

CODE = f"""
import resource, sys
import numpy as np
from engine.allocator import keep_freed

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    pieces = [np.ones({MIB} << 17, np.float64) for _ in range(3)]  # three, or glibc learns to keep one

keep_freed(int(sys.argv[1]))
work()
before = faults()
for _ in range({ROUNDS}):
    work()
print(faults() - before)
"""


def faults(kept_mib: int) -> int:
    command = [sys.executable, "-c", CODE, str(kept_mib)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_a_batchs_pages_are_asked_for_once() -> None:
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("not glibc's allocator")
    assert keep_freed(256)
    assert faults(256) < PAGES
    assert faults(0) > 5 * PAGES


def test_nothing_is_set_when_nothing_is_to_be_kept() -> None:
    assert not keep_freed(0)
