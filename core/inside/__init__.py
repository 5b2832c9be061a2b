"""What happens inside a model on one example: the logit lens, ablations, and norms of the residual stream."""
