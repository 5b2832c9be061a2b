"""The script's random numbers stay as they are, also while a thread of ours runs the script's code."""

import random
import threading

import numpy as np
import torch

from tui_lab.core.watch.model.unchanged_rng import unchanged_rng


def draw() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(1))]


def test_block_does_not_change_the_random_numbers() -> None:
    with unchanged_rng():
        expected = draw()
    assert draw() == expected


def test_error_in_the_block() -> None:
    with unchanged_rng():
        expected = draw()
    try:
        with unchanged_rng():
            draw()
            raise KeyError
    except KeyError:
        pass
    assert draw() == expected


def test_another_thread_does_not_repeat_the_numbers_of_the_script() -> None:
    has_entered = threading.Event()
    has_drawn = threading.Event()

    def block() -> None:
        with unchanged_rng():
            has_entered.set()
            has_drawn.wait()

    thread = threading.Thread(target=block)
    thread.start()
    has_entered.wait()
    drawn = draw()
    has_drawn.set()
    thread.join()
    assert draw() != drawn
