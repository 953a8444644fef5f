"""What each address answers: its files, the models, and ``POST /predict``."""

from __future__ import annotations

import asyncio
import json
from asyncio import Future
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tornado.web import HTTPError, RequestHandler, stream_request_body

from lenet_edge.errors import DataError, LenetEdgeError
from lenet_edge.serve.access import HEADERS, Access
from lenet_edge.serve.models import Models

MAX_BODY_BYTES = 16 * 2**20  # a photo has 3 to 10 MB
MAX_WAITING = 16  # images that wait for the models, the one they are busy with included
_MAX_HELD_BYTES = 4 * MAX_BODY_BYTES  # of all bodies that are being received
_MAX_DROPPED_BYTES = 256 * 2**20  # of a body that is too large: read, so that its sender can listen

_PAGE = Path(__file__).with_name("page")
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/wasm.js": ("wasm.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_KINDS = {
    "application/json": "json",
    "application/octet-stream": "image",
    "image/jpeg": "image",
    "image/png": "image",
}
_REASONS = {
    400: "the request is malformed",
    404: "there is nothing here",
    405: "this address does not take that method",
}


class _Refused(HTTPError):
    """A request that is not answered, and the words that say why."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(status)
        self.words = words  # not `reason`: that goes into the status line, and must be tame


class State:
    """What the requests of one server share."""

    def __init__(self, models: Models, access: Access, port: int) -> None:
        self.models, self.access = models, access
        self.cookie = f"lenet-edge-{port}"  # cookies know no ports
        self.asking = ThreadPoolExecutor(1, "models")
        self.in_flight = self.waiting = self.held_bytes = 0
        self.ending = False  # then who comes on a connection that was kept is sent away


class _Handler(RequestHandler):
    """What every answer has in common: the checks before it, the headers, errors as JSON."""

    _counted = False

    def initialize(self, state: State) -> None:
        self.state = state

    def set_default_headers(self) -> None:
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> Awaitable[None] | None:
        self.state.in_flight += 1
        self._counted = True
        access, headers = self.state.access, self.request.headers
        host, given = self.request.host, headers.get("Authorization", "")
        bearer = given[7:] if given[:7].lower() == "bearer " else None
        tokens = (bearer, self.get_cookie(self.state.cookie), self._query_token())
        reason = (
            access.refuses_host(host)
            or access.refuses_origin(headers.get("Origin"), host)
            or access.refuses_token(*tokens)
        )
        if reason:
            raise _Refused(403, reason)
        if self.state.ending:
            raise _Refused(503, "the server is ending; ask again when it is back")
        return None

    def _query_token(self) -> str | None:
        return self.get_query_argument("token", None)

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        if self.state.ending:
            self.set_header("Connection", "close")
        return super().finish(chunk)

    def on_finish(self) -> None:
        if self._counted:
            self.state.in_flight -= 1
            self._counted = False

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.on_finish()

    def answer(self, facts: dict[str, Any]) -> None:
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(facts))

    def write_error(self, status_code: int, **details: Any) -> None:
        error = details["exc_info"][1] if "exc_info" in details else None
        words = error.words if isinstance(error, _Refused) else _REASONS.get(status_code)
        if status_code == 503:
            self.set_header("Retry-After", "1")
        self.answer({"error": words or "the server has made a mistake"})

    def log_exception(self, kind: Any, value: Any, trace: Any) -> None:
        if not isinstance(value, HTTPError):
            super().log_exception(kind, value, trace)


class _File(_Handler):
    def get(self) -> None:
        cookie = self.state.cookie
        if self._query_token() is not None and self.state.access.token:
            # Out of the address line, the history and every screenshot.
            self.set_cookie(cookie, self.state.access.token, httponly=True, samesite="Lax")
            self.redirect("/")
            return
        name, kind = _FILES[self.request.path]
        self.set_header("Content-Type", kind)
        self.finish((_PAGE / name).read_bytes())


class _Models(_Handler):
    def get(self) -> None:
        models = self.state.models
        self.answer({
            "models": [one.to_json() for one in models.served],
            "in_browser": [
                {**one.to_json(), "address": f"models/{number}.wasm"}
                for number, one in enumerate(models.in_browser)
            ],
            "skipped": [{"file": one.artifact, "reason": one.reason} for one in models.skipped],
        })  # fmt: skip


class _Wasm(_Handler):
    def get(self, number: str) -> None:
        files = self.state.models.in_browser
        if int(number) >= len(files):
            raise HTTPError(404)
        self.set_header("Content-Type", "application/wasm")
        self.finish(files[int(number)].content)


class _Nothing(_Handler):
    def prepare(self) -> Awaitable[None] | None:
        super().prepare()
        raise HTTPError(404)


@stream_request_body
class _Predict(_Handler):
    """Answers a body that is an image file, or JSON with the pixels."""

    # What refuses a request is kept until its body has come, and the body is dropped meanwhile: a
    # connection that is closed under a sender's hands takes the answer with it.

    def initialize(self, state: State) -> None:
        super().initialize(state)
        self.body = bytearray()
        self.refusal: HTTPError | None = None

    def prepare(self) -> Awaitable[None] | None:
        try:
            super().prepare()
            self._check_media_type()
            self._check_queue()
        except HTTPError as error:
            if self.request.method != "POST":
                raise
            self.refusal = error
        self.request.connection.set_max_body_size(_MAX_DROPPED_BYTES)  # type: ignore[union-attr]
        return None

    def _check_media_type(self) -> None:
        given = self.request.headers.get("Content-Type", "").split(";")[0].strip().lower()
        if self.request.method == "POST" and given not in _KINDS:
            said = given[:100] or "missing"
            raise _Refused(415, f"the Content-Type is {said}; send one of {', '.join(_KINDS)}")
        self.kind = _KINDS.get(given, "image")

    def _check_queue(self) -> None:
        if self.state.waiting >= MAX_WAITING:
            raise _Refused(503, "too many images are waiting; try again in a second")

    def data_received(self, chunk: bytes) -> None:
        if self.refusal:
            return
        if len(self.body) + len(chunk) > MAX_BODY_BYTES:
            limit = MAX_BODY_BYTES // 2**20
            self.refusal = _Refused(413, f"the limit is {limit} MiB; send a smaller image")
        elif self.state.held_bytes + len(chunk) > _MAX_HELD_BYTES:
            self.refusal = _Refused(503, "too many images are being sent; try again in a second")
        else:
            self.body += chunk
            self.state.held_bytes += len(chunk)
            return
        self._let_go()

    def _let_go(self) -> None:
        self.state.held_bytes -= len(self.body)
        self.body = bytearray()

    def on_finish(self) -> None:
        self._let_go()
        super().on_finish()

    async def post(self) -> None:
        if self.refusal:
            raise self.refusal
        self._check_queue()
        state = self.state
        state.waiting += 1
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                state.asking, state.models.answer, self.body, self.kind
            )
        except DataError as error:
            raise _Refused(400, str(error)) from error
        except LenetEdgeError as error:
            raise _Refused(500, str(error)) from error
        finally:
            state.waiting -= 1
        self.answer(found)


def routes(state: State) -> list[Any]:
    """Return who answers at which address."""
    shared = {"state": state}
    files: list[Any] = [(path.replace(".", r"\."), _File, shared) for path in _FILES]
    return [
        *files,
        ("/models", _Models, shared),
        (r"/models/(\d{1,6})\.wasm", _Wasm, shared),
        ("/predict", _Predict, shared),
        (".*", _Nothing, shared),
    ]
