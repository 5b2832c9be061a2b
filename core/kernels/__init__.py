"""What makes a step fast: matrix products, the chunked head and loss, autotuning, and memory."""
