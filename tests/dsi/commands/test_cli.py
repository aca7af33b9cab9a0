"""The command line as seen by users and programs: exit codes, streams, messages, start-up."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from data_prep.errors import InputError
from data_prep.marks import Seed
from dsi import build, cli
from dsi.command_line.command_report import TableReport

SLOW = ("torch", "transformers", "datasets", "sklearn", "scipy", "faiss", "pandas", "accelerate")
NOT_SEARCHING = (
    "transformers", "datasets", "sklearn", "faiss", "pandas", "accelerate", "ir_measures",
    "sympy", "tensorboard", "scipy", "bm25s",
)  # fmt: skip
WORDS = ("ink", "water", "light", "paper", "steam", "night")


def dsi(*words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "dsi", *words], capture_output=True, text=True, **options
    )


@pytest.fixture
def verb(monkeypatch):
    """Makes a verb `fake` out of a function."""

    def make(function) -> None:
        function.__name__ = "fake"
        monkeypatch.setitem(
            sys.modules, "fake_command", types.SimpleNamespace(fake=function, __name__="fake")
        )
        monkeypatch.setitem(cli.VERBS, "fake", "fake_command:fake")
        monkeypatch.setattr(cli, "_summary", lambda verb: "")

    return make


def failing(error: BaseException):
    def fake(place: Path) -> None:
        """Fails.

        Args:
            place: Where.
        """
        raise error

    return fake


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("too odd", where="f.txt:3", hint="Even it"), 2, "f.txt:3: too odd. Even it."),
        (ValueError("a\nb"), 1, "ValueError: a b. Run it again with --debug to see the traceback."),
        (KeyError(), 1, "KeyError: no message. Run it again with --debug to see the traceback."),
        (KeyboardInterrupt(), 130, "interrupted. Run the same command again to resume."),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/weights"),
            2,
            "out/weights: the disk is full. Free some space or choose another location.",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "index/versions/.new-ab1_/text/x"),
            2,
            "index/versions: the disk is full. Free some space or choose another location.",
        ),
        (
            RuntimeError("I/O error: No space left on device (os error 28)"),
            2,
            "/: the disk is full. Free some space or choose another location.",
        ),
        (
            OSError(errno.EFBIG, "File too large"),
            2,
            "/: a file would be larger than the file system or ulimit -f allows. Raise the limit "
            "or choose another location.",
        ),
        (
            MemoryError(),
            2,
            "not enough memory. Process less at a time, or use a larger machine.",
        ),
        (
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
            2,
            "not enough memory (DefaultCPUAllocator: not enough memory: you tried to allocate 9 "
            "bytes.). Process less at a time, or use a larger machine.",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
            2,
            "not enough memory (DefaultCPUAllocator: can't allocate memory: you tried to allocate "
            "9). Process less at a time, or use a larger machine.",
        ),
        (
            OSError(errno.ELOOP, "Too many levels of symbolic links", "a"),
            2,
            "a: too many levels of symbolic links. Choose another location.",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/root/x"),
            2,
            "/root/x: permission denied. Choose another location.",
        ),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"),
            2,
            "a/b: not a directory. Choose another location.",
        ),
    ],
)
def test_every_error_has_its_exit_code_and_one_line(verb, capsys, error, code, line):
    verb(failing(error))
    assert cli.main(["fake", "/"]) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"dsi: {line}\n")


@pytest.mark.parametrize("words", [["--out", "a/b"], ["--out=a/b"], ["--run", "a/b"]])
def test_a_full_disk_is_told_with_the_place_of_the_output(verb, capsys, words):
    def fake(place: Path, *, out: Path | None = None, run: Path | None = None) -> None:
        """Writes without telling where."""
        raise OSError(errno.ENOSPC, "No space left on device")

    verb(fake)
    assert cli.main(["fake", "/", *words]) == 2
    assert capsys.readouterr().err.startswith("dsi: a/b: the disk is full")


def test_a_full_disk_is_told_with_what_is_written_to_and_not_what_is_read(verb, capsys, tmp_path):
    def fake(index: Path, new: Path) -> None:
        """Writes into the first, without telling where."""
        raise OSError(errno.ENOSPC, "No space left on device")

    verb(fake)
    assert cli.main(["fake", str(tmp_path), "/"]) == 2
    assert capsys.readouterr().err.startswith(f"dsi: {tmp_path}: the disk is full")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_thread_says_nothing_of_a_full_disk_which_the_command_reports(verb, capfd, number):
    def fake() -> None:
        """Writes in a thread, and then itself."""
        thread = threading.Thread(target=failing(OSError(number, "in a thread")), args=(Path(),))
        thread.start()
        thread.join()
        raise OSError(errno.ENOSPC, "No space left on device", "curves")

    verb(fake)
    hook = threading.excepthook
    try:
        threading.excepthook = threading.__excepthook__  # in place of pytest's
        assert cli.main(["fake"]) == 2
    finally:
        threading.excepthook = hook
    err = capfd.readouterr().err
    assert err.endswith(
        "dsi: curves: the disk is full. Free some space or choose another location.\n"
    )
    assert ("Traceback" in err) == (number == errno.EIO)


def test_debug_shows_the_traceback(verb, capsys):
    verb(failing(ValueError("odd")))
    assert cli.main(["fake", "/", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["serch"], "unknown command 'serch'. Did you mean dsi search?"),
        (["--jsn"], "unknown option '--jsn'"),
        (["search", "x", "--beems", "3"], "unknown option --beems. Did you mean --beams?"),
        (["search", "x", "q", "--k", "ten"], "--k: 'ten' is not a whole number"),
        (["search", "x", "--constraint", "no", "q"], "--constraint: 'no' is not true or false"),
        (["search"], "INDEX is missing"),
        (["search", "nowhere", "q"], "nowhere: no such index folder"),
        (["search", __file__, "q"], "test_cli.py: a file, not an index folder"),
        (["evaluate", "x", __file__], "test_cli.py: a file, not a dataset folder"),
        (["info", "."], "not an index"),
        (["info", "a", "b"], "unexpected argument 'b'"),
        (["rollback", "nowhere"], "nowhere: no such index folder"),
    ],
)
def test_wrong_calls_end_with_2_and_one_line(capsys, words, part):
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert part in err
    assert err.count("\n") == 1


def test_no_words_show_the_overview_on_standard_error(capsys):
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "To try it: dsi quickstart" in err


def test_a_config_file_with_an_unknown_key_is_told_by_name(capsys, tmp_path):
    file = tmp_path / "search.yaml"
    file.write_text("k: 3\nbeems: 4\n")
    assert cli.main(["search", "x", "q", "--config", str(file)]) == 2
    assert f"{file}: unknown key 'beems'. Did you mean beams?" in capsys.readouterr().err


def test_people_get_a_table_and_programs_get_json(verb, capsys):
    def fake() -> None:
        """Counts."""
        return TableReport(data={"n": 1, "x": float("nan")}, title="One", rows=[(1,)], columns="n")

    verb(fake)
    assert cli.main(["fake"]) == 0
    assert capsys.readouterr().out.split() == ["One", "n", "1"]
    assert cli.main(["fake", "--json"]) == 0
    assert capsys.readouterr().out == '{"n": 1, "x": null}\n'


NOISY = """
import os, sys, types, logging, warnings
from dsi import cli
from dsi.command_line.command_report import TableReport
def fake():
    \"\"\"Is noisy.\"\"\"
    print("from Python")
    sys.stdout.flush()
    os.write(1, b"from a C library\\n")
    warnings.warn("careful")
    logging.warning("logged")
    return TableReport(data={"n": 1})
