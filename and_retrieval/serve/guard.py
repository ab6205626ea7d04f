"""What stands before every request: it must be addressed to this server, come from its own page, and be small enough.

A page of another site can make a browser send requests to a server on the same machine. Such a request carries that
site's Origin, or, after a name of that site was made to point here (DNS rebinding), that name as its Host.
"""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES = 256 << 10  # of a request that is no upload
UPLOAD_BYTES = 128 << 20  # ten minutes of 48 kHz stereo at 16 bits are 115 MB
NAMES = ("127.0.0.1", "localhost", "[::1]")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
}

_MORE = {
    401: {"WWW-Authenticate": "Bearer"},
    413: {"Connection": "close"},  # otherwise the rest of a body would still be read, to the last byte
}

_bearer = HTTPBearer(auto_error=False, description="The token of the printed address.")


class RefusedError(Exception):
    """A request that is not carried out, with its status and the reason in one line."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(reason)


def needs_token(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None,
    token: Annotated[str | None, Query(description="The token, where no header can be sent.")] = None,
) -> None:
    """Dependency of everything that changes or computes something.

    Raises:
        RefusedError: Neither the header `Authorization: Bearer TOKEN` nor the parameter `token` holds the token.
    """
    given = credentials.credentials if credentials else token
    if given is None or not secrets.compare_digest(given.encode(), request.app.state.served.token.encode()):
        raise RefusedError(401, "this needs the token: open the address that and-retrieval serve printed")


class Guard:
    """ASGI middleware that refuses requests from elsewhere or of too many bytes, and sets the security headers."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in NAMES} | (set(NAMES) if port == 80 else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        begun = False

        async def guarded_send(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                present = {name for name, _ in message["headers"]}
                missing = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in present]
                message["headers"] = [*message["headers"], *missing]
            await send(message)

        try:
            self._check(headers)
            most = UPLOAD_BYTES if headers.get("content-type", "").startswith("audio/") else BODY_BYTES
            await self._app(scope, _limited(receive, headers, most), guarded_send)
        except RefusedError as refusal:
            if begun:
                raise
            await refused(refusal)(scope, receive, guarded_send)

    def _check(self, headers: dict[str, str]) -> None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self._hosts:
            raise RefusedError(403, "this server answers only to its own address on this machine")
        if origin is not None and origin.removeprefix("http://") not in self._hosts:
            raise RefusedError(403, "this server answers only its own page, not one of another site")


def _limited(receive: Receive, headers: dict[str, str], most: int) -> Receive:
    """`receive` that raises `RefusedError` when a body is longer than `most` bytes, whatever its header says."""
    stated = headers.get("content-length", "0")
    if not stated.isdecimal() or int(stated) > most:
        raise too_large(most)
    got = 0

    async def limited() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > most:
            raise too_large(most)
        return message

    return limited


def too_large(most: int) -> RefusedError:
    """The refusal of a body of more than `most` bytes."""
    size = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most >> 10} KiB"
    return RefusedError(413, f"more than {size} were sent; send less, a shorter sound or a compressed one")


def refused(refusal: RefusedError) -> JSONResponse:
    """The answer to a request that is not carried out."""
    return JSONResponse({"error": str(refusal)}, refusal.status, headers=_MORE.get(refusal.status))
