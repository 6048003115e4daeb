"""The same model on many devices: process group, sharding plan, optimizers, checkpoints. Knows no model and no data."""