sys.modules["m"] = types.SimpleNamespace(fake=fake)
cli.VERBS["fake"] = "m:fake"
sys.exit(cli.main(["fake", *sys.argv[1:]]))
"""


def test_with_json_nothing_but_one_object_reaches_standard_output():
    done = subprocess.run(
        [sys.executable, "-c", NOISY, "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {"n": 1}
    for noise in ("from Python", "from a C library", "careful", "logged"):
        assert noise in done.stderr


def test_only_the_first_of_several_processes_prints():
    done = subprocess.run(
        [sys.executable, "-c", NOISY, "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "RANK": "1"},
    )
    assert done.stdout == ""


def test_quiet_switches_progress_bars_off():
    script = (
        "import sys, types\n"
        "from dsi import cli\n"
        "from dsi.command_line.command_report import TableReport\n"
        "def fake():\n"
        "    '''Is slow.'''\n"
        "    from data_prep.progress import track\n"
        "    list(track(range(3), 'counting'))\n"
        "    return TableReport(data={})\n"
        "sys.modules['m'] = types.SimpleNamespace(fake=fake)\n"
        "cli.VERBS['fake'] = 'm:fake'\n"
        "sys.exit(cli.main(['fake', *sys.argv[1:]]))\n"
    )

    def bars(*words: str) -> str:
        plain = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
        return subprocess.run(
            [sys.executable, "-c", script, *words],
            capture_output=True,
            text=True,
            check=True,
            env=plain,
        ).stderr

    assert "counting" in bars()
    assert bars("--quiet") == ""


def test_a_reader_that_goes_away_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "dsi", "--help"], stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_version_is_that_of_the_distribution(capsys):
    from importlib.metadata import version

    for words in (["--version"], ["search", "--version"]):
        assert cli.main(words) == 0
        assert capsys.readouterr().out == f"dsi-toolkit {version('dsi-toolkit')}\n"


def test_the_overview_says_what_every_verb_does(capsys):
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in cli.VERBS:
        [line] = [line for line in lines if line.startswith(f"  {name} ")]
        assert line.rstrip().endswith("."), f"{name} has no summary"


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("words", [["--help"], ["push", "--help"]], ids=" ".join)
def test_help_fits_the_terminal(words, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    with contextlib.suppress(SystemExit):
        cli.main(words)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= width


HEAVY = {"torch", "transformers", "datasets", "sklearn", "faiss", "pandas", "scipy", "accelerate"}


@pytest.mark.parametrize("words", [[], *([name] for name in cli.VERBS)], ids=str)
def test_help_imports_nothing_heavy(words):
    script = (
        "import sys\n"
        "from dsi.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print('modules', *sorted({m.partition('.')[0] for m in sys.modules}))\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    text, _, modules = done.stdout.rpartition("modules")
    assert text.startswith("usage: dsi")
    assert HEAVY.isdisjoint(modules.split())


def test_python_m_dsi_is_the_command():
    done = dsi("info", "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("dsi: nowhere: no such index folder")


LOUD = """
import sys, types
from pathlib import Path
from dsi import cli
from dsi.command_line.command_report import TableReport

