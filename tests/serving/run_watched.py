# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Run `app.py` of this folder and log its connections to a file: `python -S run_watched.py FILE`."""

import runpy
import socket
import sys
from pathlib import Path


def watch_connections(name: str, calls: Path) -> None:
    """Log every connection that leaves this machine."""
    real = getattr(socket.socket, name)

    def watched(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
            with calls.open("a") as file:
                print("connect", address, file=file)
        return real(self, address)

    setattr(socket.socket, name, watched)


def watch_names(calls: Path) -> None:
    """Log every name that is looked up."""
    real = socket.getaddrinfo

    def watched(host, *args, **kwargs):
        if host not in ("127.0.0.1", "localhost", "0.0.0.0", None):
            with calls.open("a") as file:
                print("resolve", host, file=file)
        return real(host, *args, **kwargs)

    socket.getaddrinfo = watched


if __name__ == "__main__":
    log = Path(sys.argv[1])
    log.touch()
    for method in ("connect", "connect_ex"):
        watch_connections(method, log)
    watch_names(log)
    sys.path[0] = str(Path.cwd())
    runpy.run_path("app.py", run_name="__main__")
