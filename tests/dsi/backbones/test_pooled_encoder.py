"""A pretrained text encoder in an index model: the model ranks as the encoder does."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_encoders import (
    write_bert,
    write_model2vec,
    write_sentence_transformer,
    write_static,
)

from data_prep.errors import InputError
from docids.muvera import Muvera, MuveraOptions
from docids.sentence_encoder import SentenceEncoder
from docids.table import FIRST_CODE, PAD, DocidTable
from docids.token_vectors import TokenEncoder
from dsi.backbones.backbone import from_encoder, load_backbone, save_backbone
from dsi.backbones.document_vectors import vectors_of
from dsi.backbones.inference import padded
from dsi.backbones.loaded_encoder import load_encoder
from dsi.backbones.pooled_encoder import POOLINGS, PooledEncoder, check_settings, pooled
from dsi.kernels.packed_linear import packed
from dsi.rows import WARM_STARTS, Corpus
from dsi.text_encoders.stored_text_encoder import open_text_encoder

WORDS = [
    *("red", "green", "blue", "cat", "dog", "fish"),
    *("runs", "swims", "sleeps"),
    "query:",
    "passage:",
]
PROMPTS = {"query": "query: ", "document": "passage: "}
TEXTS = ["red cat runs", "green dog sleeps", "blue fish swims", "cat dog fish red", "runs"]
QUERIES = ["cat", "green sleeps", "blue fish", "red red dog runs", "swims"]
WEIGHT = 16.0


def static_vectors() -> dict[str, list[float]]:
    rng = np.random.default_rng(0)
    return {word: rng.standard_normal(12).tolist() for word in WORDS}


def checkpoint(tmp_path, kind: str) -> str:
    """The path of a tiny encoder."""
    if kind == "static":
        return write_static(tmp_path / "static", static_vectors())
    if kind == "model2vec":
        return write_model2vec(tmp_path / "m2v", static_vectors(), normalize=True)
    plain = write_bert(tmp_path / "plain", WORDS, max_position_embeddings=32)
    if kind == "bert":
        return plain
    pooling, similarity = kind.split("/")
    return write_sentence_transformer(
        tmp_path / "st", plain, pooling, similarity == "cosine", PROMPTS, similarity
    )


def table(documents: int = len(TEXTS)) -> DocidTable:
    return DocidTable.from_sequences(
        [f"d{row}" for row in range(documents)],
        [(FIRST_CODE + row,) for row in range(documents)],
        alphabet_size=FIRST_CODE + documents,
        kind="atomic",
    )


def started(name: str, weight: float = WEIGHT):
    """The model before its first step, and its text encoder."""
    loaded = load_encoder(name)
    model = from_encoder(loaded.encoder, alphabet_size=FIRST_CODE + len(TEXTS), weight=weight)
    tokens = loaded.text.encode_documents(TEXTS, loaded.text.longest)
    WARM_STARTS["encoder"].start(model, Corpus(tokens, table()), 0)
    return model.eval(), loaded.text


@torch.inference_mode()
def logits(model, lines) -> np.ndarray:
    """The first step's logits of documents; one query alone, so that nothing is padded."""
    found = [
        model(input_ids=torch.tensor([line]), decoder_input_ids=torch.tensor([[PAD]])).logits
        for line in lines
    ]
    return torch.cat(found)[:, 0, FIRST_CODE:].numpy()


def cosines(name: str) -> np.ndarray:
    encoder = SentenceEncoder(name)
    queries, documents = encoder.encode_queries(QUERIES), encoder.encode_documents(TEXTS)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    return queries @ documents.T


@pytest.mark.parametrize(
    "kind", ["bert", "static", "model2vec", *(f"{each}/cosine" for each in POOLINGS)]
)
def test_before_any_step_a_logit_is_the_weighted_cosine_of_sentence_transformers(tmp_path, kind):
    name = checkpoint(tmp_path, kind)
    model, text = started(name)
    found = logits(model, text.encode(QUERIES, 32))
    np.testing.assert_allclose(found, WEIGHT * cosines(name), atol=1e-4)


