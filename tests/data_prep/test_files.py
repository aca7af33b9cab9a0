"""A file of JSON lines is read as far as it is whole, and replaced at once."""

from __future__ import annotations

import errno
import os

import pytest

from data_prep.files import read_json_lines, replacing_file, replacing_folder, write_json_lines


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


@pytest.mark.parametrize("replacing", [replacing_file, replacing_folder])
def test_errors_name_what_the_user_gave_and_not_the_hidden_name_beside_it(replacing, tmp_path):
    with (
        pytest.raises(OSError, match="No space left") as told,
        replacing(tmp_path / "run.trec") as fresh,
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(fresh / "part"))
    assert told.value.filename == str(tmp_path / "run.trec")
    assert list(tmp_path.iterdir()) == []
    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError) as other, replacing(tmp_path / "run.trec"):
        missing.read_text()
    assert other.value.filename == str(missing)
