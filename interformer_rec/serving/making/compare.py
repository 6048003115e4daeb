"""An exported model against `interformer predict`, on rows of the run's own data. In: a trained model, scorers; out: numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.metrics import roc_auc_score

from interformer_rec.batch import Batch
from interformer_rec.config.run import RunConfig
from interformer_rec.data.loader import Kept, Loader
from interformer_rec.errors import InputError
from interformer_rec.serving import write
from interformer_rec.serving.contents import Runtime
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.encode.stated import stated
from interformer_rec.serving.rows_of_batch import inputs_of, part_of
from interformer_rec.serving.scorer import Scorer
from interformer_rec.serving.tables import Form

# |logit of the artefact - logit of predict|, at most; AUC moves by far less (docs/guides/serving.md)
BOUNDS: dict[Form, float] = {"fp32": 1e-5, "fp16": 1e-2, "int8": 1e-1}
ROWS = 4096  # that are compared
CHUNK = 128  # of them at once
GOLDEN_ROWS = 32


@dataclass(frozen=True)
class Compared:
    """Rows of the run's data with the scores of predict."""

    encoder: Encoder  # of requests
    rows: list[dict[str, Any]]  # the golden ones, as requests state them
    golden: np.ndarray  # their places among all
    logits: np.ndarray  # (N, tasks)
    labels: np.ndarray  # (N, tasks)
    weights: np.ndarray  # (N,)
    batches: list[Batch]


def first_rows(loader: Loader) -> list[tuple[Batch, Kept]]:
    """ROWS rows or a few more. Raises InputError where there is none."""
    found, total = [], 0
    with closing(loader.tables()) as tables:
        for batch, kept in tables:
            if batch.rows:
                found.append((batch, kept))
                total += batch.rows
            if total >= ROWS:
                break
    if not total:
        raise InputError("the files to compare on have no row that can be scored: name others with --data PATH")
    return found


def compared(rows: Sequence[tuple[Batch, Kept]], logits: Sequence[np.ndarray], encoder: Encoder) -> Compared:
    """These rows with what predict says of them."""
    every = pa.concat_tables([kept.table.filter(pa.array(kept.good)) for _, kept in rows])
    golden = np.unique(np.linspace(0, len(every) - 1, min(GOLDEN_ROWS, len(every))).astype(int))
    return Compared(
        encoder,
        stated(every.take(pa.array(golden)), encoder.types),
        golden,
        np.concatenate(logits),
        np.concatenate([batch.labels.numpy() for batch, _ in rows]),
        np.concatenate([batch.weights.numpy() for batch, _ in rows]),
        [batch for batch, _ in rows],
    )


def compare(
    scorers: Mapping[Runtime, Callable[[], Scorer]], config: RunConfig, compared: Compared, form: Form
) -> tuple[dict[str, Any], np.ndarray]:
    """Largest difference, of rows and of golden requests, and AUC's change over all runtimes; the golden requests' logits by the first
    runtime. Raises InputError above the bound."""
    answers: list[np.ndarray] = []
    facts: dict[str, Any] = {"rows compared": len(compared.logits), "bound on a logit's difference": BOUNDS[form]}
    for runtime, opened in scorers.items():
        with write.timed(f"the same rows scored by {runtime}"):
            scorer = opened()
            logits = _logits(scorer, config, compared)
        answers.append(scorer(compared.encoder.score(compared.rows)))
        apart = (logits - compared.logits, answers[-1] - compared.logits[compared.golden])
        difference = float(max(np.abs(one).max() for one in apart))
        facts[f"{runtime}: largest logit difference"] = difference
        facts |= {f"{runtime}: change of AUC, {task}": value for task, value in _auc_change(config, compared, logits)}
        if not difference <= BOUNDS[form]:
            raise InputError(
                f"the exported model ({runtime}, {form} tables) differs from interformer predict by {difference:.2e} in a logit, over "
                f"{len(logits)} rows; at most {BOUNDS[form]:.0e} may be. Nothing was published. Export with --tables fp32 or another "
                "--runtime, and report this with the run's config.yaml"
            )
    return facts, answers[0]


def _logits(scorer: Scorer, config: RunConfig, compared: Compared) -> np.ndarray:
    parts = []
    for batch in compared.batches:
        inputs = inputs_of(batch, config.features)
        parts += [scorer(part_of(inputs, start, start + CHUNK)) for start in range(0, batch.rows, CHUNK)]
    return np.concatenate(parts)


def _auc_change(config: RunConfig, compared: Compared, logits: np.ndarray) -> Iterator[tuple[str, float]]:
    for at, label in enumerate(config.features.labels):
        hard = compared.labels[:, at] > 0.5
        if hard.any() and not hard.all():
            before, after = (
                roc_auc_score(hard, found[:, at], sample_weight=compared.weights) for found in (compared.logits, logits)
            )
            yield label.name, float(after - before)
