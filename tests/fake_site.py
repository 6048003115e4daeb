"""Folders that look like site-packages: *.dist-info with the versions a test wants, and modules that misbehave."""

from pathlib import Path

TORCHREC_NEEDS = ("fbgemm-gpu", "tensordict", "torchmetrics==1.0.3", "tqdm", "pyre-extensions")
FITTING = {
    "torch": "2.13.0+cpu",
    "torchrec": "1.8.0",
    "fbgemm_gpu-cpu": "1.8.0",
    "torchmetrics": "1.0.3",
    "tensordict": "0.15.3",
    "tqdm": "4.70.1",
    "pyre-extensions": "0.0.32",
}


def write(folder: Path, versions: dict[str, str], cuda: str | None = None) -> list[str]:
    """Write one dist-info per entry of `versions` and torch/version.py. Returns the path for stack.read()."""
    for name, version in versions.items():
        needs = TORCHREC_NEEDS if name == "torchrec" else ()
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n\n")
        if name.startswith("fbgemm"):
            record(folder, info, version)
    if "torch" in versions:
        (folder / "torch").mkdir()
        (folder / "torch/version.py").write_text(f"from typing import Optional\ncuda: Optional[str] = {cuda!r}\n")
    return [str(folder)]


def record(folder: Path, info: Path, content: str) -> None:
    """Two files of an FBGEMM wheel and their RECORD. A second wheel over the first rewrites the files, as pip does."""
    (folder / "fbgemm_gpu").mkdir(exist_ok=True)
    rows = []
    for name in ("fbgemm_gpu/__init__.py", "fbgemm_gpu/fbgemm.so"):
        text = f"{info.name} {content}"
        (folder / name).write_text(text)
        rows.append(f"{name},sha256=x,{len(text)}")
    (info / "RECORD").write_text("\n".join([*rows, f"{info.name}/RECORD,,"]) + "\n")
