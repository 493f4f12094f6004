# syntax=docker/dockerfile:1
# CUDA image for one A100 or newer; the wheels bring CUDA and cuDNN themselves.
#
#   docker build -t uvlm .
#   docker run --gpus all --shm-size=16g --user "$(id -u):$(id -g)" \
#       -v "$PWD":/workspace -v /raid/ct:/data -e UVLM_DATA_ROOT=/data -e HF_TOKEN \
#       uvlm dvc exp run -S profile=chest
#
# --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu makes a small image without CUDA.

FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu126
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /opt/uvlm
RUN python -m venv .venv
# The same steps as `make run`: torch first, then the rest, then a torchvision that does not fit;
# and with it every teacher and language model, but no tools of tests.
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    .venv/bin/python -m pip install --extra-index-url "${TORCH_INDEX}" \
        -c constraints.txt "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY uvlm uvlm
COPY pipeline pipeline
RUN --mount=type=cache,target=/root/.cache/pip \
    .venv/bin/python -m pip install -c constraints.txt '.[pipeline,pseudo,qwen,radbert]' \
    && { .venv/bin/python -c 'import torchvision' 2>/dev/null \
        || .venv/bin/python -m pip uninstall --yes torchvision; }

FROM python:3.11-slim-bookworm
# DVC needs git; torch.compile needs a C compiler; tini passes signals on, so that a stopped
# container leaves a checkpoint and a run marked KILLED.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc git libc6-dev make tini \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory '*'
COPY --from=build /opt/uvlm/.venv /opt/uvlm/.venv
ENV PATH=/opt/uvlm/.venv/bin:$PATH \
    HOME=/tmp \
    DO_NOT_TRACK=1 \
    DVC_NO_ANALYTICS=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /workspace
USER 1000:1000
ENTRYPOINT ["tini", "--"]
CMD ["dvc", "repro"]
