# syntax=docker/dockerfile:1
# One image for every command: `docker run footfall migrate`, `ingest`, `serve`, …

FROM python:3.13-slim-trixie@sha256:ffb752e139c0a19692a43af8d8523b274222dd68eebad5d583b45c2201c6e30a AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir uv==0.13.9 && uv venv /opt/footfall
# The lock first: a change of our own code installs nothing again.
COPY requirements.runtime.lock ./
RUN VIRTUAL_ENV=/opt/footfall uv pip sync --require-hashes requirements.runtime.lock
COPY . .
RUN VIRTUAL_ENV=/opt/footfall uv pip install --no-deps .

FROM python:3.13-slim-trixie@sha256:ffb752e139c0a19692a43af8d8523b274222dd68eebad5d583b45c2201c6e30a
RUN useradd --system --uid 10001 --home-dir /var/lib/footfall --create-home footfall
COPY --from=build /opt/footfall /opt/footfall
ENV PATH=/opt/footfall/bin:$PATH PYTHONUNBUFFERED=1 FOOTFALL_DATA_DIR=/var/lib/footfall
USER 10001
WORKDIR /var/lib/footfall
VOLUME ["/var/lib/footfall"]
# The API, and telemetry.
EXPOSE 8080 9100
ENTRYPOINT ["footfall"]
CMD ["--help"]
