"""The science: config, model, objective, optimizers, trainer. It prints nothing and imports no user interface."""
