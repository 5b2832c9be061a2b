"""litgpt's GPT in an environment of its own: a line of JSON [x, y] in, the loss before the update out."""

import json
import sys

import torch
from litgpt.model import GPT, Config


def main() -> None:
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    model = GPT(
        Config(
            name="bench", block_size=settings["context"], vocab_size=settings["n_vocab"],
            padded_vocab_size=settings["n_vocab"], n_layer=settings["n_layers"], n_head=settings["n_heads"],
            n_embd=settings["d_model"], head_size=settings["d_head"], intermediate_size=settings["d_ff"],
        )
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["lr"])
    say(sum(p.numel() for p in model.parameters()))
    for line in sys.stdin:
        x, y = (torch.tensor(rows) for rows in json.loads(line))
        loss = torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=-1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        say(loss.item())


def say(value: float) -> None:
    sys.stdout.write(f"{value}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
