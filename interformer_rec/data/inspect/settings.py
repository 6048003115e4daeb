"""The `model`, `optimizer` and `training` parts of a drafted config. In: facts of the training files and a Draft; out: lines of YAML.

Every kind of model gets the same optimizer, epochs and dropout; the reason of each choice stands beside it. Where the numbers come from:
docs/decisions/0042-defaults.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import pyarrow.compute as pc

from interformer_rec.data.draft_splits import Split
from interformer_rec.data.inspect.draft import Draft
from interformer_rec.data.inspect.profile import Profile

OURS = "interformer"
SMALL_DATA = 300_000  # rows below which narrow rows and small batches do
PASSED_ROWS = 240_000  # rows that a run passes over at least, within MOST_EPOCHS
MOST_EPOCHS = 3
NO_DROPOUT = ("fm", "fmfm")  # kinds without an MLP
OVERLAP = 0.1  # share of the rows from which histories are united
MEMBER_STEPS = 100  # optimizer steps that a member of an ensemble gets at least


@dataclass(frozen=True)
class Sizes:
    """What follows from the number of training rows."""

    rows: int

    @property
    def batch_size(self) -> int:
        """Rows a step: few rows need small batches to have steps enough."""
        return 512 if self.rows < SMALL_DATA else 2048

    @property
    def embedding_dim(self) -> int:
        """Floats a table row."""
        return 16 if self.rows < SMALL_DATA else 32

    @property
    def epochs(self) -> int:
        """Passes over the rows: one is enough where there are many, and a further one overfits the tables."""
        return min(MOST_EPOCHS, max(1, -(-PASSED_ROWS // max(self.rows, 1))))

    @property
    def members(self) -> int:
        """InterFormers in the ensemble: as many as epochs, so that none of them sees a row twice."""
        return self.epochs if self.rows >= MEMBER_STEPS * self.batch_size else 1


def settings(facts: Profile, guess: Draft, valid: Split | None, kind: str | None) -> Iterator[str]:
    """From `model:` to the last line; `kind` None: interformer, or dcnv2 where there is no history."""
    sizes = Sizes(facts.rows)
    chosen = kind or (OURS if guess.groups else "dcnv2")
    yield ""
    yield from _model(sizes, guess, chosen)
    yield from _optimizer()
    yield from _training(sizes, valid, chosen)


def _model(sizes: Sizes, guess: Draft, kind: str) -> Iterator[str]:
    yield "model:"
    history = "" if guess.groups else "  # needs no history"
    yield f"  kind: {kind}{history}"
    small = f"{sizes.rows:,} rows: {'narrow' if sizes.rows < SMALL_DATA else 'enough for wide'} table rows"
    yield f"  embedding_dim: {sizes.embedding_dim}  # {small}"
    yield "  embedding_std: 0.01  # small first rows: an id that was hardly trained says little"
    if kind not in NO_DROPOUT:
        yield "  dropout: 0.2"
    if kind == "dcnv2" and not guess.groups:
        yield "  hidden: [128, 64]"
    if kind != OURS:
        return
    if guess.request:
        yield "  split: true  # the user's side once a request, not once a candidate"
    yield "  d: 32"
    yield "  layers: 1  # more brought nothing on up to a million rows"
    if sizes.members > 1:
        yield (
            f"  ensemble_members: {sizes.members}  # one an epoch: a row seen twice overfits, and one model alone varies from seed to "
            f"seed; costs {sizes.members} times the work when it answers"
        )
    if shared := _shared_events(guess):
        yield (
            f"  sequence: {{merge: union}}  # in {shared:.0%} of the rows two histories end with the same event: each is one token, marked "
            "with the histories it stands in"
        )


def _shared_events(guess: Draft) -> float:
    """The share of rows in which two histories of the same tables end alike; 0 where they cannot be united, or hardly overlap."""
    histories = [list(group.columns.values()) for group in guess.groups]
    tables = [[guess.tables[column.name] for column in columns] for columns in histories]
    if len(tables) < 2 or any(one != tables[0] for one in tables):
        return 0.0
    newest = [columns[0].sample() for columns in histories]
    alike = [
        pc.mean(pc.fill_null(pc.equal(one, other), False)).as_py() or 0.0 for one, other in combinations(newest, 2)
    ]
    return max(alike) if max(alike) >= OVERLAP else 0.0


def _optimizer() -> Iterator[str]:
    yield "optimizer:"
    yield "  dense: {lr: 0.001, clip_norm: 10.0, ema: 0.97}  # scores with averaged weights: steadier from seed to seed"
    yield "  # a step count for each float, which an ensemble needs; l2 holds back rows that few rows of data train"
    yield "  embedding: {kind: adagrad, lr: 0.02, l2: 0.001}"


def _training(sizes: Sizes, valid: Split | None, kind: str) -> Iterator[str]:
    yield "training:"
    yield f"  epochs: {sizes.epochs}  # of {sizes.rows:,} rows; the more rows, the fewer: second looks overfit the tables"
    if valid is not None and valid.rows and not valid.problem:
        yield "  patience: 1  # stop when two epochs in a row are no better on data.valid"
    yield f"  monitor: {'logloss' if valid is not None and valid.one_class else 'auc'}"
