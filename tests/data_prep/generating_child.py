"""Generates pseudo-queries in small shards, and kills itself with SIGKILL before a given event.

python generating_child.py DATASET EVENT: the events are the generation of a document's queries and
disk operations, counted from 1; with 0 it runs to the end, and prints the number of events.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from data_prep import generate
from data_prep.dataset import Dataset
from data_prep.generators.extractive import Extractive

SHARD_DOCUMENTS = 4


def main(dataset: str, last: int) -> None:
    events = 0

    def counted(done: Callable[..., Any]) -> Callable[..., Any]:
        def run(*words: Any, **options: Any) -> Any:
            nonlocal events
            events += 1
            if events == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return done(*words, **options)

        return run

    for name in ("rename", "replace", "open", "mkdir", "unlink", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))
    Extractive.generate = counted(Extractive.generate)  # type: ignore[method-assign]
    generate.SHARD_DOCUMENTS = SHARD_DOCUMENTS
    generate.generate_queries(Dataset.open(dataset), "extractive")
    print(events)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
