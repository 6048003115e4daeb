"""Random schemas, models and requests: what was exported scores as the trained task does, in any batch and beside any history."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from benchmarks.serving.whole_tables import WholeTables
from interformer_rec.config.features import FeatureSchema
from interformer_rec.config.run import RunConfig
from interformer_rec.data.collate import collate
from interformer_rec.data.decode.decoder import Decoder
from interformer_rec.data.decode.kinds import columns_of
from interformer_rec.data.decode.layout import Layout
from interformer_rec.data.files.source import open_source
from interformer_rec.data.fit import Fitted, fit
from interformer_rec.distributed.lookup.tables import local_shards
from interformer_rec.errors import InputError
from interformer_rec.install import graphs
from interformer_rec.model.build import MODELS, build_model
from interformer_rec.model.embedding.ensemble import EmbeddingEnsemble
from interformer_rec.model.task import CTRTask, build_task
from interformer_rec.serving import artefact, write
from interformer_rec.serving.contents import Runtime
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.scorer import Scorer
from interformer_rec.serving.signature import Signature, columns_by_side, signature_of
from tests.model.cases import random_config
from tests.serving.encode.random_rows import Case, random_case, random_rows
from tests.serving.rectangles import parameters_everywhere

QUICK, SLOW, MANY, COMPILED = range(5), range(5, 25), range(25, 120), range(1000, 1006)
BOUND, ROWS = 1e-5, 9
MOST_ROWS = 10_000  # of a table
MOST_LOGIT = 10.0  # random weights without normalisation reach 1e31, where float32 has no digit left to compare


@dataclasses.dataclass
class Exported:
    """A task, as `interformer predict` runs it, and what was exported of it."""

    case: Case
    config: RunConfig
    fitted: Fitted
    task: CTRTask
    encoder: Encoder
    scorers: dict[str, Scorer]
    folder: Path

    def expected(self, table: pa.Table) -> np.ndarray:
        """(rows, tasks) logits of a file of these rows."""
        features, path = self.case.features, self.folder / "rows.parquet"
        pq.write_table(table, path)
        read = open_source(str(path)).read([0], columns_of(features, labels=False), strings=True)
        columns = Decoder(features, self.fitted, labels=False, skip_bad=True)(read, str)
        assert columns.bad is None
        batch = collate(Layout(features), features, [(columns, slice(0, table.num_rows))], float(table.num_rows))
        with torch.no_grad():
            return self.task(batch)[1].numpy()


def options_of(rng: random.Random) -> dict[str, Any]:
    """A model of any kind."""
    kind = rng.choice(["interformer", "interformer", rng.choice(list(MODELS))])
    if kind != "interformer":
        return {"kind": kind, "embedding_dim": 8}
    options = random_config(rng.randrange(10_000)).model_dump()
    options["ensemble_members"] = rng.choice([1, 1, 2])
    options["split"] = options["flow"] in ("int", "n2s") and rng.random() < 0.6
    if rng.random() < 0.3:
        options["sequence"]["merge"] = "union"
    return options


def tame(case: Case, rng: random.Random, options: dict[str, Any]) -> Case:
    """Dense values that do not drown a logit; now and then two labels; for a split, features of both sides; for a union, a second history
    of the first one's events, as old ones as it likes."""
    features, split = case.features, options.get("split", False)
    if options.get("sequence", {}).get("merge") == "union" and features.sequences:
        first = features.sequences[0]
        second = first.model_copy(update={"name": "second", "max_length": rng.choice([1, 3, 20])})
        features = features.model_copy(update={"sequences": (first, second)})
    dense = tuple(one.model_copy(update={"clip": (-2.0, 2.0)}) for one in features.dense)
    labels = [{"name": "label"}, {"name": "again", "column": "label"}][: rng.choice([1, 2])]
    single = [one.name for one in (*features.dense, *features.ids, *features.bags)]
    candidate = rng.sample(single, rng.randint(1, max(1, len(single) - 1))) if split else features.candidate
    tree = features.model_copy(update={"dense": dense}).model_dump() | {"labels": labels, "candidate": candidate}
    read = columns_of(features, labels=False)
    return Case(FeatureSchema.model_validate(tree), [column for column in case.columns if column.name in read])


def drawn(rng: random.Random) -> tuple[Case, RunConfig]:
    """A schema and a model that may be together."""
    while True:
        options = options_of(rng)
        case = random_case(rng)
        if any((table.num_embeddings or 0) > MOST_ROWS for table in case.features.tables.values()):
            continue
        try:
            case = tame(case, rng, options)
            data = {"train": "train.parquet", "valid": "train.parquet"}
            tree = {"name": "fuzz", "data": data, "features": case.features.model_dump(), "model": options}
            tree["training"] = {"epochs": options.get("ensemble_members", 1)}
            tree["optimizer"] = {"embedding": {"kind": "adagrad"}}  # the default is not for ensembles
            config = RunConfig.model_validate(tree)
            build_model(config.features, config.model)
            return case, config
        except (ValidationError, InputError):
            continue


