"""Any encoder gives vectors as configured in its files; misfits are reported as one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_encoders
from safetensors.numpy import load_file, save_file

from data_prep.errors import InputError

sentence_transformers = pytest.importorskip("sentence_transformers")

from docids.sentence_encoder import SentenceEncoder  # noqa: E402

WORDS = ["cats", "dogs", "hunt", "mice", "sleep", "query:", "passage:"]
TEXTS = ["cats hunt mice", "dogs", "", "zebras sleep"]
PLAIN = {
    "bert": {},
    "roberta": {},
    "xlm-roberta": {},
    "modernbert": {"global_attn_every_n_layers": 1, "reference_compile": False},
}


def ids_of(text):
    rows = [tiny_encoders.MARKS.index("[UNK]") if word not in WORDS
            else len(tiny_encoders.MARKS) + WORDS.index(word) for word in text.split()]  # fmt: skip
    return [2, *rows, 3]


def states_of(checkpoint, text, most=None):
    """The last states of a text read alone; float64 [tokens, width]."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(checkpoint).eval()
    ids = ids_of(text)
    if most is not None and len(ids) > most:
        ids = [*ids[: most - 1], 3]
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).last_hidden_state[0].double().numpy()


def unit(vector):
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("kind", PLAIN)
def test_a_plain_checkpoint_gives_the_mean_of_its_states(tmp_path, kind):
    checkpoint = tiny_encoders.write_bert(tmp_path / "model", WORDS, kind, **PLAIN[kind])
    encoder = SentenceEncoder(checkpoint)
    vectors = encoder.encode_documents(TEXTS)
    assert (vectors.dtype, vectors.shape, encoder.dim) == (np.float32, (4, 16), 16)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(vector, unit(states_of(checkpoint, text).mean(0)), atol=1e-5)
    assert encoder.encode_queries(TEXTS).tobytes() == vectors.tobytes()
    assert encoder.encode_documents([]).shape == (0, 16)


@pytest.mark.parametrize(("kind", "most"), [("bert", 16), ("roberta", 15)])
def test_texts_are_cut_to_the_positions_that_there_are(tmp_path, kind, most):
    """RoBERTa counts positions from behind its padding, here 0, and so has one fewer."""
    checkpoint = tiny_encoders.write_bert(tmp_path / "model", WORDS, kind)
    text = " ".join(["cats", "mice"] * 20)
    [vector] = SentenceEncoder(checkpoint).encode_documents([text])
    expected = states_of(checkpoint, text, most)
    assert len(expected) == most
    np.testing.assert_allclose(vector, unit(expected.mean(0)), atol=1e-5)


@pytest.mark.parametrize("quiet", [False, True])
def test_the_bar_of_the_library_follows_quiet(tmp_path, monkeypatch, capsys, quiet):
    encoder = SentenceEncoder(tiny_encoders.write_bert(tmp_path / "model", WORDS, "bert"))
    monkeypatch.setattr("docids.sentence_encoder._BAR", 1)
    monkeypatch.setenv("TQDM_DISABLE", "1" if quiet else "0")
    encoder.encode_documents(TEXTS)
    assert ("Batches" in capsys.readouterr().err) != quiet


def test_a_folder_brings_its_pooling_and_its_prompts(tmp_path):
    checkpoint = tiny_encoders.write_bert(tmp_path / "plain", WORDS)
    prompts = {"query": "query: ", "passage": "passage: "}
    folder = tiny_encoders.write_sentence_transformer(
        tmp_path / "model", checkpoint, "cls", prompts=prompts
    )
    encoder = SentenceEncoder(folder)
    assert (encoder.query_prompt, encoder.document_prompt) == ("query: ", "passage: ")
    [asked], [document] = encoder.encode_queries(["cats"]), encoder.encode_documents(["cats"])
    np.testing.assert_allclose(asked, unit(states_of(checkpoint, "query: cats")[0]), atol=1e-5)
    expected = unit(states_of(checkpoint, "passage: cats")[0])
    np.testing.assert_allclose(document, expected, atol=1e-5)
    [given] = SentenceEncoder(folder, query_prompt="dogs ").encode_queries(["cats"])
    np.testing.assert_allclose(given, unit(states_of(checkpoint, "dogs cats")[0]), atol=1e-5)


def test_a_model_of_dot_products_keeps_its_lengths(tmp_path):
    checkpoint = tiny_encoders.write_bert(tmp_path / "plain", WORDS)
    folder = tiny_encoders.write_sentence_transformer(
        tmp_path / "model", checkpoint, "mean", normalize=False, similarity="dot"
    )
    encoder = SentenceEncoder(folder)
    assert encoder.similarity == "dot"
    [vector] = encoder.encode_documents(["cats hunt"])
    np.testing.assert_allclose(vector, states_of(checkpoint, "cats hunt").mean(0), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("e5-small-v2", "query: ", "passage: "),
        ("multilingual-e5-base", "query: ", "passage: "),
        ("bge-small-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("my-e5", "", ""),
    ],
)
def test_prompts_that_only_a_models_page_mentions(tmp_path, name, query, document):
    encoder = SentenceEncoder(tiny_encoders.write_bert(tmp_path / name, WORDS))
    assert (encoder.query_prompt, encoder.document_prompt) == (query, document)


VECTORS = {"cats": [3.0, 4.0], "dogs": [0.0, 2.0], "mice": [1.0, 0.0]}


