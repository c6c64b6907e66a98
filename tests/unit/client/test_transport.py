"""HTTP as it goes wrong: nobody there, a server that goes away or is busy, or is no Stowplan."""

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from client import transport
from client.errors import InvalidInputError, NotReachableError, StowplanError
from client.transport import Transport

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_CONTACT_SECONDS", 0.2)
    monkeypatch.setattr(transport, "_BACK_OFF_SECONDS", 0.001)


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serve on the loopback; the n-th request gets the n-th answer, later ones the last."""
    servers: list[ThreadingHTTPServer] = []

    def start(*answers: Answer) -> str:
        left = list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                (left.pop(0) if len(left) > 1 else left[0])(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def answer(status: int, body: bytes, **headers: str) -> Answer:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return send


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Take the request and close: what a killed server looks like."""
    handler.connection.shutdown(socket.SHUT_RDWR)


def call(server: str) -> object:
    with Transport(server, "token", timeout_seconds=5) as connection:
        return connection.call("GET", "/x")


def test_server_that_never_answered_is_given_up_with_advice() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        with pytest.raises(NotReachableError, match="stowplan serve"):
            call(f"http://127.0.0.1:{taken.getsockname()[1]}")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_busy_or_restarting_server_is_asked_again(serve, status: int) -> None:
    assert call(serve(answer(status, b"{}"), answer(200, b'{"a": 1}'))) == {"a": 1}


def test_lost_answer_is_asked_for_again(serve) -> None:
    assert call(serve(hang_up, answer(200, b'{"a": 1}'))) == {"a": 1}


def test_refusal_is_not_repeated(serve) -> None:
    server = serve(answer(422, b'{"detail": "bad"}'), answer(200, b"{}"))
    with pytest.raises(InvalidInputError, match="bad"):
        call(server)


def test_pause_longer_than_our_patience_ends_the_tries(serve) -> None:
    server = serve(answer(429, b'{"detail": "later"}', Retry_After="600"))
    with pytest.raises(StowplanError, match="later"):
        call(server)


def test_empty_answer_is_none(serve) -> None:
    assert call(serve(answer(204, b""))) is None


def test_answer_that_is_no_json_names_the_address(serve) -> None:
    with pytest.raises(StowplanError, match="is it a Stowplan service"):
        call(serve(answer(200, b"<html>")))


@pytest.mark.parametrize("server", ["", "localhost:8470", "ftp://host", "http://", "127.0.0.1"])
def test_address_that_is_no_url_is_refused(server: str) -> None:
    with pytest.raises(InvalidInputError, match="http://host:port"):
        call(server)


def test_proxy_of_the_environment_is_not_used_for_this_machine(
    serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert call(serve(answer(200, b"{}"))) == {}
