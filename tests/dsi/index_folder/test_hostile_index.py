"""Malicious content in an index is refused with one-line errors, quickly and in little memory.

Nothing outside the folder is read, written or executed.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_versions import write_version
from tiny_checkpoints import write_language_model
from transformers import AutoTokenizer

from data_prep.dataset import Document, InMemorySource
from data_prep.errors import InputError
from docids.embeddings import EmbeddingOptions, fit_embedder, open_embedder, save_embedder
from docids.muvera import Muvera, MuveraOptions
from docids.store import open_store, write_store
from dsi import cli
from dsi.backbones.backbone import from_pretrained
from dsi.backbones.output_states import ProductKeyMemory, add_map
from dsi.backbones.position_edits import add_edits
from dsi.generation.generative_memory import GenerativeMemory
from dsi.index_folder import versions
from dsi.index_folder.stored_corpus import write_stored_corpus
from dsi.lexical import expansion as lexical_expansion
from dsi.lexical.labeled_queries import LabeledQueries
from dsi.lexical.layer_builder import LexicalIndex
from dsi.lexical.options import LexicalOptions
from dsi.text_encoders.prompt_pool import PromptPool
from dsi.text_encoders.prompt_template import TemplateEncoder
from dsi.updating.strategy_state import write_strategy_state
from tests.campaigns.mutated_index import campaign
from tests.dsi import test_index
from tests.dsi.test_index import QUERIES, TITLES, table, text

SECONDS, MEGABYTES = 2.0, 1024


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """A tiny index, opened once, so that imports are not counted."""
    path = tmp_path_factory.mktemp("pristine") / "index"
    with write_version(path) as fresh:
        test_index.write_parts(
            fresh, model=test_index.model(), text=text(), table=table(), titles=TITLES
        )
        versions.Manifest(documents=5, added=5).save(fresh)
    test_index.Index.open(path, device="cpu").search(QUERIES)
    return path


def change_json(file: Path, **changes: object) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **changes}))


def flip(file: Path, place: int = -3) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 64
    file.write_bytes(bytes(content))


def replace_array(file: Path, array: np.ndarray) -> None:
    np.save(file, array)
    header = next(file.parent.glob("*.json"))
    content = json.loads(header.read_text())
    content["bytes"][file.stem] = file.stat().st_size
    header.write_text(json.dumps(content))


def link(path: Path, to: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(to)


def pipe(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    os.mkfifo(path)


def poison(file: Path, value: float) -> None:
    content = bytearray(file.read_bytes())
    start = 8 + struct.unpack("<Q", content[:8])[0]
    content[start : start + 4] = struct.pack("<f", value)
    file.write_bytes(bytes(content))


def remote_code(version: Path, outside: Path, name: str) -> None:
    """A tokenizer folder whose class is one of transformers' own that load remote code."""
    folder = version / "text" / "tokenizer"
    folder.mkdir()
    code = f"open({str(outside / 'ran')!r}, 'w')\n"
    (folder / "evil.py").write_text(code)
    config = {"model_type": "evil", "auto_map": dict.fromkeys(("AutoModel",), "evil.A")}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    (version / "text" / "text.json").write_text('{"kind": "transformers"}')


Attack = Callable[[Path, Path, Path], None]
"""Changes an index (folder of the index, of its version, and one outside)."""

