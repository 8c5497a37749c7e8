"""What threads of a process share: locks and settings, in any order, and after a fork."""

import contextlib
import os
import threading

import pytest

from nets_deap.models.shared import Lock, Shared

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
forks = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")


class Setting:
    """A setting that each holder remembers and puts back."""

    def __init__(self):
        self.now = "before"
        self.shared = Shared(self.set)

    @contextlib.contextmanager
    def set(self, value):
        was, self.now = self.now, value
        try:
            yield
        finally:
            self.now = was


class Inside(threading.Thread):
    """A thread that stays in a context until it is let go."""

    def __init__(self, context):
        super().__init__(daemon=True)
        self.context, self.there, self.leave = context, threading.Event(), threading.Event()
        self.start()

    def run(self):
        with self.context:
            self.there.set()
            self.leave.wait(20)

    def go(self):
        self.leave.set()
        self.join(20)


def test_the_first_one_out_of_two_leaves_the_setting_and_the_last_one_puts_it_back():
    setting = Setting()
    first, second = (Inside(setting.shared.held("on")) for _ in range(2))
    assert first.there.wait(20)
    assert second.there.wait(20)
    first.go()
    assert setting.now == "on"
    second.go()
    assert setting.now == "before"


def test_another_value_waits_for_the_first_one():
    setting = Setting()
    first = Inside(setting.shared.held("on"))
    assert first.there.wait(20)
    other = Inside(setting.shared.held("off"))
    assert not other.there.wait(0.05)
    assert setting.now == "on"
    first.go()
    assert other.there.wait(20)
    assert setting.now == "off"
    other.go()
    assert setting.now == "before"


def test_one_thread_changes_its_own_value_and_gets_it_back():
    setting = Setting()
    with setting.shared.held("on"):
        with setting.shared.held("off"):
            with setting.shared.held("on"):
                assert setting.now == "on"
            assert setting.now == "off"
        assert setting.now == "on"
    assert setting.now == "before"


def test_a_lock_is_taken_again_by_its_thread_and_lent_to_others():
    lock = Lock()
    with lock.held(), lock.held():
        other = Inside(lock.held())
        assert not other.there.wait(0.05)
        with lock.lent():
            assert other.there.wait(20)
            other.go()
        other = Inside(lock.held())
        assert not other.there.wait(0.05)
    assert other.there.wait(20)
    other.go()


def child_says(check):
    """Return whether ``check`` holds in a child process."""
    child = os.fork()
    if not child:
        os._exit(0 if check() else 1)
    return os.waitpid(child, 0)[1] == 0


@needs_fork
@forks
def test_a_child_has_neither_the_locks_nor_the_settings_of_threads_that_it_has_not():
    setting, lock = Setting(), Lock()
    threads = Inside(setting.shared.held("on")), Inside(lock.held())
    assert all(thread.there.wait(20) for thread in threads)

    def free():
        with lock.held(), setting.shared.held("off"):
            return setting.now == "off"

    assert child_says(lambda: setting.now == "before" and free() and setting.now == "before")
    assert setting.now == "on"
    for thread in threads:
        thread.go()


@needs_fork
@forks
def test_a_child_keeps_what_the_thread_that_forked_has():
    setting, lock = Setting(), Lock()

    def left():
        return setting.now == "on"

    with setting.shared.held("on"), lock.held():
        assert child_says(left)
