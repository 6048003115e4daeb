# The package with everything that fits together, for GPU clusters:  make image
# A CPU image:  docker build --build-arg BASE=ubuntu:24.04 --build-arg VARIANT=cpu -t interformer-rec:cpu .
# Behind a package mirror:  --build-arg PIP_INDEX_URL=...  --build-arg PIP_EXTRA_INDEX_URL=...

# The CUDA release that torch's wheel (requirements/torch.txt) was built with, which the cluster's driver has to support.
# The wheels bring their own CUDA libraries; what the flavour `runtime` adds serves extensions that do not.
ARG BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04

FROM ${BASE} AS python
# gcc and the headers: Triton compiles a launcher for every kernel when it is first used. No versions: Ubuntu's mirrors
# keep the newest only, so a pin would break the build one day.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3 python3-dev \
    && rm -rf /var/lib/apt/lists/*

FROM python AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/interformer
RUN python3 -m venv .venv
# Named here, pip finds them in its environment; unset they change nothing.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG VARIANT=cuda
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# The steps of requirements/install.py, dev.txt left out. The pinned sets come first: they change less often than the code.
COPY requirements/ requirements/
RUN .venv/bin/python -m pip install -r requirements/${VARIANT}.txt
RUN .venv/bin/python -m pip install --no-deps -r requirements/torchrec.txt
COPY setup.py pyproject.toml README.md LICENSE NOTICE ./
COPY interformer_rec/ interformer_rec/
COPY configs/clusters/ configs/clusters/
COPY launch/ launch/
RUN .venv/bin/python -m pip install --no-deps --no-build-isolation .
RUN .venv/bin/python -c "from interformer_rec.install import stack; stack.require_torchrec()"

FROM python
RUN useradd --uid 10001 --user-group --create-home interformer
COPY --from=build /opt/interformer/.venv /opt/interformer/.venv
COPY benchmarks/ /opt/interformer/benchmarks/
COPY configs/ /opt/interformer/configs/
# Where configs write by default; mount a volume over runs/ to keep what a job leaves.
RUN install --directory --owner interformer --group interformer /opt/interformer/runs /opt/interformer/data
WORKDIR /opt/interformer
ENV PATH=/opt/interformer/.venv/bin:${PATH} PYTHONUNBUFFERED=1
USER 10001:10001
# Loads the libraries and asks the GPUs; Kubernetes ignores it, Docker and Compose do not.
HEALTHCHECK --interval=5m --timeout=60s --start-period=30s CMD ["interformer", "doctor"]
# No ENTRYPOINT: TorchX's docker scheduler does not replace one, and its command is a shell.
CMD ["interformer", "--help"]