ATTACKS: dict[str, Attack] = {
    "live is a link": lambda i, v, o: link(i / "live", o / "file"),
    "live is a pipe": lambda i, v, o: pipe(i / "live"),
    "live is a gigabyte": lambda i, v, o: os.truncate(i / "live", 1 << 30),
    "versions is a link": lambda i, v, o: link(i / "versions", o),
    "the version is a link": lambda i, v, o: link(v, o),
    "weights are a link": lambda i, v, o: link(v / "model" / "model.safetensors", o / "file"),
    "weights are a pipe": lambda i, v, o: pipe(v / "model" / "model.safetensors"),
    "a table is a pipe": lambda i, v, o: pipe(v / "docids" / "codes.npy"),
    "text is a link": lambda i, v, o: link(v / "text" / "text.json", o / "file"),
    "a folder in itself": lambda i, v, o: link(v / "loop", v),
    "a link to other texts": lambda i, v, o: link(v / "text" / "all", o),
    "folders without end": lambda i, v, o: (v / "/".join("a" * 60)).mkdir(parents=True),
    "a manifest of lists": lambda i, v, o: (v / "manifest.json").write_text("[" * (8 << 20)),
    "a manifest of numbers": lambda i, v, o: (v / "manifest.json").write_text("9" * 100_000),
    "a huge manifest": lambda i, v, o: os.truncate(v / "manifest.json", 1 << 33),
    "no number of documents": lambda i, v, o: change_json(v / "manifest.json", documents="all"),
    "a query of no token": lambda i, v, o: change_json(v / "manifest.json", query_length=-1),
    "files that lead outside": lambda i, v, o: change_json(
        v / "manifest.json", files={"../../../x": {"bytes": 0, "xxh3_128": ""}}
    ),
    "another text encoder": lambda i, v, o: (v / "text" / "text.json").write_text('{"kind": "x"}'),
    "AutoModel as tokenizer": lambda i, v, o: remote_code(v, o, "AutoModel"),
    "AutoTokenizer as tokenizer": lambda i, v, o: remote_code(v, o, "AutoTokenizer"),
    "pipeline as tokenizer": lambda i, v, o: remote_code(v, o, "pipeline"),
    "an attention from a hub": lambda i, v, o: change_json(
        v / "model" / "config.json", attn_implementation="user/kernel"
    ),
    "an attention in private": lambda i, v, o: change_json(
        v / "model" / "config.json", _attn_implementation_internal={"": "user/kernel"}
    ),
    "a model of its own": lambda i, v, o: change_json(
        v / "model" / "config.json", auto_map={"AutoModel": "evil.A"}
    ),
    "an unknown model": lambda i, v, o: change_json(v / "model" / "config.json", model_type="evil"),
    "no configuration": lambda i, v, o: (v / "model" / "config.json").write_text("[]"),
    "a million layers": lambda i, v, o: change_json(
        v / "model" / "config.json", num_layers=1_000_000
    ),
    "a million adaptor layers": lambda i, v, o: change_json(
        v / "model" / "config.json", dsi_pawa_layers=1_000_000
    ),
    "a million wide": lambda i, v, o: change_json(v / "model" / "config.json", d_model=1_000_000),
    "a billion codes": lambda i, v, o: change_json(
        v / "model" / "config.json", vocab_size=1_000_000_000
    ),
    "NaN in weights": lambda i, v, o: poison(v / "model" / "model.safetensors", float("nan")),
    "infinity in weights": lambda i, v, o: poison(v / "model" / "model.safetensors", float("inf")),
    "a header of weights without end": lambda i, v, o: (
        v / "model" / "model.safetensors"
    ).write_bytes(struct.pack("<Q", 1 << 40)),
    "huge branching": lambda i, v, o: replace_array(
        v / "docids" / "trie" / "max_branching.npy", np.array([2**31 - 1, 2**31 - 1], np.int32)
    ),
    "children that lead back": lambda i, v, o: replace_array(
        v / "docids" / "trie" / "first_child.npy",
        np.zeros_like(np.load(v / "docids" / "trie" / "first_child.npy")),
    ),
    "the trie of another table": lambda i, v, o: replace_array(
        v / "docids" / "trie" / "row.npy",
        np.load(v / "docids" / "trie" / "row.npy").clip(max=3),
    ),
    "codes of text": lambda i, v, o: replace_array(
        v / "docids" / "codes.npy", np.array(["a", "b"])
    ),
    "offsets beyond the end": lambda i, v, o: replace_array(
        v / "titles" / "offsets.npy", np.full(7, 1 << 40)
    ),
    "an array that leads outside": lambda i, v, o: change_json(
        v / "titles" / "titles.json", bytes={"../../../../x": 1}
    ),
    "titles of another version": lambda i, v, o: replace_array(
        v / "titles" / "offsets.npy", np.zeros(3, np.int64)
    ),
}


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Runs a command within the limits; returns its exit code and what it says."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    code = cli.main([*words, "--quiet"])
    assert time.process_time() - started < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES << 10
    return code, capsys.readouterr().err


@pytest.mark.parametrize("checksums", [True, False], ids=["checksums", "without"])
@pytest.mark.parametrize("name", ATTACKS)
def test_opening_refuses_it(name, checksums, pristine, tmp_path, capsys, monkeypatch):
    index, outside = tmp_path / "index", tmp_path / "outside"
    shutil.copytree(pristine, index)
    outside.mkdir()
    (outside / "file").write_text("0001\n")
    version = index / "versions" / "0001"
    if not checksums:
        change_json(version / "manifest.json", files=None)
    ATTACKS[name](index, version, outside)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    code, said = run(["search", str(index), "zebra"], capsys)
    assert (code, said.count("\n")) == (2, 1), said
    assert sorted(os.listdir(outside)) == ["file"]
    assert (outside / "file").read_text() == "0001\n"


