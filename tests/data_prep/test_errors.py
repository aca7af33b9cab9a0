"""Errors are always one line, and commands in them can be pasted into a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError, command_line


def test_an_error_is_one_line_of_sentences():
    error = InputError("too odd.\n  Really", where=Path("a  b"), hint="Even it.")
    assert str(error) == "a  b: too odd. Really. Even it."


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"))))
def test_a_shell_reads_the_words_of_a_proposed_command(words):
    assert shlex.split(command_line(*words)) == ["dsi", *words]


def test_a_path_is_no_option_and_what_needs_no_quotes_has_none():
    assert command_line("train", Path("my data"), "--out", Path("-x")) == (
        "dsi train 'my data' --out ./-x"
    )
