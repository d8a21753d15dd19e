# edgepeft with all that a build needs, on the CPU:
#   docker build -f samples/ci/build.Dockerfile -t edgepeft-build .
#   docker run --rm --user "$(id -u)" -v "$PWD:/work" -v "$HOME/.cache/huggingface:/models" \
#     edgepeft-build build recipe.yaml
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
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    HF_HOME=/models \
    EDGEPEFT_CACHE=/tmp/edgepeft/cache \
    EDGEPEFT_STATE=/tmp/edgepeft/state
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /wheels /tmp/wheels
RUN python -m pip install --no-cache-dir -c /tmp/constraints.txt \
        "$(echo /tmp/wheels/edgepeft-*.whl)[cpu,train,export]" \
    && rm -r /tmp/wheels /tmp/constraints.txt \
    && useradd --create-home --uid 1000 builder \
    && mkdir /models /work \
    && chown builder /models /work
USER builder
WORKDIR /work
VOLUME ["/models"]
ENTRYPOINT ["edgepeft"]
CMD ["--help"]
