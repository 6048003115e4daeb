"""What fp16 and int8 tables do to AUC: the same graphs before tables of another form. In: exported models; out: a row a form.

Sets of made-up rows of the kind that the model was trained on. A change of AUC on one set is mostly chance: a few of its millions of pairs
change places. So the change over all rows counts, and the sets' own changes say how far chance moves it (standard error).
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import roc_auc_score

from benchmarks.serving.models import Size, write_rows
from benchmarks.serving.scoring import Loaded
from interformer_rec.serving.tables import FORMS

SETS, FIRST_SEED, PIECE = 10, 100, 250


def measure_accuracy(loaded: Loaded, size: Size, sets: int = SETS) -> list[dict[str, Any]]:
    """{form, rows, change of AUC over all rows, its standard error, largest difference of a logit} for each form but fp32."""
    scorers = {form: loaded.scorers[loaded.first if form == "fp32" else f"{loaded.first}, {form}"] for form in FORMS}
    features = loaded.trained.features
    labels: list[np.ndarray] = []
    logits: dict[str, list[np.ndarray]] = {form: [] for form in FORMS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(FIRST_SEED, FIRST_SEED + sets):
            path = Path(folder) / "rows.parquet"
            write_rows(path, features, size.compared, size.mean, size.longest, seed)
            table = pq.read_table(path)
            labels.append(table[features.labels[0].column].to_numpy())
            asked = table.select([name for name in table.column_names if name in loaded.encoder.types])
            inputs = [loaded.encoder.score(asked.slice(start, PIECE)) for start in range(0, asked.num_rows, PIECE)]
            for form, scorer in scorers.items():
                logits[form].append(np.concatenate([scorer(one)[:, 0] for one in inputs]))
    whole = {form: np.concatenate(parts) for form, parts in logits.items()}
    rows = []
    for form in FORMS[1:]:
        pairs = zip(labels, logits[form], logits["fp32"], strict=True)
        changes = [roc_auc_score(label, mine) - roc_auc_score(label, full) for label, mine, full in pairs]
        every = np.concatenate(labels)
        change = float(roc_auc_score(every, whole[form]) - roc_auc_score(every, whole["fp32"]))
        row: dict[str, Any] = {"level": "accuracy", "alternative": form, "rows": len(every), "auc_change": change}
        row["standard_error"] = float(np.std(changes, ddof=1) / np.sqrt(len(changes))) if len(changes) > 1 else None
        rows.append(row | {"largest_difference": float(np.abs(whole[form] - whole["fp32"]).max())})
    return rows
