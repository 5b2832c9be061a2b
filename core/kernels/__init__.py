"""Code that depends on the machine: speed, memory and devices.

`linear` and `chunked_cross_entropy` are faster replacements for parts of the model; `autotune` measures which to use.
`memory_estimate` and `parameter_count` compute a run's size before it is built. `process_tuning` sets up the
allocator and the garbage collector, and `device` the device and its threads.
"""
