"""model.json: what a version holds; signature.json beside it says what requests and answers are. In: facts of an export; out: the same."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from interformer_rec.files import conform, json_object
from interformer_rec.serving.tables import Form

Runtime = Literal["aoti", "onnx", "eager"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
SUFFIX: dict[Runtime, str] = {"aoti": ".pt2", "onnx": ".onnx"}
Isa = Literal["x86-64-v3", "native"]
Size = Annotated[int, Field(ge=1, lt=1 << 48)]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredTable(_Written):
    """One embedding table's file, tables/NUMBER.safetensors."""

    file: str
    form: Form
    rows: Size
    width: Size  # floats a row


class Contents(_Written):
    """model.json."""

    format: Literal[1] = 1
    version: str
    kind: str  # of the model
    split: bool  # graphs user and candidate, or whole
    runtimes: tuple[
        Runtime, ...
    ]  # that graphs are there for, the preferred one first; the modules themselves always run
    isa: Isa | None  # instruction set of compiled graphs
    members: Size  # of an ensemble: how many have been trained
    tables: dict[str, StoredTable]

    @classmethod
    def from_json(cls, content: bytes, source: str) -> Contents:
        """Raises DamagedError with `source`, the file's name."""
        return conform(json_object(content, source), cls, source)

    def to_json(self) -> str:
        """Text of model.json."""
        return self.model_dump_json(indent=1) + "\n"
