"""Nearly empty index versions, and processes that are killed while writing."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from dsi.index_folder import versions
from dsi.index_folder.versions import Manifest


@contextlib.contextmanager
def write_version(index: Path, parent: str | None = None) -> Iterator[Path]:
    """Yields an empty folder that becomes the next live version if the block succeeds."""
    with versions.lock(index) as writer, writer.version(parent) as fresh:
        yield fresh


def add_version(index: Path, text: str, parent: str | None = None) -> None:
    with write_version(index, parent) as fresh:
        (fresh / "model").mkdir()
        (fresh / "model" / "weights").write_text(text)
        Manifest(documents=3, added=3, origin=text).save(fresh)


def add_second_version(index: Path) -> None:
    add_version(index, "two", parent="0001")


def kill_at(step: int, index: Path, work: Callable[[Path], object] = add_second_version) -> bool:
    """Does `work` in a child that kills itself before its n-th step towards the disk.

    Returns:
        Whether the child was killed; False when it had fewer steps and finished.
    """
    child = os.fork()
    if child == 0:
        taken = 0

        def deadly(name):
            plain = getattr(os, name)

            def call(*args, **kwargs):
                nonlocal taken
                taken += 1
                if taken > step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return plain(*args, **kwargs)

            setattr(os, name, call)

        for name in ("mkdir", "fsync", "rename", "replace", "rmdir", "unlink"):
            deadly(name)
        try:
            work(index)
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False
