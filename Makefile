# Each target does its own set-up: python3 (3.11+), pip, make and a C++ compiler are all it takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Bytecode is kept, whatever the shell says: tests start Python some hundred times, and torch takes seconds to compile.
export PYTHONDONTWRITEBYTECODE =
# uv from the PATH, else one of the project's own
UV = $(shell command -v uv || echo .tools/bin/uv)

.PHONY: setup demo notebook test test-heavy test-oldest mutants fuzz browser check bench docs lock clean

setup: $(VENV)/.done ## virtual environment with the locked dependencies

$(VENV)/.done: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "python 3.11 or later is needed; set PYTHON=..."; exit 1; }
	@command -v uv >/dev/null || test -x .tools/bin/uv || $(PYTHON) -m pip install --quiet --target .tools uv
	$(UV) venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## the whole story on embedded data
	$(BIN)/convnext demo

notebook: setup ## run the notebook of the documentation, and store its outputs in it
	$(BIN)/python docs/notebooks/execute.py

test: check ## everything CI runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder # a thread each: tests side by side beat threads inside one

check: setup ## style, types, one-way imports, file length
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@long=$$(git ls-files '*.py' | xargs wc -l | awk '$$2 != "total" && $$1 > 400'); test -z "$$long" || { echo "over 400 lines:$$long"; exit 1; }

test-heavy: setup ## what `make test` leaves out: more processes, compiled networks, more tasks side by side
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile -m heavy

test-oldest: setup ## the core tests with the oldest supported releases
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-oldest
	$(UV) pip install --quiet --python .venv-oldest/bin/python "torch==2.11.*" "torchvision==0.26.*" --editable . --group test
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -q -n auto --dist loadfile tests/nn tests/native tests/models tests/weights tests/data tests/train

mutants: setup ## 160 small faults put into the code, one at a time: which do the tests nearest to them find; goes on where it stopped
	test -f runs/covering.json || OMP_NUM_THREADS=1 $(BIN)/python benchmarks/covering.py --jobs "$$(nproc)"
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutants.py --jobs "$$(nproc)"

fuzz: setup ## files damaged and made up, 1,000 of each kind, and 100,000 bodies of requests
	CONVNEXT_FUZZ=1000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/faults/test_fuzz*.py tests/faults/test_resume.py::test_random_bytes_are_found --timeout 1800 --hypothesis-show-statistics
	CONVNEXT_FUZZ=1000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s tests/deploy/serve/test_fuzz.py --timeout 7200

browser: ## a browser for the tests of the page, which are skipped without one
	@command -v chromium || command -v google-chrome || { apt-get update -qq && apt-get install -qq --yes chromium; }

bench: setup ## speed against peers, as ratios
	$(BIN)/python benchmarks/forward.py
	$(BIN)/python benchmarks/pretrain.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/loader.py "$${CONVNEXT_DATA:?names the folder of imagenette}/imagenette"

docs: setup ## the documentation as a site in site/
	$(BIN)/mkdocs build --strict

lock: ## write requirements.txt anew
	$(UV) pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
		--group dev --group build pyproject.toml --output-file requirements.txt

clean:
	rm -rf $(VENV) .venv-oldest .tools site
