# syntax=docker/dockerfile:1
# One image for every role: docker build -t projectk:0.1.0 .   Unverified here: the base images' tags.
# Python packages come from requirements.lock by their hashes, as wheels; the web client's from package-lock.json.

FROM node:22.12.0-bookworm-slim AS client
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts

FROM python:3.11.11-slim-bookworm AS python
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
RUN python -m venv /opt/projectk
COPY requirements.lock ./
RUN /opt/projectk/bin/pip install --only-binary :all: --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY broker broker
COPY cluster cluster
COPY gameserver gameserver
COPY gateway gateway
COPY login login
COPY runtime runtime
COPY web_client web_client
COPY world world
# In place, because the pages and the world's content are files beside the code. Then without what has installed it.
RUN /opt/projectk/bin/pip install --no-deps --no-build-isolation -e . \
    && /opt/projectk/bin/pip uninstall -y setuptools pip \
    && rm -rf *.egg-info build \
    && python -m compileall -q -j 0 /app /opt/projectk/lib

FROM python:3.11.11-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin projectk \
    && install -d -o projectk -g projectk -m 0700 /data /data/keys
COPY --from=python /opt/projectk /opt/projectk
COPY --from=python /app /app
COPY --from=client /app/node_modules/pixi.js/dist/pixi.min.js /app/node_modules/pixi.js/dist/
COPY --from=client /app/node_modules/pixi.js/dist/packages/unsafe-eval.min.js /app/node_modules/pixi.js/dist/packages/
ENV PATH=/opt/projectk/bin:$PATH PYTHONUNBUFFERED=1 PROJECTK_DATA=/data
WORKDIR /data
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["projectk", "healthcheck"]
ENTRYPOINT ["projectk"]
CMD ["--help"]
