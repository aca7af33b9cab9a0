"""Warm start from learned identifiers: the model continues as the one that trained the codes."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from data_prep.errors import InputError
from docids.code_learning.checkpoint import Checkpoint
from docids.code_learning.encoder_decoder import CodeVectors, Seq2SeqNetwork
from docids.code_learning.trainer import TEMPERATURE
from docids.table import FIRST_CODE, PAD, DocidTable
from dsi.backbones.backbone import set_docid_alphabet
from dsi.rows import WARM_STARTS, Corpus

VOCABULARY, WIDTH, LEVELS, SIZE, NUMBERS = 30, 16, 2, 4, 3
ALPHABET = FIRST_CODE + LEVELS * SIZE + NUMBERS
TEXTS = ["3 4 5", "6 7", "8 9 10 11"]
CODES = np.array([[1, 0], [3, 2], [0, 3]])
ROWS = CODES + FIRST_CODE + [0, SIZE]


def numbers(text: str, **options) -> dict[str, list[int]]:
    """A tokenizer for texts that are token ids."""
    return {"input_ids": [int(word) for word in text.split()]}


def model(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "t5":
        return T5ForConditionalGeneration(
            T5Config(vocab_size=VOCABULARY, d_model=WIDTH, d_kv=8, num_heads=2, d_ff=16,
                     num_layers=1, decoder_start_token_id=0)
        ).eval()  # fmt: skip
    return BartForConditionalGeneration(
        BartConfig(vocab_size=VOCABULARY, d_model=WIDTH, encoder_layers=1, decoder_layers=1,
                   encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
                   decoder_ffn_dim=16, max_position_embeddings=20, decoder_start_token_id=2,
                   scale_embedding=True)
    ).eval()  # fmt: skip


def corpus(codes: CodeVectors | None) -> Corpus:
    table = DocidTable.from_sequences(
        ["d0", "d1", "d2"],
        [(*row, FIRST_CODE + LEVELS * SIZE) for row in ROWS.tolist()],
        alphabet_size=ALPHABET,
        kind="learned",
    )
    return Corpus([[1]] * 3, table, codes=codes)


def vectors(start: np.ndarray) -> CodeVectors:
    drawn = np.random.default_rng(0).normal(size=(LEVELS, SIZE, WIDTH)).astype(np.float32)
    return CodeVectors(drawn, start, np.array([2.0, 0.5], np.float32))


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_logits_are_the_cosines_that_the_codes_were_trained_by(kind):
    trained = model(kind)
    network = Seq2SeqNetwork(
        Checkpoint("", copy.deepcopy(trained), numbers), [], np.empty(0, np.int64), TEXTS
    )
    codes = vectors(network.start.detach().numpy())
    rows = torch.arange(3)
    with torch.no_grad():
        states = network.states(
            network.read(rows), torch.from_numpy(CODES), torch.from_numpy(codes.codebook), LEVELS
        )
        set_docid_alphabet(trained, VOCABULARY, ALPHABET)
        WARM_STARTS["learned"].start(trained, corpus(codes), 0)
        read = torch.tensor([[PAD, int(row[0])] for row in ROWS])
        for row, text in enumerate(TEXTS):
            found = trained(
                input_ids=torch.tensor([numbers(text)["input_ids"]]),
                decoder_input_ids=read[row : row + 1],
            ).logits[0]
            for level in range(LEVELS):
                state = states[level][row]
                book = torch.from_numpy(codes.codebook[level])
                cosines = torch.nn.functional.cosine_similarity(book, state[None])
                own = FIRST_CODE + level * SIZE
                torch.testing.assert_close(
                    found[level, own : own + SIZE],
                    cosines / TEMPERATURE * state.norm() / float(codes.lengths[level]),
                    rtol=1e-3,
                    atol=1e-4,
                )
                assert not found[level, FIRST_CODE + LEVELS * SIZE :].any(), "no number is likelier"


def test_what_does_not_fit_is_refused(tmp_path: Path):
    def start(given: Corpus) -> None:
        WARM_STARTS["learned"].start(
            set_docid_alphabet(model("t5"), VOCABULARY, ALPHABET), given, 0
        )

    codes = vectors(np.zeros(WIDTH, np.float32))
    with pytest.raises(InputError, match=r"--model.warm_start learned: .* not trained with a"):
        start(corpus(None))
    narrow = CodeVectors(codes.codebook[:, :, :8], codes.start[:8], codes.lengths)
    with pytest.raises(InputError, match=r"have 8 dimensions, but the stored model has 16"):
        start(corpus(narrow))
    many = CodeVectors(np.tile(codes.codebook, (1, 8, 1)), codes.start, codes.lengths)
    with pytest.raises(InputError, match=rf"2 x 32 codes, but identifiers have {ALPHABET}"):
        start(corpus(many))
