"""Who has a core, where two spin on one: each has half of it, and waits for the other half."""

import subprocess
import sys
from time import sleep

from bench.alone import ran_s, watch
from bench.machine import CLIENT_CORE

SPIN = f"import os; os.sched_setaffinity(0, {{{CLIENT_CORE}}})\nprint(flush=True)\nwhile True: pass"


def test_two_on_one_core_wait_for_each_other() -> None:
    both = [subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for one in both:
            assert one.stdout is not None
            one.stdout.readline()
        before = ran_s([both[0].pid])
        with watch([both[0].pid], CLIENT_CORE) as shared:
            sleep(0.5)
        ran = ran_s([both[0].pid]) - before
    finally:
        for one in both:
            one.kill()
            one.communicate()
    assert 0.0 < shared.ran <= 0.7, "others may have it, too"
    assert shared.waited >= 0.3
    assert shared.ran + shared.waited + shared.stolen >= 0.8
    assert ran >= shared.ran * 0.5


def test_a_process_that_sleeps_waits_for_nobody() -> None:
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as idle:
        assert idle.stdout is not None
        idle.stdout.readline()
        sleep(0.1)
        with watch([idle.pid], CLIENT_CORE) as asleep:
            sleep(0.2)
        idle.communicate(b"\n")
    assert asleep.ran < 0.1
    assert asleep.waited < 0.1
