# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""What every input must keep to: an answer or a documented one-line error, little time, little memory."""

import os
import resource
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings


MAX_SECONDS = 1.0  # of processor time, since the machine may be shared
MAX_GROWTH = 1_000_000_000  # bytes of address space beyond what the process has when it begins

# `HYPOTHESIS_PROFILE=long pytest tests/fuzz` looks further, with new inputs each time.
# In CI they are the same as long as the code is: Hypothesis also draws constants of the modules that are imported.
settings.register_profile(
    "ci",
    derandomize=True,
    database=None,
    deadline=None,  # which counts wall time; `guarded` counts processor time
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],  # files are written for each
)
settings.register_profile("long", settings.get_profile("ci"), derandomize=False, max_examples=4000)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
settings.load_profile(PROFILE)


def inputs(count: int) -> settings:
    """So many inputs in CI; as many as the profile says where another is chosen."""
    return settings(max_examples=count) if PROFILE == "ci" else settings()


sprung: list[Any] = []


def spring(*arguments: Any) -> None:
    """A trap: pickles name this function, and nothing may ever call it."""
    sprung.append(arguments)


def _check_error(error: Exception, allowed: tuple[type[Exception], ...]) -> None:
    message = str(error)
    assert type(error).__module__.startswith("anomalyclip_hf") or type(error) in allowed, repr(error)
    assert message, repr(error)
    assert "\n" not in message, message
    assert len(message) < 2000, f"{message[:200]}…, {len(message)} characters"
    assert not isinstance(error.__cause__ or error.__context__, MemoryError), message


def guarded(function: Callable[..., Any], *arguments: Any, allowed: tuple[type[Exception], ...]) -> Any:
    """Call with one input, and see that it keeps to the limits.

    Args:
        function (`Callable`): What is fuzzed.
        *arguments: The input.
        allowed (`tuple[type[Exception], ...]`): What its documentation says that it raises; no subclasses that others
            may have raised from within, as `UnicodeDecodeError`.

    Returns:
        What the function gives, or the error that it raised.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MAX_GROWTH, hard))  # beyond it: MemoryError or RuntimeError
    started = time.process_time()
    try:
        result = function(*arguments)
    except allowed as error:
        result = error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert time.process_time() - started < MAX_SECONDS
    if isinstance(result, Exception):
        _check_error(result, allowed)
    assert not sprung, "code from the input has run"
    return result
