"""How fast is the search, beside transformers' `generate` and beside the matrix products it needs?

    python benchmarks/decode.py --small
    python benchmarks/decode.py --shapes small,base --documents 20000,1000000
    python benchmarks/decode.py --shapes qwen3-0.6b:4 --kinds semantic --beams 10,50 --batches 1,16
    python benchmarks/decode.py --kinds semantic --precisions fp32,int8 --methods ours,ctranslate2

A cell is a model shape, a number of documents, a kind of identifiers, beams, batch and precision.
It measures, one after the other in the same process and in turns:

    ours            the search
    generate-trie   `generate` with a dictionary trie behind `prefix_allowed_tokens_fn`
    generate-free   `generate` without constraint: what it costs by itself
    ctranslate2     CTranslate2 with the same weights and without constraint, in fp32, in a process
                    of its own and with the faster of one thread and all; T5 only
    ct2-int8        the same in int8
    floor           the matrix products that the search needs, and nothing else

A shape is a size of T5, or qwen3-0.6b: a decoder-only model with the layers of Qwen3-0.6B;
qwen3-0.6b:4 has 4 of its 28. Its scores are constrained, here and in `generate`
(`renormalize_logits`). In int8, `ours` is that of the search and `generate` is in fp32.

Weights are random: no checkpoint is needed, and a flat distribution is the worst case of a search.
Queries have 8 to 16 tokens. Semantic identifiers are 6 digits, as many values a digit as the
documents need, so that the length is the same at any size; description identifiers are 20 codes
from 8,000 whose frequencies fall as those of words do. Identity is checked where both are
measured. Beside the time on the clock stands processor time, which other programs on the machine
disturb less; the ratios of a shared machine are those of processor time on one thread.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import itertools
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from record import cell, show
from torch import nn
from transformers import Qwen3Config, Qwen3Model, T5Config, T5ForConditionalGeneration

from docids.table import END, FIRST_CODE, PAD, DocidTable
from docids.trie import Trie
from dsi.backbones.backbone import SIZES, set_docid_alphabet
from dsi.backbones.language_model import PromptedLanguageModel, is_prompted
from dsi.export.hf import merged
from dsi.kernels.int8_linear import Int8Linear
from dsi.kernels.packed_linear import PackedLinear, packed
from dsi.search import beam
from dsi.search.beam import beam_search
from dsi.search.torch_trie import TorchTrie

TEXT_TOKENS = 8000
LENGTH = 16
ENOUGH = 20.0
"""Seconds after which a method has been called often enough."""


def main() -> None:
    """Measures the cells that are missing and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default="small")
    parser.add_argument("--documents", default="20000")
    parser.add_argument("--kinds", default="semantic,description,atomic")
    parser.add_argument("--beams", default="10,100")
    parser.add_argument("--batches", default="1,16,64")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--threads", type=int, default=None, help="default: all cores")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--methods", default="ours,generate-trie,generate-free,floor")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--suffix", default="", help="behind the names of the cells")
    parser.add_argument("--small", action="store_true", help="fp32, beams 10, batches 1 and 16")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.beams, arguments.batches, arguments.precisions = "10", "1,16", "fp32"
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    grid = itertools.product(
        arguments.shapes.split(","),
        map(int, arguments.documents.split(",")),
        arguments.kinds.split(","),
        arguments.precisions.split(","),
        map(int, arguments.beams.split(",")),
        map(int, arguments.batches.split(",")),
    )
    rows = []
    for shape, documents, kind, precision, beams, batch in grid:
        name = f"{shape}-{documents}-{kind}-{precision}-beams{beams}-batch{batch}"
        if arguments.threads:
            name += f"-threads{arguments.threads}"
        name += arguments.suffix
        measured = cell(
            "decode",
            name,
            lambda cell=(shape, documents, kind, precision, beams, batch): _measure(
                *cell, arguments.rounds, arguments.methods.split(","), arguments.device
            ),
        )
        rows.append(_row(name, measured))
        print(rows[-1], flush=True)
    ratios = ["over trie", "over free", "over ct2", "over ct2-int8", "of floor", "products"]
    show(rows, ["cell", "queries/s", *ratios, "same", "search share", "tree share"])


