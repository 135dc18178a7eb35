# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
"""Read images in threads while the model computes: Pillow and NumPy release the interpreter's lock."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar


PIXELS_IN_FLIGHT = 50_000_000  # of images that were read ahead

Result = TypeVar("Result")


def read_ahead(
    tasks: Iterable[Callable[[], Result]],
    workers: int,
    most: int,
    cost: Callable[[Result], int],
    budget: int = PIXELS_IN_FLIGHT,
) -> Iterator[Result]:
    """Run tasks in threads, a bounded number ahead of the caller, and yield their results in order.

    The number starts at 1. From then on it is the budget divided by the most expensive of the last `most` results, so
    that memory stays bounded for images of any size. If the caller stops early, waiting tasks are cancelled.

    Args:
        tasks (`Iterable[Callable]`): Functions without arguments; the iterable is read as needed.
        workers (`int`): Number of threads.
        most (`int`): Largest number of tasks ahead of the caller, 1 or more.
        cost (`Callable`): Returns the cost of a result, such as its number of pixels; 1 or more.
        budget (`int`, *optional*, defaults to 50 million): Total cost of the results that wait.

    Yields:
        The result of each task. If a task raises an exception, it is raised when its result is due.

    Example:
    ```python
    >>> from functools import partial
    >>> from anomalyclip_hf.io.read_ahead import read_ahead

    >>> list(read_ahead((partial(pow, number, 2) for number in range(5)), workers=2, most=4, cost=lambda result: 1))
    [0, 1, 4, 9, 16]

    ```
    """
    tasks = iter(tasks)
    recent: deque[int] = deque(maxlen=most)
    with ThreadPoolExecutor(workers, thread_name_prefix="reader") as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            while True:
                ahead = min(most, max(1, budget // max(recent))) if recent else 1
                waiting.extend(pool.submit(task) for task in islice(tasks, max(0, ahead - len(waiting))))
                if not waiting:
                    return
                result = waiting.popleft().result()
                recent.append(cost(result))
                yield result
        finally:
            for future in waiting:
                future.cancel()


__all__ = ["read_ahead"]
