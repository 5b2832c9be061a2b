"""Tokens in, batches out: tokenizers, tasks, corpora and the loader. Independent of models and screens."""
