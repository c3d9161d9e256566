"""Work on a thread: waited for with a limit, and finished all the same."""

import math
import threading

import pytest

from vla_client import background


def test_the_result_is_that_of_the_work():
    future = background.start(lambda: 3)
    assert background.is_done_within(future, math.inf)
    assert future.result() == 3


def test_work_that_takes_longer_goes_on():
    may_end = threading.Event()
    future = background.start(may_end.wait)
    assert not background.is_done_within(future, 0)
    may_end.set()
    assert background.is_done_within(future, 60)
    assert future.result() is True


@pytest.mark.parametrize("error", [OSError("no"), KeyboardInterrupt()], ids=repr)
def test_what_the_work_raises_is_raised_to_the_one_who_asks(error):
    def work() -> None:
        raise error

    future = background.start(work)
    assert background.is_done_within(future, 60)
    with pytest.raises(type(error)):
        future.result()


def test_the_thread_does_not_keep_a_program_from_exiting():
    threads = []
    assert background.is_done_within(background.start(lambda: threads.append(threading.current_thread())), 60)
    assert threads[0].daemon
