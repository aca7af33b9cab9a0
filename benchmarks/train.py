"""How many tokens a second does training get through, beside transformers' Seq2SeqTrainer?

    python benchmarks/train.py --source PATH/TO/BEIR
    python benchmarks/train.py --source docstrings --precision fp32
    python benchmarks/train.py --source docstrings --language_model qwen3-0.6b

Both train the same network from the same weights on the same examples in the same precision, in
one process, by turns: a block of steps of one, a block of the other, again and again. Counted are
tokens of the texts, not padding, over the median step of a block. The trainer is measured twice:
as it comes, and with batches of like lengths (`train_sampling_strategy="group_by_length"`).

With --language_model, the network is a decoder-only model of the shape of Qwen3-0.6B (or of some of
its layers, as in qwen3-0.6b:4) with random weights, and beside it stands `Trainer`, over words and
codes in one vocabulary. Its embedding of words is trained in both.

The share of collating is the processor time that choosing a step's examples and putting them into
arrays takes, in that of the whole step; of `dsi train` only.

The share of the matrix-product rate is 6 x weights x tokens (the weights that a token meets) over
the time, beside what products of this machine reach at the network's own shapes and precision.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from record import cell, show
from runs import Clock, make_training_run

WARM = 3
"""Steps of a block that are not counted: memory is allocated, threads wake up."""


def main() -> None:
    """Measures what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="what `dsi prepare` takes")
    parser.add_argument("--name", default=None, help="of the corpus; default: end of the path")
    parser.add_argument("--size", default="small")
    parser.add_argument("--language_model", default=None, metavar="qwen3-0.6b[:LAYERS]")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--documents", type=int, default=None, help="from the first; default: all")
    parser.add_argument("--steps", type=int, default=13, help="of one block")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    name = arguments.name or Path(arguments.source).name
    shape = arguments.language_model or arguments.size
    found = cell(
        "train",
        f"{name}-{shape}-{arguments.precision}-batch{arguments.batch}",
        lambda: measure(arguments),
    )
    show(found["systems"], [key for key in found["systems"][0] if key != "blocks"])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the blocks by turns."""
    import torch

    from dsi.data.options import MixOptions
    from dsi.indexing.options import TrainingOptions
    from dsi.training.options import LoopOptions, ModelOptions, OptimizerOptions

    model = ModelOptions(size=arguments.size, warm_start="none", dropout=0.1)
    checkpoint = TemporaryDirectory()
    if arguments.language_model:
        path = _language_model(arguments.language_model, Path(checkpoint.name))
        model = ModelOptions(pretrained=path, warm_start="none")
    systems = SYSTEMS if arguments.language_model is None else OF_LANGUAGE_MODELS
    options = TrainingOptions(
        generator="extractive",
        per_doc=10,
        model=model,
        mix=MixOptions(indexing=0.4, pseudo=0.4, labeled=0.2, document_length=64, negatives="all"),
        optimizer=OptimizerOptions(backbone_lr_scale=1.0, lr=1e-4),
        loop=LoopOptions(
            steps=arguments.steps,
            batch=arguments.batch,
            precision=arguments.precision,
            checkpoint_every=10_000,
        ),
    )
    with TemporaryDirectory() as folder:
        run = make_training_run(arguments.source, Path(folder), options, arguments.documents)
        run = replace(run, dev=None)
        weights = copy.deepcopy(run.model.state_dict())
        blocks: dict[str, list[dict[str, float]]] = {system: [] for system in systems}
        for _ in range(arguments.turns):
            for system, block in systems.items():
                run.model.load_state_dict(weights)
                blocks[system].append(block(run, arguments.precision))
        peaks = {system: peak_alone(system, run, arguments.precision) for system in systems}
        rate = product_rate(run.model, arguments.precision, arguments.batch)
        met = sum(
            weight.numel()
            for name, weight in run.model.named_parameters()
            if name.startswith(("encoder.block", "decoder.language_model.layers"))
        )
    rows: list[dict[str, Any]] = []
    for system, entries in blocks.items():
        speed = statistics.median(entry["tokens per second"] for entry in entries)
        rows.append(
            {
                "system": system,
                "tokens per second": speed,
                "padding": statistics.median(entry["padding"] for entry in entries),
                "share of product rate": 6 * met * speed / rate,
                "share of collating": entries[0].get("share of collating"),
                "peak GiB": peaks[system],
                "blocks": entries,
            }
        )
    for row in rows:
        row["ours is faster by"] = rows[0]["tokens per second"] / row["tokens per second"]
    return {
        "settings": {
            **vars(arguments),
            "source": Path(arguments.source).name,
            "threads": torch.get_num_threads(),
        },
        "systems": rows,
        "product rate (GFLOP/s)": rate / 1e9,
        "weights": sum(weight.numel() for weight in run.model.parameters()),
    }


def _language_model(shape: str, folder: Path) -> str:
    """Writes a checkpoint with random weights, and a tokenizer of characters."""
    from decode import build
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from dsi.export.hf import merged

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=["<end>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["the name of a thing and what is said of it"], trainer)
    words = tokenizer.get_vocab_size()
    merged(build(shape, 8), words, 8).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    return str(folder)


def peak_alone(system: str, run: Any, precision: str) -> float:
    """Returns the most memory (GiB) of one block in a process of its own, or of a GPU."""
    import torch

    if torch.cuda.is_available():  # a process that uses it cannot fork
        torch.cuda.reset_peak_memory_stats()
        ALL[system](run, precision)
        return torch.cuda.max_memory_allocated() / 2**30
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def child() -> None:
        import torch

        torch.set_num_threads(1)  # threads of the parent did not come along
        before = resident()
        seen = [before]
        stop = threading.Event()

        def sample() -> None:
            while not stop.wait(0.02):
                seen.append(resident())

        watcher = threading.Thread(target=sample)
        watcher.start()
        ALL[system](run, precision)
        stop.set()
        watcher.join()
        answers.put(max(seen))

    process = context.Process(target=child)
    process.start()
    most = answers.get()
    process.join()
    return most / 2**30


def resident() -> int:
    """Returns the bytes of memory that this process has now."""
    import psutil

    return psutil.Process().memory_info().rss


def ours(run: Any, precision: str) -> dict[str, float]:
    """One block of `dsi train`'s own loop."""
    import shutil

    from dsi.training.loop import train_loop

    clock = Clock()
    shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
    with collating(run.batches) as spent:
        train_loop(replace(run, objectives=[*run.objectives, clock]))
    computed = clock.computed[-1] - clock.computed[WARM - 1]
    steps = [run.batches.parts(step, 1)[0] for step in range(run.loop.steps)]
    # Attention's groups; all other layers see as many tokens.
    groups = [batch.by_length(run.loop.length_buckets) for batch in steps]
    counts = [int(batch.attention_mask.sum()) for batch in steps]
    sizes = [sum(group.attention_mask.size for group in step) for step in groups]
    return {
        **summary(clock.ended, counts, sizes),
        "share of collating": sum(spent[WARM:]) / computed,
    }