@pytest.fixture(scope="module")
def with_corpus(pristine, tmp_path_factory) -> Path:
    """The index with the texts of its documents, without checksums."""
    path = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("corpus") / "index"))
    version = path / "versions" / "0001"
    ids = [doc_id for doc_id in table().doc_ids if doc_id]
    source = InMemorySource([Document(doc_id, "Title", f"text of {doc_id}") for doc_id in ids])
    write_stored_corpus(version / "corpus", source)
    change_json(version / "manifest.json", files=None)
    assert cli.main(["search", str(path), "zebra", "--text", "--quiet"]) == 0
    return path


@pytest.fixture(scope="module")
def of_language_model(tmp_path_factory) -> Path:
    """An index of a tiny language model with a prompt, without checksums."""
    folder = tmp_path_factory.mktemp("language")
    place = write_language_model("llama", folder / "checkpoint", ["zebra and otter"])
    tokenizer = AutoTokenizer.from_pretrained(place)
    path = folder / "index"
    with write_version(path) as fresh:
        test_index.write_parts(
            fresh,
            model=from_pretrained(place, alphabet_size=table().alphabet_size),
            text=TemplateEncoder(tokenizer, "Query: {query}"),
            table=table(),
            titles=TITLES,
        )
        versions.Manifest(documents=5, added=5).save(fresh)
    change_json(path / "versions" / "0001" / "manifest.json", files=None)
    assert cli.main(["search", str(path), "zebra", "--quiet"]) == 0
    return path


CORPUS = "corpus/corpus"
CORPUS_ATTACKS: dict[str, Attack] = {
    "a table that leads outside": lambda i, v, o: change_json(
        v / CORPUS / "state.json", _data_files=[{"filename": "../../../../../../outside/file"}]
    ),
    "a table of no list": lambda i, v, o: (v / CORPUS / "state.json").write_text("[1]"),
    "columns of no name": lambda i, v, o: (v / CORPUS / "dataset_info.json").write_text("[]"),
    "half a table": lambda i, v, o: os.truncate(v / CORPUS / "data.arrow", 300),
    "zeros": lambda i, v, o: (v / CORPUS / "data.arrow").write_bytes(bytes(5000)),
    "a message without end": lambda i, v, o: (v / CORPUS / "data.arrow").write_bytes(
        struct.pack("<iI", -1, 1 << 31) + bytes(64)
    ),
    "other documents": lambda i, v, o: write_table(
        v / CORPUS, [{"doc_id": "x", "title": "", "text": "t", "url": ""}]
    ),
    "no text": lambda i, v, o: write_table(v / CORPUS, [{"doc_id": "d0", "title": "t"}]),
    "texts of numbers": lambda i, v, o: write_table(
        v / CORPUS, [{"doc_id": 1, "title": 1, "text": 1, "url": 1}]
    ),
}
LANGUAGE_ATTACKS: dict[str, Attack] = {
    "a template of a megabyte": lambda i, v, o: change_json(
        v / "text" / "text.json", template="{query}" + "a " * 500_000
    ),
    "a template of many megabytes": lambda i, v, o: change_json(
        v / "text" / "text.json", template="{query}" + "a " * 20_000_000
    ),
    "no template": lambda i, v, o: change_json(v / "text" / "text.json", template=None),
    "a template of no query": lambda i, v, o: change_json(v / "text" / "text.json", template="a"),
    "a prompted tokenizer of huge prompts": lambda i, v, o: (v / "text" / "text.json").write_text(
        json.dumps(
            {
                "kind": "prompted",
                "query_prompt": "zebra " * 100_000,
                "document_prompt": "",
                "longest": 1 << 30,
                "empty": None,
            }
        )
    ),
    "code of its own": lambda i, v, o: change_json(
        v / "model" / "config.json", auto_map={"AutoModelForCausalLM": "evil.A"}
    ),
    "no heads": lambda i, v, o: change_json(v / "model" / "config.json", num_attention_heads=0),
    "heads of a million": lambda i, v, o: change_json(v / "model" / "config.json", head_dim=10**6),
    "a million layers of a language model": lambda i, v, o: change_json(
        v / "model" / "config.json", num_hidden_layers=10**6
    ),
    "rows of another vocabulary": lambda i, v, o: change_json(
        v / "model" / "config.json", dsi_text_vocabulary=10**8
    ),
    "positions of text": lambda i, v, o: change_json(
        v / "model" / "config.json", rope_parameters={"rope_type": "evil", "rope_theta": "a"}
    ),
    "a configuration of many megabytes": lambda i, v, o: change_json(
        v / "model" / "config.json", id2label={str(n): "x" for n in range(100_000)}
    ),
}


