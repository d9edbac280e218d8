# One image for every stage; docker-compose.yml says which one a container runs.
FROM python:3.11-slim
WORKDIR /app
COPY requirements.lock ./
RUN awk '/^[^ ]/ { on = /^uv==/ } on' requirements.lock > uv.lock \
    && pip install --no-cache-dir --require-hashes -r uv.lock \
    && uv pip install --system --no-cache --require-hashes -r requirements.lock
COPY . .
RUN uv pip install --system --no-cache --offline --no-deps --no-build-isolation -e . \
    && useradd --create-home crossfade \
    && mkdir /data && chown crossfade /data
USER crossfade
VOLUME /data
CMD ["crossfade", "--help"]