@contextmanager
def collating(batches: Any) -> Iterator[list[float]]:
    """Notes the processor time (s) that the batches of each step take, until the end."""
    spent: list[float] = []
    real = batches.parts

    def parts(*words: Any) -> Any:
        began = time.process_time()
        found = real(*words)
        spent.append(time.process_time() - began)
        return found

    batches.parts = parts
    try:
        yield spent
    finally:
        del batches.parts


def theirs(run: Any, precision: str, *, grouped: bool) -> dict[str, float]:
    """One block of Seq2SeqTrainer on the same examples, in the proportions of the mix."""
    import torch
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainerCallback

    from dsi.backbones.language_model import is_prompted
    from dsi.export.hf import merged

    prompted = is_prompted(run.model)
    model, first = run.model, 0
    if prompted:
        first = model.get_input_embeddings().weight.shape[0]
        model = merged(model, first, model.get_output_embeddings().out_features)
        model = model.to(run.model.device)
    examples = []
    for step in range(4 * run.loop.steps):
        for task, numbers in run.batches.members(step):
            pool = run.batches.examples[task]
            examples += [
                {
                    "input_ids": pool.line(number).tolist(),
                    "labels": [c for c in run.targets.codes[pool.rows[number]].tolist() if c >= 0],
                }
                for number in numbers.tolist()
            ]
    counts, sizes = [], []

    def collate(features: list[dict[str, Any]]) -> dict[str, Any]:
        if prompted:
            return whole(features)
        longest = max(len(each["input_ids"]) for each in features)
        codes = max(len(each["labels"]) for each in features)
        ids = torch.zeros((len(features), longest), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        labels = torch.full((len(features), codes), -100)
        for row, each in enumerate(features):
            ids[row, : len(each["input_ids"])] = torch.tensor(each["input_ids"])
            mask[row, : len(each["input_ids"])] = 1
            labels[row, : len(each["labels"])] = torch.tensor(each["labels"])
        counts.append(int(mask.sum()))
        sizes.append(mask.numel())
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def whole(features: list[dict[str, Any]]) -> dict[str, Any]:
        """The prompt, PAD and the codes in one line, of which the codes count."""
        longest = max(len(each["input_ids"]) + len(each["labels"]) + 1 for each in features)
        ids = torch.zeros((len(features), longest), dtype=torch.int64)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
        for row, each in enumerate(features):
            codes = [first + code for code in each["labels"]]
            line = [*each["input_ids"], first, *codes]
            ids[row, -len(line) :] = torch.tensor(line)
            mask[row, -len(line) :] = 1
            labels[row, -len(codes) :] = torch.tensor(codes)
        counts.append(sum(len(each["input_ids"]) for each in features))
        sizes.append(mask.numel())
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    ended: list[float] = []

    class Stopwatch(TrainerCallback):
        def on_step_end(self, *words: Any, **options: Any) -> None:
            ended.append(time.perf_counter())

    arguments = Seq2SeqTrainingArguments(
        output_dir=str(run.folder / "trainer"),
        per_device_train_batch_size=run.loop.batch,
        max_steps=run.loop.steps,
        learning_rate=run.optimizer.lr,
        bf16=precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        train_sampling_strategy="group_by_length" if grouped else "random",
    )
    model.train()
    kind = Trainer if prompted else Seq2SeqTrainer
    kind(
        model=model,
        args=arguments,
        train_dataset=examples,
        data_collator=collate,
        callbacks=[Stopwatch()],
    ).train()
    return summary(ended, counts, sizes)


SYSTEMS = {
    "dsi train": ours,
    "Seq2SeqTrainer": partial(theirs, grouped=False),
    "Seq2SeqTrainer, grouped": partial(theirs, grouped=True),
}


OF_LANGUAGE_MODELS = {
    "dsi train": ours,
    "Trainer": partial(theirs, grouped=False),
    "Trainer, grouped": partial(theirs, grouped=True),
}
ALL = SYSTEMS | OF_LANGUAGE_MODELS


def summary(ended: list[float], counts: list[int], sizes: list[int]) -> dict[str, float]:
    """Returns the figures of a block without its first steps."""
    steps = range(WARM, len(ended))
    seconds = ended[-1] - ended[WARM - 1]
    return {
        "tokens per second": sum(counts[step] for step in steps) / seconds,
        "padding": 1 - sum(counts[step] for step in steps) / sum(sizes[step] for step in steps),
        "seconds per step": seconds / len(steps),
    }


def product_rate(model: Any, precision: str, batch: int) -> float:
    """Returns the FLOP/s of products of the network's own shapes; the median of many.

    By the faster library where there are two.
    """
    import torch

    from dsi.kernels.matmul import has_onednn_kernel, onednn_linear

    device = next(model.parameters()).device
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    config = model.config
    width = config.hidden_size
    inner = getattr(config, "d_ff", None) or config.intermediate_size
    left = torch.randn(batch * 32, width, device=device, dtype=kind)
    right = torch.randn(width, inner, device=device, dtype=kind)
    ways: list[Callable[[], Any]] = [lambda: left @ right]
    if has_onednn_kernel(right):
        ways.append(lambda: onednn_linear(left, right.t()))
    medians = []
    for way in ways:
        times = []
        for _ in range(30):
            began = time.perf_counter()
            way()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        medians.append(float(np.median(times)))
    return 2 * left.shape[0] * width * inner / min(medians)


if __name__ == "__main__":
    main()
