"""A cross-encoder scores each pair as the model alone does, whatever else is in the batch."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from data_prep import cross_encoder
from data_prep.cross_encoder import CrossEncoder
from data_prep.errors import InputError

pytest.importorskip("sentence_transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "otter", "heron", "river", "the", "swims", "who"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cross") / "encoder"
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=24, num_labels=1, initializer_range=1.0,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_scores_do_not_depend_on_the_batch(checkpoint, monkeypatch):
    queries = ["who swims", "heron", "otter river", "who"]
    documents = ["the otter swims", "the river", "the heron " * 40, "otter"]
    model = CrossEncoder(str(checkpoint), "--filter.cross_encoder")
    together = model.score(queries, documents)
    monkeypatch.setattr(cross_encoder, "BATCH", 1)
    assert model.score(queries, documents).tolist() == pytest.approx(together.tolist(), abs=1e-5)
    assert len(set(together.tolist())) == 4
    assert model.score(["heron"], ["the river"])[0] == pytest.approx(together[1], abs=1e-5)


def test_a_model_that_is_not_there_is_told():
    with pytest.raises(InputError, match="cannot load the cross-encoder 'no/such'"):
        CrossEncoder("no/such", "--filter.cross_encoder")