def test_the_weight_of_the_cosine_is_the_users(tmp_path):
    name = checkpoint(tmp_path, "bert")
    model, text = started(name, weight=3.0)
    np.testing.assert_allclose(
        logits(model, text.encode(QUERIES, 32)), 3 * cosines(name), atol=1e-4
    )


def test_an_encoder_of_dot_products_ranks_by_dot_products(tmp_path):
    name = checkpoint(tmp_path, "mean/dot")
    model, text = started(name)
    encoder = SentenceEncoder(name)
    assert encoder.similarity == "dot"
    queries, documents = encoder.encode_queries(QUERIES), encoder.encode_documents(TEXTS)
    found, wanted = logits(model, text.encode(QUERIES, 32)), queries @ documents.T
    assert len(set(np.linalg.norm(documents, axis=1).round(3))) > 1
    # The logits of each query are its products in its own unit.
    np.testing.assert_allclose(found / found[:, :1], wanted / wanted[:, :1], rtol=1e-3, atol=1e-4)


def test_encodings_of_token_states_rank_as_their_products_do(tmp_path):
    name = checkpoint(tmp_path, "mean/cosine")
    model, text = started(f"muvera:{name}")
    assert model.config.d_model == 1024
    tokens = TokenEncoder(name)
    encoding = Muvera.draw(tokens.width, MuveraOptions(), 0)
    queries = encoding.queries(tokens.queries(QUERIES))
    documents = encoding.documents(tokens.documents(TEXTS))
    encoder = model.get_encoder()
    for lines, encode, wanted in (
        (text.encode(QUERIES, 32), encoder.vectors, queries),
        (text.encode_documents(TEXTS, 32), encoder.document_vectors, documents),
    ):
        input_ids, mask = padded(lines)
        with torch.inference_mode():
            np.testing.assert_allclose(encode(input_ids, mask).numpy(), wanted, atol=1e-4)
    directions = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    found = logits(model, text.encode(QUERIES, 32))
    np.testing.assert_allclose(
        found, WEIGHT * directions @ documents.T / encoder.unit, rtol=1e-3, atol=1e-3
    )
    # Opened again, the model has the same directions.
    save_backbone(model, tmp_path / "saved")
    again = load_backbone(tmp_path / "saved")
    np.testing.assert_allclose(logits(again, text.encode(QUERIES, 32)), found, atol=1e-5)


def test_damaged_sizes_of_encodings_are_refused(tmp_path):
    name = checkpoint(tmp_path, "mean/cosine")
    settings = load_encoder(f"muvera:{name}").encoder.settings
    check_settings(settings, tmp_path)
    for change in ({"bits": 40}, {"final": 1 << 20}, {"seed": -1}, {"bits": "4"}, {"more": 1}):
        damaged = {**settings, "muvera": {**settings["muvera"], **change}}
        with pytest.raises(InputError, match="muvera"):
            check_settings(damaged, tmp_path)


