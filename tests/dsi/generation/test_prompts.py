"""If a prompt is too long, the document is truncated, never the instruction around it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.dataset import Document
from data_prep.errors import InputError
from dsi.generation.prompts import Prompt, fitted
from dsi.generation.sampling import Sampler, SamplingOptions, _bare, _EndOfLine
from dsi.generation.seq2seq import CHAT_PROMPT, Seq2Seq, Seq2SeqOptions
from dsi.text_encoders import prompt_template
from dsi.text_encoders.prompt_template import ChatFrame

TEMPLATE = "Passage: {title} {text} Question:"
CHAT = (
    "{% for message in messages %}{{ message.content }} seen {% endfor %}"
    "{% if add_generation_prompt %}ranger{% endif %}"
)


class Words:
    """A tokenizer of words, as transformers calls one."""

    is_fast = False

    def __call__(self, text, **_):
        return {"input_ids": [hash(word) for word in self._split(text)]}

    def _split(self, text):
        self.words = {hash(word): word for word in text.split()}
        return text.split()

    def decode(self, tokens):
        return " ".join(self.words[token] for token in tokens)


def read(prompt: Prompt, most: int) -> list[str]:
    """Returns the words that a model reads."""
    names: dict[int, str] = {}

    def encode(text: str) -> list[int]:
        names.update({hash(word): word for word in text.split()})
        return [hash(word) for word in text.split()]

    return [names[token] for token in fitted(prompt, encode, Words(), most)]


def test_the_text_is_cut_and_what_stands_behind_it_is_kept():
    prompt = Prompt(TEMPLATE, {"title": "An otter", "text": "one two three four five"})
    assert read(prompt, 20) == [
        "Passage:",
        "An",
        "otter",
        "one",
        "two",
        "three",
        "four",
        "five",
        "Question:",
    ]
    assert read(prompt, 6) == ["Passage:", "An", "otter", "one", "two", "Question:"]
    assert read(prompt, 4) == ["Passage:", "An", "otter", "Question:"]


def test_the_title_is_cut_where_the_text_is_not_enough():
    prompt = Prompt(TEMPLATE, {"title": "An otter of the river", "text": "one two"})
    assert read(prompt, 5) == ["Passage:", "An", "otter", "of", "Question:"]


def test_an_instruction_that_is_too_long_by_itself_is_refused():
    prompt = Prompt("a b c {text} d e", {"title": "", "text": "one"})
    with pytest.raises(InputError, match="5 tokens without the document, but at most 4 are read"):
        read(prompt, 4)


@settings(max_examples=50, deadline=None)
@given(text=st.lists(st.sampled_from("abcde"), max_size=30), most=st.integers(2, 20))
def test_the_longest_beginning_that_fits_is_read(text, most):
    prompt = Prompt("Passage: {text} Question:", {"title": "", "text": " ".join(text)})
    assert read(prompt, most) == ["Passage:", *text[: most - 2], "Question:"]


@pytest.mark.parametrize("kind", ["causal", "encoder_decoder"])
def test_a_model_reads_the_end_of_the_prompt_of_a_long_document(kind, request, dataset):
    path = str(request.getfixturevalue(kind))
    options = Seq2SeqOptions(
        model=path, prompt="{text} what eats the bridge", precision="fp32", document_length=24
    )
    generator = Seq2Seq(dataset, options)
    document = Document("x", "Otter", "The otter of valley 3 eats berry. " * 40)
    tokens = generator.sampler._encode(options.fill(document, ""))
    assert len(tokens) <= 24
    read = generator.sampler.tokenizer.decode(tokens, skip_special_tokens=True)
    assert read.endswith("what eats the bridge")
    assert read.startswith("the otter")
    assert len(generator.generate(document)) > 0


@pytest.fixture
def chatting(causal):
    sampler = Sampler.open(str(causal), SamplingOptions(precision="fp32", document_length=40))
    sampler.tokenizer.chat_template = CHAT
    return sampler


def test_a_chat_has_the_template_around_the_prompt(chatting):
    chatting.chat("berry")
    tokens = chatting._encode(Prompt("{text} what", {"title": "", "text": "otter " * 100}))
    read = chatting.tokenizer.decode(tokens)
    assert 36 < len(tokens) <= 40
    assert read.startswith("berry seen otter otter")
    assert read.endswith(" what seen ranger")


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("<u>{{ messages[0].content }}</u>", "<u>\n an otter \n</u>"),
        ("<u>{{ messages[0].content | trim }}</u>", "<u>an otter</u>"),
    ],
)
def test_a_template_is_filled_in_as_transformers_does(chatting, template, filled):
    tokenizer, text = chatting.tokenizer, "\n an otter \n"
    tokenizer.chat_template = template
    messages = [{"role": "user", "content": text}]
    assert ChatFrame.of(tokenizer).around(text) == filled
    assert tokenizer.apply_chat_template(messages, tokenize=False) == filled


def test_a_template_runs_once_whatever_a_later_text_says(chatting):
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    chatting.tokenizer.chat_template = (
        "{% if 'bomb' in messages[0].content %}" + loop + "{% endif %}{{ messages[0].content }}"
    )
    chatting.chat()
    assert chatting.tokenizer.decode(chatting._tokens("a bomb")) == "a bomb"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ raise_exception('no system message') }}", "no system message"),
        ("{{ messages[0].nothing.at_all }}", "no attribute"),
        ("{% for %}", "xpected"),
        (
            "{{ messages[-1].content }} {{ messages[-1].content }}",
            "not contain the message exactly once",
        ),
        ("nothing of it", "not contain the message exactly once"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ 'a' * 10000000000 }}", "time or memory"),
        ("{{ 'a' * 100000 }}", "too long a text"),
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "time or memory",
        ),
    ],
)
def test_a_template_that_cannot_be_filled_in_is_refused_in_one_line(
    chatting, template, told, monkeypatch
):
    monkeypatch.setattr(prompt_template, "_SECONDS", 1)
    chatting.tokenizer.chat_template = template
    with pytest.raises(InputError, match=told) as error:
        chatting.chat("berry")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=told) as error:
        prompt_template.template_encoder(chatting.tokenizer, "chat", "a model")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["causal", "encoder_decoder"])
def test_a_chat_with_a_model_that_has_no_template_is_refused(kind, request):
    sampler = Sampler.open(str(request.getfixturevalue(kind)), SamplingOptions(precision="fp32"))
    with pytest.raises(InputError, match=r"--seq2seq\.chat is for instruction-tuned models"):
        sampler.chat()


def test_a_chat_has_an_instruction_unless_it_is_given_one():
    assert Seq2SeqOptions(chat=True).template == CHAT_PROMPT
    assert Seq2SeqOptions(chat=True, prompt="Ask: {text}").template == "Ask: {text}"


def test_a_row_ends_with_its_first_line(chatting):
    tokenizer = chatting.tokenizer
    lines = [tokenizer("what eats?")["input_ids"], tokenizer("what")["input_ids"]]
    batch = tokenizer.pad({"input_ids": lines}, return_tensors="pt")["input_ids"]
    end = _EndOfLine(tokenizer, 0)
    assert end(batch, None).tolist() == [False, False]
    end._tokenizer = type("Lines", (), {"batch_decode": lambda *_, **__: ["\n a", "\n a\nb"]})()
    assert end(batch, None).tolist() == [False, True]


@pytest.mark.parametrize(
    ("said", "bare"),
    [
        ('"Who eats fish?"', "Who eats fish?"),
        ("1. Who eats fish?", "Who eats fish?"),
        ("Question: who eats fish?", "who eats fish?"),
        ("- who", "who"),
        ('who said "no"', 'who said "no"'),
        ("1984 is by whom?", "1984 is by whom?"),
    ],
)
def test_an_answer_is_freed_of_what_stands_around_it(said, bare):
    assert _bare(said) == bare
