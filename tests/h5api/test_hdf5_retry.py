"""Methods are tried again after what may pass, on their object reset, until the time is up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest
import silx.utils.retry
from tests.h5api.conftest import SimulatedTime

from blissdata.h5api.utils import hdf5_retry
from blissdata.h5api.utils.hdf5_retry import (
    RetryError,
    RetryTimeoutError,
    RetryWithoutResetError,
    is_retriable,
    retry_with_reset,
    return_on_retry_timeout,
    stop_iter_on_retry_timeout,
)


def out_of_h5py() -> Exception:
    """An error that h5py raised."""
    with pytest.raises(OSError) as caught:
        h5py.File("/nonexistent/file.h5")
    return caught.value


class Flaky:
    """Fails some times, then works; counts what happened."""

    def __init__(self, *errors: BaseException, **options: Any) -> None:
        self._retry_options = {"retry_timeout": 30, "retry_period": 0, **options}
        self._errors = list(errors)
        self._failed_at = {0}
        self.tries = 0
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def _fail(self) -> None:
        self.tries += 1
        if self._errors:
            raise self._errors.pop(0)

    @retry_with_reset
    def read(self, value: int, more: int = 0) -> int:
        """Reads."""
        self._fail()
        return value + more

    @retry_with_reset
    def count(self, to: int, start_index: int = 0) -> Iterator[int]:
        for number in range(start_index, to):
            if number % 3 == 0 and number not in self._failed_at:
                self._failed_at.add(number)
                self._fail()
            yield number

    @stop_iter_on_retry_timeout
    def count_what_comes(self, to: int) -> Iterator[int]:
        yield from self.count(to)

    @return_on_retry_timeout(-1)
    def read_or(self, value: int) -> int:
        return self.read(value)


def test_the_errors_are_silx_s_own() -> None:
    assert hdf5_retry.RetryError is silx.utils.retry.RetryError
    assert hdf5_retry.RetryTimeoutError is silx.utils.retry.RetryTimeoutError
    assert issubclass(RetryError, RuntimeError)
    assert issubclass(RetryTimeoutError, TimeoutError)
    assert issubclass(RetryWithoutResetError, RetryError)


def test_what_may_pass_is_tried_again() -> None:
    flaky = Flaky(RetryError("one"), out_of_h5py(), RetryError("three"))
    assert flaky.read(3, more=4) == 7
    assert (flaky.tries, flaky.resets) == (4, 3)


def test_without_a_reset_where_that_is_said() -> None:
    flaky = Flaky(RetryWithoutResetError("one"), RetryError("two"))
    assert flaky.read(3) == 3
    assert (flaky.tries, flaky.resets) == (3, 1)


@pytest.mark.parametrize(
    "error", [ValueError("x"), OSError("x"), KeyError("x"), KeyboardInterrupt(), SystemExit(3)]
)
def test_other_errors_pass_through(error: BaseException) -> None:
    flaky = Flaky(error)
    with pytest.raises(type(error)):
        flaky.read(3)
    assert (flaky.tries, flaky.resets) == (1, 0)
    assert not is_retriable(error)


def test_an_order_to_stop_that_reaches_h5py_is_obeyed() -> None:
    """Ctrl-C in the middle of a call of h5py has h5py's frames in its traceback."""

    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    with h5py.File("x.h5", "w", driver="core", backing_store=False) as file:
        file["x"] = 1
        with pytest.raises(KeyboardInterrupt) as caught:
            file.visit(interrupt)
    assert not is_retriable(caught.value)


@pytest.mark.parametrize(("error", "resets"), [(RetryError, 2), (RetryWithoutResetError, 1)])
def test_no_time_is_one_try_and_a_reset(error: type[Exception], resets: int) -> None:
    flaky = Flaky(error("not there"), retry_timeout=0)
    with pytest.raises(RetryTimeoutError) as caught:
        flaky.read(3)
    assert str(caught.value.__cause__) == "not there"
    assert (flaky.tries, flaky.resets) == (1, resets)
    assert flaky.read(3) == 3


def test_when_the_time_is_up_the_last_error_is_the_cause(simulated: SimulatedTime) -> None:
    errors = [RetryError(str(number)) for number in range(1000)]
    flaky = Flaky(*errors, retry_timeout=0.2, retry_period=0.05)
    with pytest.raises(RetryTimeoutError) as caught:
        flaky.read(3)
    assert 4 <= flaky.tries <= 6
    assert caught.value.__cause__ is errors[flaky.tries - 1]


def test_an_iteration_goes_on_where_it_was() -> None:
    flaky = Flaky(RetryError("one"), RetryError("two"))
    assert list(flaky.count(10)) == list(range(10))
    assert flaky.resets == 2


def test_in_an_iteration_the_time_counts_from_the_last_item(simulated: SimulatedTime) -> None:
    """All together take longer than the time allowed, each one a fraction of it."""
    began = simulated.now
    errors = [RetryError(str(number)) for number in range(40)]
    flaky = Flaky(*errors, retry_timeout=0.6, retry_period=0.02)
    assert list(flaky.count(150)) == list(range(150))
    assert flaky.resets == 40
    assert simulated.now - began > 0.6


def test_an_iteration_ends_when_the_time_is_up() -> None:
    flaky = Flaky(RetryError("one"), retry_timeout=0)
    assert list(flaky.count_what_comes(10)) == [0, 1, 2]
    flaky = Flaky(ValueError("one"), retry_timeout=0)
    with pytest.raises(ValueError, match="one"):
        list(flaky.count_what_comes(10))


def test_a_default_is_given_when_the_time_is_up() -> None:
    assert Flaky(RetryError("one"), retry_timeout=0).read_or(3) == -1
    assert Flaky().read_or(3) == 3
    with pytest.raises(ValueError, match="one"):
        Flaky(ValueError("one")).read_or(3)


def test_a_decorated_method_keeps_its_name() -> None:
    assert (Flaky.read.__name__, Flaky.read.__doc__) == ("read", "Reads.")


@pytest.mark.parametrize(
    "module", ["static_hdf5", "dynamic_hdf5", "utils.lima", "utils.hdf5_retry"]
)
def test_without_silx_the_error_names_what_to_install(module: str, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['silx'] = None\n"
        "from blissdata.exceptions import MissingExtraError\n"
        f"try: import blissdata.h5api.{module}\n"
        "except MissingExtraError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert 'pip install "blissdata[files]"' in done.stdout
