# Two stages: the first builds the program, the second contains only what runs.
# The digest makes next year's build the same. RELEASING.md says how to renew it; --build-arg BASE=… names another.
ARG BASE=docker.io/library/python:3.13-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285

FROM ${BASE} AS build
WORKDIR /src
COPY requirements/run.lock requirements/build.lock requirements/
RUN python3 -m venv /opt/mirror \
 && /opt/mirror/bin/pip install --no-cache-dir --require-hashes -r requirements/run.lock \
 && python3 -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.lock
COPY pyproject.toml README.md LICENSE config.example.yaml ./
COPY mirror mirror
COPY docs/mirror.1 docs/
COPY packaging/completion packaging/completion
COPY deploy deploy
RUN /opt/build/bin/hatchling build -t wheel -d /wheels \
 && /opt/mirror/bin/pip install --no-cache-dir --no-deps /wheels/*.whl \
 && /opt/mirror/bin/pip uninstall --yes pip

FROM ${BASE}
LABEL org.opencontainers.image.title="Mirror" \
      org.opencontainers.image.description="Backs up a whole Bitbucket Cloud workspace, and brings it back." \
      org.opencontainers.image.licenses="Apache-2.0"
# git frees the bytes of pruned code, and makes mirrors faster to read for people. tini is process 1: it passes
# signals on, and takes in processes whose parents ended.
RUN apt-get update \
 && apt-get install -y --no-install-recommends git ca-certificates tini \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 65532 mirror \
 && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /data --shell /usr/sbin/nologin mirror \
 && install -d -o mirror -g mirror -m 0700 /data \
 && install -d /config
COPY --from=build /opt/mirror /opt/mirror
ENV PATH=/opt/mirror/bin:$PATH PYTHONDONTWRITEBYTECODE=1 MIRROR_CONFIG=/config/config.yaml
USER 65532:65532
# Create the store once: docker run … mirror init --store /data
VOLUME /data
STOPSIGNAL SIGTERM
# Unhealthy unless each repository and workspace was complete within the last 26 hours.
HEALTHCHECK --interval=5m --timeout=30s --start-period=1h --retries=1 \
  CMD ["mirror", "status", "--store", "/data", "--max-age", "26h", "--quiet"]
ENTRYPOINT ["tini", "--", "mirror"]
CMD ["daemon", "--store", "/data"]
