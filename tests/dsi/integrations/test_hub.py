"""Pushing to and pulling from a hub: here, a test server on the loopback interface."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub.constants
import pytest
from fake_hub import serving
from household import DOCUMENTS
from small_versions import write_version

import dsi
from data_prep.dataset import Dataset, Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.descriptor_lock import only_writer
from data_prep.errors import InputError
from dsi import cli
from dsi.hub.address import Repository
from dsi.hub.contents import contents_of, without_paths
from dsi.hub.pull import pull
from dsi.hub.push import plan_push, push
from dsi.index_folder import versions

PLACE = Repository("somebody/household")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving() as server:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HF_TOKEN", "hf_none")
        yield server


@pytest.fixture
def index(small_folder, tmp_path) -> Path:
    return Path(shutil.copytree(small_folder, tmp_path / "index"))


def answers(index: dsi.Index):
    return index.search(["what boils water", "light", "yeast"], k=3)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("a/b", Repository("a/b")),
        ("hf://a/b@v1", Repository("a/b", False, "v1")),
        ("hf:/a/b", Repository("a/b")),
        ("datasets/a/b@0123", Repository("a/b", True, "0123")),
    ],
)
def test_addresses(text, parsed):
    assert Repository.parse(text) == parsed


@pytest.mark.parametrize("text", ["a", "a/b/c", "../b", "hf://", "a/..", "a b/c", "a/b@"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InputError, match="not a repository on the hub"):
        Repository.parse(text)


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("added /home/me/secret/new.jsonl", "added new.jsonl"),
        ("~/notes/a.csv", "a.csv"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("1/2 of org/model", "1/2 of org/model"),
        ({"a": ["/x/y", 3, None]}, {"a": ["y", 3, None]}),
    ],
)
def test_paths_of_the_author_are_cut_down_to_names(text, cut):
    assert without_paths(text) == cut


def test_an_index_comes_back_as_it_was(hub, index, small_index, tmp_path):
    with write_version(index, "0001") as fresh:
        shutil.copytree(index / "versions" / "0001", fresh, dirs_exist_ok=True)
    done = push(index, PLACE)
    files = hub.files("models/somebody/household")
    assert hub.repositories == {"models/somebody/household": True}, "private unless --public"
    assert done.commit == hub.heads["models/somebody/household", "main"]
    assert files["live"] == b"0002\n"
    assert {name.split("/")[1] for name in files if name.startswith("versions/")} == {"0002"}
    assert not any("/log/" in name for name in files)
    pulled = pull(PLACE, tmp_path / "copy")
    assert pulled.commit == done.commit
    copy = dsi.Index.open(tmp_path / "copy", "cpu")
    assert answers(copy) == answers(small_index)
    [line] = [line for line in files["README.md"].decode().splitlines() if "contains" in line]
    assert "6 documents" in line
    added = dsi.update(tmp_path / "copy", [{"id": "new", "text": "A xylophant glows."}])
    assert added.search("xylophant", k=1)[0].doc_id == "new"


def test_a_second_push_replaces_the_first(hub, index):
    push(index, PLACE)
    with write_version(index, "0001") as fresh:
        shutil.copytree(index / "versions" / "0001", fresh, dirs_exist_ok=True)
    push(index, PLACE)
    files = hub.files("models/somebody/household")
    assert {name.split("/")[1] for name in files if name.startswith("versions/")} == {"0002"}
    assert ".gitattributes" in files


def test_without_the_corpus_no_text_is_published(hub, index, small_index, tmp_path):
    done = push(index, PLACE, corpus=False)
    assert (done.contents.text.documents, done.contents.text.characters) == (0, 0)
    files = hub.files("models/somebody/household")
    folders = {name.split("/")[2] for name in files if name.startswith("versions/")}
    assert folders == {"manifest.json", "model", "text", "docids", "titles", "lexical"}
    assert not any("lexical/source" in name for name in files), "it has the places of words"
    everything = b"".join(files.values())
    for document in DOCUMENTS:
        assert document["text"].encode() not in everything
    pull(PLACE, tmp_path / "copy")
    assert answers(dsi.Index.open(tmp_path / "copy", "cpu")) == answers(small_index)
    assert "can be searched, but not updated" in files["README.md"].decode()
    with pytest.raises(InputError):
        dsi.update(tmp_path / "copy", [{"id": "new", "text": "A xylophant."}])


def test_how_much_text_there_is_is_counted(index, tmp_path):
    plan = plan_push(index, PLACE)
    assert plan.contents.text.documents == 6
    assert plan.contents.text.characters == sum(
        len(each["title"]) + len(each["text"]) for each in DOCUMENTS
    )
    assert plan.commit is None


def test_a_public_repository_gets_nothing_unless_that_is_said(hub, index):
    hub.repositories["models/somebody/household"] = False
    before = hub.commit("models/somebody/household", {"README.md": b"mine"})
    with pytest.raises(InputError, match=r"this repository is public.*6 documents.*--public"):
        push(index, PLACE)
    assert hub.heads["models/somebody/household", "main"] == before
    assert push(index, PLACE, public=True).public


def test_a_dataset_comes_back_as_it_was(hub, tmp_path):
    documents = [Document(each["id"], each["title"], each["text"]) for each in DOCUMENTS]
    source = InMemorySource(
        documents,
        [Query("q", "what boils")],
        [Qrel("q", "kettle", 1, "test")],
        name="household",
        source="/home/me/secret/docs.jsonl",
        license="CC0-1.0",
    )
    dataset = write_dataset(tmp_path / "dataset", source)
    push(tmp_path / "dataset", PLACE, public=True)
    files = hub.files("datasets/somebody/household")
    assert hub.repositories == {"datasets/somebody/household": False}
    assert b"/home/me" not in b"".join(files.values())
    assert "license: cc0-1.0" in files["README.md"].decode()
    pull(Repository("somebody/household", dataset=True), tmp_path / "copy")
    copy = Dataset.open(tmp_path / "copy")
    assert list(copy.documents()) == list(dataset.documents())
    assert copy.qrels_of("test") == {"q": {"kettle": 1}}
    assert copy.info.content_hash == dataset.info.content_hash
    hub.repositories["models/somebody/household"] = True
    hub.commit("models/somebody/household", files)
    with pytest.raises(InputError, match="contains no index"):
        pull(PLACE, tmp_path / "other")


def test_a_revision_is_pinned(hub, index, tmp_path):
    first = push(index, Repository("somebody/household", revision="v1")).commit
    other = Path(shutil.copytree(index, tmp_path / "other"))
    dsi.update(other, [{"id": "new", "text": "A xylophant glows."}])
    push(other, PLACE)
    assert pull(Repository("somebody/household", revision="v1"), tmp_path / "one").commit == first
    assert pull(Repository("somebody/household", revision=first), tmp_path / "two").commit == first
    assert versions.live(tmp_path / "one") == versions.live(tmp_path / "two") == "0001"
    pull(PLACE, tmp_path / "three")
    assert versions.live(tmp_path / "three") == "0002"


def test_an_interrupted_pull_goes_on(hub, index, tmp_path):
    push(index, PLACE)
    total = len(hub.files("models/somebody/household"))
    hub.fail_after = 20
    with pytest.raises(InputError, match="hub"):
        pull(PLACE, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    hub.fail_after = None
    hub.requests.clear()
    pull(PLACE, tmp_path / "copy")
    fetched = [one for one in hub.requests if one.startswith("GET") and "/resolve/" in one]
    assert 0 < len(fetched) <= total - 15
    assert len(dsi.Index.open(tmp_path / "copy", "cpu")) == 6
    assert sorted(entry.name for entry in tmp_path.iterdir() if "pull" in entry.name) == []


def test_one_process_at_a_time_pulls_to_a_folder(hub, index, tmp_path):
    commit = push(index, PLACE).commit
    held, other = (tmp_path / f".copy.pull-{name}" for name in (commit, "0" * 40))
    with only_writer(held), only_writer(other):
        (other / "begun").touch()
        with pytest.raises(InputError, match="copy: another command is writing here"):
            pull(PLACE, tmp_path / "copy")
        assert (other / "begun").exists()
    pull(PLACE, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir() if "pull" in path.name] == []


def test_processes_that_open_an_address_at_once_share_its_copy(hub, index, small_index):
    push(index, PLACE)
    with ThreadPoolExecutor(3) as pool:
        opened = list(pool.map(dsi.Index.open, ["hf://somebody/household"] * 3, ["cpu"] * 3))
    assert [answers(one) for one in opened] == 3 * [answers(small_index)]


def test_an_index_is_opened_by_its_address_and_once_downloaded(hub, index, small_index):
    push(index, PLACE)
    assert answers(dsi.Index.open("hf://somebody/household", "cpu")) == answers(small_index)
    hub.requests.clear()
    assert answers(dsi.Index.open("hf://somebody/household", "cpu")) == answers(small_index)
    assert not any("/resolve/" in one for one in hub.requests)


def test_without_the_network_the_last_copy_is_opened(hub, index, small_index, monkeypatch):
    push(index, PLACE)
    dsi.Index.open("hf://somebody/household", "cpu")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert answers(dsi.Index.open("hf://somebody/household", "cpu")) == answers(small_index)
    with pytest.raises(InputError, match="cannot be reached"):
        dsi.Index.open("hf://somebody/else", "cpu")


def changed(files: dict[str, bytes], what: str) -> dict[str, bytes]:
    version = next(name for name in files if name.endswith("manifest.json")).rpartition("/")[0]
    weights = f"{version}/model/model.safetensors"
    return {
        "weights": {**files, weights: files[weights][:-1] + b"\x00\x01"},
        "bit": {**files, weights: files[weights][:-1] + bytes([files[weights][-1] ^ 1])},
        "more": {**files, f"{version}/model/modeling.py": b"raise SystemExit(7)"},
        "pickle": {**files, f"{version}/model/pytorch_model.bin": b"\x80\x04."},
        "missing": {name: content for name, content in files.items() if name != weights},
        "live": {**files, "live": b"../../etc\n"},
        "nothing": {"README.md": b"no index"},
        "up": {**files, "versions/../../evil": b"x"},
        "pattern": {**files, "versions/0001/*": b"x"},
    }[what]


@pytest.mark.parametrize(
    "what",
    ["weights", "bit", "more", "pickle", "missing", "live", "nothing", "up", "pattern"],
)
def test_a_hostile_index_is_refused_in_one_line_and_leaves_nothing(hub, index, tmp_path, what):
    push(index, PLACE)
    hub.commit("models/somebody/household", changed(hub.files("models/somebody/household"), what))
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(InputError) as told:
        pull(PLACE, work / "copy")
    assert "\n" not in str(told.value)
    assert list(work.iterdir()) == []


def test_files_that_are_no_part_of_an_index_stay_away(hub, index, tmp_path):
    push(index, PLACE)
    files = hub.files("models/somebody/household")
    hub.commit("models/somebody/household", {**files, "setup.py": b"boom", "training/x": b"x"})
    pull(PLACE, tmp_path / "copy")
    names = sorted(entry.name for entry in (tmp_path / "copy").iterdir())
    assert names == ["README.md", "live", "pulled.json", "versions"]


def test_a_link_stays_a_link_and_the_current_folder_is_left_alone(
    hub, index, tmp_path, monkeypatch
):
    push(index, PLACE)
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    pull(PLACE, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "live").is_file()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="current folder"):
        pull(PLACE, Path("."))
    assert not list(Path().iterdir())


def test_what_goes_wrong_is_one_line(hub, index, tmp_path):
    with pytest.raises(InputError, match="no such repository"):
        pull(Repository("somebody/none"), tmp_path / "copy")
    push(index, PLACE)
    with pytest.raises(InputError, match="no such revision"):
        pull(Repository("somebody/household", revision="v9"), tmp_path / "copy")
    with pytest.raises(InputError, match="the folder exists already"):
        pull(PLACE, index)
    with pytest.raises(InputError, match="no such index"):
        push(tmp_path / "none", PLACE)
    with pytest.raises(InputError, match="repository is a dataset repository"):
        push(index, Repository("somebody/household", dataset=True))
    assert not (tmp_path / "copy").exists()


def test_damage_is_not_published(hub, index):
    weights = index / "versions" / "0001" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    with pytest.raises(InputError, match="checksum"):
        push(index, PLACE)
    assert hub.requests == []


def test_on_the_command_line(hub, index, tmp_path, capsys):
    assert cli.main(["push", str(index), "somebody/household", "--dry_run"]) == 0
    shown = capsys.readouterr().out
    assert "would be published" in shown
    assert "the text of 6 documents" in shown
    assert hub.requests == []
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_none",
    }

    def dsi_command(*words: str) -> dict:
        done = subprocess.run(
            [sys.executable, "-m", "dsi", *words, "--json"],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    pushed = dsi_command("push", str(index), "somebody/household")
    assert (pushed["public"], pushed["text"]["documents"]) == (False, 6)
    pulled = dsi_command("pull", "somebody/household", "--out", str(tmp_path / "copy"))
    assert pulled["commit"] == pushed["commit"]
    assert contents_of(tmp_path / "copy").text.documents == 6
