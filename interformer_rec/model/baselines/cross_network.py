"""DCN V2's cross network: (B, width) comes in, (B, width) goes out (Wang et al. 2021)."""

from torch import Tensor, nn

from interformer_rec.model.layers import Linear


class CrossNetwork(nn.Module):
    """x_(l+1) = x_0 * (W_l x_l + b_l) + x_l (Eq. 1); with a rank, W = U V^T, its low-rank form."""

    def __init__(self, width: int, layers: int, rank: int | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Linear(width, width)
            if rank is None or rank >= width
            else nn.Sequential(Linear(width, rank, bias=False), Linear(rank, width))
            for _ in range(layers)
        )

    def forward(self, x_BW: Tensor) -> Tensor:
        """Cross."""
        x = x_BW
        for layer in self.layers:
            x = x.addcmul(x_BW, layer(x))
        return x
