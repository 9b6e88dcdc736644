# The serving image: the package `service` and what it imports of `model`. No torch, no pip, no build tools.
#
#   docker build -t eglr-reranker .
#   docker run --read-only --cap-drop ALL --stop-timeout 30 -p 127.0.0.1:8080:8080 \
#     -v "$PWD/bundles/ranklens:/bundle:ro" eglr-reranker
#
# For CUDA, NEVER BUILT AND NEVER RUN ON A GPU. The base must bring what the onnxruntime-gpu of the day
# asks for (CUDA 13 and cuDNN 9 at 1.31) and a Python >= 3.11, or an apt that has one:
#
#   docker build --build-arg RUNTIME=gpu \
#     --build-arg BASE_IMAGE=nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 -t eglr-reranker:gpu .
#   docker run --gpus all -e RERANK_PROVIDER=cuda ...

ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS base
# hadolint ignore=DL3008
RUN command -v python3 || { apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*; }


FROM base AS builder
# cpu or gpu: which of the extras in pyproject.toml, that is, which ONNX Runtime.
ARG RUNTIME=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# The dependencies alone, so that a change of the source does not install them again.
WORKDIR /build
COPY pyproject.toml constraints.txt ./
RUN case "$RUNTIME" in cpu|gpu) ;; *) echo "RUNTIME is cpu or gpu, not '$RUNTIME'" >&2; exit 1 ;; esac \
    && python3 -m venv /venv \
    && /venv/bin/python -c 'import sys, tomllib; \
project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print(*project["dependencies"], *project["optional-dependencies"][sys.argv[1]], sep="\n")' "$RUNTIME" \
       > requirements.txt \
    && /venv/bin/pip install -c constraints.txt -r requirements.txt \
    && /venv/bin/pip uninstall -y pip setuptools

WORKDIR /app
COPY model/__init__.py model/contract.py model/manifest.py model/reference.py model/
COPY model/features model/features
COPY service service
# Compiled here, for nothing can be written at run time; imported, so that a missing module fails the build.
RUN /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash model service \
    && /venv/bin/python -c 'import service.server, service.supervisor'


FROM base
LABEL org.opencontainers.image.title="eglr-reranker" \
      org.opencontainers.image.description="Online generative re-ranking with entropy-guided latent reasoning" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=builder /venv /venv
COPY --from=builder /app /app
WORKDIR /app
USER 10001:10001

EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]
CMD ["python", "-m", "service", "--bundle", "/bundle", "--host", "0.0.0.0", "--port", "8080"]