@pytest.fixture(scope="module")
def of_strategies(tmp_path_factory) -> Path:
    """An index that update strategies have written to, without checksums."""
    path = tmp_path_factory.mktemp("strategies") / "index"
    network = test_index.model()
    layer = add_edits(network, 2)
    memory = ProductKeyMemory(16, keys=3, top=2)
    for buffer in (memory.first, memory.second, memory.values, layer.edit):
        buffer.normal_(0.0, 0.1)
    add_map(network, memory)
    pool = PromptPool.around(text(), QUERIES, tokens=2)
    pool = PromptPool(
        pool.inner, pool.idf, np.eye(2, pool.keys.shape[1], dtype=np.float32), np.full((2, 2), -1)
    )
    with write_version(path) as fresh:
        test_index.write_parts(fresh, model=network, text=pool, table=table(), titles=TITLES)
        write_strategy_state(fresh, STATES, None)
        versions.Manifest(documents=5, added=5).save(fresh)
    change_json(path / "versions" / "0001" / "manifest.json", files=None)
    for verb in ("info", "search"):
        rest = ["zebra"] if verb == "search" else []
        assert cli.main([verb, str(path), *rest, "--quiet"]) == 0
    return path


STATES = {
    "edit": {
        "seconds": torch.eye(16).repeat(2, 1, 1),
        "counts": torch.ones(2, dtype=torch.int64),
        "fingerprint": torch.zeros(16, dtype=torch.uint8),
        "documents": torch.ones(1, dtype=torch.int64),
        "change": torch.ones(2),
    },
    "periods": {"updates": torch.ones(1, dtype=torch.int64)},
}


def change_tensors(file: Path, **changes: object) -> None:
    """Replaces tensors of a safetensors file; None removes one."""
    tensors = {**load_file(file), **changes}
    save_file({name: each for name, each in tensors.items() if each is not None}, file)


EDIT, PERIODS = "strategy_state/edit.safetensors", "strategy_state/periods.safetensors"
POOL, WEIGHTS = "text/prompts.safetensors", "model/model.safetensors"
MEMORY, KEYS = {"kind": "memory", "keys": 3, "top": 2}, "dsi_state_map"
STRATEGY_ATTACKS: dict[str, tuple[str, Attack]] = {
    "no documents": ("info", lambda i, v, o: change_tensors(v / EDIT, documents=None)),
    "changes of text": (
        "info",
        lambda i, v, o: change_tensors(v / EDIT, change=torch.ones(2, dtype=torch.uint8)),
    ),
    "changes of no number": (
        "info",
        lambda i, v, o: change_tensors(v / EDIT, change=torch.tensor([1.0, float("nan")])),
    ),
    "moments of another width": (
        "info",
        lambda i, v, o: change_tensors(v / EDIT, seconds=torch.ones(2, 16, 15)),
    ),
    "moments of other positions": (
        "info",
        lambda i, v, o: change_tensors(v / EDIT, counts=torch.ones(3, dtype=torch.int64)),
    ),
    "infinite moments": (
        "info",
        lambda i, v, o: change_tensors(v / EDIT, seconds=torch.full((2, 16, 16), torch.inf)),
    ),
    "a state that is a pickle": ("info", lambda i, v, o: torch.save({"a": 1}, v / EDIT)),
    "an empty state": ("info", lambda i, v, o: (v / EDIT).write_bytes(b"")),
    "a state of a header without end": (
        "info",
        lambda i, v, o: (v / EDIT).write_bytes(struct.pack("<Q", 1 << 40)),
    ),
    "a state that is a link": ("info", lambda i, v, o: link(v / EDIT, o / "file")),
    "a state that is a pipe": ("info", lambda i, v, o: pipe(v / EDIT)),
    "a state that is a folder": ("info", lambda i, v, o: as_folder(v / EDIT)),
    "updates of no number": (
        "info",
        lambda i, v, o: change_tensors(v / PERIODS, updates=torch.zeros(0, dtype=torch.int64)),
    ),
    "edits without end": (
        "search",
        lambda i, v, o: change_json(v / "model" / "config.json", dsi_edits=10**9),
    ),
    "an edit of another width": (
        "search",
        lambda i, v, o: change_tensors(
            v / WEIGHTS,
            **{
                name: torch.ones(2, 16, 15)
                for name in load_file(v / WEIGHTS)
                if name.endswith(".edit")
            },
        ),
    ),
    "a memory of a million keys": ("search", lambda i, v, o: change_map(v, keys=10**6)),
    "a state that reads a million rows": ("search", lambda i, v, o: change_map(v, top=10**6)),
    "a memory of no kind": ("info", lambda i, v, o: change_map(v, kind="evil")),
    "features in place of a memory": (
        "search",
        lambda i, v, o: change_map(v, kind="fourier", features=10**9),
    ),
    "a memory of NaN": (
        "search",
        lambda i, v, o: change_tensors(
            v / WEIGHTS,
            **{
                name: torch.full((9, 16), torch.nan)
                for name in load_file(v / WEIGHTS)
                if name.endswith("state_map.values")
            },
        ),
    ),
    "a memory without spread": (
        "search",
        lambda i, v, o: change_tensors(
            v / WEIGHTS,
            **{
                name: torch.zeros(1)
                for name in load_file(v / WEIGHTS)
                if name.endswith("state_map.spread")
            },
        ),
    ),
    "prompts of negative tokens": (
        "search",
        lambda i, v, o: change_tensors(v / POOL, prompts=torch.tensor([[0, -5], [-1, -1]])),
    ),
    "prompts of tokens without rows": (
        "search",
        lambda i, v, o: change_tensors(v / POOL, prompts=torch.tensor([[0, 10**7], [-1, -1]])),
    ),
    "a number for prompts": (
        "search",
        lambda i, v, o: change_tensors(v / POOL, prompts=torch.tensor(3)),
    ),
    "keys of no number": (
        "search",
        lambda i, v, o: change_tensors(
            v / POOL, keys=torch.full_like(load_file(v / POOL)["keys"], torch.nan)
        ),
    ),
    "words of another type": (
        "search",
        lambda i, v, o: change_tensors(v / POOL, idf=load_file(v / POOL)["idf"].double()),
    ),
    "settings of no object": ("info", lambda i, v, o: (v / "text" / "text.json").write_text("[]")),
    "options of no object": (
        "info",
        lambda i, v, o: change_json(v / "manifest.json", configuration={"options": 3}),
    ),
    "options of an update of no object": (
        "info",
        lambda i, v, o: change_json(
            v / "manifest.json", configuration={"update": {"claim": {"options": [1]}}}
        ),
    ),
    "a dataset whose name is a number": (
        "info",
        lambda i, v, o: change_json(v / "manifest.json", dataset={"content_hash": 3}),
    ),
    "a pool in a pool": (
        "search",
        lambda i, v, o: change_json(v / "text" / "inner" / "text.json", kind="prompt-pool"),
    ),
}


