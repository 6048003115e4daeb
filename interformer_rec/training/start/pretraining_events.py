"""How many epochs of history pre-training have events. In: the loader of the training rows; out: a number, and what is to be said of it.

An epoch draws as many events as there are rows, and each event once, so they run out: an epoch without any would train on nothing.
"""

import torch.distributed as dist

from interformer_rec.config.run import RunConfig
from interformer_rec.data.loader import Loader
from interformer_rec.distributed.environment import Environment
from interformer_rec.errors import InputError


def epochs_with_events(config: RunConfig, env: Environment, loader: Loader) -> tuple[int, str | None]:
    """Of data.history_pretraining.epochs, the number that have an event, and a message if that is fewer (collective).

    Decodes this rank's shuffle buffers until one has events for all epochs: the first, unless events are scarce. Later epochs make other
    buffers of the rows, so where buffers are small this is an estimate; an epoch that turns out to be empty is an error at its end.
    Raises InputError where there is no event at all.
    """
    options = config.data.history_pretraining
    if options is None:
        return 0, None
    found: dict[int, tuple[int, int]] = {}
    enough = False
    for buffer, (events, rows) in loader.pretraining_events():
        found[buffer] = (events, rows)
        if enough := events > (options.epochs - 1) * rows:
            break
    ranks: list[tuple[bool, dict[int, tuple[int, int]]]] = [(enough, found)] * env.world_size
    dist.all_gather_object(ranks, (enough, found))
    if any(one for one, _ in ranks):
        return options.epochs, None
    merged = {buffer: counts for _, of_rank in ranks for buffer, counts in of_rank.items()}
    events, rows = (sum(counts[at] for counts in merged.values()) for at in (0, 1))
    if not events:
        raise InputError(
            f"data.history_pretraining: the histories {options.history!r} of data.train hold no event that can be drawn: each is a row of "
            "its user, or stands in its history more than once without times that say what came of it. Leave data.history_pretraining out"
        )
    whole = max(-(-one // max(1, of)) for one, of in merged.values())
    left = f"epoch {whole} is" if whole + 1 == options.epochs else f"epochs {whole} to {options.epochs - 1} are"
    return whole, (
        f"history pre-training: {events:,} events in {options.history!r} can be drawn, {events / max(1, rows):.2f} epochs of {rows:,} "
        f"rows; {left} not run (data.history_pretraining.epochs: {options.epochs})"
    )
