# The application as an image. `make image` gives the arguments; nothing here needs BuildKit.
# Any image with Python 3.11 to 3.14, pip and the venv module will do as its base.
# By tag and digest: the update bot (renovate.json) moves both, so that each build of a commit has the same base.
ARG PYTHON_IMAGE=python:3.13-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285

# The packages. Made anew when the base, requirements.txt or this stage changes, not when the code does.
FROM ${PYTHON_IMAGE} AS dependencies
COPY requirements.txt /
# The environment gets no pip: it could be used to add something, and nothing of ours needs it. The bytecode is made
# now, because the container's file system is read-only; it is not compared with its source, which never changes.
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python --no-cache-dir --disable-pip-version-check \
        install --require-hashes --only-binary :all: --no-compile --requirement /requirements.txt \
    && /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /venv

# The code, as .dockerignore lets it through. Made anew when any of it changes; takes a second.
FROM ${PYTHON_IMAGE} AS code
COPY . /app
# Readable by everyone and writable by nobody, whatever the rights in the working copy are. This bytecode is compared
# with its source: a developer mounts other code over it. requirements.txt was for the stage above.
RUN rm /app/requirements.txt \
    && chmod -R a=rX /app \
    && python -m compileall -q --invalidation-mode checked-hash /app \
    && install --directory --owner=10001 --group=10001 /app/data

# What runs. Made anew when one of the stages above has made something else.
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

# Which build it is: after all else that takes time, because it differs in every build.
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

# A number, so that an orchestrator can tell that it is not root. Nothing is written outside /tmp and /dev/shm, and
# /app/data if the embedded database is used; so the root file system can be read-only.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# /livez, not /readyz: a container that waits for its database is not ill, and starting it again would not help.
# The shell is for the variables: who sets PORT need not set the check as well.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["sh", "-c", "exec python -m visitors.healthcheck \"$HOST\" \"$PORT\""]
# gunicorn itself is the first process and gets the signals.
CMD ["gunicorn", "--config", "gunicorn.conf.py", "app:create_app()"]
