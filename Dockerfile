# Two stages: the first builds the program, the second contains only what runs.
# Base images have a version tag; pin them by digest for your own builds.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY requirements/run.lock requirements/
RUN python -m venv /opt/mirror \
 && /opt/mirror/bin/pip install --no-cache-dir --require-hashes -r requirements/run.lock
COPY requirements/dev.lock requirements/
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/dev.lock
COPY pyproject.toml README.md LICENSE ./
COPY mirror mirror
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/mirror/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

FROM python:3.12-slim-bookworm
# Optional: with git, Mirror writes commit-graphs and frees the bytes of pruned code; people can read the store.
RUN apt-get update \
 && apt-get install -y --no-install-recommends git ca-certificates \
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
ENTRYPOINT ["mirror"]
CMD ["daemon", "--store", "/data"]
