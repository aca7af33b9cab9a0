"""A small version of the malformed-input campaign; the full counts are in docs/reliability.md."""

from __future__ import annotations

import random

import pytest

from tests.campaigns.malformed_input import Case, campaign, cases, input_of, mutate, outcome


@pytest.mark.parametrize("name", cases())
def test_good_input_of_every_format_is_read(name):
    case = cases()[name]
    file = next(iter(case.files))
    with input_of(case, file, None, again=True) as folder:
        assert outcome(folder, case) == ("read", "")


def test_a_seed_gives_the_same_mutations():
    case = cases()["beir"]
    once, again = ([mutate(case, random.Random(n)) for n in range(50)] for _ in range(2))
    assert once == again
    assert len(set(once)) > 40


@pytest.mark.parametrize("name", cases())
def test_malformed_input_is_read_or_refused_in_one_line(name):
    wrong: list[str] = []
    counts = campaign(15, 1, [name], wrong.append)
    assert not wrong
    assert counts[name].total() == 15


def test_the_campaign_finds_what_is_left_behind_and_what_says_too_much(monkeypatch):
    from dsi import cli

    case = Case(["docs.jsonl"], cases()["jsonl"].files)
    with input_of(case, "docs.jsonl", b"not JSON", again=False) as folder:
        plain = cli.main
        monkeypatch.setattr(cli, "main", lambda words: (folder / "rest").touch() or plain(words))
        assert outcome(folder, case)[0] == "failed"
        monkeypatch.setattr(cli, "main", lambda words: print("a\nb") or plain(words))
        assert outcome(folder, case)[0] == "failed"
        monkeypatch.setattr(cli, "main", lambda words: 1)
        assert outcome(folder, case)[0] == "failed"
