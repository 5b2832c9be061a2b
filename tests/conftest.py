"""Fixtures for all tests: own cache and runs folders, and process-wide state that is restored after each test."""

import contextlib
import gc
import importlib
import itertools
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.command_line import cli_error as cli_error
from tests.command_line import doctor_in_process as doctor_in_process
from tests.command_line import run_cli as run_cli
from tests.command_line import run_with_child as run_with_child
from tests.plugin_packages import install as install
from tests.process import cli as cli
from tests.process import command as command
from tests.quick_hypothesis import draw_no_constants_of_the_project, write_table_of_utf_8
from tui_lab.core.kernels.process_tuning import reduce_gc

# Before torch is imported, here and in child processes: with several workers, threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SEED = int(os.environ.get("TEST_SEED", "1729"))
"""Of all random numbers that tests draw, so that no test fails by chance. `make flakes` tries other seeds."""

# A limit of time for each example would fail tests on a busy machine. `make fuzz` tries thousands of inputs.
settings.register_profile("quick", max_examples=40, deadline=None, derandomize="TEST_SEED" not in os.environ)
settings.load_profile("quick")
draw_no_constants_of_the_project()

# As tui-lab itself does: garbage collection took two fifths of the time of a test of the app.
reduce_gc()


def pytest_xdist_auto_num_workers() -> int:
    """Use 1.5 workers per core with `-n auto`, since tests of the app often wait for it to be idle."""
    cores = len(os.sched_getaffinity(0))
    return cores + cores // 2


def pytest_configure(config: pytest.Config) -> None:
    """pytest-randomly decides the order of the tests, and not their random numbers."""
    config.option.randomly_reset_seed = False


def pytest_collection(session: pytest.Session) -> None:
    """Import the test modules, each worker beginning with others.

    In a fresh clone all of them have to be compiled. Workers that import in the same order would all compile the same.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    folder = session.config.rootpath
    modules = [
        ".".join(path.relative_to(folder).with_suffix("").parts) for path in sorted(folder.glob("tests/**/test_*.py"))
    ]
    first = len(modules) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    for module in modules[first:] + modules[:first]:
        with contextlib.suppress(Exception, pytest.skip.Exception):  # The collection reports it.
            importlib.import_module(module)


TESTS_BETWEEN_FREEZES = 20
n_started = itertools.count(1)
n_folders = itertools.count(1)


def leave_out_of_gc() -> None:
    """Leave what is alive by now out of garbage collection, which would visit it again and again."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    """Leave what was imported out of garbage collection. Hypothesis warns of files that are written any earlier."""
    write_table_of_utf_8()
    leave_out_of_gc()


def seed_random_numbers() -> None:
    """Seed Python, numpy and torch, if they are imported."""
    random.seed(SEED)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(SEED)
    if "torch" in sys.modules:
        from tui_lab.core.kernels.device import seed_all_devices

        seed_all_devices(SEED)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed what fixtures of a whole module draw, whichever test comes first.

    Leave what earlier tests imported and cached out of garbage collection, and so out of `gc.get_objects`. The watcher
    and the doctor ask it for models and optimizers: after 2,000 tests this took four fifths of a recorded training.
    """
    if next(n_started) % TESTS_BETWEEN_FREEZES == 0:
        leave_out_of_gc()
    seed_random_numbers()


@pytest.fixture(autouse=True, scope="session")
def no_waiting_for_the_disk() -> Iterator[None]:
    """Leave out fsync: no test cuts the power, and thousands of calls wait for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


FOLDERS = {"TUI_LAB_CACHE": "cache", "TUI_LAB_CONFIG": "config", "TUI_LAB_RUNS": "runs"}


@pytest.fixture(autouse=True)
def own_process_state(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give each test its own cache, config folder and folder of runs, and seed all random numbers.

    Restore these folders, torch's threads and gradient mode, sys.path and the working directory afterwards. It asks for
    no other fixture, and makes no folder for a test without tmp_path: both would be most of the time of a small test.
    """
    variables = {name: os.environ.get(name) for name in FOLDERS}
    folder = folder_of(request)
    for name, inside in FOLDERS.items():
        os.environ[name] = str(folder / inside)
    seed_random_numbers()
    torch = sys.modules.get("torch")
    paths = list(sys.path)
    working_folder = Path.cwd()
    if torch is not None:
        threads = torch.get_num_threads()
        gradients = torch.is_grad_enabled()
    yield
    if torch is not None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)
    sys.path[:] = paths
    os.chdir(working_folder)
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def folder_of(request: pytest.FixtureRequest) -> Path:
    """Return the test's tmp_path if it has one, and else a path where nothing is."""
    if "tmp_path" in request.fixturenames:
        path: Path = request.getfixturevalue("tmp_path")
        return path
    factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    return factory.getbasetemp() / f"of-test-{next(n_folders)}"
