# Three images: `service` (the default), `trainer` and `load`. docs/deployment.md says how they are run.
#
#   docker build -t eglr-reranker .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --stop-timeout 30 -p 127.0.0.1:8080:8080 \
#     -v "$PWD/bundles/ranklens:/bundle:ro" -e RERANK_ALLOW_ANONYMOUS=true eglr-reranker
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


# What every image's packages are installed with; none of it gets into an image.
FROM base AS installer
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY pyproject.toml constraints.txt deploy/requirements.py ./
RUN python3 -m venv /venv


# The packages alone, so that a change of the source does not install them again.
FROM installer AS service-packages
# cpu or gpu: which ONNX Runtime. EXTRAS: more of the extras in pyproject.toml, such as "otel".
ARG RUNTIME=cpu
ARG EXTRAS=""
RUN case "$RUNTIME" in cpu|gpu) ;; *) echo "RUNTIME is cpu or gpu, not '$RUNTIME'" >&2; exit 1 ;; esac \
    && python3 requirements.py "$RUNTIME" "$EXTRAS" > requirements.txt \
    && /venv/bin/pip install -c constraints.txt -r requirements.txt \
    && /venv/bin/pip uninstall -y pip setuptools
# The bill of materials, by a tool that stays behind.
RUN python3 -m venv /sbom \
    && /sbom/bin/pip install -c constraints.txt cyclonedx-bom==7.5.0 \
    && /sbom/bin/cyclonedx-py environment --output-format JSON --output-file /venv/sbom.cdx.json /venv/bin/python


FROM service-packages AS service-build
WORKDIR /app
COPY bundle bundle
COPY constraints constraints
COPY decisions decisions
COPY engine engine
COPY service service
# Compiled here, for nothing can be written at run time; imported, so that a missing module fails the build.
# CPU: what the machine code is for, in LLVM's words; elsewhere it is compiled anew at every start.
ARG CPU=x86-64-v3
ENV NUMBA_CPU_NAME=${CPU} NUMBA_CPU_FEATURES=""
RUN /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash bundle engine service \
    && /venv/bin/python -m engine.precompile \
    && /venv/bin/python -c 'import service.process.server, service.process.supervisor'


FROM installer AS trainer-packages
# torch from here instead, such as an index of builds for the CPU alone, which are far smaller.
ARG PIP_EXTRA_INDEX_URL=""
RUN python3 requirements.py cpu train > requirements.txt \
    && /venv/bin/pip install -c constraints.txt -r requirements.txt


FROM installer AS load-packages
RUN python3 requirements.py --only loadtest > requirements.txt \
    && /venv/bin/pip install -c constraints.txt -r requirements.txt \
    && /venv/bin/pip uninstall -y pip setuptools


# Trains and exports: CONFIG of configs/, on data in /data, into /bundles/NAME.
FROM base AS trainer
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1 EGLR_DATA_DIR=/data MPLCONFIGDIR=/tmp CONFIG=ranklens
COPY --from=trainer-packages /venv /venv
WORKDIR /app
COPY bundle bundle
COPY constraints constraints
COPY decisions decisions
COPY engine engine
COPY model model
COPY export export
COPY service service
COPY configs configs
USER 10001:10001
CMD ["sh", "-c", "python -m model.train --config configs/$CONFIG.toml --run /tmp/run && exec python -m export --run /tmp/run --bundle /bundles/$CONFIG"]


# Locust, with its page on 8089; arguments are Locust's.
FROM base AS load
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=load-packages /venv /venv
WORKDIR /app
COPY loadtest loadtest
USER 10001:10001
EXPOSE 8089
ENTRYPOINT ["locust", "-f", "loadtest/locustfile.py", "--items-file", "/bundle"]


# The packages `service`, `engine`, `constraints` and `bundle`. No torch, no pip, no build tools.
FROM base AS service
LABEL org.opencontainers.image.title="eglr-reranker" \
      org.opencontainers.image.description="Online generative re-ranking with entropy-guided latent reasoning" \
      org.opencontainers.image.licenses="Apache-2.0"
ARG CPU=x86-64-v3
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1 \
    NUMBA_CPU_NAME=${CPU} NUMBA_CPU_FEATURES=""
COPY --from=service-packages /venv /venv
COPY --from=service-build /app /app
WORKDIR /app
USER 10001:10001

EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]
CMD ["python", "-m", "service", "--bundle", "/bundle", "--host", "0.0.0.0", "--port", "8080"]
