# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What of Gradio's web server a visitor of the demo may reach, and how much may be sent to it."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any


MAX_MESSAGE_BYTES = 200_000  # of an event: numbers and the names of uploaded files
MULTIPART_BYTES = 100_000  # what an upload may have around its file

# All that the page asks for. Gradio offers more, such as fetching any public address for anybody (file=https://…),
# starting ffmpeg on what is sent (process_recording), and calls past the queue.
READABLE = re.compile(
    r"/|/(config|theme\.css|robots\.txt|favicon\.ico|manifest\.json|pwa_icon(/\d+)?)/?|/(assets|static|svelte)/.*"
    r"|/gradio_api/(startup-events|upload_progress|queue/data|queue/status|heartbeat/\w+|app_id|info|theme\.css)/?"
    r"|/gradio_api/file=(?![a-z][a-z0-9+.-]+:).*",
    re.IGNORECASE | re.DOTALL,
)
# run/predict loads a sample image; what runs the model goes through the queue, and Gradio refuses it here.
WRITABLE = re.compile(r"/gradio_api/(upload|queue/join|cancel|reset|run/predict)/?")

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class WebGuard:
    """ASGI middleware that refuses all but the demo's own requests.

    Args:
        app (`Callable`): The application behind it.
        max_upload_bytes (`int`): Size above which an uploaded file is refused.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], max_upload_bytes: int):
        self.app = app
        self.max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer 403 to other addresses and 413 to what is too large; pass on the rest."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        allowed = {"GET": READABLE, "HEAD": READABLE, "POST": WRITABLE}.get(method)
        if allowed is None or not allowed.fullmatch(path):
            await _refuse(send, 403, f"{method} {path[:80]} is not part of this demo.")
            return
        limit = MAX_MESSAGE_BYTES
        if path.startswith("/gradio_api/upload") and method == "POST":
            limit = self.max_upload_bytes + MULTIPART_BYTES
        if _announced_bytes(scope) > limit:
            await _refuse(send, 413, f"The request is larger than {limit} bytes; send a smaller image.")
            return
        await self.app(scope, _cut_after(receive, limit), send)


def _announced_bytes(scope: Message) -> int:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


def _cut_after(receive: Receive, limit: int) -> Receive:
    """Hang up on a sender who did not announce how much comes."""
    taken = 0

    async def receive_up_to_limit() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return message if taken <= limit else {"type": "http.disconnect"}

    return receive_up_to_limit


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
