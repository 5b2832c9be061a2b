"""A script with several processes is steered, and their weights stay equal."""

import subprocess
import sys
from pathlib import Path

import pytest

from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run
from tui_lab.util.child import child_environment

SCRIPT = """
import pathlib

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tui_lab.core import commands as cmd
from tui_lab.core.runs import control

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = DistributedDataParallel(nn.Sequential(nn.Embedding(16, 32), nn.Dropout(0.5), nn.Linear(32, 16)))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
generator = torch.Generator().manual_seed(rank)
for step in range(800):
    x = torch.randint(16, (4, 8), generator=generator)
    loss = nn.functional.cross_entropy(model(x).flatten(0, 1), x.flatten())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if rank == 0 and step == 50:
        for command in (
            cmd.Scale("optim.lr_factor", 0.5),
            cmd.Set("optim.weight_decay", 0.0),
            cmd.Set("optim.grad_clip", 0.1),
            cmd.Set("model.dropout", 0.0),
            cmd.Undo(),
        ):
            control.send(pathlib.Path("run"), command)
weights = torch.cat([p.detach().flatten() for p in model.parameters()])
gathered = [torch.zeros_like(weights) for _ in range(dist.get_world_size())]
dist.all_gather(gathered, weights)
if rank == 0:
    print(all(torch.equal(weights, other) for other in gathered))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_all_processes_make_the_changes_after_the_same_step(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT, "utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tui_lab", "watch", "--headless", "--out", "run", "train.py"]
    process = subprocess.run(command, cwd=tmp_path, env=child_environment(), capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (0, "True\n"), process.stderr
    changed = [event for event in Run(tmp_path / "run").events() if isinstance(event, ev.Changed)]
    assert [(event.key, event.new) for event in changed] == [
        ("optim.lr_factor", 0.5),
        ("optim.weight_decay", 0.0),
        ("optim.grad_clip", 0.1),
        ("model.dropout", 0.0),
        ("model.dropout", 0.5),
    ]
