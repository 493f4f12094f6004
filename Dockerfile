# syntax=docker/dockerfile:1
# CUDA image for one A100 or newer; the wheels bring CUDA and cuDNN themselves.
#
#   docker build -t uvlm .
#   docker run --gpus all --shm-size=16g --user "$(id -u):$(id -g)" \
#       -v "$PWD":/workspace -v /raid/ct:/data -e UVLM_DATA_ROOT=/data -e HF_TOKEN \
#       uvlm dvc exp run -S profile=chest
#   docker run --user "$(id -u):$(id -g)" -v "$PWD":/workspace uvlm make smoke
#
# The code is that of /workspace; the image keeps a copy for `uvlm predict` without a checkout.
#
#   --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu    a small image without CUDA
#   --build-arg EXTRAS=pipeline,pseudo,qwen,radbert                 TotalSegmentator, Qwen3, RadBERT
#   --build-arg BASE=python@sha256:...                              a base that can never change:
#       docker buildx imagetools inspect --format '{{.Manifest.Digest}}' python:3.11-slim-bookworm
#   --build-context wheels=wheels                                   packages from a folder, offline:
#       pip wheel --wheel-dir wheels -c constraints.txt --extra-index-url TORCH_INDEX \
#           "$(grep '^torch==' constraints.txt)" '.[pipeline]' 'setuptools>=77'
#   --build-arg TOOLS=                                              a BASE that has these already

ARG BASE=python:3.11-slim-bookworm
FROM scratch AS wheels

FROM ${BASE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu126
ARG EXTRAS=pipeline
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /opt/uvlm
RUN python -m venv .venv
# What the package needs, before its code: an edit of the code then rebuilds only the last step.
# The steps are those of `make run`: torch first, then the rest, then a torchvision that does not
# fit. TotalSegmentator asks for vtk, by way of fury, for previews that nobody here makes.
COPY constraints.txt pyproject.toml ./
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=wheels,target=/wheels \
    from=(--extra-index-url "${TORCH_INDEX}") \
    && if compgen -G '/wheels/*.whl' >/dev/null; then from=(--no-index --find-links /wheels); fi \
    && mkdir -p uvlm pipeline && touch README.md LICENSE uvlm/__init__.py pipeline/__init__.py \
    && .venv/bin/python -m pip install "${from[@]}" -c constraints.txt \
        "$(grep '^torch==' constraints.txt)" \
    && .venv/bin/python -m pip install "${from[@]}" -c constraints.txt ".[${EXTRAS}]" \
    && { .venv/bin/python -c 'import torchvision' 2>/dev/null \
        || .venv/bin/python -m pip uninstall --yes torchvision; } \
    && .venv/bin/python -m pip uninstall --yes fury vtk uvlm \
    && .venv/bin/python -m pip install "${from[@]}" 'setuptools>=77' \
    && touch ".venv/.installed-run-$(cat constraints.txt pyproject.toml | cksum | cut -d' ' -f1)"
COPY README.md LICENSE ./
COPY uvlm uvlm
COPY pipeline pipeline
RUN .venv/bin/python -m pip install --no-deps --no-index --no-build-isolation .

FROM ${BASE}
# DVC needs git; torch.compile needs a C compiler; tini passes signals on, so that a stopped
# container leaves a checkpoint and a run marked KILLED.
ARG TOOLS="gcc git libc6-dev make tini"
# hadolint ignore=DL3008,SC2086
RUN if [ -n "${TOOLS}" ]; then apt-get update \
    && apt-get install --yes --no-install-recommends ${TOOLS} \
    && rm -rf /var/lib/apt/lists/*; fi \
    && git config --system --add safe.directory '*'
COPY --from=build /opt/uvlm/.venv /opt/uvlm/.venv
# `make` finds the packages here and installs none; the code of /workspace goes before the copy.
ENV PATH=/opt/uvlm/.venv/bin:$PATH \
    PYTHONPATH=/workspace \
    MAKEFLAGS=VENV=/opt/uvlm/.venv \
    HOME=/tmp \
    DO_NOT_TRACK=1 \
    DVC_NO_ANALYTICS=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /workspace
USER 1000:1000
ENTRYPOINT ["tini", "--"]
CMD ["dvc", "repro"]
