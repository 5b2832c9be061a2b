"""Finds the tokenizer of a script and reads its tokens."""
