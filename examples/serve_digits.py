"""Answer HTTP requests with the digit classifier that train_digits.py saved.

``GET /healthz`` says which checkpoint is served. ``POST /predict`` takes ``{"images": [[64 numbers
0..16], ...]}`` and gives ``{"labels": [3, ...], "probabilities": [[10 numbers], ...]}``. What can't
be answered gets a 4xx that names every fault. On SIGTERM no new request is taken, those at hand are
answered, and the process exits with 0.
"""

import argparse
import functools
import json
import math
import os
import signal
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from digits import (
    PIXEL_MAX,
    PIXELS,
    Checkpoint,
    Classifier,
    not_negative,
    use_one_thread,
    wait_for_checkpoint,
)

BODY_MAX_BYTES = 1 << 20
IMAGES_MAX = 4096
FAULTS_MAX = 20
DISCARD_MAX_BYTES = 16 << 20


def main() -> int:
    arguments = parse_arguments()
    use_one_thread()
    shutdown = Shutdown()
    print(
        f"waiting up to {arguments.wait:g} s for a checkpoint in {arguments.checkpoint_dir}",
        flush=True,
    )
    checkpoint = wait_for_checkpoint(
        arguments.checkpoint_dir, seconds=arguments.wait, stopped=lambda: shutdown.requested
    )
    if shutdown.requested:
        return 0
    if checkpoint is None:
        print(
            f"no checkpoint in {arguments.checkpoint_dir} after {arguments.wait:g} s: "
            "train first, or give a longer --wait",
            file=sys.stderr,
        )
        return 1
    with PredictionServer((arguments.host, arguments.port), Predictor(checkpoint)) as server:
        shutdown.of(server)
        print(f"serving on http://{arguments.host}:{server.server_port}", flush=True)
        server.serve_forever(poll_interval=0.1)
    print("stopped: every request that was taken has been answered", flush=True)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve the digit classifier over HTTP.")
    parser.add_argument(
        "--host", default=os.environ.get("HOST") or "127.0.0.1", help="default: $HOST"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=os.environ.get("PORT") or "0",
        help="default: $PORT; 0 takes any",
    )
    parser.add_argument(
        "--checkpoint-dir",
        type=Path,
        default=Path(os.environ.get("STOWPLAN_ARTIFACTS") or "checkpoints"),
        help="default: $STOWPLAN_ARTIFACTS, else ./checkpoints",
    )
    parser.add_argument(
        "--wait",
        type=not_negative,
        default=0.0,
        metavar="SECONDS",
        help="how long to wait for a checkpoint",
    )
    return parser.parse_args()


