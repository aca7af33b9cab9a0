"""Runs `dsi queries` with small shards, so that two processes have several to share.

torchrun --nproc_per_node 2 queries_on_two.py DATASET OPTION...
"""

from __future__ import annotations

import sys

import dsi.generation  # noqa: F401  (enters the generators that are models)
from data_prep.generators import GENERATORS
from dsi.cli import main
from dsi.distributed.processes import leave

if __name__ == "__main__":
    for name in GENERATORS:
        GENERATORS[name].shard_documents = 8
    code = main(["queries", *sys.argv[1:]])
    leave(code)
    sys.exit(code)
