"""Tokens in, batches out: tokenizers, tasks, corpora and the loader. Knows nothing of models or screens."""
