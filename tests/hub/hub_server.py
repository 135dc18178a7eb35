# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""A Hub on the loopback address for tests with the real client, with faults to order and a log of what was asked."""

import json
import re
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hub.hub_api import Answer, HubApi, Request, StorageApi
from hub.hub_storage import Storage, User


TOKEN = "hf_tests_write"
READ_TOKEN = "hf_tests_read"
OTHER_TOKEN = "hf_others_write"
USERS = {TOKEN: User("someone"), READ_TOKEN: User("someone", role="read"), OTHER_TOKEN: User("another")}
HOST = "127.0.0.1"


@dataclass
class Fault:
    """What goes wrong with requests, such as `Fault(r"GET .*/model\\.safetensors", status=503, times=3)`.

    Args:
        match (`str`): Regular expression, searched in `"<method> <path>?<query>"`. Large files come from
            `GET /files/<sha256>/<name>` and go to `PUT /upload/<sha256>`, on the storage's own port.
        times (`int`, *optional*): How many matching requests it strikes; `None` is all of them.
        status (`int`, *optional*): Answered instead of the right one.
        headers (`dict`): Added to the answer, such as `{"Retry-After": "1"}`.
        cut_response (`float` or `int`, *optional*): The connection ends after this share (`float`) or number of
            bytes (`int`) of the answer's body.
        cut_request (`float` or `int`, *optional*): The same while the request's body is read.
        reset (`bool`): A cut is a TCP reset, not an orderly end.
        delay (`float`): Seconds before the answer begins.
        pause (`float`): Seconds between each of ten pieces of the answer's body.
        silent (`bool`): No answer ever comes; the connection stays open.
    """

    match: str
    times: int | None = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_response: float | None = None
    cut_request: float | None = None
    reset: bool = False
    delay: float = 0
    pause: float = 0
    silent: bool = False


@dataclass
class LoggedRequest:
    """One request as it came in."""

    method: str
    path: str  # with its query
    authorised: bool  # whether it carried a token
    user_agent: str
    headers: dict[str, str]  # names in lower case
    began: float  # time.monotonic()
    received: int = 0  # bytes of its body
    status: int | None = None  # None where no answer went out
    sent: int = 0  # bytes of the answer's body
    fault: Fault | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class HubServer:
    """A Hub and its storage, each on its port of 127.0.0.1; `with HubServer() as hub: ...`.

    Args:
        port (`int`): Of the Hub; 0 takes a free one.
    """

    def __init__(self, port: int = 0):
        self.storage = Storage(dict(USERS))
        self.faults: list[Fault] = []
        self.requests: list[LoggedRequest] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._listeners = [_Listener(self, port), _Listener(self, 0)]
        self.endpoint, storage_url = (f"http://{HOST}:{listener.server_port}" for listener in self._listeners)
        for listener, api in zip(self._listeners, (HubApi, StorageApi), strict=True):
            listener.api = api(self.storage, self.endpoint, storage_url)

    def __enter__(self) -> "HubServer":
        for listener in self._listeners:
            threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop answering and end every connection, also those that a client keeps for later."""
        self.closing.set()
        for listener in self._listeners:
            listener.shutdown()
            listener.server_close()
            listener.end_connections()

    def asked(self, pattern: str) -> list[LoggedRequest]:
        """Requests so far whose `"<method> <path>"` matches a regular expression."""
        return [request for request in self.requests if re.search(pattern, str(request))]

    def register(self, request: LoggedRequest) -> None:
        """Log a request and give it the first fault that matches."""
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times != 0 and re.search(fault.match, str(request)):
                    fault.times = fault.times and fault.times - 1
                    request.fault = fault
                    return


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: HubServer, port: int):
        self.hub = hub
        self.connections: set[socket.socket] = set()
        super().__init__((HOST, port), _Handler)

    def get_request(self):
        connection, address = super().get_request()
        self.connections.add(connection)
        return connection, address

    def shutdown_request(self, request) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # the client was faster
                continue

    def handle_error(self, request, client_address) -> None:
        """A client that goes away is part of the tests; anything else is a defect and is shown."""
        error = sys.exc_info()[1]  # of a closed connection, also while the end of another error is written
        if not any(isinstance(one, (ConnectionError, TimeoutError)) for one in (error, error and error.__context__)):
            super().handle_error(request, client_address)


class _CutError(ConnectionError):
    """The connection ends here."""


def _share_of(size: int, cut: float) -> int:
    return cut if isinstance(cut, int) else int(size * cut)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or headers and body wait for each other

    def log_message(self, format, *arguments) -> None:
        """Nothing on stderr; `HubServer.requests` is the log."""

    def _serve(self) -> None:
        hub, headers = self.server.hub, {name.lower(): value for name, value in self.headers.items()}
        agent, authorised = headers.get("user-agent", ""), "authorization" in headers
        entry = LoggedRequest(self.command, self.path, authorised, agent, headers, time.monotonic())
        hub.register(entry)
        fault = entry.fault or Fault("")
        try:
            body = self._read_body(entry, fault.cut_request)
            if fault.silent:
                hub.closing.wait()
                raise _CutError
            hub.closing.wait(fault.delay)
            if fault.status:
                answer = Answer({"error": f"fault of status {fault.status}"}, fault.status)
            else:
                answer = self.server.api.answer(Request(self.command, self.path, headers, body))
            answer.headers |= fault.headers
            self._send(entry, fault, answer)
        except _CutError:
            self._hang_up(fault.reset)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def _read_body(self, entry: LoggedRequest, cut: float | None) -> bytes:
        size = int(self.headers.get("Content-Length") or 0)
        wanted = size if cut is None else _share_of(size, cut)
        body = bytearray()
        while len(body) < wanted and (piece := self.rfile.read1(min(1 << 16, wanted - len(body)))):
            body += piece
            entry.received = len(body)
        if len(body) < size:
            raise _CutError
        return bytes(body)

    def _send(self, entry: LoggedRequest, fault: Fault, answer: Answer) -> None:
        body, kind = answer.content, "application/octet-stream"
        if not isinstance(body, bytes):
            body, kind = json.dumps(body).encode(), "application/json"
        entry.status = answer.status
        self.send_response(answer.status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        wanted = len(body) if fault.cut_response is None else _share_of(len(body), fault.cut_response)
        piece = -(-len(body) // 10) if fault.pause else 1 << 16
        for start in range(0, wanted, piece or 1):
            self.server.hub.closing.wait(fault.pause if start else 0)
            self.wfile.write(body[start : min(start + piece, wanted)])
            entry.sent = min(start + piece, wanted)
        if fault.cut_response is not None:
            raise _CutError

    def _hang_up(self, reset: bool) -> None:
        self.close_connection = True
        if reset:  # closing with no time to linger sends a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.close(self.connection.detach())
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
