# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""The handler of a Hugging Face Inference Endpoint: one image in, its score, regions and heat map out as JSON.

This file stands as `handler.py` in a model repository, and needs nothing but transformers and the model's own code:
`anomalyclip_hf` where that is installed, else what the repository carries. What a caller sends is not trusted.
"""

import base64
import http.client
import ipaddress
import math
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from PIL import Image
from transformers import pipeline


MAX_BYTES = 20_000_000  # of an image file
MAX_PIXELS = 50_000_000  # width times height; a telephone takes 12 or 48 million
TIMEOUT = 60.0  # seconds, for one request
FETCH_TIMEOUT = 20.0  # seconds, for one address with all its redirects
MAX_REDIRECTS = 3
URL_SWITCH = "ANOMALYCLIP_ALLOW_URLS"
PARAMETERS = ("threshold", "pixel_threshold")

# Global IPv6 unicast; outside of it lie mapped IPv4 and NAT64, through which private IPv4 can be reached.
GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
SIX_TO_FOUR = ipaddress.ip_network("2002::/16")  # carries an IPv4 address too


class EndpointHandler:
    """Answers the requests of an Inference Endpoint.

    What it raises, Hugging Face's inference toolkit sends back as `{"error": "…"}` with status 400; so a caller's
    mistake is a `ValueError` of one line.

    Args:
        path (`str`, *optional*): Folder of the repository; defaults to the one in which this file stands.
        max_bytes (`int`, *optional*, defaults to 20,000,000): Size above which an image file is refused.
        max_pixels (`int`, *optional*, defaults to 50,000,000):
            Width times height above which an image is refused, before it is decoded.
        timeout (`float`, *optional*, defaults to 60.0): Seconds after which a request is given up.
        allow_urls (`bool`, *optional*):
            Fetch images from addresses that callers give; public ones only. Defaults to whether the environment has
            `ANOMALYCLIP_ALLOW_URLS=1`.

    Raises:
        ValueError: If `path` is no folder.

    Example:
    ```python
    >>> import base64, io
    >>> from PIL import Image
    >>> from anomalyclip_hf import DEFAULT_MODEL
    >>> from anomalyclip_hf.serving.handler import EndpointHandler

    >>> handler = EndpointHandler(DEFAULT_MODEL)
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (32, 20), "grey").save(file, "PNG")
    >>> (result,) = handler({"inputs": base64.b64encode(file.getvalue()).decode(), "parameters": {"threshold": 0.9}})
    >>> sorted(result)
    ['anomaly_map', 'anomaly_map_maximum', 'label', 'mask', 'regions', 'score']

    ```
    """

    def __init__(
        self,
        path: str = "",
        *,
        max_bytes: int = MAX_BYTES,
        max_pixels: int = MAX_PIXELS,
        timeout: float = TIMEOUT,
        allow_urls: bool | None = None,
    ):
        self.pipe = _load_pipeline(Path(path) if path else Path(__file__).parent)
        self.max_bytes, self.max_pixels = max_bytes, max_pixels
        self.allow_urls = os.environ.get(URL_SWITCH) == "1" if allow_urls is None else allow_urls
        self._run = TimeLimit(timeout)

    def __call__(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """Score one image.

        Args:
            data (`dict`): With

                - `inputs`: the image as base64, `data:` URL, bytes of a file or PIL image; an `http(s)://` URL only
                  where that is switched on;
                - `parameters` (`dict`, *optional*): `threshold` (score in [0, 1]) and `pixel_threshold` (map value
                  from which a pixel belongs to the mask), numbers or strings of numbers.

        Returns:
            `list[dict]`: of one `dict`, ready for JSON, as `pipeline(..., output="json")` gives it: `score`, `label`,
            `regions`, `anomaly_map` and `mask` as base64 PNG, `anomaly_map_maximum`.

        Raises:
            ValueError: If the request is not of this form, the image cannot be read or is too large, or time is up;
                one line.
        """
        if not isinstance(data, dict) or "inputs" not in data:
            raise ValueError(
                'the request has no "inputs"; expected {"inputs": an image as base64, "parameters": {…}}.'
            )
        if unknown := sorted(map(str, set(data) - {"inputs", "parameters"})):
            raise ValueError(f"the request has {_short(unknown)}; expected inputs and parameters only.")
        parameters = read_parameters(data.get("parameters"))
        return [self._run(self._score, data["inputs"], parameters)]

    def _score(self, inputs: Any, parameters: dict[str, float]) -> dict[str, Any]:
        image = read_inputs(inputs, self.max_bytes, self.allow_urls)
        return self.pipe(image, max_pixels=self.max_pixels, output="json", **parameters)


def _load_pipeline(folder: Path) -> Any:
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; expected the folder of a model repository.")
    if find_spec("anomalyclip_hf") is not None:
        import anomalyclip_hf

        anomalyclip_hf.register()
        return pipeline("anomaly-detection", model=str(folder))
    # This is no new trust: whoever runs this file runs code of this folder already, and no other place is asked.
    return pipeline("anomaly-detection", model=str(folder), trust_remote_code=True)


class TimeLimit:
    """Runs one function after another, each for a limited time.

    Python cannot end a thread, so what takes longer is waited for no more, but goes on until it ends by itself. That
    is soon: sizes are limited, the model sees every image at one size, and connections are cut.

    Args:
        seconds (`float`): That each may take, its time in the queue included.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="anomalyclip")

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run `function(*arguments)` and give what it gives.

        Raises:
            ValueError: If time is up.
        """
        future = self._executor.submit(function, *arguments)
        try:
            return future.result(self.seconds)
        except TimeoutError as error:
            future.cancel()
            raise ValueError(f"the request took longer than {self.seconds:g} seconds; try a smaller image.") from error


def read_parameters(parameters: Any) -> dict[str, float]:
    """Take the thresholds of a request.

    Args:
        parameters (`dict`, *optional*): `threshold` and `pixel_threshold`; what is `None` is left out. Strings of
            numbers count, since the toolkit takes parameters from an address (`?threshold=0.5`) too.

    Returns:
        `dict[str, float]`

    Raises:
        ValueError: If there are others, or one is no finite number.
    """
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, dict):
        raise ValueError(
            f"parameters is {type(parameters).__name__}; expected an object with {' and '.join(PARAMETERS)}."
        )
    if unknown := sorted(map(str, set(parameters) - set(PARAMETERS))):
        raise ValueError(f"parameters has {_short(unknown)}; expected {' and '.join(PARAMETERS)} only.")
    return {name: read_number(name, value) for name, value in parameters.items() if value is not None}


def read_number(name: str, value: Any) -> float:
    """A finite number, or the string of one.

    Raises:
        ValueError: naming what it is instead.
    """
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, (int, float, str)) else float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} is {_short(value)}; expected a number.")
    return number


def read_inputs(inputs: Any, max_bytes: int = MAX_BYTES, allow_urls: bool = False) -> bytes | Image.Image:
    """Take the image of a request: the bytes of its file, which are not looked into yet.

    Args:
        inputs: Base64, `data:` URL, bytes, PIL image, or `http(s)://` URL.
        max_bytes (`int`, *optional*, defaults to 20,000,000): Size above which a file is refused.
        allow_urls (`bool`, *optional*, defaults to `False`):
            Fetch what an `http(s)://` URL names, from public addresses.

    Returns:
        `bytes` or `PIL.Image.Image`

    Raises:
        ValueError: If it is none of these, too large, or not allowed.
    """
    if isinstance(inputs, Image.Image):
        return inputs  # the toolkit itself decodes a body of type image/*
    if isinstance(inputs, str):
        inputs = _read_text(inputs, max_bytes, allow_urls)
    if not isinstance(inputs, (bytes, bytearray)):
        raise ValueError(f"inputs is {type(inputs).__name__}; expected an image as base64, data: URL, or bytes.")
    if len(inputs) > max_bytes:
        raise ValueError(f"the image has {len(inputs)} bytes, the limit is {max_bytes}; make it smaller.")
    return bytes(inputs)


def _read_text(text: str, max_bytes: int, allow_urls: bool) -> bytes:
    if text[:8].lower().startswith(("http://", "https://")):
        if not allow_urls:
            raise ValueError(f"addresses are not fetched here; send the image as base64, or set {URL_SWITCH}=1.")
        return fetch_public_url(text, max_bytes)
    if text[:5].lower() == "data:":
        head, _, text = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise ValueError("inputs is a data: URL of another form; expected data:image/png;base64,….")
    # 4 characters hold 3 bytes; line breaks, as `base64` writes them, make it 2 % longer.
    if len(text) > max_bytes * 1.4 + 4:
        raise ValueError(f"the image has more than {max_bytes} bytes; make it smaller.")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise ValueError(f"inputs is no valid base64 ({error}); send the bytes of an image file as base64.") from error


def _short(value: Any) -> str:
    """What a caller sent, in a form that fits into one line."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


