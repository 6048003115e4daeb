"""The thin encoder against the training Decoder: random schemas, the same rows in a request and in a Parquet file."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from interformer_rec.config.features import FeatureSchema
from interformer_rec.data.decode.columns import Columns
from interformer_rec.data.decode.decoder import Decoder
from interformer_rec.data.decode.kinds import columns_of
from interformer_rec.data.files.source import open_source
from interformer_rec.data.fit import Fitted, fit
from interformer_rec.serving.encode.encoder import Encoder
from interformer_rec.serving.encode.refusal import Refusal
from interformer_rec.serving.encode.stated import stated
from interformer_rec.serving.request import NO_ROW, Inputs, Rows, Side
from interformer_rec.serving.signature import Signature, columns_by_side, signature_of
from tests.serving.encode.random_rows import Case, random_case, random_rows

QUICK, SLOW = range(12), range(12, 200)


def decode(features: FeatureSchema, fitted: Fitted, table: pa.Table, folder: Path) -> Columns:
    """As a loader decodes the rows for `predict`, bad ones marked."""
    pq.write_table(table, folder / "request.parquet")
    source = open_source(str(folder / "request.parquet"))
    read = source.read([0], columns_of(features, labels=False), strings=True)
    return Decoder(features, fitted, labels=False, skip_bad=True)(read, str)


def expected(features: FeatureSchema, columns: Columns, side: Side, rows: list[int]) -> list[np.ndarray]:
    """What Rows of one side hold, as plain arrays, of these rows."""
    single = [f for f in features.ids if f.null == "row"]
    order = [lookup.key for lookup in (*features.pooled_lookups, *features.jagged_lookups)]
    place = {key: i for i, key in enumerate([key for key in order if key in {f.name for f in single}])}
    empty = [f.name for f in features.ids if f.null == "empty"]
    lists = dict(zip([g.name for g in (*features.sequences, *features.bags)] + empty, columns.jagged, strict=True))
    ids = np.full((len(rows), len(side.ids)), NO_ROW, np.int64)
    for at, name in enumerate(side.ids):
        if name in place:
            ids[:, at] = columns.singles[rows, place[name]]
        else:
            present = lists[name].lengths[rows] == 1
            ids[present, at] = lists[name].pick(lists[name].events, np.array(rows))[:, 0]
    dense = [i for i, f in enumerate(features.dense) if f.name in side.dense]
    out = [columns.dense[rows][:, dense], ids]
    for name in (*side.bags, *side.histories):
        out += [lists[name].pick(lists[name].events, np.array(rows)).astype(np.int64), lists[name].lengths[rows]]
    return out


def found(rows: Rows) -> list[np.ndarray]:
    parts = [part for bag in rows.bags for part in (bag.rows[:, None], bag.lengths)]
    parts += [part for history in rows.histories for part in (history.rows, history.lengths)]
    return [rows.dense, rows.ids, *parts]


def same(ours: Rows, theirs: list[np.ndarray]) -> bool:
    """Bit for bit."""
    return all(
        a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
        for a, b in zip(found(ours), theirs, strict=True)
    )


def same_inputs(features: FeatureSchema, ours: Inputs, columns: Columns, users: list[int], rows: list[int]) -> bool:
    user, candidate = Side.both(features)
    return same(ours.users, expected(features, columns, user, users)) and same(
        ours.candidates, expected(features, columns, candidate, rows)
    )


def fitted_on(case: Case, rng: random.Random, folder: Path) -> tuple[Fitted, Encoder]:
    _, table = random_rows(case, rng, 60, bad=0)
    pq.write_table(table.append_column("label", pa.array([0.0] * 60)), folder / "train.parquet")
    fit(case.features, str(folder / "train.parquet")).save(folder / "fitted")
    fitted = Fitted.load(folder / "fitted")
    signature = Signature.from_json(signature_of(fitted.meaning).to_json().encode(), "signature.json")
    return fitted, Encoder(case.features, fitted, signature)


def accepted(encoder: Encoder, rows: list[dict[str, Any]] | pa.Table) -> Inputs | Refusal:
    try:
        return encoder.score(rows)
    except Refusal as refusal:
        return refusal


def compare(seed: int, folder: Path) -> tuple[int, int]:
    """Rows that both took and rows that both refused."""
    rng = random.Random(seed)
    case = random_case(rng)
    fitted, encoder = fitted_on(case, rng, folder)
    features = case.features
    rows, table = random_rows(case, rng, 60, bad=0.4)
    columns = decode(features, fitted, table, folder)
    bad = np.zeros(len(rows), bool) if columns.bad is None else columns.bad > 0
    for at, row in enumerate(rows):
        for form in ([row], table.slice(at, 1)):
            answer = accepted(encoder, form)
            assert isinstance(answer, Refusal) == bad[at], (seed, at, answer, columns.reasons)
            if isinstance(answer, Inputs):
                assert same_inputs(features, answer, columns, [at], [at]), (seed, at, row)
    good = np.flatnonzero(~bad).tolist()
    if good:
        chosen = [rows[at] for at in good]
        lists = {name: [row[name] for row in chosen] for name in chosen[0]}
        written = json.loads(json.dumps(stated(table.take(good), encoder.types)))
        for many in (chosen, lists, written, table.take(good), table.take(good).combine_chunks().to_batches()[0]):
            assert same_inputs(features, encoder.score(many), columns, good, good), seed
        check_rank(case, fitted, encoder, rows, table, good, folder)
    return len(good), int(bad.sum())


def check_rank(
    case: Case, fitted: Fitted, encoder: Encoder, rows: list[dict], table: pa.Table, good: list[int], folder: Path
) -> None:
    """One user and the candidates of the other rows, against the decoder on whole rows."""
    features, first = case.features, good[0]
    users, candidates = columns_by_side(features)
    whole = table.take(good)
    for place, name in enumerate(whole.column_names):
        if name in users:
            whole = whole.set_column(place, name, table[name].take([first] * len(good)))
    columns = decode(features, fitted, whole, folder)
    assert columns.bad is None
    user = {name: rows[first][name] for name in users}
    own = [name for name in candidates if name not in users]
    given = [{name: rows[at][name] for name in own} for at in good]
    ranked = [encoder.rank(user, given)]
    if own:
        ranked.append(encoder.rank(user, {name: [row[name] for row in given] for name in own}))
        ranked.append(encoder.rank(table.slice(first, 1).select(list(users)), table.take(good).select(own)))
    for answer in ranked:
        assert answer.owners.tolist() == [0] * len(good)
        assert same_inputs(features, answer, columns, [0], list(range(len(good))))


@pytest.mark.parametrize("seed", QUICK)
def test_the_same_ids_numbers_and_refusals(seed, tmp_path):
    good, bad = compare(seed, tmp_path)
    assert good + bad == 60 and good > 5


@pytest.mark.release
def test_the_same_ids_numbers_and_refusals_of_many_schemas(tmp_path):
    counts = [compare(seed, tmp_path) for seed in SLOW]
    assert min(sum(part) for part in zip(*counts, strict=True)) > 1000
