"""The quickstart's corpus: docstrings whose first sentence is the query and not in the text."""

import sys

import pytest

from data_prep.errors import InputError
from data_prep.sources import detect, docstrings
from data_prep.sources.docstrings import clean, split_docstring, title_of
from data_prep.text_processing import normalize, words

REST = "The rest tells at some length how " + " ".join(f"word{n}" for n in range(20)) + "."


def test_the_first_sentence_is_the_query_and_leaves_the_text():
    entry = split_docstring("zoo.feed_otter", f"Feed an otter some fish. Gently.\n\n{REST}")
    assert entry is not None
    document, sentence = entry
    assert sentence == "Feed an otter some fish."
    assert document.doc_id == "zoo.feed_otter"
    assert document.text == f"Gently.\n\n{REST}"


def test_a_signature_line_is_no_sentence():
    entry = split_docstring(
        "zoo.feed", f"feed(otter, *, fish=3) -> Otter\n\nFeed it well.\n\n{REST}"
    )
    assert entry is not None
    assert entry[1] == "Feed it well."


@pytest.mark.parametrize(
    "docstring",
    [
        "Feed an otter some fish.",
        "Feed an otter some fish.\n\nToo short a rest.",
        f"Feed otters.\n\n{REST}",
        f"One of these is fed:\n\n{REST}",
        f"Feed an otter some fish.\n\nFeed an otter some fish. {REST}",
        "",
        " \n",
    ],
)
def test_one_liners_and_unfit_sentences_are_no_documents(docstring):
    assert split_docstring("zoo.feed", docstring) is None


@pytest.mark.parametrize(
    ("qualified", "title"),
    [
        ("sklearn.linear_model.RidgeCV.get_params", "sklearn linear model Ridge CV get params"),
        ("email.message.HTTPParser", "email message HTTP Parser"),
        ("zoo.conv2d", "zoo conv 2 d"),
    ],
)
def test_a_title_is_the_name_in_words(qualified, title):
    assert title_of(qualified) == title


@pytest.mark.parametrize(
    ("markup", "plain"),
    [
        ("See :class:`~torch.nn.Linear` and ``x``.", "See torch.nn.Linear and x."),
        ("A `link <https://x.org>`_ and **bold**.", "A link and bold."),
        ("Before.\n\n.. versionadded:: 1.2\n\nAfter.", "Before.\n\nAfter."),
        ("Before.\n\n.. math::\n\n    x = y\n\nAfter.", "Before.\n\nAfter."),
        (".. note:: Take care.", "Take care."),
        ("Parameters\n----------\nx : int", "Parameters\nx : int"),
        ("Before.\n\n>>> 1 + 1\n2\n\nAfter.", "Before.\n\nAfter."),
        ("Before.\n\n```python\ncode\n```\n\nAfter.", "Before.\n\nAfter."),
    ],
)
def test_markup_goes_and_prose_stays(markup, plain):
    assert clean(markup) == plain


@pytest.fixture
def package(tmp_path, monkeypatch):
    def module(path, text):
        file = tmp_path / "zoopkg" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def function(name):
        rest = f"This one is about {name} and nothing else. {REST}"
        return f'def {name}():\n    """Do the {name} thing well.\n\n    {rest}\n    """\n'

    module("__init__.py", "raise RuntimeError('imported')\nfrom ._private import shown\n")
    module("_private.py", function("shown") + function("hidden"))
    module("_unused.py", function("unused"))
    module("tests/test_x.py", function("tested"))
    module("broken.py", "def :")
    module("plain.py", function("first") + function("_secret"))
    module(
        "kinds.py",
        "class Kind:\n"
        + function("method").replace("\n", "\n    ")[:-4].replace("def", "    def", 1),
    )
    module("copy.py", function("first"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(docstrings, "PACKAGES", ("zoopkg",))
    monkeypatch.setattr(docstrings.importlib.metadata, "version", lambda name: "1.0")
    monkeypatch.setattr(docstrings, "_standard_modules", lambda: iter(()))


@pytest.mark.usefixtures("package")
def test_what_is_public_counts_and_nothing_is_imported():
    source = detect("docstrings")
    names = {document.doc_id for document in source.documents()}
    assert {"zoopkg.shown", "zoopkg.kinds.Kind.method"} <= names
    assert len(names & {"zoopkg.plain.first", "zoopkg.copy.first"}) == 1  # same text
    assert len(names) == 3
    assert "zoopkg" not in sys.modules
    assert "zoopkg 1.0" in source.source
    assert source.license == "each package's own"


def test_the_real_thing_is_deterministic_balanced_and_known_item(monkeypatch):
    monkeypatch.setattr(docstrings, "WANTED", 140)
    monkeypatch.setattr(docstrings, "PACKAGES", ("numpy", "sklearn", "no_such_package"))
    source, again = detect("docstrings"), detect("docstrings")
    documents = list(source.documents())
    assert documents == list(again.documents())
    assert len(documents) == 140
    roots = [d.doc_id.split(".")[0] for d in documents]
    assert 40 <= roots.count("numpy") <= 50
    assert 40 <= roots.count("sklearn") <= 50
    for document, query, qrel in zip(documents, source.queries(), source.qrels(), strict=True):
        assert (qrel.query_id, qrel.doc_id, qrel.split) == (query.query_id, document.doc_id, "test")
        assert normalize(query.text) not in normalize(document.text)
        assert len(words(query.text)) >= 3
        assert not any(p.startswith("_") for p in document.doc_id.split("."))


def test_it_takes_no_argument():
    with pytest.raises(InputError, match="no argument"):
        detect("docstrings:numpy")
