"""Microbatches: the dense part of a step on one part of the batch after another. In: what the lookup gives and labels; out: loss, logits.

Rows are looked up once, for the whole batch; each part runs forward and backward alone, and its activations are gone before the next one
begins. Gradients of weights are added up; those of the vectors are put together, so the tables are updated once, by the whole batch's.
Legend: B samples, E events of a group.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from interformer_rec.model.embedding.embedded import Embedded, Events


class Targets(NamedTuple):
    """What the loss reads beside the model's output; see WeightedBCE."""

    labels_BT: Tensor
    weights_B: Tensor
    loss_rows: float
    groups_B: Tensor


class Microbatches(nn.Module):
    """forward(dense, embedded, targets) -> what loss(model(dense, embedded), ...) gives; in training from `count` parts of the rows.

    `model` and `loss` belong to the task: they are called here and are not children of this module.
    """

    def __init__(self, model: nn.Module, loss: nn.Module, count: int) -> None:
        super().__init__()
        self._parts: tuple[nn.Module, nn.Module] = (model, loss)
        self.count = count

    def forward(
        self, dense_BM: Tensor, embedded: Embedded, labels: Tensor, weights: Tensor, loss_rows: float, groups: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scalar loss; logits (B, tasks), detached."""
        model, loss = self._parts
        targets = Targets(labels, weights, loss_rows, groups)
        if not (self.training and torch.is_grad_enabled() and self.count > 1):
            return loss(model(dense_BM, embedded), *targets)
        weights_of_model = [weight for weight in model.parameters() if weight.requires_grad]

        def run(leaves: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, list[Tensor], tuple[slice, ...]]]:
            for rows, part, inputs, places in _cut(dense_BM, _with(embedded, leaves), self.count):
                given = targets.labels_BT[rows], targets.weights_B[rows], loss_rows, targets.groups_B[rows]
                yield *loss(model(dense_BM[rows], part), *given), inputs, places

        return _InParts.apply(run, weights_of_model, *_leaves(embedded), *weights_of_model)


class _InParts(torch.autograd.Function):
    """Runs the backward passes in the forward pass, and hands their gradients on."""

    @staticmethod
    def forward(ctx: Any, run: Callable[..., Any], weights: list[Tensor], *tensors: Tensor) -> tuple[Tensor, Tensor]:
        leaves = tensors[: len(tensors) - len(weights)]
        of_leaves = [torch.zeros_like(leaf) for leaf in leaves]
        of_weights: list[Tensor | None] = [None] * len(weights)
        total, shown = None, []
        with torch.enable_grad():
            for loss, logits, inputs, places in run(leaves):
                with torch.autocast(loss.device.type, enabled=False):
                    found = torch.autograd.grad(loss, [*inputs, *weights], allow_unused=True)
                for whole, gradient, place in zip(of_leaves, found, places, strict=False):
                    if gradient is not None:
                        whole[place] = gradient
                for at, gradient in enumerate(found[len(inputs) :]):
                    before = of_weights[at]
                    of_weights[at] = gradient if before is None else before if gradient is None else before + gradient
                total = loss.detach() if total is None else total + loss.detach()
                shown.append(logits)
        ctx.found = (*of_leaves, *of_weights)
        logits = torch.cat(shown)
        ctx.mark_non_differentiable(logits)
        assert total is not None
        return total, logits

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        found = tuple(None if gradient is None else gradient * grad.to(gradient.dtype) for gradient in ctx.found)
        ctx.found = ()
        return None, None, *found


def _leaves(embedded: Embedded) -> list[Tensor]:
    return [*embedded.fields.values(), *(group.values for group in embedded.events.values())]


def _with(embedded: Embedded, leaves: Sequence[Tensor]) -> Embedded:
    """The same with other vectors."""
    given = iter(leaves)
    fields = {width: next(given) for width in embedded.fields}
    events = {name: Events(next(given), one.lengths, one.ids) for name, one in embedded.events.items()}
    return Embedded(fields, events)


def _cut(
    dense_BM: Tensor, embedded: Embedded, count: int
) -> Iterator[tuple[slice, Embedded, list[Tensor], tuple[slice, ...]]]:
    """Rows of each part, its vectors with gradients, and where these lie in the whole. On a GPU this waits for the lengths."""
    rows = dense_BM.shape[0]
    bounds = sorted({rows * part // count for part in range(count + 1)}) if rows else [0, 0]
    ends = {name: [0, *one.lengths.cumsum(0).tolist()] for name, one in embedded.events.items()}
    for first, last in itertools.pairwise(bounds):
        fields = {width: values[first:last].detach().requires_grad_() for width, values in embedded.fields.items()}
        events, places = {}, [slice(first, last)] * len(fields)
        for name, one in embedded.events.items():
            place = slice(ends[name][first], ends[name][last])
            ids = None if one.ids is None else one.ids[place]
            events[name] = Events(one.values[place].detach().requires_grad_(), one.lengths[first:last], ids)
            places.append(place)
        part = Embedded(fields, events)
        yield slice(first, last), part, _leaves(part), tuple(places)
