"""The server as a process: slow clients, malformed requests, and shutdown."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
import uvicorn
from serving_doubles import Server
from uvicorn.server import ServerState

from dsi import cli
from dsi.serving.options import ServerOptions
from dsi.serving.running import listening, slow_client_protocol

ASKED = json.dumps({"queries": ["boils water"], "k": 2, "with_text": True})
HEAD = (
    "POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Content-Length: {length}\r\n\r\n"
)


def talk(server: Server, sent: bytes) -> bytes:
    """Sends something, and returns all that comes until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
        connection.sendall(sent)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_many_at_once_all_get_their_answer(server):
    answers: list[dict] = []

    def ask() -> None:
        connection = server.connection()
        for _ in range(5):
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/search", ASKED, headers)
            response = connection.getresponse()
            assert response.status == 200
            answers.append(json.load(response))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 40
    for answer in answers:
        [result] = answer["results"]
        assert result["hits"][0]["doc_id"] == "kettle"
        assert result["hits"][0]["text"] == "A kettle boils water for tea."


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"", 408),  # a connection that sends nothing
        (b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\n", 408),  # a head that does not end
        (HEAD.format(length=100).encode() + b"{", 408),  # a body that does not end
        (HEAD.format(length=1 << 30).encode(), 413),
        (HEAD.format(length="-1").encode(), 400),
        (b"\x16\x03\x01 this is not HTTP\r\n\r\n", 400),
        (b"GET /version HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n", 421),
    ],
    ids=str,
)
def test_clients_that_are_slow_or_wrong_get_their_status_and_are_let_go(server, sent, expected):
    assert status(talk(server, sent)) == expected
    connection = server.connection()
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200


def test_a_body_does_not_wait_for_the_acknowledgment_of_its_head():
    """TCP_NODELAY is set; without it a small response takes 40 ms on a fast network."""
    seen: list[int] = []

    class Protocol(slow_client_protocol(10)):
        def connection_made(self, transport):
            super().connection_made(transport)
            accepted = transport.get_extra_info("socket")
            seen.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async def connect() -> None:
        config = uvicorn.Config(lambda scope: None, ws="none", interface="asgi3", log_config=None)
        loop = asyncio.get_running_loop()
        with listening(ServerOptions(port=0)) as here:
            made = await loop.create_server(lambda: Protocol(config, ServerState(), {}), sock=here)
            _, writer = await asyncio.open_connection(*here.getsockname())
            while not seen:
                await asyncio.sleep(0.01)
            writer.close()
            made.close()

    asyncio.run(connect())
    assert seen == [1]


def test_a_head_without_end_is_not_read_to_its_end(server):
    def send_on(connection: socket.socket) -> None:
        for _ in range(10_000):
            connection.sendall(b"x" * 10_000)

    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_on(connection)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_answers_what_is_under_way_and_ends_well(trained, how):
    server = Server(trained)
    answered = []
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
        body = ASKED.encode()
        connection.sendall(HEAD.format(length=len(body)).encode() + body[:5])
        first = server.connection()
        first.request("GET", "/healthz")  # once it is answered, the other has begun
        answered.append(first.getresponse().status)
        first.close()
        server.process.send_signal(how)
        connection.sendall(body[5:])
        answered.append(status(connection.recv(65536)))
    _, said = server.process.communicate(timeout=120)  # it has been told to stop
    assert answered == [200, 200]
    assert server.process.returncode == 0
    assert "Traceback" not in said


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("verb", [["serve"], ["mcp", "--transport", "http"]])
def test_told_to_stop_while_it_loads_the_index_it_ends_well(
    verb, how, trained, monkeypatch, capsys
):
    """The signal comes when the index is opened."""

    def loading(*_: object) -> None:
        os.kill(os.getpid(), how)
        time.sleep(60)  # the signal ends it

    monkeypatch.setattr("dsi.serving.searcher.LiveIndex", loading)
    before = signal.getsignal(how)
    assert cli.main([verb[0], str(trained), *verb[1:], "--json"]) == 0
    out, said = capsys.readouterr()
    assert (json.loads(out)["version"], said) == ("0001", "")
    assert signal.getsignal(how) == before


def test_told_twice_it_stops_at_once_and_answers_what_is_under_way_with_503(trained):
    server = Server(trained, "--limits.seconds", "60")
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
        connection.sendall(HEAD.format(length=100).encode() + b"{")
        first = server.connection()
        first.request("GET", "/healthz")
        first.getresponse().read()
        first.close()
        server.process.send_signal(signal.SIGINT)
        said = server.process.stderr.readline()  # of the request before
        server.process.send_signal(signal.SIGTERM)
        assert status(connection.recv(65536)) == 503
    _, more = server.process.communicate(timeout=120)  # it has been told to stop twice
    assert (server.process.returncode, "Traceback" in said + more) == (0, False)


def test_the_lines_of_the_page_work_as_written(server, capsys):
    page = (Path(__file__).parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code.replace(":8000", f":{server.port}"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("kettle A kettle boils water for tea.")
    assert (len(lines), lines[-1]) == (4, "Kettles")
