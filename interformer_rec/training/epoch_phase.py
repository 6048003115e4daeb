"""What an epoch of a run trains on. In: the run config, the epoch, the rows of data.train; out: the line of the log that begins the epoch.

Losses of the phases are not comparable: an event of a history has other base rates and fewer inputs than a logged row.
"""

from interformer_rec.config.run import RunConfig


def epoch_line(config: RunConfig, epoch: int, rows: int, continued: bool = False) -> str:
    """`epoch` counts from 0, as everywhere in the log; `continued`: a resumed run begins inside it."""
    pretraining, epochs, members = (
        config.data.history_pretraining,
        config.training.epochs,
        config.model.ensemble_members,
    )
    if pretraining is not None and epoch < pretraining.epochs:
        what = (
            f"history pre-training ({epoch + 1} of {pretraining.epochs}), up to {rows:,} events: drawn from the history "
            f"{pretraining.history!r}, each with what came before it"
        )
    else:
        before = config.data.pretraining_epochs
        place = f" ({epoch + 1 - before} of {epochs - before})" if before else ""
        what = f"{rows:,} logged rows{place}"
    trained = f"; trains ensemble member {epoch % members + 1} of {members}" if members > 1 else ""
    return f"epoch {epoch} {'continues' if continued else 'begins'}, {epoch + 1} of {epochs}: {what}{trained}"
