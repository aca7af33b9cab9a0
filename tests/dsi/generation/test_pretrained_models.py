"""GGUF files are read like checkpoints; invalid ones are refused with one-line errors."""

from __future__ import annotations

import json
import os
import shutil
import struct

import numpy as np
import pytest
import torch
from tiny_checkpoints import GGUF_TOKENS, GGUF_WIDTH, write_gguf

from data_prep.cross_encoder import CrossEncoder
from data_prep.errors import InputError
from data_prep.remote_code import check_loaded, checked_config
from docids.sentence_encoder import SentenceEncoder
from dsi.backbones.backbone import from_pretrained
from dsi.generation.pretrained_models import check_stored, load_writer, weights_hash
from dsi.hub import checkpoint_location as gguf_files

pytest.importorskip("gguf")


@pytest.fixture
def file(tmp_path):
    """A Llama with random weights, as llama.cpp writes it."""
    return write_gguf(tmp_path / "tiny.gguf")


def test_weights_and_words_are_those_of_the_file(file):
    model, tokenizer = load_writer(str(file))
    expected = (
        np.random.default_rng(0).normal(size=(len(GGUF_TOKENS), GGUF_WIDTH)).astype(np.float32)
    )
    torch.testing.assert_close(model.get_input_embeddings().weight, torch.from_numpy(expected))
    assert model.config.model_type == "llama"
    assert tokenizer.decode(tokenizer("the")["input_ids"], skip_special_tokens=True) == "the"


def test_a_file_is_known_by_its_bytes(file):
    before = weights_hash(file)
    with file.open("ab") as more:
        more.write(b"x")
    assert weights_hash(file) != before
    assert len(before) == 64


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no such thing" * 100])
def test_what_is_no_such_file_is_refused(tmp_path, content):
    file = tmp_path / "bad.gguf"
    file.write_bytes(content)
    with pytest.raises(InputError, match="not a valid GGUF file"):
        load_writer(str(file))


def _value(key: str, kind: int, content: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + content


ARCHITECTURE = _value("general.architecture", 8, struct.pack("<Q", 5) + b"llama")
HEADS: dict[str, bytes] = {
    "2^60 tensors": struct.pack("<IQQ", 3, 1 << 60, 1) + ARCHITECTURE,
    "2^60 values": struct.pack("<IQQ", 3, 0, 1 << 60) + ARCHITECTURE,
    "another version": struct.pack("<IQQ", 99, 0, 1) + ARCHITECTURE,
    "a key of 2^40 bytes": struct.pack("<IQQQ", 3, 0, 1, 1 << 40),
    "a text of 2^40 bytes": struct.pack("<IQQ", 3, 0, 1)
    + _value("a", 8, struct.pack("<Q", 1 << 40)),
    "2^60 numbers": struct.pack("<IQQ", 3, 0, 1) + _value("a", 9, struct.pack("<IQ", 4, 1 << 60)),
    "5 million numbers": struct.pack("<IQQ", 3, 0, 1)
    + _value("a", 9, struct.pack("<IQ", 0, 5_000_000) + bytes(5_000_000)),
    "a list of lists": struct.pack("<IQQ", 3, 0, 1) + _value("a", 9, struct.pack("<IQ", 9, 1)),
    "an unknown type": struct.pack("<IQQ", 3, 0, 1) + _value("a", 99, b"1234"),
    "a network of default size": struct.pack("<IQQ", 3, 0, 1) + ARCHITECTURE,
    "an unknown quantization": struct.pack("<IQQ", 3, 1, 1)
    + ARCHITECTURE
    + struct.pack("<Q", 1) + b"x" + struct.pack("<IQIQ", 1, 32, 99, 0) + bytes(500),
}  # fmt: skip
CHANGED = {
    "llama.embedding_length": (2**31, 33),
    "llama.attention.head_count": (0, 7, 2**31),
    "llama.vocab_size": (2**31, 3),
    "llama.feed_forward_length": (2**31,),
    "llama.block_count": (10**6,),
    "tokenizer.ggml.bos_token_id": (2**32 - 1,),
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_metadata_that_cannot_be_true_is_refused(tmp_path, head):
    file = tmp_path / "hostile.gguf"
    file.write_bytes(b"GGUF" + head)
    for load in (load_writer, lambda name: from_pretrained(name, alphabet_size=20)):
        with pytest.raises(InputError, match=r"GGUF|cannot load|implies [\d,]+ weights") as told:
            load(str(file))
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in CHANGED.items() for value in values]
)
def test_sizes_that_the_weights_do_not_have_are_refused(file, key, value):
    content = file.read_bytes()
    place = content.index(key.encode()) + len(key) + 4
    file.write_bytes(content[:place] + struct.pack("<I", value) + content[place + 4 :])
    with pytest.raises(InputError) as told:
        load_writer(str(file))
    assert "\n" not in str(told.value)


