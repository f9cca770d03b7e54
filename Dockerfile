# The container image of the application. `make image` passes the arguments; the build does not need BuildKit.
# The base may be any image with Python 3.11 to 3.14, pip and the venv module. It is pinned by tag and digest, so that
# each build of a commit has the same base; the update bot (renovate.json) moves both.
ARG PYTHON_IMAGE=python:3.13-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285

# The packages. Rebuilt when the base, requirements.txt or this stage changes, but not when the code changes.
FROM ${PYTHON_IMAGE} AS dependencies
COPY requirements.txt /
# The environment has no pip, because the application needs none and an intruder could use it. The bytecode is compiled
# here, because the container's file system is read-only. Python does not compare it with its source, which never
# changes.
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python --no-cache-dir --disable-pip-version-check \
        install --require-hashes --only-binary :all: --no-compile --requirement /requirements.txt \
    && /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /venv

# The code that .dockerignore allows. Rebuilt when any of it changes, in a second.
FROM ${PYTHON_IMAGE} AS code
COPY . /app
# Readable by every user and writable by none, independent of the permissions in the working copy. Python compares this
# bytecode with its source, because a developer mounts other code over it. Only the stage above needs requirements.txt.
RUN rm /app/requirements.txt \
    && chmod -R a=rX /app \
    && python -m compileall -q --invalidation-mode checked-hash /app \
    && install --directory --owner=10001 --group=10001 /app/data

# The image that runs. Rebuilt when a result of the stages above changes.
FROM ${PYTHON_IMAGE} AS application
ENV PATH=/venv/bin:$PATH \
    FLASK_APP=app \
    HOST=0.0.0.0 \
    PORT=8000 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY --from=dependencies /venv /venv
COPY --from=code /app /app

# The version of the build. It differs in every build, so it comes after all slow steps.
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="visitors" \
      org.opencontainers.image.description="A page that counts its visitors exactly" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
RUN printf '{"version": "%s", "commit": "%s", "build_time": "%s"}\n' "${VERSION}" "${REVISION}" "${CREATED}" \
        > /app/build.json

# A number, so that an orchestrator can verify that it is not root. The application writes only to /tmp, /dev/shm, and
# with an embedded database /app/data, so the root file system can be read-only.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# /livez instead of /readyz, because a restart does not help a container that waits for its database. The shell expands
# the variables, so that the check follows PORT.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["sh", "-c", "exec python -m visitors.healthcheck \"$HOST\" \"$PORT\""]
# gunicorn itself is the first process, so it receives the signals.
CMD ["gunicorn", "--config", "gunicorn.conf.py", "app:create_app()"]
