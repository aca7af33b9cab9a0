"""`dsi export`: exported indexes rank as the original does in other engines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoints
import torch
import transformers
from small_versions import write_version

from data_prep.errors import InputError
from docids.table import DocidTable
from dsi import Index, cli
from dsi.backbones.backbone import from_pretrained
from dsi.export import Exported, export_index
from dsi.index import write_parts
from dsi.index_folder.versions import Manifest
from dsi.text_encoders.prompt_template import template_encoder
from dsi.text_encoders.text_encoder import (
    PretrainedEncoder,
    SentencepieceEncoder,
    VocabularyOptions,
)

TEXTS = ["the harbour and the whale", "a falcon in thunder", "moss and cedar"]
ENDING = [(4, 1), (2, 3, 1), (2, 1), (5, 5, 6, 1), (5, 5, 1), (7, 1), (7, 8, 9, 1)]
OF_ONE_LENGTH = [(4, 5), (2, 3), (2, 9), (5, 8), (5, 7), (7, 4), (7, 6)]
ALPHABET = 10


def write_index(family, folder, identifiers=ENDING, score="model", **changes):
    """An index with random weights, of a version without and a document deleted."""
    language_model = family in tiny_checkpoints.LANGUAGE_MODELS
    write = tiny_checkpoints.write_encoder_decoder
    if language_model:
        write = tiny_checkpoints.write_language_model
    path = write(family, folder / "checkpoint", TEXTS)
    model = from_pretrained(path, alphabet_size=ALPHABET)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    text = PretrainedEncoder(tokenizer)
    if language_model:
        text = template_encoder(tokenizer, changes.get("prompt"), path)
    names = [f"d{row}" for row in range(len(identifiers))]
    table = DocidTable.from_sequences(
        names, identifiers, alphabet_size=ALPHABET, kind="test"
    ).retire(["d5"])
    with write_version(folder / "index", None) as fresh:
        write_parts(
            fresh,
            model=model,
            text=changes.get("text", text),
            table=table,
            titles=names,
        )
        Manifest(
            documents=len(names) - 1,
            added=len(names) - 1,
            origin="here",
            dataset={"name": "tiny", "content_hash": "abcdef0123456789"},
            configuration={},
            metrics={},
            query_length=8,
            beams=6,
            score=score,
        ).save(fresh)
    return folder / "index"


def generated(folder, queries, beams=6):
    """What the README says, run over queries."""
    readme = (folder / "README.md").read_text("utf-8")
    code = readme.split("```python\n")[1].split("```")[0]
    code = code.replace("FOLDER", str(folder)).replace('["a query"]', "queries")
    code = code.replace("print(exported", "found = (exported")
    scope = {"queries": queries}
    exec(code, scope)
    return [
        scope["found"][start : start + beams] for start in range(0, len(queries) * beams, beams)
    ]


@pytest.mark.parametrize(
    ("family", "score"),
    [
        *((family, "model") for family in ("llama", "gemma2", "gpt2", "opt", "flan-t5")),
        # How codes are scored does not depend on the family: one of each kind of network.
        *((family, "constrained") for family in ("llama", "flan-t5")),
    ],
)
def test_generate_on_an_export_ranks_as_the_index(family, score, tmp_path):
    index = write_index(family, tmp_path, score=score)
    out = tmp_path / "out"
    assert cli.main(["export", str(index), str(out), "--json"]) == 0
    queries = ["the falcon", "a whale and moss in the harbour"]
    wanted = Index.open(index, "cpu").search(queries, k=6, beams=6)
    assert [len(hits) for hits in wanted] == [6, 6]
    assert generated(out, queries) == [[hit.doc_id for hit in hits] for hits in wanted]


@pytest.mark.parametrize(("family", "eager"), [("gemma2", True), ("llama", False)])
def test_soft_capped_attention_is_loaded_as_one_that_caps(family, eager, tmp_path):
    export_index(write_index(family, tmp_path), tmp_path / "out", "hf")
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert ('attn_implementation="eager"' in readme) == eager


def test_identifiers_without_an_end_of_their_own_cost_no_more(tmp_path):
    index = write_index("llama", tmp_path, OF_ONE_LENGTH, prompt="chat")
    export_index(index, tmp_path / "out", "hf")
    (wanted,) = Index.open(index, "cpu").search(["the falcon"], k=6, beams=6)
    assert generated(tmp_path / "out", ["the falcon"]) == [[hit.doc_id for hit in wanted]]


@pytest.mark.parametrize("identifiers", [ENDING, OF_ONE_LENGTH])
def test_a_catalog_of_vllm_gr_ranks_as_the_index(identifiers, tmp_path):
    index = write_index("llama", tmp_path, identifiers, score="constrained")
    out = tmp_path / "out"
    export_index(index, out, "vllm-gr")
    catalog = json.loads((out / "catalog.json").read_text())
    assert catalog[0] == (["<c_2>", "<c_3>"] if identifiers is OF_ONE_LENGTH else
                          ["<c_2>", "</docid>"])  # fmt: skip
    readme = (out / "README.md").read_text("utf-8")
    code = readme.split("```python\n")[1].split("```")[0].replace("FOLDER", str(out))
    queries = ["the falcon", "a whale and moss in the harbour"]
    code = code.replace('["a query"]', "queries").replace("print([names", "hits = ([names")
    scope = {"queries": queries}
    exec(code, scope)
    wanted = Index.open(index, "cpu").search(queries, k=6, beams=6)
    assert scope["hits"] == [hit.doc_id for hits in wanted for hit in hits]
    # The same folder serves `generate` with our processor.
    assert Exported.open(out).doc_ids == json.loads((out / "doc_ids.json").read_text())


def test_sampling_defaults_of_a_checkpoint_are_not_exported(tmp_path):
    index = write_index("llama", tmp_path)
    export_index(index, tmp_path / "out", "hf")
    settings = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert not {"do_sample", "temperature", "top_k", "top_p"} & set(settings)


def test_the_table_is_sorted_and_without_deleted_documents(tmp_path):
    index = write_index("llama", tmp_path, OF_ONE_LENGTH)
    export_index(index, tmp_path / "static", "static")
    codes = np.load(tmp_path / "static" / "docids.npy")
    names = json.loads((tmp_path / "static" / "doc_ids.json").read_text())
    assert codes.dtype == np.int32
    assert codes.tolist() == [[0, 1], [0, 7], [2, 3], [3, 5], [3, 6], [5, 4]]
    assert names == ["d1", "d2", "d0", "d4", "d3", "d6"]
    export_index(index, tmp_path / "hf", "hf")
    exported = Exported.open(tmp_path / "hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    first = [tokenizer.convert_ids_to_tokens(line) for line in exported.identifiers.tolist()]
    assert first[0] == ["<c_2>", "<c_3>"]
    assert (exported.identifiers - exported.first - 2 == codes).all()


def test_what_an_engine_cannot_take_is_refused_in_one_line(tmp_path):
    def refused(match, index, form="hf", **changes):
        with pytest.raises(InputError, match=match) as told:
            export_index(index, tmp_path / "out", form, **changes)
        assert "\n" not in str(told.value)
        assert not (tmp_path / "out").exists()

    index = write_index("llama", tmp_path)
    refused("different lengths.*static requires a single length", index, "static")
    refused("unknown format 'onnx'", index, "onnx")
    refused("this index normalizes scores over all codes", index, "vllm-gr")
    t5 = write_index("flan-t5", tmp_path / "t5", score="constrained")
    refused("a t5 is an encoder-decoder, which vLLM does not serve", t5, "vllm-gr")
    pair = write_index("bert-pair", tmp_path / "pair")
    refused("encoder-decoder has no embedding that tokens and codes can share", pair)
    own = SentencepieceEncoder.train(TEXTS, VocabularyOptions(pieces="word"))
    scratch = write_index("flan-t5", tmp_path / "scratch", text=own)
    refused("not a transformers tokenizer", scratch)
    with pytest.raises(InputError, match="this folder holds other files"):
        export_index(index, tmp_path, "hf")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="this is not a folder"):
        export_index(index, tmp_path / "file", "hf")


def test_a_lexical_layer_is_refused_before_the_index_is_opened(tmp_path, monkeypatch):
    index = write_index("gpt2", tmp_path)
    (index / "versions" / "0001" / "lexical").mkdir()
    monkeypatch.setattr(Index, "open", lambda *arguments: pytest.fail("it is opened"))
    with pytest.raises(InputError, match="ranks with a lexical layer"):
        export_index(index, tmp_path / "out", "hf")


def test_an_export_is_replaced_without_what_is_not_of_it(tmp_path):
    index = write_index("llama", tmp_path, OF_ONE_LENGTH)
    out, link = tmp_path / "out", tmp_path / "link"
    export_index(index, out, "hf")
    ours = {file.name for file in out.iterdir()}
    (out / "NOTES.txt").write_text("mine")
    link.symlink_to("out")
    export_index(index, link, "static")
    assert link.is_symlink()
    left = {file.name for file in out.iterdir()}
    assert left == {"NOTES.txt", "README.md", "docids.npy", "doc_ids.json", "docids.json"}
    assert ours > left - {"NOTES.txt"}


def test_the_current_folder_is_no_place_for_an_export(tmp_path, monkeypatch):
    index = write_index("llama", tmp_path, OF_ONE_LENGTH)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="current folder"):
        export_index(index, Path("."), "static")
