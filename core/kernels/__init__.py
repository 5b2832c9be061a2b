"""What makes a step fast: linear kernels, the chunked head and loss, autotuning, and memory."""
