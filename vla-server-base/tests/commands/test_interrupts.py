"""Ctrl-C ends a command, at whatever moment it comes."""

import subprocess
import sys

import pytest

DESTRUCTOR = """
class Dropped:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
Dropped()
"""
COLLECTOR = """
asked = []
def callback(phase, info):
    if not asked:
        asked.append(phase)
        signal.raise_signal(signal.SIGINT)
gc.callbacks.append(callback)
gc.collect()
"""


@pytest.mark.parametrize("lost_in", [DESTRUCTOR, COLLECTOR], ids=["destructor", "garbage collector"])
def test_an_interrupt_that_python_drops_comes_again(lost_in: str):
    program = f"""
import gc, signal, time
from vla_server_base.commands.interrupts import repeat_lost_interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
repeat_lost_interrupts()
try:
{"".join(f"    {line}" for line in lost_in.splitlines(keepends=True))}
    print("lost")
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    assert ran.stdout.split() == ["lost", "interrupted"]


def test_an_interrupt_that_a_library_drops_is_raised_by_the_next_check():
    program = """
import signal
from vla_server_base.commands.interrupts import noted_interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with noted_interrupts() as check:
        check()
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            print("lost")
        check()
        print("never")
except KeyboardInterrupt:
    print("interrupted")
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
signal.signal(signal.SIGINT, signal.SIG_IGN)
with noted_interrupts() as check:
    signal.raise_signal(signal.SIGINT)
    check()
print("ignored")
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    assert ran.stdout.split() == ["lost", "interrupted", "True", "ignored"]


def test_other_errors_that_python_drops_are_reported_as_before():
    program = """
from vla_server_base.commands.interrupts import repeat_lost_interrupts
repeat_lost_interrupts()
class Dropped:
    def __del__(self):
        raise ValueError("seen")
Dropped()
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    assert "ValueError: seen" in ran.stderr