def change_map(version: Path, **changes: object) -> None:
    change_json(version / "model" / "config.json", **{KEYS: {**MEMORY, **changes}})


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", STRATEGY_ATTACKS)
def test_hostile_state_of_strategies_is_refused(name, of_strategies, tmp_path, capsys):
    verb, attack = STRATEGY_ATTACKS[name]
    index = attacked(of_strategies, attack, tmp_path)
    code, said = run([verb, str(index), *(["zebra"] if verb == "search" else [])], capsys)
    assert (code, said.count("\n")) == (2, 1), said
    assert "0001" in said  # the file, or the version


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    """What updates read of an index, but searches do not."""
    folder = tmp_path_factory.mktemp("parts") / "0001"
    texts = ["zebra grass plains", "otter river fish", "zebra river"]
    documents = [Document(str(row), "", text) for row, text in enumerate(texts)]
    nothing = LabeledQueries([], np.zeros(0, np.int64))
    plain = LexicalIndex.build(
        documents, language="none", options=LexicalOptions(), labeled=nothing, dev=nothing, seed=0
    )
    corpus = lexical_expansion.Corpus(
        documents, plain.lexicon, plain.vocabulary, plain.weighting, plain.scales
    )
    queries = LabeledQueries(["stripes grass", "fur"], np.array([0, 1], np.int64))
    expansion, vocabulary, weighting = lexical_expansion.Expansion.of(0.5, corpus, queries)
    replace(plain, vocabulary=vocabulary, weighting=weighting, expansion=expansion).save(
        folder / "lexical"
    )
    options = EmbeddingOptions(dimensions=2)
    save_embedder(fit_embedder(texts, options, 0), options, folder / "embedder")
    header = {"embedder": "muvera", "options": asdict(options), "model": "no/such"}
    arrays = Muvera.draw(8, MuveraOptions(bits=2, projection=4, repetitions=2, final=9), 0).arrays()
    write_store(folder / "muvera", "embedder", header, arrays)
    about = {"format": 1, "dataset": {"content_hash": "x"}, "options": {"steps": 3}}
    (folder / "memory").mkdir()
    (folder / "memory" / "memory.json").write_text(json.dumps(about))
    (folder / "memory" / "config.json").write_text('{"model_type": "t5"}')
    save_file({"a": torch.ones(2)}, folder / "memory" / "model.safetensors")
    LexicalIndex.open(folder / "lexical").layer()
    open_embedder(folder / "embedder")
    Muvera.of(open_store(folder / "muvera", "embedder")[1])
    return folder


