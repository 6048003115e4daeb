"""Host memory beside tensors: the loader's rows. In: run config, sizes; out: bytes on a rank. Counted where the host is the device (CPU).

The loader keeps whole shuffle units decoded, in the smallest integers that hold a table's rows (data/decode/decoder.py), and decodes
the next one while training goes on. Arrow brings every id as int64. History pre-training draws its events from a whole unit at once
(data/history_pretraining.py), which takes several numbers an event.
"""

from dataclasses import dataclass

from interformer_rec.config.features import FeatureSchema, SequenceGroup
from interformer_rec.config.run import RunConfig
from interformer_rec.data.decode.ids import row_type
from interformer_rec.data.decode.layout import Layout
from interformer_rec.data.loader import BATCHES_AHEAD, DECODE_ROWS
from interformer_rec.planning.cost.sizes import Sizes

LONG, SINGLE, LIST = 8, 4, 16  # bytes of an int64 and a float32; of a row's length and offset of a list
WORK = 1.5  # a portion as Arrow brings it, and columns of it under way
# bytes an event of the history that is drawn from, while events of one user are found and sorted; measured
DRAWING = 5 * LONG


@dataclass(frozen=True)
class LoaderBytes:
    """Of one rank."""

    decoded: int  # shuffle units that wait
    decoding: int  # what decoding one more takes beside it
    batches_ahead: int  # collated and waiting


def loader_bytes(config: RunConfig, sizes: Sizes, ranks: int, train_rows: int | None) -> LoaderBytes:
    """`train_rows`: of all ranks; None: more than the loader ever keeps."""
    decoded, raw = _row_bytes(config.features, sizes)
    data = config.data
    kept = max(data.prefetch, data.workers) + 1
    unit = data.shuffle_rows or DECODE_ROWS
    rows = kept * unit
    if train_rows is not None:
        unit = min(unit, train_rows)
        kept = min(kept, -(-train_rows // ranks // unit))
        rows = min(kept * unit, train_rows)
    portion = min(DECODE_ROWS, unit)
    joined = unit * decoded if unit > DECODE_ROWS else 0.0
    drawn_from = data.history_pretraining
    drawing = DRAWING * unit * sizes.of_lookup(drawn_from.history).mean if drawn_from else 0.0
    return LoaderBytes(
        decoded=round(rows * decoded),
        decoding=round(joined + max(WORK * portion * raw, drawing)),
        batches_ahead=BATCHES_AHEAD + data.workers,
    )


def _row_bytes(features: FeatureSchema, sizes: Sizes) -> tuple[float, float]:
    """Bytes of a decoded row, and of the same row as Arrow brings it."""
    layout = Layout(features)
    numbers = len(features.dense) + len(features.labels) + 1
    wide = max((row_type(sizes.rows[single.table]).itemsize for single in layout.singles), default=0)
    decoded = float(numbers * SINGLE + 2 * LONG + len(layout.singles) * wide)
    raw = float((numbers + 1 + len(layout.singles)) * LONG)
    for feature in layout.jagged:
        length = sizes.of_lookup(feature.name).mean
        tables = [c.table for c in feature.columns] if isinstance(feature, SequenceGroup) else [feature.table]
        time = LONG if isinstance(feature, SequenceGroup) and feature.timestamp else 0
        event = len(tables) * max(row_type(sizes.rows[table]).itemsize for table in tables) + time
        decoded += LIST + length * event
        raw += length * (len(tables) * LONG + time)
    return decoded, raw
