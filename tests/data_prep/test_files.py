"""A file of JSON lines is read as far as it is whole, and replaced at once."""

from __future__ import annotations

import pytest

from data_prep.files import read_json_lines, write_json_lines


def test_lines_come_back_in_their_order(tmp_path):
    write_json_lines(tmp_path / "new" / "rows.jsonl", [{"step": 2}, {"step": 1}])
    assert read_json_lines(tmp_path / "new" / "rows.jsonl") == [{"step": 2}, {"step": 1}]


def test_no_file_has_no_lines(tmp_path):
    assert read_json_lines(tmp_path / "rows.jsonl") == []


def test_a_line_that_was_being_written_is_left_out(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_json_lines(tmp_path / "rows.jsonl") == [{"step": 1}]


def test_an_error_while_writing_leaves_what_was_there(tmp_path):
    write_json_lines(tmp_path / "rows.jsonl", [1, 2])
    with pytest.raises(TypeError):
        write_json_lines(tmp_path / "rows.jsonl", [1, object()])
    assert read_json_lines(tmp_path / "rows.jsonl") == [1, 2]
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]
