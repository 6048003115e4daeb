"""Synthetic histories whose signal lies 2,000 events back: with a window, CLS tokens and PMA read it, the newest events do not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor

from interformer_rec.config.model import ModelConfig
from interformer_rec.model.embedding.embedded import Embedded, Events
from interformer_rec.model.interformer import InterFormer
from tests.model import cases

BACK, SIGNAL, KINDS, WINDOW = 2_000, 500, 20, 32  # events; the signal's; kinds of other events
ROWS, STEPS = 12, 80


def histories(seed: int, vectors_KW: Tensor) -> tuple[Tensor, Embedded, Tensor]:
    """Rows whose oldest events are of kind 0 or 1, the label; BACK events of other kinds came since."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (ROWS,), generator=generator)
    others = torch.randint(2, KINDS + 2, (ROWS, BACK), generator=generator)
    ids = torch.cat([labels[:, None].expand(-1, SIGNAL), others], dim=1)
    values = vectors_KW[ids].flatten(0, 1)
    fields = {8: torch.randn(ROWS, 2, 8, generator=generator)}
    events = {"watch": Events(values, torch.full((ROWS,), BACK + SIGNAL))}
    return torch.randn(ROWS, 2, generator=generator), Embedded(fields, events), labels.float()


def trained_auc(summary: dict[str, object]) -> float:
    """AUC on new rows."""
    features = cases.schema(groups=(("watch", 1),), ids=2)
    sequence = {"window": WINDOW, "lengths": False}
    tree = {"embedding_dim": 8, "d": 16, "heads": 2, "layers": 1, "summary": summary, "sequence": sequence}
    torch.manual_seed(0)
    model = InterFormer(features, ModelConfig.model_validate(tree))
    vectors = torch.randn(KINDS + 2, 8) * 8**-0.5
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(STEPS):
        dense, embedded, labels = histories(step, vectors)
        loss = F.binary_cross_entropy_with_logits(model(dense, embedded)[:, 0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scores, wanted = [], []
    with torch.no_grad():
        for step in range(10):
            dense, embedded, labels = histories(STEPS + step, vectors)
            scores.append(model(dense, embedded)[:, 0])
            wanted.append(labels)
    return roc_auc_score(torch.cat(wanted).numpy(), torch.cat(scores).numpy())


@pytest.mark.slow
@pytest.mark.parametrize(
    "summary, found",
    [
        ({"pma_tokens": 2, "recent_tokens": 0, "cls": False}, True),
        ({"pma_tokens": 0, "recent_tokens": 0, "cls": True}, True),
        ({"pma_tokens": 0, "recent_tokens": 4, "cls": False}, False),
    ],
)
def test_a_signal_far_back(summary: dict[str, object], found: bool) -> None:
    auc = trained_auc(summary)
    assert auc > 0.95 if found else auc < 0.65, auc
