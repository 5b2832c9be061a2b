"""Train litgpt's GPT in a separate environment: reads lines of JSON [x, y], prints the loss before each step."""

import json
import sys

import torch
from litgpt.model import GPT, Config


def main() -> None:
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    model = GPT(
        Config(
            name="bench",
            block_size=settings["context"],
            vocab_size=settings["n_vocab"],
            padded_vocab_size=settings["n_vocab"],
            n_layer=settings["n_layers"],
            n_head=settings["n_heads"],
            n_embd=settings["d_model"],
            head_size=settings["d_head"],
            intermediate_size=settings["d_ff"],
        )
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["lr"])
    send(sum(p.numel() for p in model.parameters()))
    for line in sys.stdin:
        x, y = (torch.tensor(rows) for rows in json.loads(line))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings["precision"] == "bf16"):
            loss = torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=-1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        send(loss.item())


def send(value: float) -> None:
    sys.stdout.write(f"{value}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
