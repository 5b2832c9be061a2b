"""Using a model: generation, sampling, and looking at one example or its attention."""
