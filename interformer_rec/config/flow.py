"""What model.flow means: which mode reads which between the layers. In: the option's name; out: three facts. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FlowName = Literal["int", "n2s", "s2n", "sep", "sole"]


@dataclass(frozen=True)
class Flow:
    """The information flow of one model (the paper's study): X are the fields' tokens, S the sequences'."""

    x_reads_s: bool  # the Interaction Arch reads S_sum
    s_reads_x: bool  # the Sequence Arch reads X_sum, and its CLS tokens are X_sum
    pooled_first: bool = False  # histories are pooled before layer 1: there is no Sequence Arch and no S_sum

    @staticmethod
    def of(name: FlowName) -> Flow:
        """The flow with this name."""
        return _FLOWS[name]


_FLOWS: dict[FlowName, Flow] = {
    "int": Flow(x_reads_s=True, s_reads_x=True),
    "n2s": Flow(x_reads_s=False, s_reads_x=True),
    "s2n": Flow(x_reads_s=True, s_reads_x=False),
    "sep": Flow(x_reads_s=False, s_reads_x=False),
    "sole": Flow(x_reads_s=False, s_reads_x=False, pooled_first=True),
}
