"""The comparison systems: each reads the same lookups as InterFormer and gives the same logits; one file a system or a shared layer."""
