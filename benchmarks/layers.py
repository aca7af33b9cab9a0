"""What does a feed-forward layer of training cost: transformers' own, dsi's, and one compiled?

    python benchmarks/layers.py
    python benchmarks/layers.py --precision fp32 --dropout 0

One layer of a T5 (normalization, two products, ReLU, dropout, residual), forward and backward, by
turns in one process: as transformers has it, as `dsi train` computes it, and through
`torch.compile` with dynamic shapes, over rows of two lengths. Medians of processor time. Beside
them the six products alone, which none of them can do without. Needs a C++ compiler.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from record import cell, show


def main() -> None:
    """Measures what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--inner", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=1800, help="of the longer row")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
    parser.add_argument("--turns", type=int, default=15)
    arguments = parser.parse_args()
    shape = f"{arguments.width}x{arguments.inner}-{arguments.tokens}tokens"
    found = cell(
        "layers",
        f"{shape}-{arguments.precision}-dropout{arguments.dropout:g}",
        lambda: measure(arguments),
    )
    show(found["ways"], ["way", "CPU milliseconds", "times the products"])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Times the ways by turns."""
    import torch
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5LayerFF

    torch.manual_seed(0)
    config = T5Config(
        d_model=arguments.width,
        d_ff=arguments.inner,
        dropout_rate=arguments.dropout,
        feed_forward_proj="relu",
    )
    layer = T5LayerFF(config).train()
    compiled = torch.compile(copy.deepcopy(layer), dynamic=True)
    half = arguments.precision == "bf16"
    rows = [
        torch.randn(1, tokens, arguments.width, requires_grad=True)
        for tokens in (arguments.tokens, arguments.tokens * 5 // 6)
    ]

    def through(module: Any) -> None:
        for row in rows:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                found = module(row)
            found.backward(torch.ones_like(found))
        module.zero_grad()

    def own() -> None:
        with as_in_training(layer, half):
            through(layer)

    ways: dict[str, Callable[[], None]] = {
        "transformers": lambda: through(layer),
        "dsi": own,
        "compiled": lambda: through(compiled),
        "products": lambda: products(arguments, half),
    }
    began = time.perf_counter()
    ways["compiled"]()
    compiling = time.perf_counter() - began
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(arguments.turns):
        for way, go in ways.items():
            go()
            before = time.process_time()
            go()
            times[way].append(1000 * (time.process_time() - before))
    medians = {way: statistics.median(found) for way, found in times.items()}
    return {
        "settings": {**vars(arguments), "threads": torch.get_num_threads()},
        "ways": [
            {
                "way": way,
                "CPU milliseconds": median,
                "times the products": median / medians["products"],
            }
            for way, median in medians.items()
        ],
        "seconds of compiling": compiling,
    }


@contextmanager
def as_in_training(layer: Any, half: bool) -> Iterator[None]:
    """Lets a layer compute as `dsi train` has it, until the end."""
    from dsi.kernels.install import install

    with install(layer, "training", precision="bf16" if half else "fp32"):
        yield


def products(arguments: argparse.Namespace, half: bool) -> None:
    """Multiplies what the layer multiplies, forward and backward, by the faster library."""
    import torch

    from dsi.kernels.matmul import has_onednn_kernel, onednn_linear

    kind = torch.bfloat16 if half else torch.float32
    for tokens in (arguments.tokens, arguments.tokens * 5 // 6):
        narrow = torch.ones(tokens, arguments.width, dtype=kind)
        wide = torch.ones(tokens, arguments.inner, dtype=kind)
        into = torch.ones(arguments.inner, arguments.width, dtype=kind)
        out = torch.ones(arguments.width, arguments.inner, dtype=kind)
        pairs = [(narrow, into), (wide, out), (narrow, out.t()), (wide, into.t())]
        pairs += [(narrow.t(), wide.t()), (wide.t(), narrow.t())]
        for left, right in pairs:
            onednn_linear(left, right) if has_onednn_kernel(
                right
            ) and not half else left @ right.t()


if __name__ == "__main__":
    main()
