"""The whole task through TorchRec's real collections on a CPU: lookup, loss, L2, filler, construction."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torchrec import KeyedJaggedTensor

from interformer_rec.batch import Batch
from interformer_rec.config.features import FeatureSchema, Lookup
from interformer_rec.config.model import ModelConfig
from interformer_rec.errors import InputError
from interformer_rec.model.embedding.embedded import row_init_scale
from interformer_rec.model.task import CTRTask, build_task
from tests.model import cases
from tests.model.reference import Reference

CPU = torch.device("cpu")
MODEL = ModelConfig.model_validate({"embedding_dim": 8, "d": 8, "head": [16]})
SCHEMA = cases.schema(labels=2, odd_dim=4)


def rows_of(features: FeatureSchema) -> dict[str, int]:
    return {name: (table.num_embeddings or 0) + table.special_rows for name, table in features.tables.items()}


def make_task(l2: float = 0.0, seed: int = 0, features: FeatureSchema = SCHEMA, device: torch.device = CPU) -> CTRTask:
    torch.manual_seed(seed)
    return build_task(features, MODEL, rows_of(features), l2=l2, device=device)


def keyed(
    lookups: tuple[Lookup, ...], lengths: dict[str, torch.Tensor], generator: torch.Generator
) -> KeyedJaggedTensor:
    every = [lengths[lookup.key] for lookup in lookups]
    total = int(sum(int(part.sum()) for part in every))
    return KeyedJaggedTensor(
        keys=[lookup.key for lookup in lookups],
        values=torch.randint(0, 50, (total,), generator=generator),
        lengths=torch.cat(every) if every else torch.zeros(0, dtype=torch.int64),
    )


def make_batch(size: int, seed: int = 0, filler: bool = False, features: FeatureSchema = SCHEMA) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    lengths: dict[str, torch.Tensor] = {}
    for i, group in enumerate(features.sequences):
        for column in group.columns:
            lengths[f"{group.name}.{column.name}"] = cases.sample_lengths(size, 7, seed + i)
    for feature in features.ids:
        lengths[feature.name] = torch.randint(0, 2, (size,), generator=generator)
    for bag in features.bags:
        lengths[bag.name] = torch.randint(0, 4, (size,), generator=generator)
    if filler:
        lengths = {key: torch.zeros_like(length) for key, length in lengths.items()}
    return Batch(
        dense=torch.zeros(size, len(features.dense))
        if filler
        else torch.randn(size, len(features.dense), generator=generator),
        sparse=keyed(features.pooled_lookups, lengths, generator),
        sequences=keyed(features.jagged_lookups, lengths, generator),
        timestamps={},
        labels=torch.randint(0, 2, (size, len(features.labels)), generator=generator).float(),
        weights=torch.zeros(size) if filler else torch.rand(size, generator=generator) + 0.5,
        groups=torch.zeros(size, dtype=torch.int64),
        rows=0 if filler else size,
        loss_rows=float(max(size, 3)),
    )


def looked_up(task: CTRTask, batch: Batch, features: FeatureSchema) -> list[dict]:
    """Each sample's inputs of the reference, out of the tables by plain indexing."""
    state = task.embeddings.state_dict()
    tables = {name.split(".")[-2]: weight.double() for name, weight in state.items()}
    size = batch.batch_size
    rows: dict[str, tuple[torch.Tensor, ...]] = {}
    for kjt, lookups in ((batch.sparse, features.pooled_lookups), (batch.sequences, features.jagged_lookups)):
        for i, lookup in enumerate(lookups):
            lengths = kjt.lengths().view(len(lookups), size)[i].tolist()
            rows[lookup.key] = tables[lookup.table][kjt[lookup.key].values()].split(lengths)
    samples = []
    for i in range(size):
        fields: dict[int, torch.Tensor] = {}
        for dim, group in task.embeddings.assemble.groups.items():
            pooled = [
                rows[f.key][i].sum(0) / (max(len(rows[f.key][i]), 1) if f.pooling == "mean" else 1) for f in group
            ]
            fields[dim] = torch.stack(pooled)
        events = {g.name: torch.cat([rows[f"{g.name}.{c.name}"][i] for c in g.columns], 1) for g in features.sequences}
        samples.append({"dense": batch.dense[i].double(), "fields": fields, "events": events})
    return samples