@pytest.mark.parametrize("write", [tiny_encoders.write_static, tiny_encoders.write_model2vec])
def test_static_embeddings_are_the_mean_of_their_words(tmp_path, write):
    encoder = SentenceEncoder(write(tmp_path / "model", VECTORS))
    vectors = encoder.encode_documents(["cats", "cats dogs", "", "unheard of"])
    expected = [[0.6, 0.8], unit([1.5, 3.0]), [0, 0], [0, 0]]
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_what_is_saved_gives_the_same_vectors(tmp_path):
    checkpoint = tiny_encoders.write_bert(tmp_path / "plain", WORDS)
    folder = tiny_encoders.write_sentence_transformer(
        tmp_path / "model", checkpoint, "cls", prompts={"query": "query: "}
    )
    static = tiny_encoders.write_static(tmp_path / "static", VECTORS)
    for place, name in enumerate((checkpoint, folder, static)):
        encoder = SentenceEncoder(name)
        encoder.save(tmp_path / f"saved{place}")
        again = SentenceEncoder(str(tmp_path / f"saved{place}"))
        assert again.query_prompt == encoder.query_prompt
        assert again.encode_queries(TEXTS).tobytes() == encoder.encode_queries(TEXTS).tobytes()


def test_it_can_be_trained_through(tmp_path):
    encoder = SentenceEncoder(tiny_encoders.write_bert(tmp_path / "model", WORDS))
    pooled = encoder.module(encoder.features(TEXTS))["sentence_embedding"]
    pooled.sum().backward()
    weights = encoder.module.transformers_model.get_input_embeddings().weight
    assert weights.grad[len(tiny_encoders.MARKS)].abs().sum() > 0
    lengths = np.linalg.norm(pooled.detach().numpy(), axis=1, keepdims=True)
    expected = encoder.encode_documents(TEXTS)
    np.testing.assert_allclose(pooled.detach().numpy() / lengths, expected, atol=1e-5)


def refused(folder, message, **settings):
    with pytest.raises(InputError, match=message) as caught:
        SentenceEncoder(str(folder), where="--model.encoder", **settings)
    assert str(caught.value).startswith("--model.encoder: ")
    assert "\n" not in str(caught.value)


def bert(tmp_path) -> Path:
    return Path(tiny_encoders.write_bert(tmp_path / "model", WORDS))


def damage_weights(folder: Path, value: float) -> None:
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        weights[name] = np.full_like(weights[name], value)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_vectors_that_are_not_finite_are_refused(tmp_path):
    folder = bert(tmp_path)
    damage_weights(folder, np.nan)
    refused(folder, r"vectors that are not finite \(2 of 2 texts")


def test_a_tokenizer_with_too_many_words_is_refused(tmp_path):
    folder = bert(tmp_path)
    tiny_encoders.write_tokenizer(folder, [*WORDS, "ravens"])
    refused(folder, "does not fit: it has token 11, the model 11 embeddings")
    static = Path(tiny_encoders.write_static(tmp_path / "static", VECTORS))
    tiny_encoders.tokenizer_of(WORDS).save(str(static / "tokenizer.json"))
    refused(static, "does not fit: it has token 10, the model 4 embeddings")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_or_has_half_of_it_is_refused(tmp_path, file):
    folder = bert(tmp_path)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    refused(folder, "cannot load the encoder '")
    (folder / file).unlink()
    if file == "tokenizer.json":
        (folder / "tokenizer_config.json").unlink()
    refused(folder, "cannot load the (encoder|tokenizer)|has no tokenizer")


def test_the_weights_of_something_else_are_refused(tmp_path):
    folder = bert(tmp_path)
    weights = load_file(folder / "model.safetensors")
    for name in ("bert.", "other."):
        renamed = {name + key: value for key, value in weights.items()}
        save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
        if name == "bert.":  # as in a checkpoint with its own head
            SentenceEncoder(str(folder))
    refused(folder, "its weights have 0 of the .* tensors that BertModel needs")


def test_no_code_of_a_model_is_run_and_nobody_is_asked(tmp_path):
    marker = tmp_path / "ran"
    code = f"open({str(marker)!r}, 'w').close()\nclass Own: pass\n"
    folder = bert(tmp_path)
    (folder / "own.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "unheard-of", "auto_map": {"AutoConfig": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, "requires running its own code")
    static = Path(tiny_encoders.write_static(tmp_path / "static", VECTORS))
    (static / "own.py").write_text(code)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "own.Own"}]
    (static / "modules.json").write_text(json.dumps(modules))
    refused(static, "requires running its own code")
    assert not marker.exists()


def test_a_measure_that_is_no_inner_product_is_refused(tmp_path):
    folder = tiny_encoders.write_sentence_transformer(
        tmp_path / "model", str(bert(tmp_path / "plain")), similarity="euclidean"
    )
    refused(folder, "compares vectors by 'euclidean'")


def test_an_old_or_missing_package_says_what_to_install(tmp_path, monkeypatch):
    folder = bert(tmp_path)
    monkeypatch.setattr(sentence_transformers, "__version__", "5.2.0")
    refused(folder, r"version 6 or later. pip install 'dsi-toolkit\[embeddings\]'")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    refused(folder, r"requires the package sentence-transformers.*pip install 'dsi-toolkit")


def test_importing_it_imports_no_torch():
    line = "import sys, docids.sentence_encoder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0