def test_weights_of_a_file_that_are_not_finite_are_refused(file):
    file.write_bytes(file.read_bytes()[:-4000] + b"\xff\xff\xff\x7f" * 1000)
    for load in (load_writer, lambda name: from_pretrained(name, alphabet_size=20)):
        with pytest.raises(InputError, match="are not finite"):
            load(str(file))


def test_token_embeddings_that_the_configuration_does_not_know_are_refused(file):
    model, _ = load_writer(str(file))
    check_loaded(model, "tiny")
    model.config.vocab_size = 3
    with pytest.raises(InputError, match=r"33 token embeddings, but its configuration says 3"):
        check_loaded(model, "tiny")


def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "device.gguf").symlink_to("/dev/zero")
    for name in ("pipe.gguf", "device.gguf"):
        with pytest.raises(InputError, match="a pipe or device, not a GGUF file"):
            load_writer(str(tmp_path / name))


def test_a_missing_package_is_named(file, monkeypatch):
    monkeypatch.setattr(gguf_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"dsi-toolkit\[gguf\]"):
        load_writer(str(file))


def test_what_we_wrote_may_be_loaded(encoder_decoder, causal):
    check_stored(encoder_decoder)
    check_stored(causal)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_layers": 1_000_000}, "num_layers is 1000000, but there are"),
        ({"num_layers": float("nan")}, "num_layers is nan"),
        ({"d_ff": 10**7}, "the configuration implies"),
        ({"vocab_size": 10**9}, "the configuration implies"),
        ({"d_model": 10**18}, "cannot build a model from it"),
        ({"model_type": "evil"}, "cannot build a model from it"),
    ],
    ids=["deep", "endlessly deep", "wide", "of many words", "of more than can be counted", "odd"],
)
def test_a_network_of_more_than_its_weights_is_refused_unmade(
    encoder_decoder, tmp_path, changes, told
):
    folder = tmp_path / "memory"
    shutil.copytree(encoder_decoder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(InputError, match=told):
        check_stored(folder)


def test_files_without_weights_or_of_gigabytes_are_refused_unread(encoder_decoder, tmp_path):
    folder = tmp_path / "memory"
    shutil.copytree(encoder_decoder, folder)
    (folder / "vocab.txt").touch()
    os.truncate(folder / "vocab.txt", 1 << 40)
    with pytest.raises(InputError, match=r"vocab\.txt: more than 134,217,728 bytes"):
        check_stored(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights in this folder"):
        check_stored(folder)


def with_million_layers(folder):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "num_layers": 10**6}))


def with_pipe(folder):
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def with_device(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("/dev/zero")


def with_pipe_inside(folder):
    (folder / "1_Pooling").mkdir()
    os.mkfifo(folder / "1_Pooling" / "config.json")


def with_foreign_attention(folder):
    (folder / "0_Transformer").mkdir()
    config = {"text_config": {"_attn_implementation": "user/kernel"}}
    (folder / "0_Transformer" / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        (with_million_layers, "num_layers is 1,000,000, more than 1,000"),
        (with_pipe, "a pipe or device"),
        (with_device, "a pipe or device"),
        (with_pipe_inside, "a pipe or device"),
        (with_foreign_attention, "'user/kernel' is not provided"),
    ],
)
@pytest.mark.parametrize(
    "load",
    [load_writer, checked_config, SentenceEncoder, lambda n: CrossEncoder(n, "--x")],
    ids=["writer", "config", "sentences", "cross-encoder"],
)
@pytest.mark.timeout(20)
def test_a_folder_that_would_be_read_forever_is_refused(
    encoder_decoder, tmp_path, attack, told, load
):
    folder = tmp_path / "model"
    shutil.copytree(encoder_decoder, folder)
    attack(folder)
    with pytest.raises(InputError, match=told) as error:
        load(str(folder))
    assert "\n" not in str(error.value)


def test_links_to_files_are_what_the_cache_of_a_hub_is_made_of(encoder_decoder, tmp_path):
    (tmp_path / "model").mkdir()
    for file in encoder_decoder.iterdir():
        (tmp_path / "model" / file.name).symlink_to(file)
    assert checked_config(str(tmp_path / "model")).is_encoder_decoder


def test_weights_that_are_not_finite_are_refused(encoder_decoder, tmp_path):
    model, tokenizer = load_writer(str(encoder_decoder))
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("nan")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="are not finite"):
        load_writer(str(tmp_path))


def test_a_pickle_that_runs_code_is_refused(encoder_decoder, tmp_path):
    shutil.copytree(encoder_decoder, tmp_path / "model")
    for file in (tmp_path / "model").glob("*.safetensors"):
        file.unlink()
    ran = tmp_path / "ran"
    evil = b"cos\nsystem\n(S'touch " + os.fsencode(ran) + b"'\ntR."
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(evil)
    with pytest.raises(InputError, match="cannot load the model"):
        load_writer(str(tmp_path / "model"))
    assert not ran.exists()