# ------------------------------------------------------------------------------------- addresses that callers give


def fetch_public_url(url: str, max_bytes: int = MAX_BYTES, timeout: float = FETCH_TIMEOUT) -> bytes:
    """Fetch what a stranger names, from public addresses only.

    A name is resolved once, every address it has must be public, and the connection goes to one of just these: an
    answer that changes meanwhile (DNS rebinding) changes nothing. Redirects are followed by the same rule. Proxies of
    the environment are not used, since behind them nothing could be checked.

    Args:
        url (`str`): `http://…` or `https://…`.
        max_bytes (`int`, *optional*, defaults to 20,000,000): Where reading stops.
        timeout (`float`, *optional*, defaults to 20.0): Seconds for all of it.

    Returns:
        `bytes`

    Raises:
        ValueError: If the address is not public, cannot be reached, or sends something else than a file of that size.
    """
    deadline = time.monotonic() + timeout
    for _ in range(MAX_REDIRECTS + 1):
        try:
            status, location, content = _fetch_once(url, max_bytes, deadline)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            if time.monotonic() >= deadline:
                raise ValueError(
                    f"{_short(url)} takes longer than {timeout:g} seconds; send the file itself."
                ) from error
            raise ValueError(f"{_short(url)} cannot be reached ({error}); check the address.") from error
        if len(content) > max_bytes:
            raise ValueError(f"{_short(url)} sends more than {max_bytes} bytes; make the image smaller.")
        if status == 200:
            return content
        if status not in (301, 302, 303, 307, 308) or not location:
            raise ValueError(f"{_short(url)} answered {status}; expected an image.")
        try:
            url = urljoin(url, location)
        except ValueError as error:
            raise ValueError(f"{_short(url)} redirects to {_short(location)}, which is no address.") from error
    raise ValueError(f"{_short(url)} is the end of more than {MAX_REDIRECTS} redirects; give the address of the file.")


