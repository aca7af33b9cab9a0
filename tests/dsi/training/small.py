"""A small corpus, options that train on it in about a second, and runs in subprocesses."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.dataset import Dataset, Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from docids.kinds import TreeOptions
from dsi.data.batching import Batches
from dsi.data.options import MixOptions
from dsi.lexical.options import LexicalOptions
from dsi.objectives.options import ObjectiveOptions
from dsi.training.options import (
    LoopOptions,
    LoraOptions,
    ModelOptions,
    OptimizerOptions,
    SamOptions,
)

DOCUMENTS = 40
TOPICS = {
    "sea": "harbour whale sailor anchor tide coral lighthouse pirate",
    "sky": "cloud falcon thunder comet balloon glider horizon sunrise",
    "forest": "fern badger mushroom cedar brook hunter moss acorn",
    "city": "tram market bridge lantern baker theatre alley fountain",
}


def write(
    path: Path, splits: tuple[str, ...] = ("train", "dev", "test"), labeled: int = DOCUMENTS
) -> Dataset:
    """Writes the corpus: document d's own words are two invented ones, in every query for it.

    Args:
        path: Where.
        splits: Of the queries.
        labeled: How many documents have a training query.
    """
    rng = np.random.default_rng(0)
    documents, queries, qrels = [], [], []
    for number in range(DOCUMENTS):
        topic = list(TOPICS)[number % len(TOPICS)]
        shared = rng.choice(TOPICS[topic].split(), 5, replace=False)
        own = [f"{topic}{word}{number}" for word in ("zor", "vek")]
        text = f"The {shared[0]} and {own[0]} {shared[1]}. A {own[1]} {shared[2]} {shared[3]}."
        documents.append(Document(f"d{number}", f"About {topic}", text))
        for split in splits:
            if split == "train" and number >= labeled:
                continue
            query_id = f"{split}{number}"
            queries.append(Query(query_id, f"where is {own[number % 2]} {shared[4]}"))
            qrels.append(Qrel(query_id, f"d{number}", 1, split))
    return write_dataset(path, InMemorySource(documents, queries, qrels, name="small"))


def options(**changes: Any) -> Any:
    """Returns training options; `loop__steps=3` changes a field of a group."""
    return with_groups({}, changes)


def with_groups(groups: dict[str, Any], changes: dict[str, Any]) -> Any:
    """Returns training options with whole groups replaced, and then single fields."""
    from dsi.indexing.options import TrainingOptions

    given: dict[str, Any] = {
        "semantic": TreeOptions(branching=3, leaf_capacity=4, iterations=5),
        "model": ModelOptions(),
        "objectives": ObjectiveOptions(),
        "mix": MixOptions(indexing=0.2, pseudo=0.5, labeled=0.3, document_length=12),
        "optimizer": OptimizerOptions(lr=1e-3, warmup=2),
        "lora": LoraOptions(),
        "sam": SamOptions(),
        "lexical": LexicalOptions(),
        "loop": LoopOptions(steps=8, batch=16, precision="fp32", beams=10),
        **groups,
    }
    plain = {"per_doc": 4, "generator": given.pop("generator", "extractive")}
    for name, value in changes.items():
        group, _, field = name.partition("__")
        if field:
            given[group] = dataclasses.replace(given[group], **{field: value})
        else:
            plain[name] = value
    return TrainingOptions(**{**given, **plain})


def checkpoint(kind: str, folder: Path, dataset: Dataset) -> Path:
    """A tiny random checkpoint whose tokenizer knows the words of the corpus."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        BartConfig,
        BartForConditionalGeneration,
        PreTrainedTokenizerFast,
        T5Config,
        T5ForConditionalGeneration,
    )

    words = sorted({word for d in dataset.documents() for word in d.text.lower().split()})
    known = {word: n for n, word in enumerate(["<pad>", "</s>", "<unk>", "<s>", *words])}
    inner = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    start = "<s> " if kind == "bart" else ""
    inner.post_processor = processors.TemplateProcessing(
        single=f"{start}$A </s>", special_tokens=[("<s>", 3), ("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    made: Callable[[], Any] = {
        "t5": lambda: T5ForConditionalGeneration(
            T5Config(vocab_size=len(known), d_model=64, d_kv=16, num_heads=4, d_ff=64, num_layers=1)
        ),
        "bart": lambda: BartForConditionalGeneration(
            BartConfig(
                vocab_size=len(known),
                d_model=64,
                encoder_layers=1,
                decoder_layers=1,
                encoder_attention_heads=4,
                decoder_attention_heads=4,
                encoder_ffn_dim=64,
                decoder_ffn_dim=64,
                max_position_embeddings=64,
            )
        ),
    }[kind]
    made().save_pretrained(folder)
    return folder


def weights(out: Path) -> bytes:
    """Returns the weights of the live version as they are on the disk."""
    from dsi.index_folder import versions

    folder = versions.folder(out, versions.live(out))
    return (folder / "model" / "model.safetensors").read_bytes()


def digest(out: Path) -> str:
    """Returns a digest of the weights of the live version, its lexical layer's included."""
    from dsi.index_folder import versions

    found = hashlib.sha256(weights(out))
    lexical = versions.folder(out, versions.live(out)) / "lexical"
    for file in sorted(lexical.rglob("*")):
        if file.is_file():
            found.update(file.read_bytes())
    return found.hexdigest()


def without_checksums(version: Path) -> Path:
    """Lets a version be one that was written before manifests had sizes and checksums of files."""
    file = version / "manifest.json"
    content = json.loads(file.read_text("utf-8"))
    assert content.pop("files")
    file.write_text(json.dumps(content), "utf-8")
    return version


_THREADS = "TEST_THREADS"
"""Number of threads of the tests, for the processes they start."""


def context() -> Any:
    """Returns where children start in no time, with all libraries imported and nothing else."""
    import torch

    # A forked process starts with one thread, and the split of sums over threads affects their last
    # bits.
    os.environ[_THREADS] = str(torch.get_num_threads())
    started = multiprocessing.get_context("forkserver")
    started.set_forkserver_preload(
        ["dsi.indexing.build", "dsi.training.loop", "dsi.index", "transformers.models.t5",
         "transformers.models.t5.modeling_t5", "torch.utils.tensorboard", "data_prep.generators",
         "docids.kinds", "sentencepiece", "Stemmer", "bm25s", "torch._dynamo", "faiss"]
    )  # fmt: skip
    return started


def die_at(operations: Any, last: int | str, *, full: bool = False) -> None:
    """Counts operations on the disk from here on, and kills this process before one of them.

    Args:
        operations: A shared counter.
        last: The number of the operation to die at, or the path that it is about (with `*` at
            its end: a part of the path); 0 to live on.
        full: Whether the disk is full from there on instead: nothing can be made or written.
    """
    import torch

    torch.set_num_threads(int(os.environ[_THREADS]))
    os.environ["TQDM_DISABLE"] = "1"

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def run(*words: Any, **options: Any) -> Any:
            operations.value += 1
            if full and isinstance(last, int) and 0 < last <= operations.value:
                if operation is made["open"] and not words[1] & (os.O_WRONLY | os.O_RDWR):
                    return operation(*words, **options)
                raise OSError(errno.ENOSPC, "No space left on device", str(words[0]))
            if last in (operations.value, str(words[0])) or (
                isinstance(last, str) and last.endswith("*") and last[:-1] in str(words[0])
            ):
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*words, **options)

        return run

    made = {name: getattr(os, name) for name in ("rename", "replace", "open", "mkdir")}
    # Files can still be deleted on a full disk.
    gone = {} if full else {name: getattr(os, name) for name in ("unlink", "rmdir")}
    for name, operation in (made | gone).items():
        setattr(os, name, counted(operation))


def train(dataset: str, out: str, wanted: Any, operations: Any, last: int | str) -> None:
    """Trains, in a child; counts operations on the disk, and dies just before one of them.

    Args:
        dataset: Path of the dataset.
        out: Path of the index.
        wanted: Training options.
        operations: A shared counter.
        last: As in `die_at`.
    """
    die_at(operations, last)
    from dsi.indexing.build import train_index

    train_index(Dataset.open(dataset), Path(out), wanted)


class StopError(Exception):
    """Ends a training as a kill would, but lets the test go on."""


def interrupt(monkeypatch, step: int) -> None:
    """Ends the next training in the middle of a step."""
    real = Batches.parts

    def parts(self, at: int, *words: Any) -> Any:
        if at == step:
            raise StopError
        return real(self, at, *words)

    monkeypatch.setattr(Batches, "parts", parts)
