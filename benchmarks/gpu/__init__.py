"""Parts and targets of the GPU suite."""
