"""First-order terms of factorization machines: (B, n, d) field vectors come in, (B, tasks) goes out.

w_i x_i + w_0, where the weight of id i is w_i = <v_i, a_f>, a_f a learned vector of its field: FiLV of Pan et al. 2018 (FwFM),
also FmFM's. A scalar of its own for each id would be a second table and lookup; FwFM found no difference.
"""

from torch import Tensor, nn

from interformer_rec.model.layers import Linear


class FirstOrder(nn.Module):
    """sum_f <v_f, a_f> + w_0 for each task."""

    def __init__(self, fields: int, d: int, tasks: int) -> None:
        super().__init__()
        self.linear = Linear(fields * d, tasks)

    def forward(self, vectors_BND: Tensor) -> Tensor:
        """Sum the fields' terms."""
        return self.linear(vectors_BND.flatten(1))
