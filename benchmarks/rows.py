"""What share of a training step goes to rows of the text embedding that no example touches?

    python benchmarks/rows.py

The gradient of an embedding has all rows, and clipping and AdamW go through all of them, though a
batch of short texts touches few. Steps of one network are timed by turns: with `--optimizer.rows
all`, with `touched`, and with the text embedding frozen, which is the most that any treatment of
touched rows could save. All take the same forward pass. Seconds are of the process's own computing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from record import cell, show

STEPS, WARM = 6, 2


def main() -> None:
    """Measures the cells that are missing and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="small,latent")
    parser.add_argument("--precisions", default="bf16,fp32")
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--documents", type=int, default=2_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=16, help="tokens of a text")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    for size in arguments.sizes.split(","):
        for precision in arguments.precisions.split(","):
            name = f"{size}-{precision}-vocabulary{arguments.vocabulary}-batch{arguments.batch}"
            rows.append(cell("rows", name, lambda s=size, p=precision: measure(arguments, s, p)))
    show(rows, ["cell", "weights", "rows", "rows touched", "all", "touched", "frozen", "saved"])


def measure(arguments: argparse.Namespace, size: str, precision: str) -> dict[str, Any]:
    """Times blocks of steps by turns."""
    import torch
    from accelerate import Accelerator

    from dsi.backbones.backbone import from_scratch
    from dsi.training.engines.plain import PlainEngine
    from dsi.training.optimization.optimizers import make_optimizer
    from dsi.training.options import OptimizerOptions

    network: Any = from_scratch(
        size,
        text_vocabulary=arguments.vocabulary,
        alphabet_size=arguments.documents + 2,
    )
    # As `dsi train` has it: a latent model with atomic identifiers moves its rows only.
    body = 0.0 if size == "latent" else 1.0
    tables = [
        part.get_input_embeddings() for part in (network.get_encoder(), network.get_decoder())
    ]
    accelerator = Accelerator(cpu=True)
    engines = {
        rows: PlainEngine(
            accelerator,
            network,
            make_optimizer(network, OptimizerOptions(backbone_lr_scale=body, rows=rows)),
        )
        for rows in ("all", "touched")
    }
    text = network.get_encoder().get_input_embeddings().weight
    generator = torch.Generator().manual_seed(0)
    shape = (arguments.batch, arguments.length)
    touched = []

    def step(engine: PlainEngine) -> None:
        ids = torch.randint(3, arguments.vocabulary, shape, generator=generator)
        labels = torch.randint(2, arguments.documents + 2, (len(ids), 1), generator=generator)
        touched.append(len(ids.unique()))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = network(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        engine.step(1.0)

    blocks: dict[str, list[float]] = {"all": [], "touched": [], "frozen": []}
    for _ in range(arguments.turns):
        for name, times in blocks.items():
            text.requires_grad_(name != "frozen")
            for table in tables:
                table.sparse = name == "touched"
            for number in range(STEPS):
                if number == WARM:
                    began = time.process_time()
                step(engines.get(name, engines["all"]))
            times.append((time.process_time() - began) / (STEPS - WARM))
    medians = {name: statistics.median(times) for name, times in blocks.items()}
    shared = ("vocabulary", "documents", "batch", "length", "turns")
    return {
        "settings": {
            "size": size,
            "precision": precision,
            **{name: getattr(arguments, name) for name in shared},
            "threads": torch.get_num_threads(),
        },
        "weights": sum(weight.numel() for weight in network.parameters()),
        "rows": len(text),
        "rows touched": statistics.mean(touched),
        **medians,
        "saved": 1 - medians["touched"] / medians["all"],
        "blocks": blocks,
    }


if __name__ == "__main__":
    main()
