"""The science: config, model, objective, optimizers and the trainer. It prints nothing and knows no screen."""
