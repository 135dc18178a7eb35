# Copyright 2026 The anomalyclip_hf authors. Licensed under the Apache License, Version 2.0.
import threading
import time
from functools import partial

import pytest

from anomalyclip_hf.io.read_ahead import read_ahead


def test_results_keep_the_order_of_the_tasks():
    def work(number):
        time.sleep(0.003 * (number % 3))
        return number

    tasks = (partial(work, number) for number in range(30))
    assert list(read_ahead(tasks, workers=4, most=8, cost=lambda number: 1)) == list(range(30))
    assert list(read_ahead([], workers=4, most=8, cost=lambda number: 1)) == []


@pytest.mark.parametrize(("cost", "most"), [(1_000_000, 4), (4_000_000, 1), (9_000_000, 1), (100, 16)])
def test_fewer_expensive_results_wait(cost, most):
    started, taken, ahead = [], [], []

    def work(number):
        started.append(number)
        return number

    tasks = (partial(work, number) for number in range(60))
    for number in read_ahead(tasks, workers=2, most=16, cost=lambda number: cost, budget=4_000_000):
        taken.append(number)
        time.sleep(0.002)  # the readers are faster than the caller
        ahead.append(len(started) - len(taken))
    assert taken == list(range(60))
    assert max(ahead) <= most
    assert max(ahead) >= most - 1


def test_an_error_is_raised_in_its_place():
    def work(number):
        if number == 3:
            raise KeyError(number)
        return number

    results = read_ahead((partial(work, number) for number in range(9)), 2, 4, cost=lambda number: 1)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(results)


def test_nothing_begins_after_the_caller_has_stopped():
    started, release = [], threading.Event()

    def work(number):
        started.append(number)
        if number > 1:
            release.wait(5)
        return number

    results = read_ahead((partial(work, number) for number in range(100)), 2, 50, cost=lambda number: 1)
    assert [next(results), next(results)] == [0, 1]
    threading.Timer(0.05, release.set).start()
    results.close()
    assert len(started) <= 4
