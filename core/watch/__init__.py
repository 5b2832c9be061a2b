"""Record the training of any PyTorch script as a run: hooks on torch, and the recorder that writes the run folder."""