def _fetch_once(url: str, max_bytes: int, deadline: float) -> tuple[int, str | None, bytes]:
    """Ask one server: status, where it redirects to, and up to one byte more than allowed."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{_short(url)} is no address ({error}); expected http://… or https://….") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{_short(url)} is no address of the web; expected http://… or https://….")
    port = port or (443 if parts.scheme == "https" else 80)
    channel = _connect(_public_addresses(host, port), deadline)
    connection = http.client.HTTPConnection(host, port)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        channel = context.wrap_socket(channel, server_hostname=host, do_handshake_on_connect=False)
        connection = http.client.HTTPSConnection(host, port, context=context)
    connection.sock = channel  # so that it does not resolve and connect by itself
    with channel, _cut_at(channel, deadline):
        if isinstance(channel, ssl.SSLSocket):
            channel.do_handshake()
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"User-Agent": "anomalyclip_hf", "Accept": "image/*"})
        response = connection.getresponse()
        content = response.read(max_bytes + 1) if response.status == 200 else b""
        if time.monotonic() >= deadline:
            raise TimeoutError("time is up")
        return response.status, response.headers.get("Location"), content


@contextmanager
def _cut_at(channel: socket.socket, deadline: float) -> Iterator[None]:
    """End a connection at the deadline, since a server may send a byte now and then for ever."""

    def cut() -> None:
        with suppress(OSError):  # it may have ended by itself
            socket.socket.shutdown(channel, socket.SHUT_RDWR)

    timer = threading.Timer(max(deadline - time.monotonic(), 0), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _public_addresses(host: str, port: int) -> list[tuple[int, Any]]:
    """Resolve a name, once; refused unless every address that it has is public."""
    found: list[tuple[int, Any]] = [
        (family, address) for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    ]
    if not found or not all(is_public(str(address[0])) for _, address in found):
        raise ValueError(f"{_short(host)} is not a public address; only those are fetched.")
    return found


def is_public(address: str) -> bool:
    """Whether an IP address is of the public internet: not private, loopback, link-local, multicast or reserved."""
    ip = ipaddress.ip_address(address)
    if ip.version == 6 and (ip not in GLOBAL_IPV6 or ip in SIX_TO_FOUR):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def _connect(addresses: list[tuple[int, Any]], deadline: float) -> socket.socket:
    """Connect to the first address that answers; no name is resolved again."""
    problem: OSError = OSError("no address")
    for family, address in addresses:
        connected = socket.socket(family, socket.SOCK_STREAM)
        try:
            connected.settimeout(max(deadline - time.monotonic(), 0.001))
            connected.connect(address)
            return connected
        except OSError as error:
            connected.close()
            problem = error
    raise problem
