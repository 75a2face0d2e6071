# Everything runs in a virtual environment of its own, made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo mapping-demo test test-install test-all lint bench page-bundle graph-tool system-deps clean

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(READY)  ## virtual brains from sections to area maps, in ten minutes on two cores
	$(BIN)/python -m meshgnn.experiment

MAPPING := runs/mapping-demo
mapping-demo: $(READY)  ## draw areas in the browser on a small virtual brain, made and reconstructed in a few minutes
	test -f $(MAPPING)/sections/sections.csv || $(BIN)/python -m meshgnn.experiment virtual_sections \
		--set source.preset=quick --out $(MAPPING)/sections $$(test -f $(MAPPING)/sections/config.json && echo --resume)
	test -f $(MAPPING)/mesh/sections.json || $(BIN)/python -m meshgnn.experiment reconstruct \
		--set source.path=$(MAPPING)/sections --set judge=false --out $(MAPPING)/mesh $$(test -f $(MAPPING)/mesh/config.json && echo --resume)
	$(BIN)/python -m meshgnn.mapping $(MAPPING)/sections --mesh $(MAPPING)/mesh

test: $(READY)  ## the tests that every change must pass, test-install among them
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"
	$(BIN)/python -m tests.install

test-install: $(READY)  ## the wheel in an empty environment: every command of README and user guide, on small input
	$(BIN)/python -m tests.install

test-all: $(READY)  ## the same with the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadfile
	$(BIN)/python -m tests.install

lint: $(READY)  ## style, types, import directions, declared dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry meshgnn features reconstruct experiments

bench: $(READY)  ## figures of docs/benchmarks.md
	for file in benchmarks/[a-z]*.py; do $(BIN)/python $$file --json runs/$$(basename $$file .py).json || exit 1; done

page-bundle:  ## the programs of the pages, made anew from meshgnn/export/page/web and meshgnn/mapping/web (needs node and npm; the result is committed)
	cd meshgnn/export/page/web && npm ci --no-audit --no-fund && npm run build

graph-tool:  ## Debian's graph-tool, for block models: it belongs to the system's Python and its numpy; nothing here changes
	@if /usr/bin/python3 -c "import graph_tool.inference" 2>/dev/null; then echo "graph-tool is there"; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -q && apt-get install -q -y --no-install-recommends python3-graph-tool; \
	else echo "apt-get and root are needed, or conda-forge's graph-tool (blocks.python=PYTHON); Leiden stands in without"; fi

system-deps:  ## Debian packages that some tests use; those tests skip where they are absent
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -q && apt-get install -q -y --no-install-recommends chromium python3-graph-tool; \
	else echo "apt-get and root are needed; tests that use these packages will skip"; fi

clean:
	rm -rf $(VENV) build dist *.egg-info
