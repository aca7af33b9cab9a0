"""`dsi queries` with few documents in a shard, so that two processes have some to share.

torchrun --nproc_per_node 2 queries_on_two.py DATASET OPTION...
"""

from __future__ import annotations

import sys

from dsi.cli import main
from dsi.generation.memory import Memory
from dsi.generation.seq2seq import Seq2Seq
from dsi.training.processes import leave

if __name__ == "__main__":
    Memory.shard_documents = Seq2Seq.shard_documents = 8
    code = main(["queries", *sys.argv[1:]])
    leave(code)
    sys.exit(code)
