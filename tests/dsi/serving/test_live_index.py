"""A server follows the live version of its index."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from serving_doubles import Server, eventually
from starlette.testclient import TestClient

from data_prep.errors import InputError
from dsi.index import Index
from dsi.index_folder import versions
from dsi.serving import app as serving
from dsi.serving import live_updates
from dsi.serving.options import ServerOptions
from dsi.serving.searcher import LiveIndex
from dsi.updating.delete import delete_documents


@pytest.fixture
def index(trained, tmp_path) -> Path:
    """A copy of the small index, to be changed."""
    return Path(shutil.copytree(trained, tmp_path / "index"))


def best(live: LiveIndex, query: str = "boils water") -> tuple[str, str]:
    """Returns the version and the best document of a query."""
    searcher = live.current
    return searcher.version, searcher.search([query], 1, None, ())[0][0].doc_id


def test_a_version_is_opened_in_a_thread_that_ends(index, monkeypatch):
    """Its OpenMP threads would slow down those of the thread that searches."""
    threads = []
    opened = Index.open
    monkeypatch.setattr(
        Index, "open", lambda *each: threads.append(threading.current_thread()) or opened(*each)
    )
    LiveIndex(index, "cpu", 32)
    (thread,) = threads
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_a_new_version_is_taken_over_and_the_one_before_stays_whole(index):
    live = LiveIndex(index, "cpu", 32)
    before = live.current
    assert best(live) == ("0001", "kettle")
    assert not live.refresh()
    delete_documents(index, ["kettle"])
    assert best(live) == ("0001", "kettle")
    assert live.refresh()
    assert best(live) == ("0002", "hostile")
    shutil.rmtree(index / "versions" / "0001")  # users of the old one can continue with it
    assert before.search(["boils water"], 1, None, ())[0][0].doc_id == "kettle"
    assert before.documents(["kettle"])[0].title == "Kettles"
    with pytest.raises(InputError, match="was deleted"):
        live.current.documents(["kettle"])


def test_a_rollback_is_taken_over_too(index):
    delete_documents(index, ["kettle"])
    live = LiveIndex(index, "cpu", 32)
    assert best(live) == ("0002", "hostile")
    versions.rollback(index, "0001")
    assert live.refresh()
    assert best(live) == ("0001", "kettle")


def test_a_damaged_new_version_is_told_and_the_one_before_goes_on(index, capfd):
    live = LiveIndex(index, "cpu", 32)
    delete_documents(index, ["kettle"])
    weights = index / "versions" / "0002" / "model" / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()  # a version may share files with its predecessor
    weights.write_bytes(content[:-1])
    assert not live.refresh()
    assert live.problem
    assert best(live) == ("0001", "kettle")
    app = serving.application(live, ServerOptions())
    with TestClient(app, "http://127.0.0.1") as client:
        health = client.get("/healthz").json()
    assert health == {"status": "the live version cannot be opened", "version": "0001"}
    weights.write_bytes(content)
    assert live.refresh()
    assert live.problem is None
    assert best(live)[0] == "0002"


def test_requests_see_the_new_version_without_being_told(index, monkeypatch):
    monkeypatch.setattr(live_updates, "POLL", 0.01)
    app = serving.application(LiveIndex(index, "cpu", 32), ServerOptions())
    with TestClient(app, "http://127.0.0.1") as client:

        def found() -> tuple[str, str]:
            done = client.post("/search", json={"queries": ["boils water"], "k": 1})
            assert done.status_code == 200
            content = done.json()
            return content["version"], content["results"][0]["hits"][0]["doc_id"]

        assert found() == ("0001", "kettle")
        delete_documents(index, ["kettle"])
        seen = set()

        def taken_over() -> bool:
            seen.add(found())
            return ("0002", "hostile") in seen

        eventually(taken_over)
        assert seen <= {("0001", "kettle"), ("0002", "hostile")}
        assert client.get("/documents/kettle").status_code == 404


def test_what_is_no_index_is_told_in_one_line(tmp_path, capfd):
    from dsi import cli

    (tmp_path / "hostile").mkdir()
    (tmp_path / "hostile" / "live").symlink_to("/etc/passwd")
    for verb in ("serve", "mcp"):
        for path in (tmp_path / "none", tmp_path / "hostile"):
            assert cli.main([verb, str(path)]) == 2
            err = capfd.readouterr().err
            assert err.startswith("dsi: ")
            assert err.count("\n") == 1


def test_a_port_that_is_taken_is_told_in_one_line(trained, server: Server):
    with pytest.raises(AssertionError, match="did not start"):
        Server(trained, "--port", str(server.port))