def test_the_real_lookup_agrees_with_the_reference() -> None:
    task, batch = make_task(), make_batch(6)
    reference = Reference(SCHEMA, MODEL, task.model.state_dict())
    expected = torch.stack([reference.logits(sample) for sample in looked_up(task, batch, SCHEMA)])
    loss, logits = task(batch)
    torch.testing.assert_close(logits.double(), expected, rtol=1e-4, atol=1e-4)
    assert logits.dtype == torch.float32 and not logits.requires_grad
    weighted = sum(
        label.weight
        * batch.weights[i]
        * F.binary_cross_entropy_with_logits(expected[i, t], batch.labels[i, t].double())
        for t, label in enumerate(SCHEMA.labels)
        for i in range(6)
    )
    torch.testing.assert_close(loss.double(), weighted / batch.loss_rows, rtol=1e-5, atol=1e-5)


def test_a_feature_without_sparse_or_without_shared_tables_works() -> None:
    only_shared = cases.schema(ids=1, dense=0)
    assert not only_shared.pooled_lookups
    task = make_task(features=only_shared)
    assert task.embeddings.ebc is None
    loss, _ = task(make_batch(4, features=only_shared))
    loss.backward()
    assert loss.isfinite()


def test_a_filler_batch_adds_nothing() -> None:
    task = make_task(l2=0.1)
    loss, logits = task(make_batch(1, filler=True))
    loss.backward()
    assert loss.item() == 0 and logits.isfinite().all()
    for name, parameter in task.named_parameters():
        assert parameter.grad is not None and not parameter.grad.any(), name


def test_a_prediction_batch_has_loss_zero_and_the_same_logits() -> None:
    task, batch = make_task(), make_batch(5)
    _, expected = task(batch)
    batch.labels = torch.zeros(5, 0)
    loss, logits = task(batch)
    assert loss.item() == 0 and torch.equal(logits, expected)


def test_l2_is_the_gradient_of_an_objective_and_not_in_the_loss() -> None:
    l2, batch = 0.3, make_batch(6)
    plain, with_l2 = make_task(), make_task(l2=l2)
    with_l2.load_state_dict(plain.state_dict())
    losses = [task(batch)[0] for task in (plain, with_l2)]
    assert losses[0].item() == losses[1].item()
    # the objective spelled out: every looked-up event, and every pooled bag
    pooled = plain.embeddings.ebc(batch.sparse).values()
    events = torch.cat([jt.values() for jt in plain.embeddings.ec(batch.sequences).values()])
    objective = losses[0] + l2 / 2 * (pooled.square().sum() + events.square().sum()) / batch.loss_rows
    objective.backward()
    losses[1].backward()
    for (name, expected), mine in zip(plain.named_parameters(), with_l2.parameters(), strict=True):
        torch.testing.assert_close(
            mine.grad, expected.grad, rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_other_rows_of_a_batch_do_not_matter_through_the_lookup() -> None:
    task, batch = make_task(), make_batch(9)
    _, logits = task(batch)
    again = copy.copy(batch)
    order = torch.tensor([4, 1, 8])
    again.dense, again.labels, again.weights = batch.dense[order], batch.labels[order], batch.weights[order]
    again.sparse, again.sequences = (_rows_of(kjt, order) for kjt in (batch.sparse, batch.sequences))
    torch.testing.assert_close(task(again)[1], logits[order], rtol=0, atol=1e-6)


def test_the_dense_part_starts_the_same_wherever_the_tables_are() -> None:
    on_cpu, on_meta = make_task(), make_task(device=torch.device("meta"))
    assert all(p.is_meta for p in on_meta.embeddings.parameters())
    for (name, a), b in zip(on_cpu.model.named_parameters(), on_meta.model.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_tables_start_at_the_stated_scale() -> None:
    features = cases.schema(groups=(("watch", 1),), ids=2)
    torch.manual_seed(0)
    task = build_task(features, MODEL, {"c0": 4000, "f1": 4000}, device=CPU)
    for parameter in task.embeddings.parameters():
        assert parameter.std().item() == pytest.approx(row_init_scale(8), rel=0.05)


def test_a_table_without_rows_is_named() -> None:
    with pytest.raises(InputError, match="'f1' has no rows"):
        build_task(SCHEMA, MODEL, {name: 5 for name in SCHEMA.tables if name != "f1"})


def _rows_of(kjt: KeyedJaggedTensor, order: torch.Tensor) -> KeyedJaggedTensor:
    parts = [(jt.values().split(jt.lengths().tolist()), jt.lengths()) for jt in kjt.to_dict().values()]
    values = [rows[i] for rows, _ in parts for i in order.tolist()]
    return KeyedJaggedTensor(
        keys=kjt.keys(), values=torch.cat(values), lengths=torch.cat([lengths[order] for _, lengths in parts])
    )
