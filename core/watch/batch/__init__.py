"""The batch of a step: inputs, targets, the losses of its cells, and which rows came before."""
