# What answers with a bundle, and nothing that trains:
#   docker build -f samples/ci/run.Dockerfile -t edgepeft-run .
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/mine/cpu-int4:/bundle:ro" edgepeft-run
#   docker run --rm -v "$PWD/mine/cpu-int4:/bundle:ro" edgepeft-run run /bundle "Turn on the light."
FROM python:3.12-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY edgepeft edgepeft
COPY exporters exporters
COPY tui tui
# The wizard's samples are links to these.
COPY samples/data samples/data
COPY samples/recipes samples/recipes
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim-bookworm
ENV PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /wheels /tmp/wheels
RUN python -m pip install --no-cache-dir -c /tmp/constraints.txt \
        "$(echo /tmp/wheels/edgepeft-*.whl)[cpu,serve]" \
    && rm -r /tmp/wheels /tmp/constraints.txt \
    && useradd --create-home --uid 1000 answers
USER answers
WORKDIR /home/answers
EXPOSE 8000
ENTRYPOINT ["edgepeft"]
# Inside the container every address is open; -p says who reaches it.
CMD ["serve", "/bundle", "--host", "0.0.0.0", "--port", "8000"]
