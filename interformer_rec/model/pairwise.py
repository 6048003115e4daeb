"""The pairwise loss of rows that share a group. In: logits, labels, weights and groups of a batch; out: one number, to be minimised.

BCE asks how likely a click is. Most of it depends on which user a row is of, little on which of one user's items comes first. Pairs
of one user's rows depend on that alone (Li et al. 2015, "Click-through Prediction for Advertising in Twitter Timeline", KDD, section 3,
combine the two in the same way; Sheng et al. 2023, KDD, do it listwise). Legend: B rows, T tasks, P pairs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from interformer_rec.config.features import NULL_GROUP


def pairwise_loss(logits_BT: Tensor, labels_BT: Tensor, weights_B: Tensor, groups_B: Tensor) -> Tensor:
    """(T,): sum over rows i of label 1 of weight_i * mean over the rows j of label 0 in i's group of softplus(logit_j - logit_i).

    A row without such a j adds nothing, nor does a row of weight 0 or without a group (NULL_GROUP). On a GPU this waits for the
    number of pairs.
    """
    losses = []
    for logits_B, labels_B in zip(logits_BT.unbind(1), labels_BT.unbind(1), strict=True):
        clicked = ((labels_B > 0.5) & (weights_B > 0) & (groups_B != NULL_GROUP)).nonzero().squeeze(1)
        others = ((labels_B <= 0.5) & (weights_B > 0)).nonzero().squeeze(1)
        place, other = (groups_B[clicked, None] == groups_B[others]).nonzero().unbind(1)
        pairs_P = F.softplus(logits_B[others[other]] - logits_B[clicked[place]])
        count = torch.bincount(place, minlength=clicked.numel())
        losses.append((pairs_P * (weights_B[clicked] / count.clamp(min=1)).to(pairs_P.dtype)[place]).sum())
    return torch.stack(losses)
