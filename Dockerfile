# One image, three commands: `serve` (the service), `agent` (on each node) and `migrate`.
#
#   docker build -t stowplan .                                          service and agent
#   docker build -t stowplan --build-arg EXTRAS=server,torch .          and torch, to run the examples
#
# The versions are those of requirements.lock. Another registry than pip's default is named on the command
# line (--build-arg PIP_INDEX_URL=...), never here.

FROM python:3.11-slim AS build
ARG EXTRAS=server
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
# The lock as a constraint, not as a list: it pins the developer's tools too, which have no place here. As a
# variable it also holds for what pip installs to build our own wheel.
ENV PIP_CONSTRAINT=/src/requirements.lock PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/stowplan
ENV PATH=/opt/stowplan/bin:$PATH

# What we depend on, in a layer of its own: a change of our code doesn't install it again.
COPY pyproject.toml requirements.lock ./
RUN python -c "import sys, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*p['dependencies'], *(d for e in filter(None, sys.argv[1].split(',')) \
for d in p['optional-dependencies'][e]), sep='\n')" "$EXTRAS" > /tmp/dependencies.txt \
 && pip install --requirement /tmp/dependencies.txt

COPY README.md LICENSE ./
COPY agent agent
COPY app app
COPY client client
COPY examples examples
COPY migrations migrations
COPY protocol protocol
COPY solver solver
COPY telemetry telemetry
RUN pip install --no-deps .
# Whole seconds: layers keep no more of a file's time, and numba compiles again what has another time than then.
RUN cd /opt/stowplan/lib/python3.11/site-packages/solver \
 && touch --date=@$(date +%s) compiled/*.py && python -m compileall -q compiled


FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/stowplan --create-home stowplan
COPY --from=build /opt/stowplan /opt/stowplan
ENV PATH=/opt/stowplan/bin:$PATH STOWPLAN_HOME=/var/lib/stowplan PYTHONUNBUFFERED=1
# Compiled here by the user who runs it: numba takes a cache only from where it may write. On another kind of processor
# than this one's it compiles again, once, into the same place.
ENV NUMBA_CACHE_DIR=/var/cache/stowplan
RUN install --directory --owner=stowplan /var/cache/stowplan
VOLUME /var/lib/stowplan
WORKDIR /var/lib/stowplan
USER stowplan
RUN if python -c "import numba" 2> /dev/null; then python -m solver.compiled; fi
EXPOSE 8470
ENTRYPOINT ["stowplan"]
CMD ["serve"]
