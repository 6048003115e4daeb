# The package with everything that fits together, for GPU clusters:  make image
# A CPU image:  docker build --build-arg BASE=ubuntu:24.04 --build-arg VARIANT=cpu -t interformer-rec:cpu .
# A server of exported models, without CUDA and compilers:  make image TARGET=serve
# The same for versions with ONNX graphs, without torch:  make image TARGET=serve-onnx
# Behind a package mirror:  --build-arg PIP_INDEX_URL=...  --build-arg PIP_EXTRA_INDEX_URL=...

# The CUDA release that torch's wheel (requirements/torch.txt) was built with, which the cluster's driver has to support.
# The wheels bring their own CUDA libraries; what the flavour `runtime` adds serves extensions that do not.
ARG BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04

FROM ${BASE} AS bare
# No versions: Ubuntu's mirrors keep the newest only, so a pin would break the build one day.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*

FROM bare AS python
# gcc and the headers: Triton compiles a launcher for every kernel when it is first used.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/*

FROM python AS environment
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/interformer
RUN python3 -m venv .venv
# Named here, pip finds them in its environment; unset they change nothing.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

FROM environment AS build
ARG VARIANT=cuda
# The steps of requirements/install.py, dev.txt left out. The pinned sets come first: they change less often than the code.
COPY requirements/ requirements/
RUN .venv/bin/python -m pip install -r requirements/${VARIANT}.txt -r requirements/tune.txt
RUN .venv/bin/python -m pip install --no-deps -r requirements/torchrec.txt
COPY setup.py pyproject.toml README.md LICENSE NOTICE ./
COPY interformer_rec/ interformer_rec/
COPY configs/clusters/ configs/clusters/
COPY launch/ launch/
RUN .venv/bin/python -m pip install --no-deps --no-build-isolation .
RUN .venv/bin/python -c "from interformer_rec.install import stack; stack.require_torchrec()"

FROM build AS build-serve
RUN .venv/bin/python -m pip install -r requirements/serve.txt

# Nothing of torch, TorchRec and FBGEMM; setuptools, which torch would bring, comes for the build alone.
FROM environment AS build-serve-onnx
COPY requirements/ requirements/
RUN .venv/bin/python -m pip install -r requirements/base.txt -r requirements/serve.txt
COPY setup.py pyproject.toml README.md LICENSE NOTICE ./
COPY interformer_rec/ interformer_rec/
COPY configs/clusters/ configs/clusters/
COPY launch/ launch/
RUN .venv/bin/python -m pip install --no-deps .

# AOTInductor's graphs were compiled by the export and ONNX Runtime brings its own kernels: no compiler here.
FROM bare AS server
RUN useradd --uid 10001 --user-group --create-home interformer
WORKDIR /opt/interformer
ENV PATH=/opt/interformer/.venv/bin:${PATH} PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
USER 10001:10001
EXPOSE 8000
# For the command below; with TLS or another port give --health-cmd. Kubernetes ignores it and has probes of its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m CMD ["python", "-c", "from http.client import HTTPConnection; c = HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/v2/health/live'); exit(c.getresponse().status != 200)"]
# Mount the exported model there, read-only. It warns that it wants a token: add --token-file.
CMD ["interformer", "serve", "/models/served", "--host", "0.0.0.0"]

FROM server AS serve
COPY --from=build-serve /opt/interformer/.venv /opt/interformer/.venv

FROM server AS serve-onnx
COPY --from=build-serve-onnx /opt/interformer/.venv /opt/interformer/.venv

# The last stage is what a build without --target makes.
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