def loud(*, out: str = ""):
    "Says more than a pipe holds."
    if out:
        Path(out).write_text("written")
    text = ("x" * 79 + " ") * 2000
    return TableReport(data={"text": text}, title=text)

sys.modules["loud"] = types.SimpleNamespace(loud=loud)
cli.VERBS = {"loud": "loud:loud"}
sys.exit(cli.main())
"""
"""A command whose report exceeds the capacity of a pipe."""


def loud(words: str) -> list[str]:
    """Returns a call by a shell: `words` are options and redirections."""
    return ["bash", "-c", f'exec "$0" -c "$1" loud {words}', sys.executable, LOUD]


@pytest.mark.parametrize("words", ["", "--json", "--help"])
def test_a_reader_that_goes_away_is_told_by_the_exit_code_alone(words):
    child = subprocess.Popen(loud(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (141, b"")


@pytest.mark.parametrize("words", ["", "--json", "--help"])
def test_a_full_standard_output_is_told_as_such(words):
    done = subprocess.run(loud(f"{words} > /dev/full"), capture_output=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == b"dsi: standard output: no space left on device.\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_changes_nothing(closed, tmp_path):
    call = loud(f"--out {tmp_path}/out {closed}")
    assert subprocess.run(call, capture_output=True, timeout=60).returncode == 0
    assert (tmp_path / "out").read_text() == "written", "and nothing that was printed"


@pytest.mark.parametrize(
    ("word", "json"), [("--json", True), ("--json=true", True), ("--json=false", False)]
)
def test_a_switch_may_have_a_value(verb, capsys, word, json):
    verb(lambda: TableReport(data={"a": 1}, title="for people"))
    assert cli.main(["fake", word]) == 0
    assert capsys.readouterr().out == ('{"a": 1}\n' if json else "for people\n")


@pytest.mark.parametrize(("switch", "value"), [("json", "yes"), ("quiet", ""), ("debug", "1")])
def test_a_switch_of_another_value_is_told_what_it_takes(verb, capsys, switch, value):
    verb(lambda: TableReport(data={}))
    assert cli.main(["fake", f"--{switch}={value}"]) == 2
    told = f"--{switch}: {value!r} is not true or false. Omit the value: --{switch}."
    assert capsys.readouterr().err == f"dsi: {told}\n"


def test_a_file_of_values_may_turn_a_switch_off(verb, capsys, tmp_path):
    verb(lambda: TableReport(data={"a": 1}, title="for people"))
    (tmp_path / "c.yaml").write_text("json: false\n")
    assert cli.main(["fake", "--config", str(tmp_path / "c.yaml")]) == 0
    assert capsys.readouterr().out == "for people\n"


def test_what_people_read_is_printed_letter_by_letter(verb, capsys):
    verb(lambda: TableReport(data={}, title="a :smile: [b]", closing=[":cat: [/i]"]))
    assert cli.main(["fake"]) == 0
    assert capsys.readouterr().out == "a :smile: [b]\n:cat: [/i]\n"


def test_of_several_processes_the_first_does_what_is_not_shared(verb, monkeypatch):
    done = []
    verb(lambda: done.append(1) or TableReport(data={}))
    monkeypatch.setattr(cli, "_OF_ONE_PROCESS", ("fake",))
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, times in (("1", 0), ("0", 1)):
        monkeypatch.setenv("RANK", rank)
        assert cli.main(["fake"]) == 0
        assert len(done) == times


@pytest.mark.parametrize(
    ("digits", "told"),
    [
        ("2147483648", "--k 2147483648 is too large. Give at most 2,147,483,647."),
        ("-2147483648", "--k -2147483648 is too large. Give at most 2,147,483,647."),
        ("1" + 20 * "0", "--k 100000000000000000000 is too large. Give at most 2,147,483,647."),
        ("1" + 5000 * "0", "--k: '1000"),
    ],
    ids=["of 32 bits", "negative", "of 21 digits", "of 5001 digits"],
)
def test_a_number_that_nothing_could_take_is_refused(verb, capsys, digits, told):
    def fake(*, k: int = 1) -> TableReport:
        """Takes a number."""
        return TableReport(data={})

    verb(fake)
    assert cli.main(["fake", "--k", digits]) == 2
    assert capsys.readouterr().err.startswith(f"dsi: {told}")


def test_a_seed_has_at_most_63_bits_and_no_sign(verb):
    def fake(*, seed: Seed = 0) -> TableReport:
        """Takes a seed."""
        return TableReport(data={})

    verb(fake)
    assert cli.main(["fake", "--seed", str(2**63 - 1)]) == 0
    assert cli.main(["fake", "--seed", str(2**63)]) == 2
    assert cli.main(["fake", "--seed", "-1"]) == 2


def test_a_limit_of_the_size_of_files_leaves_nothing_half_written(tmp_path):
    """Python ignores the signal that comes with such a limit, so that writing fails instead."""
    lines = "".join(f'{{"id": "{n}", "text": "{n} otters"}}\n' for n in range(5000))
    (tmp_path / "docs.jsonl").write_text(lines)
    call = 'ulimit -f 16; exec "$0" -m dsi prepare docs.jsonl --out ds --quiet'
    done = subprocess.run(
        ["bash", "-c", call, sys.executable], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("dsi: ds: a file would be larger than the file system or ulimit")
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["docs.jsonl"]


def test_words_that_are_not_ascii_are_read_in_the_c_locale(tmp_path):
    (tmp_path / "dé").write_text("a file")
    done = subprocess.run(
        [sys.executable, "-m", "dsi", "info", str(tmp_path / "dé")],
        env={
            **os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
            "PYTHONIOENCODING": "utf-8",
        },
        capture_output=True,
        encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"dsi: {tmp_path / 'dé'}: ")
    assert "UTF-8" not in done.stderr


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imports") / "index"
    build([{"id": word, "text": f"a text about {word}"} for word in WORDS], folder)
    return folder


def imported(code: str, *words: str) -> set[str]:
    """Runs Python code in a process of its own; returns the packages that it has imported."""
    last = "print('modules', *{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{last}", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.rpartition("modules")[2].split())


CALL = "from dsi.cli import main\nassert main(sys.argv[1:]) == 0"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import dsi", ()),
        ("import dsi\ndir(dsi), dsi.__version__, dsi.InputError", ()),
        (CALL, ("--help",)),
        (CALL, ("--version",)),
        (CALL, ("search", "--help-all")),
    ],
    ids=["import", "names", "help", "version", "help of a command"],
)
def test_what_answers_at_once_imports_nothing_slow(code, words):
    assert imported(code, *words) & set(SLOW) == set()


def test_a_search_imports_torch_and_no_more_than_it_needs(index):
    found = imported(CALL, "search", str(index), "water")
    assert "torch" in found
    assert found & set(NOT_SEARCHING) == set()
    found = imported(f"import dsi\ndsi.Index.open({str(index)!r}).search('water')")
    assert found & set(NOT_SEARCHING) == set()


def test_a_wrong_call_is_told_before_torch_is_imported(tmp_path):
    code = "from dsi.cli import main\nassert main(sys.argv[1:]) == 2"
    assert imported(code, "search", str(tmp_path), "water") & set(SLOW) == set()