def test_dense_layers_behind_the_pooling_are_taken_over(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import (
        Dense,
        Normalize,
        Pooling,
        Transformer,
    )

    torch.manual_seed(1)
    transformer = Transformer(checkpoint(tmp_path, "bert"))
    modules = [
        transformer,
        Pooling(16, pooling_mode=("cls", "mean")),
        Dense(32, 24, activation_function=torch.nn.Tanh()),
        Dense(24, 24, activation_function=torch.nn.Identity(), use_residual=True, bias=False),
        Normalize(),
    ]
    folder = str(tmp_path / "dense")
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(
        folder, create_model_card=False
    )
    model, text = started(folder)
    assert model.config.d_model == 24
    found = logits(model, text.encode(QUERIES, 32))
    np.testing.assert_allclose(found, WEIGHT * cosines(folder), atol=1e-4)


@pytest.mark.parametrize("kind", ["mean/cosine", "cls/cosine", "static"])
def test_padding_changes_nothing(tmp_path, kind):
    model, text = started(checkpoint(tmp_path, kind))
    lines = text.encode(QUERIES, 32)
    longest = max(map(len, lines))
    tokens = torch.tensor([line + [0] * (longest - len(line)) for line in lines])
    mask = torch.tensor([[1] * len(line) + [0] * (longest - len(line)) for line in lines])
    with torch.inference_mode():
        found = model(
            input_ids=tokens,
            attention_mask=mask,
            decoder_input_ids=torch.full((len(lines), 1), PAD),
        ).logits[:, 0, FIRST_CODE:]
    np.testing.assert_allclose(found.numpy(), logits(model, lines), atol=1e-4)


@pytest.mark.parametrize("kind", ["roberta", "mpnet", "modernbert", "distilbert", "electra"])
def test_other_families_give_what_they_gave(tmp_path, kind):
    shape = {"pad_token_id": 0 if kind != "roberta" else 1}
    if kind == "distilbert":
        shape |= {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 16}
    if kind == "electra":
        shape |= {"embedding_size": 16}
    name = write_bert(tmp_path / kind, WORDS, kind, max_position_embeddings=40, **shape)
    model, text = started(name)
    np.testing.assert_allclose(
        logits(model, text.encode(QUERIES, 32)), WEIGHT * cosines(name), atol=1e-4
    )
    save_backbone(model, tmp_path / "saved")
    opened = load_backbone(tmp_path / "saved")
    lines = text.encode(QUERIES, 32)
    assert np.array_equal(logits(opened, lines), logits(model, lines))


@pytest.mark.parametrize("kind", ["static", "lasttoken/cosine", "bert"])
def test_a_saved_model_comes_back_to_the_bit(tmp_path, kind):
    model, text = started(checkpoint(tmp_path, kind))
    save_backbone(model, tmp_path / "saved")
    opened = load_backbone(tmp_path / "saved")
    assert pooled(opened)
    assert opened.config.dsi_encoder == model.config.dsi_encoder
    lines = text.encode(QUERIES, 32)
    assert np.array_equal(logits(opened, lines), logits(model, lines))
    text.save(tmp_path / "text")
    again = open_text_encoder(tmp_path / "text")
    assert again.encode(QUERIES, 32) == lines
    assert again.encode_documents(TEXTS, 32) == text.encode_documents(TEXTS, 32)
    assert again.vocabulary_size == text.vocabulary_size
    assert again.longest == text.longest


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_packed_for_searching_ranks_alike(tmp_path, precision):
    model, text = started(checkpoint(tmp_path, "mean/cosine"))
    lines = text.encode(QUERIES, 32)
    tolerance = 1e-4 if precision == "fp32" else 0.3
    np.testing.assert_allclose(
        logits(packed(model, precision), lines), logits(model, lines), atol=tolerance
    )


def test_generate_writes_the_nearest_document(tmp_path):
    model, text = started(checkpoint(tmp_path, "mean/cosine"))
    line = text.encode(QUERIES[:1], 32)
    written = model.generate(input_ids=torch.tensor(line), max_new_tokens=1)
    assert int(written[0, 1]) == FIRST_CODE + int(logits(model, line)[0].argmax())


# --- the text encoder ---------------------------------------------------------------------------


def test_the_prompt_and_the_marks_are_never_cut_away(tmp_path):
    text = load_encoder(checkpoint(tmp_path, "mean/cosine")).text
    word = {name: row for row, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    for length in (1, 2, 3, 50):
        [query] = text.encode(["red cat runs"], length)
        [document] = text.encode_documents(["red cat runs"], length)
        inside = [word[each] for each in ["red", "cat", "runs"][:length]]
        assert query == [word["[CLS]"], word["query:"], *inside, word["[SEP]"]]
        assert document == [word["[CLS]"], word["passage:"], *inside, word["[SEP]"]]


def test_a_part_of_a_document_keeps_prompt_and_marks(tmp_path):
    text = load_encoder(checkpoint(tmp_path, "mean/cosine")).text
    [document] = text.encode_documents(["red green blue cat dog"], 32)
    [wanted] = text.encode_documents(["green blue"], 32)
    assert text.part(document, 1, 2) == wanted
    assert text.part(document, 0, 99) == document


def test_nothing_is_longer_than_the_encoder_reads(tmp_path):
    text = load_encoder(checkpoint(tmp_path, "mean/cosine")).text
    assert text.longest == 32
    [long] = text.encode(["cat " * 500], 400)
    assert len(long) == 32
    [whole] = text.encode_documents(["cat " * 500], text.longest)
    assert len(whole) == 32


@pytest.mark.parametrize("kind", ["mean/cosine", "static"])
def test_what_is_known_does_not_count_the_prompt(tmp_path, kind):
    text = load_encoder(checkpoint(tmp_path, kind)).text
    assert text.has_known_words(["cat", "zebra", "zebra cat", ""]) == [True, False, True, False]


def test_a_text_without_a_token_has_no_direction(tmp_path):
    loaded = load_encoder(checkpoint(tmp_path, "static"))
    [line] = loaded.text.encode([""], 32)
    assert line == [len(WORDS) + 1]
    assert not vectors_of(loaded.encoder, [line]).any()
    model, text = started(str(tmp_path / "static"))
    assert not logits(model, text.encode([""], 32)).any()


# --- vectors ------------------------------------------------------------------------------------


def test_vectors_do_not_depend_on_the_batch_and_go_on_where_they_stopped(tmp_path, monkeypatch):
    loaded = load_encoder(checkpoint(tmp_path, "mean/cosine"))
    rng = np.random.default_rng(0)
    lines = [rng.integers(4, 15, rng.integers(1, 20)).tolist() for _ in range(300)]
    alone = np.concatenate([vectors_of(loaded.encoder, [line]) for line in lines])
    monkeypatch.setattr("dsi.backbones.document_vectors._KEEP", 1)
    np.testing.assert_allclose(vectors_of(loaded.encoder, lines), alone, atol=1e-5)
    seen: list[int] = []
    whole = PooledEncoder.vectors

    def stopping(self, tokens, mask):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(len(tokens))
        return whole(self, tokens, mask)

    monkeypatch.setattr(PooledEncoder, "vectors", stopping)
    with pytest.raises(KeyboardInterrupt):
        vectors_of(loaded.encoder, lines, tmp_path / "kept")
    read: list[int] = []

    def counting(self, tokens, mask):
        read.append(len(tokens))
        return whole(self, tokens, mask)

    monkeypatch.setattr(PooledEncoder, "vectors", counting)
    found = vectors_of(loaded.encoder, lines, tmp_path / "kept")
    assert sum(read) == len(lines) - sum(seen)
    np.testing.assert_allclose(found, alone, atol=1e-5)
    read.clear()
    again = vectors_of(loaded.encoder, lines, tmp_path / "kept")
    assert not read
    assert np.array_equal(again, found)
    other = vectors_of(loaded.encoder, [line[::-1] for line in lines], tmp_path / "kept")
    assert sum(read) == len(lines), "other texts of the same lengths are read anew"
    assert not np.array_equal(other, found)


def test_a_frozen_encoder_drops_nothing_in_training(tmp_path):
    name = write_bert(tmp_path / "plain", WORDS, hidden_dropout_prob=0.5)
    encoder = load_encoder(name).encoder
    tokens, mask = torch.tensor([[2, 5, 6, 3]]), torch.ones(1, 4, dtype=torch.int64)
    wanted = encoder.vectors(tokens, mask)
    encoder.train()
    assert encoder.training
    assert not torch.equal(encoder.vectors(tokens, mask), wanted)
    encoder.requires_grad_(False).train()
    torch.testing.assert_close(encoder.vectors(tokens, mask), wanted.detach())


# --- refusals -----------------------------------------------------------------------------------


def test_an_encoder_decoder_is_refused_with_advice(tmp_path):
    from transformers import T5Config, T5ForConditionalGeneration

    T5ForConditionalGeneration(
        T5Config(vocab_size=20, d_model=16, d_kv=8, num_heads=2, d_ff=16, num_layers=1)
    ).save_pretrained(tmp_path / "t5")
    with pytest.raises(InputError, match=r"an encoder-decoder.*--model\.pretrained"):
        load_encoder(str(tmp_path / "t5"))


def test_a_language_model_is_no_encoder(tmp_path):
    from tiny_encoders import write_tokenizer
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(vocab_size=15, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    GPT2Model(config).save_pretrained(tmp_path / "gpt")
    write_tokenizer(tmp_path / "gpt", WORDS)
    with pytest.raises(InputError, match="gpt2, not an encoder-only model"):
        load_encoder(str(tmp_path / "gpt"))


def test_what_is_not_there_is_refused_in_one_line(tmp_path, caplog):
    with pytest.raises(
        InputError, match=r"--model\.encoder.*cannot load the encoder .*no such folder"
    ):
        load_encoder(str(tmp_path / "nowhere"))
    assert not caplog.records


HOSTILE = [
    ({"config": {"model_type": "timm_wrapper"}}, "not an encoder-only model"),
    ({"config": {"model_type": "gpt2"}}, "not an encoder-only model"),
    ({"config": 7}, "not an encoder-only model"),
    ({"pooling": ["os.system"]}, "pooling"),
    ({"pooling": []}, "pooling"),
    ({"layers": [{"kind": "dense", "inputs": 16, "outputs": 10**9}]}, "layer"),
    ({"layers": [{"kind": "lstm"}]}, "layer"),
    ({"layers": 3}, "layers"),
    ({"longest": -1}, "longest"),
    ({"longest": None}, "longest"),
    ({"unit": float("nan")}, "unit"),
    ({"unit": 0}, "unit"),
]


@pytest.mark.parametrize(("change", "told"), HOSTILE)
def test_a_stored_encoder_that_makes_no_sense_is_refused(tmp_path, change, told):
    model, _ = started(checkpoint(tmp_path, "bert"))
    save_backbone(model, tmp_path / "saved")
    file = tmp_path / "saved" / "config.json"
    stored = json.loads(file.read_text())
    stored["dsi_encoder"].update(change)
    file.write_text(json.dumps(stored))
    with pytest.raises(InputError, match=told):
        load_backbone(tmp_path / "saved")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auto_map", {"AutoModel": "evil.Model"}),
        ("quantization_config", {"quant_method": "gptq"}),
        ("_attn_implementation", "someone/kernel"),
        ("num_hidden_layers", 10**6),
        ("hidden_size", 32),
        ("hidden_size", "wide"),
    ],
)
def test_the_configuration_inside_is_checked_as_the_one_outside(tmp_path, key, value):
    model, _ = started(checkpoint(tmp_path, "bert"))
    save_backbone(model, tmp_path / "saved")
    file = tmp_path / "saved" / "config.json"
    stored = json.loads(file.read_text())
    stored["dsi_encoder"]["config"][key] = value
    file.write_text(json.dumps(stored))
    with pytest.raises(InputError):
        load_backbone(tmp_path / "saved")


@pytest.mark.parametrize(("inputs", "outputs"), [(24, 16), (16, 24)])
def test_layers_that_do_not_follow_one_another_are_refused(tmp_path, inputs, outputs):
    model, _ = started(checkpoint(tmp_path, "bert"))
    save_backbone(model, tmp_path / "saved")
    file = tmp_path / "saved" / "config.json"
    stored = json.loads(file.read_text())
    dense = {"kind": "dense", "inputs": inputs, "outputs": outputs, "bias": True}
    stored["dsi_encoder"]["layers"] = [{**dense, "activation": "tanh", "residual": False}]
    file.write_text(json.dumps(stored))
    with pytest.raises(InputError, match="cannot build a model from it"):
        load_backbone(tmp_path / "saved")


def test_static_embeddings_of_another_size_are_refused(tmp_path):
    model, _ = started(checkpoint(tmp_path, "static"))
    save_backbone(model, tmp_path / "saved")
    file = tmp_path / "saved" / "config.json"
    stored = json.loads(file.read_text())
    stored["dsi_encoder"]["rows"] += 1
    file.write_text(json.dumps(stored))
    with pytest.raises(InputError, match="rows for tokens"):
        load_backbone(tmp_path / "saved")
