"""A Batch becomes logits: lookup, preprocessing, the layers of InterFormer, heads and loss."""
