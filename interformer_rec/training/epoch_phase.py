"""What an epoch of a run trains on. In: the run config, the epoch, the rows of data.train; out: the line of the log that begins the epoch.

Losses of the phases are not comparable: an event of a history has other base rates and fewer inputs than a logged row.
"""

from __future__ import annotations

from interformer_rec.config.run import RunConfig


def epoch_line(config: RunConfig, epoch: int, rows: int, continued: bool = False) -> str:
    """`epoch` counts from 0, as everywhere in the log; `continued`: a resumed run begins inside it."""
    unroll, epochs, sets = config.data.unroll, config.training.epochs, config.model.embedding_sets
    if unroll is not None and epoch < unroll.epochs:
        what = (
            f"history pre-training ({epoch + 1} of {unroll.epochs}), {rows:,} samples: events drawn from the history {unroll.history!r}, "
            "each with what came before it"
        )
    else:
        before = config.data.unrolled_epochs
        place = f" ({epoch + 1 - before} of {epochs - before})" if before else ""
        what = f"logged rows{place}, {rows:,} samples"
    trained = f"; trains embedding set {epoch % sets + 1} of {sets}" if sets > 1 else ""
    return f"epoch {epoch} {'continues' if continued else 'begins'}, {epoch + 1} of {epochs}: {what}{trained}"
