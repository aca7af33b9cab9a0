"""Download errors of libraries become one line; errors of the code that reads the rows do not."""

from __future__ import annotations

import errno

import pytest

from data_prep.errors import InputError
from data_prep.fetching import Fetching

FETCHING = Fetching("cannot download it", where="zoo", hint="Check the connection")


def failing_at_the_third(error: Exception):
    yield from (1, 2)
    raise error


def test_rows_come_as_they_are():
    assert list(FETCHING.rows(lambda: [1, 2])) == [1, 2]
    assert list(FETCHING.rows(list)) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("no host\nat all"), "no host"),
        (OSError(errno.ENETUNREACH, "unreachable"), "[Errno 101] unreachable"),
        (RuntimeError("All sources failed", ["a", "b"]), "All sources failed"),
        (KeyError(), "KeyError"),
        (ValueError("x" * 1000), "x" * 200 + "…"),
    ],
)
def test_an_error_at_any_row_is_one_line(error, said):
    rows = FETCHING.rows(lambda: failing_at_the_third(error))
    assert [next(rows), next(rows)] == [1, 2]
    with pytest.raises(InputError) as refused:
        next(rows)
    assert str(refused.value) == f"zoo: cannot download it ({said}). Check the connection."


def test_an_error_before_the_first_row_is_one_line():
    def read():
        raise ConnectionError("refused")

    with pytest.raises(InputError, match=r"^zoo: cannot download it \(refused\)"):
        list(FETCHING.rows(read))


@pytest.mark.parametrize(
    "error", [InputError("known"), MemoryError(), OSError(errno.ENOSPC, "No space left on device")]
)
def test_what_is_no_fault_of_the_library_passes(error):
    with pytest.raises(type(error)) as passed:
        list(FETCHING.rows(lambda: failing_at_the_third(error)))
    assert passed.value is error


def test_an_error_of_the_reader_passes():
    with pytest.raises(ZeroDivisionError):
        _ = [1 / row for row in FETCHING.rows(lambda: [0])]
