"""What other packages write and set does not reach the user."""

import logging
import os
import sys
import threading
import warnings

import pytest

from onceforall.common.packages import no_stderr, quiet_packages, same_environment


def test_standard_error_of_libraries_is_dropped_and_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    def library() -> None:
        os.write(2, b"in C++\n")
        print("in Python", file=sys.stderr)
        raise ValueError("stop")

    print("before", file=sys.stderr)
    with pytest.raises(ValueError, match="stop"), no_stderr():
        library()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"


def test_threads_that_overlap_do_not_lose_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    inside, left = threading.Event(), threading.Event()

    def second() -> None:
        with no_stderr():
            inside.set()
            left.wait(5)

    other = threading.Thread(target=second)
    with no_stderr():
        other.start()
        inside.wait(0.2)  # it does not get in
    left.set()
    other.join()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def package() -> None:
        os.environ.update(OFA_TEST_CHANGED="a package's", OFA_TEST_NEW="a package's")
        del os.environ["OFA_TEST_REMOVED"]
        raise ValueError("stop")

    monkeypatch.setenv("OFA_TEST_CHANGED", "mine")
    monkeypatch.setenv("OFA_TEST_REMOVED", "mine")
    monkeypatch.delenv("OFA_TEST_NEW", raising=False)
    before = dict(os.environ)
    with pytest.raises(ValueError, match="stop"), same_environment():
        package()
    assert dict(os.environ) == before


def test_quiet_in_threads_that_overlap_ends_with_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    inside, left = threading.Event(), threading.Event()

    def second() -> None:
        with quiet_packages():
            inside.set()
            left.wait(5)

    before = logging.root.manager.disable
    other = threading.Thread(target=second)
    with quiet_packages():
        other.start()
        inside.wait(5)
    print("still quiet")
    warnings.warn("still quiet", stacklevel=1)
    left.set()
    other.join()
    print("after")
    with pytest.warns(match="heard"):
        warnings.warn("heard", stacklevel=1)
    assert logging.root.manager.disable == before
    assert capsys.readouterr().out == "after\n"
