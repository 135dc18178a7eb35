# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import asyncio

import pytest

from anomalyclip_hf.serving.web_guard import WebGuard


def answer(method, path, chunks=(), length=None, kind="http"):
    """Status of the answer, and what the application behind the guard received."""
    received, sent = [], []
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]

    async def application(scope, receive, send):
        for _ in chunks:
            received.append(await receive())
        await send({"type": "http.response.start", "status": 200})

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    headers = [(b"content-length", str(length).encode())] if length is not None else []
    scope = {"type": kind, "method": method, "path": path, "headers": headers}
    asyncio.run(WebGuard(application, max_upload_bytes=1_000_000)(scope, receive, send))
    return (sent[0]["status"] if sent else None), received


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("HEAD", "/"),
        ("GET", "/config"),
        ("GET", "/theme.css"),
        ("GET", "/assets/index-1.js"),
        ("GET", "/static/fonts/IBMPlexSans/IBMPlexSans-Bold.woff2"),
        ("GET", "/gradio_api/queue/data"),
        ("GET", "/gradio_api/heartbeat/abc"),
        ("GET", "/gradio_api/file=/tmp/gradio/1/a name.png"),
        ("POST", "/gradio_api/upload"),
        ("POST", "/gradio_api/queue/join"),
    ],
)
def test_what_the_page_needs(method, path):
    assert answer(method, path)[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/gradio_api/file=https://example.com/"),
        ("GET", "/gradio_api/file=HTTP://127.0.0.1/"),
        ("GET", "/gradio_api/file=ftp://a/"),
        ("GET", "/gradio_api/file=file:/etc/passwd"),
        ("GET", "/gradio_api/proxy=https://example.com/"),
        ("GET", "/gradio_api/monitoring"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/gradio_api/deep_link"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/configuration"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/call/score"),
        ("POST", "/gradio_api/api/predict"),
        ("POST", "/gradio_api/vibe-edit/"),
        ("POST", "/"),
        ("PUT", "/gradio_api/upload"),
        ("OPTIONS", "/"),
    ],
)
def test_what_else_there_is(method, path):
    assert answer(method, path) == (403, [])


def test_announced_sizes():
    assert answer("POST", "/gradio_api/queue/join", length=200_000)[0] == 200
    assert answer("POST", "/gradio_api/queue/join", length=200_001)[0] == 413
    assert answer("POST", "/gradio_api/upload", length=1_100_000)[0] == 200
    assert answer("POST", "/gradio_api/upload", length=1_100_001)[0] == 413


def test_sizes_that_nobody_announced():
    _, received = answer("POST", "/gradio_api/queue/join", [bytes(150_000), bytes(150_000)])
    assert [message["type"] for message in received] == ["http.request", "http.disconnect"]


def test_sockets_are_not_opened():
    assert answer("GET", "/", kind="websocket") == (None, [])
