"""HTTP handlers: the files of the page, the list of models, and ``POST /predict``."""

from __future__ import annotations

import asyncio
import json
from asyncio import Future
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tornado.web import HTTPError, RequestHandler, stream_request_body

from lenet_edge.errors import DataError, LenetEdgeError
from lenet_edge.serve.access_control import HEADERS, AccessControl
from lenet_edge.serve.connections import Connections, ServerStream
from lenet_edge.serve.models import Models
from lenet_edge.serve.upload import Upload

R = TypeVar("R")
MAX_BODY_BYTES = 16 * 2**20  # a photo has 3 to 10 MB
MAX_WAITING = 16  # requests that wait for a prediction, including the running one
_MAX_HELD_BYTES = 2 * MAX_BODY_BYTES  # of all request bodies in memory
_MAX_DISCARDED_BYTES = 256 * 2**20  # of a refused request body

_PAGE = Path(__file__).with_name("page")
_PAGE_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/link.js": ("link.js", "text/javascript; charset=utf-8"),
    "/wasm.js": ("wasm.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
# The kind of input for `Models.predict`, by media type.
_INPUT_KINDS = {
    "application/json": "json",
    "application/octet-stream": "image",
    "image/jpeg": "image",
    "image/png": "image",
}
_DEFAULT_MESSAGES = {
    400: "the request is malformed",
    404: "this address does not exist",
    405: "this address does not support this method",
}


class _RequestError(HTTPError):
    """A refused request, with the message that the client gets."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status)
        # Not HTTPError.reason: Tornado writes it into the status line, where some text is unsafe.
        self.message = message


class ServerState:
    """The state that all requests of one server share."""

    def __init__(
        self, models: Models, access: AccessControl, connections: Connections, port: int
    ) -> None:
        self.models, self.access, self.connections = models, access, connections
        self.cookie = f"lenet-edge-{port}"  # browsers send a cookie to all ports of a host
        # One thread for each worker process of `Models`, so that drawings do not wait for images.
        self.model_thread = ThreadPoolExecutor(1, "models")
        self.decoder_thread = ThreadPoolExecutor(1, "decoder")
        self.in_flight = self.waiting = self.held_bytes = 0
        self.is_shutting_down = False


class _Handler(RequestHandler):
    """The base of all handlers: access checks, response headers, and errors as JSON."""

    _is_counted = False

    def initialize(self, state: ServerState) -> None:
        self.state = state

    def set_default_headers(self) -> None:
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> Awaitable[None] | None:
        self.state.in_flight += 1
        self._is_counted = True
        access, headers = self.state.access, self.request.headers
        host, authorization = self.request.host, headers.get("Authorization", "")
        bearer = authorization[7:] if authorization[:7].lower() == "bearer " else None
        tokens = (bearer, self.get_cookie(self.state.cookie), self._query_token())
        message = (
            access.host_error(host)
            or access.origin_error(headers.get("Origin"), host)
            or access.token_error(*tokens)
        )
        if message:
            raise _RequestError(403, message)
        if self.state.is_shutting_down:
            raise _RequestError(503, "the server is shutting down; try again later")
        return None

    def _query_token(self) -> str | None:
        return self.get_query_argument("token", None)

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        if self.state.is_shutting_down:
            self.set_header("Connection", "close")
        return super().finish(chunk)

    def on_finish(self) -> None:
        if self._is_counted:
            self.state.in_flight -= 1
            self._is_counted = False
            self.state.connections.wait_for_client(self.stream)

    @property
    def stream(self) -> ServerStream:
        """The connection of the request."""
        stream: ServerStream = self.request.connection.stream  # type: ignore[union-attr]
        return stream

    def head(self, *args: str) -> Awaitable[None] | None:
        """Answer as GET does; Tornado leaves out the body."""
        result: Awaitable[None] | None = self.get(*args)
        return result

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.on_finish()

    def finish_json(self, facts: dict[str, Any]) -> None:
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(facts))

    def write_error(self, status_code: int, **details: Any) -> None:
        error = details["exc_info"][1] if "exc_info" in details else None
        if isinstance(error, _RequestError):
            message = error.message
        else:
            message = _DEFAULT_MESSAGES.get(status_code, "an internal error of the server")
        if status_code == 503:
            self.set_header("Retry-After", "1")
        self.finish_json({"error": message})

    def log_exception(self, kind: Any, value: Any, trace: Any) -> None:
        if not isinstance(value, HTTPError):
            super().log_exception(kind, value, trace)


class _PageFileHandler(_Handler):
    """Sends a file of the page, and moves the token of the address into a cookie."""

    def get(self) -> None:
        if self._query_token() is not None and self.state.access.token:
            # Redirect, so that the token is not left in the address bar and the history.
            token = self.state.access.token
            self.set_cookie(self.state.cookie, token, httponly=True, samesite="Lax")
            self.redirect("/")
            return
        name, media_type = _PAGE_FILES[self.request.path]
        self.set_header("Content-Type", media_type)
        self.finish((_PAGE / name).read_bytes())


class _ModelsHandler(_Handler):
    """Sends the list of models."""

    def get(self) -> None:
        models = self.state.models
        self.finish_json({
            "subject": "digit" if models.takes_digits else "image",
            "models": [model.to_json() for model in models.served],
            "in_browser": [
                {**model.to_json(), "address": f"models/{number}.wasm"}
                for number, model in enumerate(models.in_browser)
            ],
            "skipped": [{"file": pair.artifact, "reason": pair.reason} for pair in models.skipped],
        })  # fmt: skip


class _WasmHandler(_Handler):
    """Sends a .wasm file."""

    def get(self, number: str) -> None:
        models = self.state.models.in_browser
        if int(number) >= len(models):
            raise HTTPError(404)
        self.set_header("Content-Type", "application/wasm")
        self.finish(models[int(number)].content)


class _SamplesHandler(_Handler):
    """Sends the list of images to try, or one of them."""

    async def get(self, number: str | None = None) -> None:
        models = self.state.models
        samples = await _run_in(self.state.model_thread, lambda: models.samples)
        if number is None:
            self.finish_json({
                "channels": models.channels,
                "samples": [
                    {"label": sample.label, "address": f"samples/{index}.png"}
                    for index, sample in enumerate(samples)
                ]
            })  # fmt: skip
            return
        if int(number) >= len(samples):
            raise HTTPError(404)
        self.set_header("Content-Type", "image/png")
        self.finish(samples[int(number)].content)


class _NotFoundHandler(_Handler):
    """Refuses every other address."""

    def prepare(self) -> Awaitable[None] | None:
        super().prepare()
        raise HTTPError(404)


@stream_request_body
class _PredictHandler(_Handler):
    """Classifies the image in the request body: an image file, or JSON with the pixels."""

    # Read and discard the body of a refused request before sending the error. Closing the
    # connection during the upload would lose the response.

    def initialize(self, state: ServerState) -> None:
        super().initialize(state)
        self.body = Upload()
        self.refusal: HTTPError | None = None
        self.is_body_in_use = False

    def prepare(self) -> Awaitable[None] | None:
        try:
            super().prepare()
            self._check_media_type()
            self._check_chosen()
            self._check_queue()
        except HTTPError as error:
            if self.request.method != "POST":
                raise
            self.refusal = error
        self.request.connection.set_max_body_size(_MAX_DISCARDED_BYTES)  # type: ignore[union-attr]
        return None

    def _check_media_type(self) -> None:
        header = self.request.headers.get("Content-Type", "")
        media_type = header.split(";")[0].strip().lower()
        if self.request.method == "POST" and media_type not in _INPUT_KINDS:
            shown = media_type[:100] or "missing"
            accepted = ", ".join(_INPUT_KINDS)
            raise _RequestError(415, f"the Content-Type is {shown}; send one of {accepted}")
        self.input_kind = _INPUT_KINDS.get(media_type, "image")
        is_json = self.input_kind == "json"
        self.max_bytes = self.state.models.max_json_bytes if is_json else MAX_BODY_BYTES

    def _check_chosen(self) -> None:
        """Read the numbers of the models to run, without the paused ones."""
        text = self.get_query_argument("models", None)
        if text is None:
            self.chosen = None
            return
        words = text.split(",") if text else []
        if not {str(index) for index in range(len(self.state.models.served))}.issuperset(words):
            raise _RequestError(
                400, f"models={text[:40]} names no models; send places in the list of"
                " GET /models, such as models=0,2",
            )  # fmt: skip
        self.chosen = sorted({int(word) for word in words})

    def _check_queue(self) -> None:
        if self.state.waiting >= MAX_WAITING:
            raise _RequestError(503, "too many images are waiting; try again in a second")

    def data_received(self, chunk: bytes) -> None:
        if self.refusal:
            return
        if self.body.size + len(chunk) > self.max_bytes:
            self.refusal = _RequestError(413, self._size_message())
        elif self.state.held_bytes + len(chunk) > _MAX_HELD_BYTES:
            self.refusal = _RequestError(503, "too many uploads at once; try again in a second")
        else:
            try:
                self.body.append(chunk)
                self.state.held_bytes += len(chunk)
                return
            except OSError as error:
                self.refusal = _RequestError(503, f"no room for the upload ({error.strerror})")
        self._release_body()

    def _size_message(self) -> str:
        if self.input_kind == "json":
            return f"the limit for JSON is {self.max_bytes // 2**10} KiB; send an image file"
        return f"the limit is {self.max_bytes // 2**20} MiB; send a smaller image"

    def _release_body(self) -> None:
        self.state.held_bytes -= self.body.size
        self.body.close()

    def on_finish(self) -> None:
        # The decoder may still read the body of a client that has disconnected.
        if not self.is_body_in_use:
            self._release_body()
        super().on_finish()

    async def post(self) -> None:
        if self.refusal:
            raise self.refusal
        self._check_queue()
        self.state.connections.wait_for_server(self.stream)
        self.state.waiting += 1
        self.is_body_in_use = True
        try:
            pixels = await self._load_pixels()
            self._release_body()
            predictions = await _run_in(
                self.state.model_thread, self.state.models.predict, pixels, self.chosen
            )
        except DataError as error:
            raise _RequestError(400, str(error)) from error
        except LenetEdgeError as error:
            raise _RequestError(500, str(error)) from error
        finally:
            self._release_body()
            self.state.waiting -= 1
        self.finish_json(predictions)

    async def _load_pixels(self) -> dict[str, Any]:
        models, body = self.state.models, self.body
        if self.input_kind == "json":
            text = body.read().decode(errors="replace")
            return await _run_in(self.state.model_thread, models.read_json, text)
        return await _run_in(self.state.decoder_thread, models.decode_image, body.path)


async def _run_in(thread: ThreadPoolExecutor, function: Callable[..., R], *arguments: Any) -> R:
    return await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)


def routes(state: ServerState) -> list[Any]:
    """Return the handler of each address."""
    shared = {"state": state}
    files: list[Any] = [
        (path.replace(".", r"\."), _PageFileHandler, shared) for path in _PAGE_FILES
    ]
    return [
        *files,
        ("/models", _ModelsHandler, shared),
        (r"/models/(\d{1,6})\.wasm", _WasmHandler, shared),
        ("/samples", _SamplesHandler, shared),
        (r"/samples/(\d{1,6})\.png", _SamplesHandler, shared),
        ("/predict", _PredictHandler, shared),
        (".*", _NotFoundHandler, shared),
    ]
