"""InterFormer: click-through-rate models over heterogeneous features, on TorchRec."""

__version__ = "0.1.0"