READERS: dict[str, Callable[[Path], object]] = {
    "lexical": LexicalIndex.open,
    "embedder": open_embedder,
    "muvera": open_embedder,
    "memory": GenerativeMemory.open,
}
NAN, HUGE = float("nan"), 1 << 40


def array(file: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """An attack that changes one array of a store."""
    return lambda v: replace_array(v / file, change(np.array(np.load(v / file))))


def declared(file: str, shape: tuple[int, ...]) -> Callable[[Path], None]:
    """An attack that declares a huge shape in a small array file."""

    def attack(version: Path) -> None:
        with open(version / file, "wb") as opened:
            header = {"descr": "<i8", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(opened, header)
        resized(version / file)

    return attack


def pickled(file: str) -> Callable[[Path], None]:
    """An attack that puts an array of objects, which is a pickle, in place of an array."""

    def attack(version: Path) -> None:
        np.save(version / file, np.array([{}, []], object), allow_pickle=True)
        resized(version / file)

    return attack


def resized(file: Path) -> None:
    header = next(file.parent.glob("*.json"))
    content = json.loads(header.read_text())
    content["bytes"][file.stem] = file.stat().st_size
    header.write_text(json.dumps(content))


EXPANSION, SOURCE = "lexical/source/expansion/", "lexical/source/"
PART_ATTACKS: dict[str, Callable[[Path], None]] = {
    "lexical: a share of NaN": array(EXPANSION + "share.npy", lambda a: a * NAN),
    "lexical: two shares": array(EXPANSION + "share.npy", lambda a: np.repeat(a, 2)),
    "lexical: a share of text": array(EXPANSION + "share.npy", lambda a: np.array(["x"])),
    "lexical: rows of fractions": array(EXPANSION + "rows.npy", lambda a: a + 0.5),
    "lexical: rows beyond the end": array(EXPANSION + "rows.npy", lambda a: a + HUGE),
    "lexical: rows that descend": array(EXPANSION + "rows.npy", lambda a: a[::-1]),
    "lexical: other rows": array(EXPANSION + "rows.npy", lambda a: a + 1),
    "lexical: rows of two axes": array(EXPANSION + "rows.npy", lambda a: a[:, None]),
    "lexical: an expansion of other words": array(EXPANSION + "words.npy", lambda a: a[::-1]),
    "lexical: scales of NaN": array(EXPANSION + "of_word_mean.npy", lambda a: a * NAN),
    "lexical: scales of another size": array(EXPANSION + "of_pair_mean.npy", lambda a: a[:1]),
    "lexical: a negative deviation": array(
        SOURCE + "in_document_deviation.npy", lambda a: -1 - abs(a)
    ),
    "lexical: negative positions": array(SOURCE + "positions.npy", lambda a: a.astype(int) - HUGE),
    "lexical: pairs of unknown words": array(SOURCE + "pair_keys.npy", lambda a: a | 0x7FFFFFFF),
    "lexical: pairs that occur 0 times": array(SOURCE + "pair_counts.npy", lambda a: a * 0),
    "lexical: a huge shape": declared(EXPANSION + "rows.npy", (HUGE,)),
    "lexical: a huge shape of nothing": declared(EXPANSION + "rows.npy", (HUGE, 0)),
    "lexical: objects": pickled(EXPANSION + "rows.npy"),
    "lexical: an expansion that is a pipe": lambda v: pipe(v / EXPANSION),
    "lexical: a folder in place of an array": lambda v: as_folder(v / EXPANSION / "rows.npy"),
    "lexical: an array that is a pipe": lambda v: pipe(v / EXPANSION / "rows.npy"),
    "lexical: more live documents than rows": lambda v: change_json(
        v / SOURCE / "lexicon.json", documents=HUGE
    ),
    "lexical: documents of no number": lambda v: change_json(
        v / SOURCE / "lexicon.json", documents=NAN
    ),
    "embedder: another": lambda v: change_json(v / "embedder" / "embedder.json", embedder=["x"]),
    "embedder: options of no object": lambda v: change_json(
        v / "embedder" / "embedder.json", options=[1]
    ),
    "embedder: weights of NaN": array("embedder/components.npy", lambda a: a * NAN),
    "embedder: weights of other words": array("embedder/components.npy", lambda a: a[:, :-1]),
    "embedder: frequencies of text": array("embedder/idf.npy", lambda a: a.astype("U5")),
    "embedder: offsets beyond the end": array("embedder/vocabulary_offsets.npy", lambda a: a * 9),
    "embedder: the same word twice": array("embedder/vocabulary_text.npy", lambda a: a * 0),
    "embedder: objects": pickled("embedder/components.npy"),
    "muvera: no final dimensions": array("muvera/final.npy", lambda a: a[:0]),
    "muvera: a huge encoding": array("muvera/final.npy", lambda a: a * 0 + HUGE),
    "muvera: a negative size": array("muvera/final.npy", lambda a: -a),
    "muvera: dimensions beyond the end": array("muvera/bucket.npy", lambda a: a + 100),
    "muvera: signs of another size": array("muvera/sign.npy", lambda a: a[:3]),
    "muvera: signs of zero": array("muvera/sign.npy", lambda a: a * 0),
    "muvera: planes of NaN": array("muvera/planes.npy", lambda a: a * NAN),
    "muvera: planes of one axis": array("muvera/planes.npy", np.ravel),
    "muvera: planes of nothing": declared("muvera/planes.npy", (2, 0, 60)),
    "muvera: projections of other vectors": array("muvera/inner.npy", lambda a: a[:, 1:]),
    "muvera: projections of integers": array("muvera/inner.npy", lambda a: a.astype(int)),
    "memory: no options": lambda v: change_json(v / "memory" / "memory.json", options=None),
    "memory: an option of text": lambda v: change_json(
        v / "memory" / "memory.json", options={"steps": "many"}
    ),
    "memory: an option of its own": lambda v: change_json(
        v / "memory" / "memory.json", options={"evil": 1}
    ),
    "memory: no data": lambda v: change_json(v / "memory" / "memory.json", dataset=[]),
    "memory: a manifest that is a pipe": lambda v: pipe(v / "memory" / "memory.json"),
    "memory: a huge network": lambda v: change_json(
        v / "memory" / "config.json", d_model=1_000_000, num_layers=1_000_000
    ),
    "memory: a network of no object": lambda v: (v / "memory" / "config.json").write_text("[]"),
    "memory: weights of NaN": lambda v: poison(v / "memory" / "model.safetensors", NAN),
    "memory: weights that are a pipe": lambda v: pipe(v / "memory" / "model.safetensors"),
    "memory: weights that are a folder": lambda v: as_folder(v / "memory" / "model.safetensors"),
    "memory: a tokenizer that is a pipe": lambda v: pipe(v / "memory" / "tokenizer.json"),
}


@pytest.mark.parametrize("name", PART_ATTACKS)
def test_hostile_parts_that_updates_read_are_refused(name, parts, tmp_path):
    version = Path(shutil.copytree(parts, tmp_path / "0001"))
    PART_ATTACKS[name](version)
    part = name.partition(":")[0]
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as refused:
        READERS[part](version / part)
    assert time.process_time() - started < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES << 10
    assert f"0001/{part}" in str(refused.value)
    assert "\n" not in str(refused.value)


def write_table(folder: Path, rows: list[dict[str, object]]) -> None:
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(folder / "data.arrow", table.schema) as writer:
        writer.write_table(table)


def attacked(index: Path, attack: Attack, folder: Path) -> Path:
    """Returns a copy of an index that was attacked."""
    copy = Path(shutil.copytree(index, folder / "index"))
    (folder / "outside").mkdir()
    attack(copy, copy / "versions" / "0001", folder / "outside")
    return copy


@pytest.mark.parametrize("name", CORPUS_ATTACKS)
def test_a_hostile_corpus_is_refused(name, with_corpus, tmp_path, capsys):
    index = attacked(with_corpus, CORPUS_ATTACKS[name], tmp_path)
    code, said = run(["search", str(index), "zebra", "--text"], capsys)
    assert (code, said.count("\n")) == (2, 1), said


@pytest.mark.parametrize("name", LANGUAGE_ATTACKS)
def test_a_hostile_language_model_is_refused(name, of_language_model, tmp_path, capsys):
    index = attacked(of_language_model, LANGUAGE_ATTACKS[name], tmp_path)
    code, said = run(["search", str(index), "zebra"], capsys)
    assert (code, said.count("\n")) == (2, 1), said


@pytest.mark.parametrize("verb", [["export", "out"], ["evaluate", "ds"]])
@pytest.mark.parametrize("name", ["the version is a link", "live is a pipe", "a folder in itself"])
def test_other_readers_refuse_it_too(verb, name, pristine, tmp_path, capsys):
    index = attacked(pristine, ATTACKS[name], tmp_path)
    rest = [str(tmp_path / "out") if word == "out" else word for word in verb[1:]]
    code, said = run([verb[0], str(index), *rest], capsys)
    assert (code, said.count("\n")) == (2, 1), said
    assert not (tmp_path / "out").exists()


def test_pruning_a_version_that_is_a_link_leaves_alone_what_it_leads_to(pristine, tmp_path, capsys):
    index, outside = Path(shutil.copytree(pristine, tmp_path / "index")), tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    shutil.copytree(index / "versions" / "0001", index / "versions" / "0002")
    (index / "live").write_text("0002\n")
    link(index / "versions" / "0001", outside)
    run(["prune", str(index), "--keep", "1"], capsys)
    assert (outside / "file").read_text() == "precious"
    assert outside.is_dir()


@pytest.mark.parametrize("name", ["lock", "updating", "versions", "training"])
@pytest.mark.parametrize("verb", [["rollback", "--to", "0001"], ["delete", "d1"]])
def test_writers_change_nothing_behind_a_link(name, verb, pristine, tmp_path, capsys):
    index, outside = tmp_path / "index", tmp_path / "outside"
    shutil.copytree(pristine, index)
    (outside / ".new-x").mkdir(parents=True)
    (outside / "file").write_text("precious")
    link(index / name, outside / "file" if name == "lock" else outside)
    code, said = run([verb[0], str(index), *verb[1:]], capsys)
    assert (code, said.count("\n")) == (2, 1), said
    assert f"index/{name}: a link is not allowed here" in said
    assert (outside / "file").read_text() == "precious"
    assert sorted(os.listdir(outside)) == [".new-x", "file"]


def test_a_lock_with_a_second_name_is_not_emptied(pristine, tmp_path, capsys):
    index = tmp_path / "index"
    shutil.copytree(pristine, index)
    (tmp_path / "notes").write_text("precious")
    (index / "lock").unlink()
    os.link(tmp_path / "notes", index / "lock")
    assert run(["rollback", str(index), "--to", "0001"], capsys)[0] == 0
    assert (tmp_path / "notes").read_text() == "precious"


FILES = ("model/model.safetensors", "text/sentencepiece.model", "docids/codes.npy",
         "docids/doc_id_text.npy", "titles/text.npy", "docids/trie/code.npy")  # fmt: skip


@pytest.mark.parametrize("file", FILES)
def test_one_flipped_bit_is_found_when_the_index_is_opened_and_verified(
    file, pristine, tmp_path, capsys
):
    index = tmp_path / "index"
    shutil.copytree(pristine, index)
    assert run(["info", str(index), "--verify"], capsys)[0] == 0
    flip(index / "versions" / "0001" / file)
    for words in (["search", str(index), "zebra"], ["info", str(index), "--verify"]):
        code, said = run(words, capsys)
        assert code == 2
        assert f"{file}: the content has changed since it was written" in said


def test_an_index_from_before_checksums_opens(pristine, tmp_path, capsys):
    index = tmp_path / "index"
    shutil.copytree(pristine, index)
    file = index / "versions" / "0001" / "manifest.json"
    content = json.loads(file.read_text())
    assert content.pop("files")
    file.write_text(json.dumps(content))
    assert run(["search", str(index), "zebra"], capsys)[0] == 0
    assert cli.main(["info", str(index), "--verify"]) == 0
    assert "written without checksums" in capsys.readouterr().out


def test_controls_of_a_terminal_are_shown_and_not_sent(pristine, tmp_path, capsys):
    with write_version(tmp_path / "index") as fresh:
        test_index.write_parts(
            fresh,
            model=test_index.model(),
            text=text(),
            table=table(),
            titles=["\x1b]0;owned\x07\x9b31m\u202e\n" + "\n" * 50_000] * 6,
        )
        versions.Manifest(documents=5, added=5, origin="\x1b[2J").save(fresh)
    for words in (["search", "\x1b[31mzebra :smile:"], ["info"], ["search", "a", "--json"]):
        code = cli.main([words[0], str(tmp_path / "index"), *words[1:], "--quiet"])
        said = "".join(capsys.readouterr())
        assert code == 0
        assert len(said) < 40_000 or "--json" in words
        assert not set(said) & set("\x1b\x07\x9b\u202e")
        assert "\\x1b" in said or "\\u001b" in said
    cli.main(["search", str(tmp_path / "index\x1b[2J"), "a"])
    assert "\\x1b[2J" in capsys.readouterr().err


@pytest.mark.slow
def test_mutated_indexes_are_refused_or_answer_as_before(pristine):
    wrong: list[str] = []
    counts = campaign(pristine, QUERIES, 200, 0, wrong.append)
    assert not wrong
    assert sum(counts.values()) == 200
