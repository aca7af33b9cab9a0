"""Text encoders: tokenization, saving and loading, and determinism for a given corpus."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BartConfig, PreTrainedTokenizerFast, T5Config

from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.text_processing import words
from docids.table import DocidTable
from dsi.text_encoders.stored_text_encoder import open_text_encoder
from dsi.text_encoders.text_encoder import (
    PretrainedEncoder,
    SentencepieceEncoder,
    VocabularyOptions,
)
from dsi.text_encoders.tokenized_corpus import TokenizedCorpus, in_row_order

TEXTS = [
    "The harbours of the northern sea are frozen in winter.",
    "A falcon hunts above the harbour; falcons never miss!",
    "Mushrooms grow in old forests, and foresters know where.",
]
CHINESE = ["北方的海港在冬天结冰了,船只不能进出。", "猎鹰在海港上空捕猎,从不失手。"] * 20


def trained(texts=tuple(TEXTS), **options) -> SentencepieceEncoder:
    return SentencepieceEncoder.train(texts, VocabularyOptions(**options))


@pytest.fixture(scope="module")
def english() -> SentencepieceEncoder:
    return trained()


def test_words_of_one_stem_are_one_token(english):
    one, other = english.encode(["harbour", "Harbours"], 8)
    assert len(one) == 1
    assert one == other
    assert english.encode(["falcon"], 8) != [one]


def test_stop_words_are_left_out(english):
    with_them, without = english.encode(["the falcon of the sea", "falcon sea"], 8)
    assert with_them == without
    assert len(without) == 2


def test_order_and_repetition_are_kept(english):
    sea, falcon = (english.encode([word], 8)[0] for word in ("sea", "falcon"))
    assert english.encode(["sea falcon sea"], 8) == [[*sea, *falcon, *sea]]


def test_every_word_of_the_corpus_has_a_token_below_the_size(english):
    tokens = {token for line in english.encode(TEXTS, 99) for token in line}
    assert max(tokens) < english.vocabulary_size
    assert min(tokens) > SentencepieceEncoder.UNKNOWN
    assert tokens == set(range(3, english.vocabulary_size))


@pytest.mark.parametrize("text", ["", "  \n", "the of and", "xylophone", "?!...", "北"])
def test_a_text_without_a_known_token_is_one_token(english, text):
    assert english.encode([text], 8) == [[SentencepieceEncoder.EMPTY]]


def test_unknown_words_beside_known_ones_are_left_out(english):
    assert english.encode(["xylophone falcon"], 8) == english.encode(["falcon"], 8)


def test_long_texts_are_cut(english):
    whole = english.encode([TEXTS[0]], 99)[0]
    assert len(whole) > 3
    assert english.encode([TEXTS[0]], 3) == [whole[:3]]
    assert english.encode([], 3) == []


def test_language_none_keeps_every_word_as_it_is():
    encoder = trained(language="none")
    one, other = encoder.encode(["harbours", "harbour;"], 8)
    assert one != other
    assert len(encoder.encode(["the of"], 8)[0]) == 2
    assert encoder.encode(["THE"], 8) == encoder.encode(["the"], 8)


def test_another_language_has_its_own_stems():
    encoder = trained(["Die Häfen der Nordsee, und ein Hafen", "Falken jagen"], language="german")
    falcon, articles = encoder.encode(["falke", "die und der"], 8)
    assert falcon == encoder.encode(["Falken"], 8)[0]
    assert articles == [SentencepieceEncoder.EMPTY]


@pytest.mark.parametrize("language", ["klingon", "porter", "English", ""])
def test_an_unknown_language_is_refused(language):
    with pytest.raises(InputError, match="language"):
        trained(language=language)


@pytest.mark.parametrize("texts", [[], [""], ["the of and"], ["?"]])
def test_a_corpus_without_words_is_refused(texts):
    with pytest.raises(InputError, match="no word"):
        trained(texts)


def test_text_without_spaces_becomes_pieces():
    encoder = trained(CHINESE, language="none", size=60)
    lines = encoder.encode(CHINESE[:2], 99)
    assert all(len(line) > 2 for line in lines)
    assert encoder.vocabulary_size <= 60
    shared = set(lines[0]) & set(lines[1])
    assert shared, "both sentences speak of the harbour"


MIXED = [*TEXTS, "富士山は日本で最も高い山です。", "Tea from 京都 and temples"]


def test_words_without_blanks_between_them_are_pairs_of_characters():
    encoder = trained(MIXED)
    document, query = encoder.encode([MIXED[3], "富士山の高さ"], 99)
    assert len(query) == 2, "富士 and 士山; the other pairs are in no document"
    assert set(query) < set(document)
    assert encoder.encode(["Kyotos 京都 tea"], 9) == encoder.encode(["京都tea"], 9)


def test_pairs_are_learned_from_more_texts_and_come_back_from_the_disk(tmp_path):
    encoder = trained(MIXED)
    assert encoder.encode(["温泉"], 9) == [[SentencepieceEncoder.EMPTY]]
    grown = encoder.extended(["日本の温泉が好きです"])
    grown.save(tmp_path)
    opened = open_text_encoder(tmp_path)
    (token,) = opened.encode(["温泉"], 9)[0]
    assert token >= encoder.vocabulary_size
    assert opened.encode(MIXED, 99) == encoder.encode(MIXED, 99)


def test_an_encoder_written_before_there_were_pairs_reads_as_it_did(tmp_path):
    trained(MIXED).save(tmp_path)
    (tmp_path / "text.json").write_text('{"kind": "sentencepiece", "language": "english"}')
    assert open_text_encoder(tmp_path).encode(["富士山の高さ"], 9) == [[SentencepieceEncoder.EMPTY]]


@pytest.mark.parametrize("pieces", ["bpe", "unigram", "word"])
def test_kinds_of_pieces_that_are_asked_for(pieces):
    encoder = trained(TEXTS * 20, language="none", size=40, pieces=pieces)
    lengths = [len(encoder.encode([word], 99)[0]) for word in ("mushrooms", "northern", "falcon")]
    assert (max(lengths) == 1) == (pieces == "word")
    assert encoder.vocabulary_size <= 40


def test_words_that_do_not_fit_become_pieces():
    some = [f"word{number}" for number in range(60)]
    assert {len(line) for line in trained([" ".join(some)], size=63).encode(some, 9)} == {1}
    assert max(len(line) for line in trained([" ".join(some)], size=62).encode(some, 9)) > 1


def test_a_vocabulary_too_small_for_the_letters_is_refused():
    with pytest.raises(InputError, match=r"--vocabulary\.size"):
        trained(CHINESE, language="none", size=10, pieces="bpe")


@pytest.mark.parametrize(
    ("values", "named"),
    [({"size": 7}, "--vocabulary.size 7"), ({"pieces": "x"}, "--vocabulary.pi")],
)
def test_wrong_options_are_refused(values, named):
    with pytest.raises(InputError, match=named):
        VocabularyOptions(**values)


@pytest.mark.parametrize(
    ("texts", "options"),
    [(TEXTS, {}), (TEXTS * 20, {"pieces": "unigram", "size": 60}), (CHINESE, {"language": "none"})],
)
def test_the_same_corpus_gives_the_same_bytes(texts, options, tmp_path):
    for name in ("one", "two"):
        trained(texts, **options).save(tmp_path / name)
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert files == ["sentencepiece.model", "text.json"]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("language", ["english", "none"])
def test_it_comes_back_from_the_disk(language, tmp_path):
    encoder = trained(language=language)
    encoder.save(tmp_path / "deep" / "text")
    opened = open_text_encoder(tmp_path / "deep" / "text")
    assert opened.vocabulary_size == encoder.vocabulary_size
    assert opened.encode([*TEXTS, ""], 9) == encoder.encode([*TEXTS, ""], 9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"])), length=st.integers(1, 9))
def test_any_text_gives_one_to_so_many_known_tokens(english, text, length):
    (line,) = english.encode([text], length)
    assert 1 <= len(line) <= length
    assert all(0 < token < english.vocabulary_size for token in line)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=6))
def test_any_corpus_makes_a_vocabulary_or_is_refused(texts):
    try:
        encoder = trained(texts)
    except InputError:
        return
    assert all(len(line) >= 1 for line in encoder.encode(texts, 50))
    assert any(words(text) for text in texts)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "text.json").unlink(),
        lambda folder: (folder / "text.json").write_text("{"),
        lambda folder: (folder / "text.json").write_text("[]"),
        lambda folder: (folder / "text.json").write_text('{"kind": "pickle"}'),
        lambda folder: (folder / "text.json").write_text('{"kind": "sentencepiece"}'),
        lambda folder: (folder / "sentencepiece.model").unlink(),
        lambda folder: (folder / "sentencepiece.model").write_bytes(b""),
        lambda folder: (folder / "sentencepiece.model").write_bytes(b"no model"),
    ],
)
def test_a_damaged_folder_is_refused(english, damage, tmp_path):
    english.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError):
        open_text_encoder(tmp_path)


def checkpoint(folder: Path, *, closing: bool = True) -> Path:
    """Saves the tokenizer of a checkpoint: words, and `</s>` at the end as T5 has it."""
    known = {"<pad>": 0, "</s>": 1, "<unk>": 2, "falcon": 3, "harbour": 4, "sea": 5}
    inner = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    if closing:
        inner.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", 1)]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def test_a_checkpoints_tokenizer_is_taken_as_it_is(tmp_path):
    encoder = PretrainedEncoder.from_checkpoint(str(checkpoint(tmp_path / "checkpoint")))
    assert encoder.vocabulary_size == 6
    assert encoder.encode(["falcon sea", "Falcon", ""], 8) == [[3, 5, 1], [2, 1], [1]]
    assert encoder.encode(["falcon sea harbour"], 3) == [[3, 5, 1]]
    assert encoder.encode(["falcon sea harbour"], 1) == [[1]]
    assert encoder.encode([], 3) == []


def test_a_tokenizer_that_adds_nothing_still_gives_a_token(tmp_path):
    encoder = PretrainedEncoder.from_checkpoint(str(checkpoint(tmp_path, closing=False)))
    assert encoder.encode(["", "sea"], 8) == [[1], [5]]


def test_a_checkpoints_tokenizer_comes_back_from_the_disk(tmp_path):
    encoder = PretrainedEncoder.from_checkpoint(str(checkpoint(tmp_path / "checkpoint")))
    for name in ("one", "two"):
        encoder.save(tmp_path / name)
    opened = open_text_encoder(tmp_path / "one")
    assert opened.vocabulary_size == encoder.vocabulary_size
    assert opened.encode(["falcon sea", ""], 8) == encoder.encode(["falcon sea", ""], 8)
    files = sorted(file for file in (tmp_path / "one").rglob("*") if file.is_file())
    assert {file.suffix for file in files} == {".json"}
    for file in files:
        other = tmp_path / "two" / file.relative_to(tmp_path / "one")
        assert file.read_bytes() == other.read_bytes()


def test_a_length_too_short_for_the_tokenizers_own_tokens_is_kept(tmp_path):
    inner = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2, "sea": 3}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    encoder = PretrainedEncoder(PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>"))
    assert encoder.encode(["sea sea"], 3) == [[0, 3, 1]]
    assert np.shape(encoder.encode(["sea sea"], 1)) == (1, 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: [file.unlink() for file in folder.iterdir()],
        lambda folder: (folder / "tokenizer.json").write_text("{"),
        lambda folder: (folder / "tokenizer.json").write_text('{"model": {}}'),
        lambda folder: (folder / "tokenizer.json").write_bytes(b"\xff\xfe"),
    ],
)
def test_a_damaged_tokenizer_is_refused(damage, tmp_path):
    damage(checkpoint(tmp_path))
    with pytest.raises(InputError, match="cannot load the tokenizer"):
        PretrainedEncoder.from_checkpoint(str(tmp_path))


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot load the tokenizer of '.*nowhere'"):
        PretrainedEncoder.from_checkpoint(str(tmp_path / "nowhere"))


def test_an_extended_vocabulary_knows_new_words_and_keeps_old_tokens(english, tmp_path):
    longer = english.extended(["A quasar glows above the harbour.", "Quasars!"])
    assert longer.vocabulary_size == english.vocabulary_size + 2, "quasar and glows"
    assert longer.encode(TEXTS, 64) == english.encode(TEXTS, 64)
    (found,) = longer.encode(["the quasar"], 8)
    assert found[0] >= english.vocabulary_size
    longer.save(tmp_path / "text")
    assert open_text_encoder(tmp_path / "text").encode(["quasar"], 8) == [found]
    assert longer.extended(TEXTS).vocabulary_size == longer.vocabulary_size


def test_a_vocabulary_of_pieces_needs_no_new_words():
    pieces = trained(pieces="bpe", size=60)
    assert pieces.extended(["quasar"]) is pieces


@pytest.mark.parametrize("kind", [T5Config, BartConfig])
def test_a_checkpoint_without_a_vocabulary_is_refused(kind, tmp_path):
    kind().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no vocabulary"):
        PretrainedEncoder.from_checkpoint(str(tmp_path))


def test_a_text_of_unknown_tokens_is_not_known(tmp_path):
    encoder = PretrainedEncoder.from_checkpoint(str(checkpoint(tmp_path)))
    assert encoder.has_known_words(["falcon", "unheard of", ""]) == [True, False, False]


@pytest.mark.parametrize("pieces", ["word", "bpe", "unigram"])
@pytest.mark.parametrize("language", ["english", "none"])
def test_long_documents_and_words_are_in_the_vocabulary(pieces, language):
    rng = random.Random(0)  # sentencepiece takes minutes for repetitive text
    book = " ".join(f"book{rng.randrange(100)}" for _ in range(250_000))
    genome = "".join(rng.choices("acgt", k=80_000))
    options = VocabularyOptions(language=language, pieces=pieces, size=300)
    encoder = SentencepieceEncoder.train([book, f"{genome} short", "fox\u2585 \u2581hen"], options)
    assert all(encoder.has_known_words(["book17", genome, "short", "fox", "hen"]))


def test_what_people_type_finds_what_is_printed():
    encoder = SentencepieceEncoder.train(
        ["Einstein\u2019s theory", "O\u2019Brien wrote", "a co\u00adoperative"], VocabularyOptions()
    )
    assert all(encoder.has_known_words(["Einstein", "O'Brien", "O\u2019Brien", "cooperative"]))


def test_a_tokenized_corpus_is_in_row_order(english):
    table = DocidTable.from_sequences(
        ["c", "gone", "a", "b"], [(2,), (3,), (4,), (5,)], alphabet_size=6, kind="test"
    ).retire(["gone"])
    documents = [
        Document("a", "Falcons", "hunt mushrooms"),
        Document("b", " ", "forests"),
        Document("c", "Winter sea", "harbours"),
    ]
    rows = in_row_order(documents, table)
    assert [document.doc_id for document in rows] == ["c", "gone", "a", "b"]
    corpus = TokenizedCorpus.of(rows, table, english)
    [sea, falcons, mushrooms, forests] = english.encode(
        ["winter sea harbours", "falcons", "hunt mushrooms", "forests"], 100
    )
    assert corpus.titles == ["Winter sea", "", "Falcons", " "]
    assert corpus.tokens == [sea, [], falcons + mushrooms, forests]
    assert corpus.title_tokens == [sea[:2], [], falcons, []]
