"""Name, version, dependencies, extras and the console script. The facts are read from where they live:
the version from interformer_rec/__init__.py (without importing it), the requirements from requirements/."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    """The version string of interformer_rec/__init__.py."""
    found = re.search(
        r'^__version__ = "(.+)"$', (ROOT / "interformer_rec/__init__.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    if found is None:
        raise ValueError('interformer_rec/__init__.py has no line `__version__ = "..."`')
    return found.group(1)


def requirements(name: str) -> list[str]:
    """The requirement lines of requirements/<name>.txt, files included with -r not followed."""
    lines = (line.strip() for line in (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-r "))]


# TorchRec is in the cuda extra and not in the cpu extra: its metadata asks for the CUDA wheel fbgemm-gpu, which pip
# would unpack over fbgemm-gpu-cpu. See docs/decisions/0001-versions-that-fit.md; interformer_rec/install/stack.py tells who
# installs by hand what is still missing.
setup(
    name="interformer-rec",
    version=version(),
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    description="InterFormer click-through-rate models on PyTorch and TorchRec, from one CPU to many GPUs",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    python_requires=">=3.10",
    # the cluster files are people's to read and copy, so they stand in configs/; a wheel has them beside the code that reads them
    packages=[
        *find_packages(include=["interformer_rec", "interformer_rec.*", "launch"]),
        "interformer_rec.planning.clusters",
    ],
    package_dir={"interformer_rec.planning.clusters": "configs/clusters"},
    package_data={
        "interformer_rec.html": ["*.j2", "*.css", "*.js"],
        "interformer_rec.benchmarking.page": ["*.j2", "*.css", "*.js"],
        "interformer_rec.training.report": ["*.j2", "*.css"],
        "interformer_rec.planning.page": ["*.j2", "*.css", "*.js"],
        "interformer_rec.explaining": ["*.j2", "*.css"],
        "interformer_rec.tuning": ["*.yaml"],
        "interformer_rec.tuning.page": ["*.j2", "*.css", "*.js"],
        "interformer_rec.serving.server": ["*.j2"],
        "interformer_rec.planning.clusters": ["*.yaml"],
    },
    install_requires=requirements("base"),
    extras_require={
        "cpu": requirements("torch") + requirements("cpu"),
        "cuda": requirements("torch") + requirements("cuda") + requirements("torchrec"),
        "launch": requirements("launch"),
        "serve": requirements("serve"),
        "tune": requirements("tune"),
        "group": requirements("group"),
        "bench": requirements("tune") + requirements("bench"),
        "docs": requirements("docs"),
        "dev": [
            line for name in ("launch", "serve", "tune", "group", "bench", "docs", "dev") for line in requirements(name)
        ],
    },
    entry_points={
        "console_scripts": ["interformer=interformer_rec.cli:main"],
        # Any entry in this group hides TorchX's own components, so those are named too.
        "torchx.components": [
            "interformer=launch.components",
            "dist=torchx.components.dist",
            "utils=torchx.components.utils",
        ],
    },
)
