"""What every interaction is: n_in tokens come in, of which the first n_out are updated and the others are read; n_out tokens go out.

Where all candidates of a request read the same tokens (model.split), `shared` works out once what those tokens add. Legend: B samples,
R requests with T candidates each, n tokens, s read tokens, d channels.
"""

from collections.abc import Sequence

from torch import Tensor, nn


class Interaction(nn.Module):
    """forward(tokens_BND) -> (B, n_out, d), and the same in two steps: folded(own_RTND, shared(read_RSD))."""

    @property
    def pays_from(self) -> float:
        """Candidates a request from which the two steps take less work than `forward`."""
        return 1.0

    @property
    def shared_shapes(self) -> list[tuple[int, ...]]:
        """Of one request's parts of `shared`."""
        raise NotImplementedError

    def shared(self, read_RSD: Tensor) -> list[Tensor]:
        """What the read tokens of each request add, as far as it does not depend on the others: parts (R, ...)."""
        raise NotImplementedError

    def folded(self, own_RTND: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """What `forward` gives for each candidate's own tokens and the read ones of its request, which `parts` were made of."""
        raise NotImplementedError
