"""One step and its parts: loss, optimizers, evaluation, checkpoints, processes and planted faults."""
