"""If a number of steps is given for a script's loops, they then make exactly that many."""

import sys
from argparse import Namespace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from tests.core.watch.variables.script_text import run_script
from tui_lab.core.watch.variables import repeated_training
from tui_lab.core.watch.variables.loop_progress import LoopProgress

CERTAIN = {
    "range": "for i in range(7): optimizer.step()",
    "from another start": "for i in range(3, args.steps): optimizer.step()",
    "after the increment, as in nanoGPT": """
        iter_num = 0
        while True:
            if iter_num == 0 and args.eval_only:
                break
            for micro_step in range(3): pass
            optimizer.step()
            iter_num += 1
            if iter_num > args.steps:
                break
    """,
    "before the increment": """
        step = 0
        while True:
            optimizer.step()
            if step >= args.steps: break
            step = step + 1
    """,
    "head": """
        step = 0
        while step < args.steps:
            step += 1
            optimizer.step()
    """,
    "head, later increment": """
        step = 2
        while args.steps >= step:
            optimizer.step()
            step += 1
    """,
    "epochs of a loader": """
        def train(loader, epoch):
            for i, (x,) in enumerate(loader):
                optimizer.step()
                if i % 3 == 0:
                    if args.dry_run:
                        break
        def main():
            for epoch in range(1, args.epochs + 1):
                train(loader, epoch)
        main()
    """,
    "progress bars": """
        for epoch in trange(2):
            for batch in tqdm(batches): optimizer.step()
    """,
    "a bar with a name": """
        bar = tqdm(loader)
        for batch in bar: optimizer.step()
    """,
    "accumulation": """
        for epoch in range(2):
            for i, batch in enumerate(batches):
                if (i + 1) % 3 == 0: optimizer.step()
    """,
    "rows of a tensor": """
        for epoch in range(2):
            for i in range(0, data.size(0) - 1, args.size): optimizer.step()
    """,
    "limit of a loop over batches": """
        step = 0
        for batch in batches:
            optimizer.step()
            step += 1
            if args.limit is not None and step >= args.limit: break
    """,
    "limit of all epochs": """
        step = 0
        while step < args.steps:
            for batch in batches:
                optimizer.step()
                step += 1
                if step >= args.steps: break
    """,
    "limit beyond the epochs": """
        step = 0
        for epoch in range(2):
            for batch in batches:
                optimizer.step()
                step += 1
                if step >= 1000: break
    """,
    "limit that returns": """
        def train():
            step = 0
            for epoch in range(100):
                for batch in batches:
                    optimizer.step()
                    step += 1
                    if step == args.steps: return
        train()
    """,
    "errors and interruptions": """
        for i in range(6):
            try:
                optimizer.step()
            except KeyboardInterrupt:
                break
    """,
}
UNCERTAIN = {
    "early stopping": """
        for epoch in range(20):
            optimizer.step()
            if epoch - best > 3: break
            best += 0
    """,
    "patience": """
        patience = 0
        for epoch in range(20):
            optimizer.step()
            patience += epoch % 2
            if patience >= 3: break
    """,
    "early stopping by an object": """
        for epoch in range(20):
            optimizer.step()
            stopping.done = epoch > 4
            if stopper.done: break
    """,
    "stopped by a function": """
        stop = False
        def after():
            global stop
            stop = optimizer.n > 4
        for i in range(20):
            optimizer.step()
            after()
            if stop: break
    """,
    "condition": """
        for epoch in range(9):
            if epoch % 2 == 0: optimizer.step()
    """,
    "condition around the inner loop": """
        for epoch in range(9):
            if epoch % 2 == 0:
                for batch in batches: optimizer.step()
    """,
    "skipped passes": """
        for epoch in range(9):
            for batch in batches:
                if batch % 2: continue
                optimizer.step()
    """,
    "two steps a pass": """
        for i in range(4):
            optimizer.step()
            optimizer.step()
    """,
    "generator": """
        def endless():
            yield from range(5)
        for batch in endless(): optimizer.step()
    """,
    "data set without a length": "for batch in stream: optimizer.step()",
    "limit that changes": """
        n = 4
        i = 0
        while i < n:
            optimizer.step()
            i += 1
            if i == 3: n = 6
    """,
    "limit of an epoch that begins again": """
        step = 0
        for epoch in range(5):
            for batch in batches:
                optimizer.step()
                step += 1
                if step >= 8: break
    """,
    "rest of an accumulation": """
        for i in range(10):
            if (i + 1) % 4 == 0 or i == 9: optimizer.step()
    """,
    "counter of another kind": """
        i = 0
        while i < 20:
            optimizer.step()
            i += 2
    """,
    "no loop": "optimizer.step()\noptimizer.step()",
    "two optimizer steps a batch": """
        for batch in batches:
            optimizer.step()
            if batch > 2: optimizer.step()
    """,
    "exit": """
        import sys
        for i in range(9):
            optimizer.step()
            if optimizer.n > 3: sys.exit()
    """,
}


class Optimizer:
    """Asks at its second step how many steps there will be, and counts them."""

    def __init__(self) -> None:
        self.n = 0
        self.total = -1
        self.epochs: list[int] = []
        self._progress: LoopProgress | None = None

    def step(self) -> None:
        frame: FrameType = sys._getframe(1)
        self._progress = self._progress or LoopProgress(frame)
        if self.n == 1:
            self.total = self._progress.steps(frame, 1)
        self.epochs.append(self._progress.epoch(frame))
        self.n += 1


class Stream(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(5))

    def __len__(self) -> int:
        return 9


class Bar:
    """As tqdm: iterable, and no sequence."""

    def __init__(self, values: Any) -> None:
        self.total = len(values)
        self._values = values

    def __iter__(self) -> Any:
        return iter(self._values)


Bar.__module__ = "tqdm.std"


def variables(optimizer: Optimizer) -> dict[str, Any]:
    stopper = type("Stopper", (), {})()
    stopper.done = False
    return {
        "__name__": "__main__",
        "optimizer": optimizer,
        "args": Namespace(steps=11, epochs=3, dry_run=False, eval_only=False, size=4, limit=5),
        "loader": DataLoader(torch.utils.data.TensorDataset(torch.zeros(10, 1)), batch_size=4),
        "stream": DataLoader(Stream(), batch_size=None),
        "batches": list(range(6)),
        "data": torch.zeros(21, 2),
        "tqdm": Bar,
        "trange": range,
        "best": 0,
        "stopper": stopper,
        "stopping": stopper,
    }


@pytest.mark.parametrize(
    ("text", "is_certain"),
    [(text, True) for text in CERTAIN.values()] + [(text, False) for text in UNCERTAIN.values()],
    ids=[*CERTAIN, *UNCERTAIN],
)
def test_steps_are_told_if_they_are_certain_and_the_epoch_in_any_case(
    text: str, *, is_certain: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeated_training, "_is_called_by_others", lambda frame: False)  # pytest calls this function.
    optimizer = Optimizer()
    run_script(text, tmp_path / "train.py", variables(optimizer))
    assert optimizer.total == (optimizer.n if is_certain else 0)
    n_epochs = 1 if "epoch" not in text else len(set(optimizer.epochs))
    assert sorted(set(optimizer.epochs)) == list(range(n_epochs)) or not is_certain