def exported(rng: random.Random, folder: Path, runtimes: Sequence[Runtime] = ()) -> Exported:
    """Fitted on rows of its own, with weights that are nowhere zero; nothing was trained."""
    case, config = drawn(rng)
    folder.mkdir()
    _, table = random_rows(case, rng, 60, bad=0)
    pq.write_table(table.append_column("label", pa.array([0.0, 1.0] * 30)), folder / "train.parquet")
    fit(case.features, str(folder / "train.parquet")).save(folder / "features")
    fitted = Fitted.load(folder / "features")
    torch.manual_seed(rng.randrange(2**31))
    task = build_task(config.features, config.model, fitted.table_rows, device=torch.device("cpu")).eval()
    parameters_everywhere(task.model, 0.05)
    if isinstance(task.model, EmbeddingEnsemble):  # members that have not been trained yet do not answer
        task.model.begin_epoch(rng.randrange(len(task.model.members)))
    version = folder / "version"
    version.mkdir()
    made = {"runtimes": tuple(runtimes), "isa": "x86-64-v3", "members": write.trained_members(task.model)}
    made |= {"graphs": None, "weights": {"step": 0, "full": "0" * 64}}
    whole = {shard.table: shard.tensor.detach() for shard in local_shards(task)}
    tables = write.write_tables(version, WholeTables(whole), "fp32")
    write.write_weights(version, task.model)
    write.write_graphs(version, config, task.model, runtimes, "x86-64-v3")
    contents = write.write_contents(version, "v", config, tables, **made)
    assert fitted.meaning is not None
    write.write_signature(version, signature_of(fitted.meaning, absent="null"))
    scorers = {one: artefact.scorer_of(version, contents, config, one) for one in (*runtimes, "eager")}
    raw = (version / artefact.SIGNATURE).read_bytes()
    encoder = Encoder(config.features, fitted, Signature.from_json(raw, "signature.json"))
    return Exported(case, config, fitted, task, encoder, scorers, folder)


def check_one(seed: int, folder: Path, runtimes: Sequence[Runtime] = ()) -> None:
    """The first of the seed's models whose logits can be compared."""
    rng = random.Random(seed)
    assert any(check(rng, exported(rng, folder / f"model{number}", runtimes)) for number in range(9))


def check(rng: random.Random, model: Exported) -> bool:
    """Rows together, alone and in other company; and one user's candidates. False: the logits are too large to be compared."""
    rows, table = random_rows(model.case, rng, ROWS, bad=0)
    # a key that is absent is null, where the signature says so
    given = [{name: value for name, value in row.items() if value is not None or rng.random() < 0.5} for row in rows]
    expected = model.expected(table)
    if not np.abs(expected).max() <= MOST_LOGIT:
        return False
    for runtime, scorer in model.scorers.items():
        what = f"{runtime}, {model.config.model!r}"
        close(scorer(model.encoder.score(given)), expected, what)
        order = rng.sample(range(ROWS), 5)
        close(scorer(model.encoder.score([given[at] for at in order])), expected[order], f"in another order: {what}")
        alone = [scorer(model.encoder.score([row])) for row in given]
        close(np.concatenate(alone), expected, f"alone: {what}")
        rank(model, scorer, given, table, what)
    return True


def rank(model: Exported, scorer: Scorer, rows: list[dict[str, Any]], table: pa.Table, what: str) -> None:
    """The first row's user and every row's candidate."""
    users, candidates = columns_by_side(model.case.features)
    whole = table
    for place, name in enumerate(whole.column_names):
        if name in users:
            whole = whole.set_column(place, name, table[name].take([0] * ROWS))
    user = {name: value for name, value in rows[0].items() if name in users}
    others = [{n: v for n, v in row.items() if n in candidates and n not in users} for row in rows]
    close(scorer(model.encoder.rank(user, others)), model.expected(whole), f"candidates of one user: {what}")


def close(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    assert found.shape == expected.shape, what
    apart = np.abs(found - expected).max()
    assert apart <= BOUND, f"{apart:.2e}: {what}"


@pytest.mark.parametrize("seed", QUICK)
def test_what_is_exported_scores_as_the_task(seed, tmp_path):
    check_one(seed, tmp_path)


@pytest.mark.release
@pytest.mark.parametrize("seed", SLOW)
def test_what_is_exported_scores_as_the_task_of_many_models(seed, tmp_path):
    check_one(seed, tmp_path)


@pytest.mark.release
@pytest.mark.parametrize("seed", MANY)
def test_what_is_exported_scores_as_the_task_of_very_many_models(seed, tmp_path):
    check_one(seed, tmp_path)


@pytest.mark.release
@pytest.mark.skipif(graphs.compiler() is None, reason="no C++ compiler")
@pytest.mark.parametrize("seed", COMPILED)
def test_graphs_score_as_the_task(seed, tmp_path):
    check_one(seed, tmp_path, ("aoti", "onnx"))
