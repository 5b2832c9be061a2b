"""`make device`: check correctness and speed on a machine with a GPU, and print one table.

`python -m tools.device --dry-run` does the same on the CPU with tiny models. The modules: `__main__` the command line,
`wheels` packages that the machine lacks, `runner` processes and time limits, `worker` what such a process runs, `parts`
the list of parts, `setting` what each part gets, `checks`, `late`, `resume`, `programs` and `speed` the parts
themselves, `cards` peaks of known GPUs, `table` the output.
"""