class Shutdown:
    """Turns SIGTERM into the end of the wait, or of the server once there is one."""

    def __init__(self) -> None:
        self.requested = False
        self._server: ThreadingHTTPServer | None = None
        signal.signal(signal.SIGTERM, self._request)

    def of(self, server: ThreadingHTTPServer) -> None:
        self._server = server
        if self.requested:
            self._stop(server)

    def _request(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True
        if self._server is not None:
            self._stop(self._server)

    def _stop(self, server: ThreadingHTTPServer) -> None:
        # shutdown() waits for serve_forever(), which runs in the thread that handles this signal.
        threading.Thread(target=server.shutdown).start()


class Predictor:
    """The classifier as it was saved in ``checkpoint``."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = Classifier().to(self._device).eval()
        self._model.load_state_dict(checkpoint.model)

    @torch.inference_mode()
    def predict(self, images: list[list[float]]) -> dict[str, Any]:
        probabilities = self._model(torch.tensor(images, device=self._device)).softmax(dim=1)
        return {
            "labels": probabilities.argmax(dim=1).tolist(),
            "probabilities": probabilities.tolist(),
        }


class RefusedError(Exception):
    """A request that can't be answered: the status, and every fault with its place."""

    def __init__(self, status: HTTPStatus, *faults: str) -> None:
        super().__init__(status.phrase)
        self.status = status
        self.faults = faults


class PredictionServer(ThreadingHTTPServer):
    # Closing the server waits for the threads that are answering.
    daemon_threads = False

    def __init__(self, address: tuple[str, int], predictor: Predictor) -> None:
        super().__init__(address, functools.partial(PredictionHandler, predictor))

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if isinstance(error, OSError):  # the client went away before it had its answer
            print(f"{client_address[0]}: {error}", file=sys.stderr)
        else:
            super().handle_error(request, client_address)


class PredictionHandler(BaseHTTPRequestHandler):
    """One request a connection (HTTP/1.0), so an idle client never holds up the end."""

    timeout = 10
    """Seconds that a client may be silent in the middle of its request."""

    def __init__(self, predictor: Predictor, *connection: Any) -> None:
        self._predictor = predictor
        super().__init__(*connection)

    def do_GET(self) -> None:
        if self.path == "/healthz":
            checkpoint = self._predictor.checkpoint
            self._send(
                HTTPStatus.OK,
                {
                    "status": "ok",
                    "epochs": len(checkpoint.epoch_losses),
                    "generation": checkpoint.generation,
                },
            )
        else:
            self._refuse_route()

    def do_POST(self) -> None:
        if self.path != "/predict":
            self._refuse_route()
            return
        try:
            images = read_images(self._read_body())
        except RefusedError as refusal:
            self._send_faults(refusal.status, *refusal.faults)
            if refusal.status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                self._discard_body()
        else:
            self._send(HTTPStatus.OK, self._predictor.predict(images))

    def _refuse_route(self) -> None:
        method = {"/healthz": "GET", "/predict": "POST"}.get(self.path)
        if method is None:
            self._send_faults(HTTPStatus.NOT_FOUND, f"no such path: {self.path}")
        else:
            fault = f"{self.path} takes {method}, not {self.command}"
            self._send_faults(HTTPStatus.METHOD_NOT_ALLOWED, fault, allow=method)

    do_PUT = do_PATCH = do_DELETE = _refuse_route  # noqa: N815 - http.server wants these names

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length:
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing")
        if not (length.isascii() and length.isdigit() and len(length) <= 15):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
        if int(length) > BODY_MAX_BYTES:
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the body has {int(length)} bytes; {BODY_MAX_BYTES} are taken",
            )
        try:
            body = self.rfile.read(int(length))
        except TimeoutError:
            body = b""
        if len(body) < int(length):
            raise RefusedError(
                HTTPStatus.BAD_REQUEST, "the body is shorter than Content-Length says"
            )
        return body

    def _discard_body(self) -> None:
        """Read what the client still sends, within reason.

        Closing a connection with unread bytes resets it, and the client would never see our answer.
        """
        self.connection.shutdown(socket.SHUT_WR)
        left = DISCARD_MAX_BYTES
        try:
            while left > 0 and (chunk := self.rfile.read1(1 << 16)):
                left -= len(chunk)
        except OSError:
            self.log_message("the client went away")

    def _send_faults(self, status: HTTPStatus, *faults: str, allow: str | None = None) -> None:
        content = {"status": status.value, "title": status.phrase, "faults": faults}
        self._send(status, content, content_type="application/problem+json", allow=allow)

    def _send(
        self,
        status: HTTPStatus,
        content: dict[str, Any],
        *,
        content_type: str = "application/json",
        allow: str | None = None,
    ) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if allow is not None:
            self.send_header("Allow", allow)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def read_images(body: bytes) -> list[list[float]]:
    """The images of a request's body.

    Raises:
        RefusedError: 400 for what is no JSON, 422 with every fault for what is no images.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"the body is no JSON: {reason}") from None
    faults = image_faults(content)
    if faults:
        more = len(faults) - FAULTS_MAX
        shown = faults[:FAULTS_MAX] + ([f"and {more} more"] if more > 0 else [])
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, *shown)
    return content["images"]


def image_faults(content: Any) -> list[str]:
    if not isinstance(content, dict) or set(content) != {"images"}:
        return ['the body is to be {"images": [...]} and nothing else']
    images = content["images"]
    if not isinstance(images, list) or not 1 <= len(images) <= IMAGES_MAX:
        return [f"images: 1 to {IMAGES_MAX} lists of {PIXELS} numbers are wanted"]
    faults: list[str] = []
    for row, image in enumerate(images):
        if not isinstance(image, list):
            faults.append(f"images[{row}]: is no list")
        elif len(image) != PIXELS:
            faults.append(f"images[{row}]: has {len(image)} numbers, not {PIXELS}")
        else:
            faults += [
                f"images[{row}][{column}]: {fault}"
                for column, pixel in enumerate(image)
                if (fault := pixel_fault(pixel)) is not None
            ]
    return faults


def pixel_fault(pixel: Any) -> str | None:
    # JSON's true is an int to Python, and its reader takes NaN and Infinity.
    if isinstance(pixel, bool) or not isinstance(pixel, int | float):
        return f"{str(pixel)[:40]!r} is no number"
    if isinstance(pixel, float) and not math.isfinite(pixel):
        return f"{pixel} is not finite"
    if not 0 <= pixel <= PIXEL_MAX:
        return f"{str(pixel)[:40]} is outside 0..{PIXEL_MAX}"
    return None


if __name__ == "__main__":
    sys.exit(main())