def _row(name: str, measured: dict[str, Any]) -> dict[str, Any]:
    """The figures of a cell that the table shows; ratios are of processor time."""
    methods = measured["methods"]
    clock = "cpu" if measured["settings"].get("device", "cpu") == "cpu" else "wall"
    ours = methods["ours"][clock]["median"]
    row = {
        "cell": name,
        "queries/s": measured["settings"]["batch"] / methods["ours"]["wall"]["median"],
        "same": measured["same documents"],
        "search share": measured["share of the search beside the model"],
        "tree share": measured.get("share of the prefix tree"),
    }
    for column, method in (
        ("over trie", "generate-trie"),
        ("over free", "generate-free"),
        ("over ct2", "ctranslate2"),
        ("over ct2-int8", "ct2-int8"),
    ):
        if method in methods:
            row[column] = methods[method][clock]["median"] / ours
    if "floor" in methods:
        floor = methods["floor"][clock]["median"]
        row["of floor"] = floor / ours
        row["products"] = {
            name: round(floor / each[clock]["median"], 2)
            for name, each in methods.items()
            if name != "floor"
        }
    return row


def identifiers(kind: str, documents: int) -> tuple[np.ndarray, int]:
    """Returns different identifiers, int32 [documents, length], and the size of their alphabet."""
    rng = np.random.default_rng(0)
    if kind == "atomic":
        return np.arange(documents, dtype=np.int32)[:, None] + FIRST_CODE, documents + FIRST_CODE
    if kind == "semantic":
        base = math.ceil(documents ** (1 / 6))
        chosen = np.sort(rng.choice(base**6, documents, replace=False))
        digits = chosen[:, None] // base ** np.arange(5, -1, -1) % base
        return (digits + FIRST_CODE).astype(np.int32), base + FIRST_CODE
    weights = 1 / np.arange(1, 8001)
    codes = rng.choice(8000, (documents * 11 // 10, 20), p=weights / weights.sum())
    codes = np.unique(codes, axis=0)
    codes = codes[rng.permutation(len(codes))[:documents]]
    return (codes + FIRST_CODE).astype(np.int32), 8000 + FIRST_CODE


def build(shape: str, alphabet: int) -> Any:
    """Returns a T5 of a shape, or a language model with codes, with random weights."""
    torch.manual_seed(0)
    if shape.startswith("qwen3-0.6b"):
        config = Qwen3Config(
            vocab_size=TEXT_TOKENS,
            hidden_size=1024,
            intermediate_size=3072,
            num_hidden_layers=int(shape.partition(":")[2] or 28),
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=128,
            eos_token_id=None,
        )
        return PromptedLanguageModel(config, Qwen3Model(config), alphabet).eval()
    size = SIZES[shape]
    assert size.width
    assert size.heads
    config = T5Config(
        vocab_size=32,
        d_model=size.width,
        d_kv=64,
        d_ff=size.feed_forward,
        num_layers=size.encoder_layers,
        num_decoder_layers=size.decoder_layers,
        num_heads=size.heads,
        tie_word_embeddings=False,
    )
    return set_docid_alphabet(T5ForConditionalGeneration(config), TEXT_TOKENS, alphabet).eval()


def ask(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns random queries, padded at the end."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(FIRST_CODE, TEXT_TOKENS, (batch, LENGTH), generator=generator)
    lengths = torch.randint(LENGTH // 2, LENGTH + 1, (batch, 1), generator=generator)
    lengths[0] = LENGTH
    mask = (torch.arange(LENGTH) < lengths).long()
    return ids * mask, mask


def _measure(
    shape: str,
    documents: int,
    kind: str,
    precision: str,
    beams: int,
    batch: int,
    rounds: int,
    names: list[str],
    device: str = "cpu",
) -> dict[str, Any]:
    codes, alphabet = identifiers(kind, documents)
    table = DocidTable.from_sequences(
        [str(row) for row in range(documents)], codes, alphabet_size=alphabet, kind=kind
    )
    trie = TorchTrie.from_trie(Trie.build(table), device)
    model = build(shape, alphabet).to(device)
    ids, mask = (each.to(device) for each in ask(batch))
    exact = model
    ready = packed(model, precision)
    if precision == "bf16":
        model = copy.deepcopy(model).bfloat16()
    length = codes.shape[1]
    products = _Products(model, batch, beams, trie, precision)
    language_model = is_prompted(model)
    score = "constrained" if language_model else "model"
    methods: dict[str, Callable[[], Any]] = {
        "ours": lambda: beam_search(ready, ids, mask, trie, k=beams, beams=beams, score=score),
        "floor": products.run,
    }
    generating = _Generating(model, ids, mask, beams, codes)
    for name, constrained in (("generate-trie", True), ("generate-free", False)):
        methods[name] = partial(generating.run, constrained)
    methods = {name: methods[name] for name in names if name in methods}
    peaks = {name: _peak_alone(method) for name, method in methods.items()}
    others = {
        name: _fastest_ctranslate2(exact, ids, mask, beams, length, name == "ct2-int8")
        for name in ("ctranslate2", "ct2-int8")
        if name in names
    }
    figures, results = _in_turns(methods | others, rounds)
    for other in others.values():
        other.close()
    for name, peak in peaks.items():
        figures[name]["peak MiB"] = peak
    with torch.inference_mode():
        full = beam_search(exact, ids, mask, trie, k=beams, beams=beams, score=score)
    agreement: dict[str, Any] = {"same documents": None}
    if "generate-trie" in results:
        agreement = _agreement(results["ours"], results["generate-trie"], table, length)
    top = min(10, beams)
    same_top = (results["ours"][0][:, :top] == full[0][:, :top]).all(1)
    return {
        "settings": {
            "shape": shape,
            "documents": documents,
            "kind": kind,
            "length": length,
            "precision": precision,
            "beams": beams,
            "batch": batch,
            "threads": torch.get_num_threads(),
            "device": device,
            "load": os.getloadavg()[0],
        },
        "methods": figures,
        **agreement,
        "queries with the top 10 of fp32": float(same_top.float().mean()),
        **_shares(methods["ours"]),
    }


class _Children:
    """`prefix_allowed_tokens_fn` over a trie of dictionaries, walked from the root.

    Args:
        codes: Identifiers in the ids of the model.
        prefix: How many ids stand before one.
        end: The id behind one.
    """

    def __init__(self, codes: np.ndarray, prefix: int, end: int) -> None:
        self.root: dict[int, Any] = {}
        self.prefix, self.end = prefix, end
        for sequence in codes.tolist():
            node = self.root
            for code in sequence:
                node = node.setdefault(code, {})

    def __call__(self, batch_id: int, sent: torch.Tensor) -> list[int]:
        node = self.root
        for code in sent.tolist()[self.prefix :]:
            node = node.get(code, {})
        return list(node) or [self.end]


class _Generating:
    """`generate` of transformers; of a language model over words and codes in one vocabulary."""

    def __init__(
        self, model: Any, ids: torch.Tensor, mask: torch.Tensor, beams: int, codes: np.ndarray
    ) -> None:
        self.beams, self.length, self.first = beams, codes.shape[1], 0
        self.model, self.ids, self.mask, prefix = model, ids, mask, 1
        if is_prompted(model):
            alphabet = model.get_output_embeddings().out_features
            self.model = merged(model, TEXT_TOKENS, alphabet).to(model.device, model.dtype)
            self.first, prefix = TEXT_TOKENS, ids.shape[1] + 1
            order = mask.argsort(dim=1, stable=True)
            begun = torch.full((len(ids), 1), TEXT_TOKENS + PAD, device=ids.device)
            self.ids = torch.cat([ids.gather(1, order), begun], 1)
            self.mask = torch.cat([mask.gather(1, order), torch.ones_like(begun)], 1)
        self.prefix = prefix
        self.allowed = _Children(codes + self.first, prefix, self.first + END)

    def run(self, constrained: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the codes of the sequences found, and their scores."""
        options: dict[str, Any] = {"min_new_tokens": self.length}
        if constrained:
            options = {"prefix_allowed_tokens_fn": self.allowed}
            options["renormalize_logits"] = bool(self.first)
        found = self.model.generate(
            self.ids,
            attention_mask=self.mask,
            num_beams=self.beams,
            num_return_sequences=self.beams,
            length_penalty=0.0,
            early_stopping="never",
            do_sample=False,
            max_new_tokens=self.length,
            pad_token_id=self.first + PAD,
            eos_token_id=self.first + END,
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )
        return found.sequences[:, self.prefix :] - self.first, found.sequences_scores


class Times(NamedTuple):
    """Seconds of a call in another process, on the clock and of the processor."""

    wall: float
    processor: float


class _CTranslate2:
    """A search by CTranslate2 over the weights of a T5, without constraint.

    It runs in a process of its own: beside the OpenMP threads of another library, those of PyTorch
    are more than there are cores, sleep at each operation and take twice as long.
    """

    def __init__(
        self,
        model: Any,
        ids: torch.Tensor,
        mask: torch.Tensor,
        beams: int,
        length: int,
        int8: bool,
        threads: int,
    ) -> None:
        import ctranslate2
        from tokenizers import Tokenizer, models
        from transformers import PreTrainedTokenizerFast

        alphabet = model.get_output_embeddings().out_features
        words = [f"w{number}" for number in range(TEXT_TOKENS)]
        words += [f"c{number}" for number in range(alphabet)]
        start, end = words[TEXT_TOKENS + PAD], words[TEXT_TOKENS + END]
        known = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, words[0]))
        plain = merged(model, TEXT_TOKENS, alphabet)
        plain.config.decoder_start_token_id = plain.config.pad_token_id = TEXT_TOKENS + PAD
        plain.config.eos_token_id = TEXT_TOKENS + END
        lines = [
            [words[token] for token in line[there != 0].tolist()]
            for line, there in zip(ids, mask, strict=True)
        ]
        with TemporaryDirectory() as name:
            plain.save_pretrained(f"{name}/plain")
            PreTrainedTokenizerFast(
                tokenizer_object=known, pad_token=start, eos_token=end, unk_token=words[0]
            ).save_pretrained(f"{name}/plain")
            converter = ctranslate2.converters.TransformersConverter(f"{name}/plain")
            converter.convert(f"{name}/made", quantization="int8" if int8 else None)
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(
                target=_translate,
                args=(theirs, f"{name}/made", int8, threads, lines, beams, length),
                daemon=True,
            )
            self._process.start()
            self._connection.recv()  # the translator is open

    def __call__(self) -> Times:
        """Searches once."""
        self._connection.send(True)
        return Times(*self._connection.recv())

    def close(self) -> None:
        """Ends the process."""
        self._connection.send(False)
        self._process.join()


def _fastest_ctranslate2(*inputs: Any) -> _CTranslate2:
    """Returns the search with one thread, or with as many as there are cores.

    In int8, two threads were slower than one wherever it was measured.
    """
    each = [_CTranslate2(*inputs, threads) for threads in sorted({1, torch.get_num_threads()})]
    seconds = [statistics.median(search().wall for _ in range(7)) for search in each]
    best = each[seconds.index(min(seconds))]
    for search in each:
        if search is not best:
            search.close()
    return best


def _translate(
    connection: Connection,
    folder: str,
    int8: bool,
    threads: int,
    lines: list[list[str]],
    beams: int,
    length: int,
) -> None:
    """Searches with CTranslate2 whenever it is asked, and sends how long that took."""
    import ctranslate2

    compute_type = "int8" if int8 else "float32"
    translator = ctranslate2.Translator(folder, compute_type=compute_type, intra_threads=threads)
    connection.send("open")
    while connection.recv():
        wall, processor = time.perf_counter(), time.process_time()
        translator.translate_batch(
            lines,
            beam_size=beams,
            num_hypotheses=beams,
            length_penalty=0.0,
            max_decoding_length=length,
            min_decoding_length=length,
            return_scores=True,
        )
        connection.send((time.perf_counter() - wall, time.process_time() - processor))


class _Products:
    """The matrix products of the linear layers that a search needs, by their shapes.

    They are computed in the fastest way that is known here: with packed weights.
    """

    def __init__(self, model: Any, batch: int, beams: int, trie: TorchTrie, precision: str) -> None:
        config = model.config
        tokens = batch * LENGTH
        self.shapes: list[tuple[int, int, int, int]] = []
        if is_prompted(model):
            width, wide, depth = config.hidden_size, config.intermediate_size, 0
            heads, groups = config.num_attention_heads, config.num_key_value_heads
            layer = [(1, width, config.head_dim * heads), (2, width, config.head_dim * groups)]
            layer += [(1, config.head_dim * heads, width), (2, width, wide), (1, wide, width)]
            depth = config.num_hidden_layers
            self._add(depth, tokens, layer)
        else:
            width, inner, wide = config.d_model, config.d_kv * config.num_heads, config.d_ff
            layer = [(4, width, inner), (1, width, wide), (1, wide, width)]
            self._add(config.num_layers, tokens, layer)
            depth = config.num_decoder_layers
            self._add(depth, tokens, [(2, width, inner)])
            layer = [(6, width, inner), (1, width, wide), (1, wide, width)]
        rows = batch
        for inner_nodes in trie.inner[1:]:
            self._add(depth, rows, layer)
            self._add(1, rows, [(1, width, config.vocab_size)])
            rows = batch * min(beams, inner_nodes)
        kind = model.dtype
        pack: Any = Int8Linear if precision == "int8" else PackedLinear
        if model.device.type != "cpu":
            pack = nn.Identity.forward.__get__(nn.Identity())  # the layer as it is
        self.states = {
            (rows, ins): torch.randn(rows, ins).to(model.device, kind)
            for _, rows, ins, _ in self.shapes
        }
        # As many weights as a model has, so that they come from memory as a model's do.
        self.layers = {
            (outs, ins): [
                pack(nn.Linear(ins, outs, bias=False).to(model.device, kind))
                for _ in range(max(c for c, _, i, o in self.shapes if (o, i) == (outs, ins)))
            ]
            for _, _, ins, outs in self.shapes
        }

    def _add(self, times: int, rows: int, layer: list[tuple[int, int, int]]) -> None:
        for count, ins, outs in layer:
            self.shapes.append((times * count, rows, ins, outs))

    def run(self) -> None:
        """Computes all of them."""
        for count, rows, ins, outs in self.shapes:
            for layer in self.layers[outs, ins][:count]:
                layer(self.states[rows, ins])


def _in_turns(
    methods: dict[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Calls each method once to warm up, then all of them in turns.

    Returns:
        For each method the figures, and what it returned.
    """
    results: dict[str, Any] = {}
    spent = dict.fromkeys(methods, 0.0)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    with torch.inference_mode():
        for name, method in methods.items():
            results[name] = method()
        for _ in range(rounds):
            for name, method in methods.items():
                if times[name] and spent[name] > ENOUGH:
                    continue
                wall, processor = time.perf_counter(), time.process_time()
                result = method()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                wall, processor = time.perf_counter() - wall, time.process_time() - processor
                if isinstance(result, Times):
                    wall, processor = result
                times[name].append((wall, processor))
                spent[name] += wall
    figures = {}
    for name, pairs in times.items():
        figures[name] = {"calls": len(pairs)}
        for column, clock in enumerate(("wall", "cpu")):
            seconds = sorted(pair[column] for pair in pairs)
            figures[name][clock] = {
                "median": statistics.median(seconds),
                "p99": seconds[min(len(seconds) - 1, math.ceil(0.99 * len(seconds)) - 1)],
                "least": seconds[0],
            }
    return figures, results


def _peak_alone(method: Callable[[], Any]) -> float | None:
    """Returns how much more memory (MiB) than before a first call needs at most.

    It is made in a process of its own, which has given back what was free; None where the system
    cannot tell.
    """
    if torch.cuda.is_available():  # a process that uses it cannot fork
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        with torch.inference_mode():
            method()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def child() -> None:
        torch.set_num_threads(1)  # threads of the parent did not come along
        try:
            ctypes.CDLL(None).malloc_trim(0)  # what the parent has freed would be used again
            Path("/proc/self/clear_refs").write_text("5")
            before = _status("VmRSS")
            with torch.inference_mode():
                method()
            answers.put((_status("VmHWM") - before) / 1024)
        except (OSError, AttributeError):
            answers.put(None)

    process = context.Process(target=child)
    process.start()
    peak = answers.get()
    process.join()
    return peak


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise OSError(key)


def _agreement(ours: Any, theirs: Any, table: DocidTable, length: int) -> dict[str, Any]:
    """In how many queries both found the same documents in the same order, and how near scores."""
    rows, scores = ours
    sequences = theirs[0][:, :length].reshape(*rows.shape, length)
    found = torch.from_numpy(table.matrix().astype(np.int64)).to(rows.device)[rows]
    near = (scores - theirs[1].view_as(scores)).abs().max()
    return {
        "same documents": float((found == sequences).all(2).all(1).float().mean()),
        "largest difference of scores": float(near),
    }


def _shares(search: Callable[[], Any]) -> dict[str, float]:
    """Of a search's processor time, what is not spent in the model, and in the prefix tree alone.

    The first is for tree, choice of beams, log-probabilities and bookkeeping; the second is what
    STATIC states of itself: which codes may follow.
    """
    start, listed = beam.start_decoder, TorchTrie.continuations
    spent = {"model": 0.0, "tree": 0.0}

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*words: Any) -> Any:
            began = time.process_time()
            value = function(*words)
            spent[part] += time.process_time() - began
            return value

        return call

    def watched(decoder: Any) -> Any:
        for name in ("begin", "step", "tails", "logits", "logits_at", "log_probabilities"):
            setattr(decoder, name, timed(getattr(type(decoder), name).__get__(decoder), "model"))
        take = type(decoder).take.__get__(decoder)
        decoder.take = lambda places: watched(take(places))
        return decoder

    patched: Any = TorchTrie
    beam.start_decoder = lambda *words: watched(timed(start, "model")(*words))
    patched.continuations = timed(listed, "tree")
    try:
        began = time.process_time()
        search()
        took = time.process_time() - began
    finally:
        beam.start_decoder = start
        patched.continuations = listed
    return {
        "share of the search beside the model": 1 - spent["model"] / took,
        "share of the prefix tree": spent["tree"] / took,
    }


if __name__ == "__main__":
    main()
