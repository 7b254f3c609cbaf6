# make demo   speech made on the spot -> a trained acoustic model, with pictures
# make test   the whole test suite
# Both set up everything they need in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check bench

demo: $(STAMP)
	$(BIN)/python -m examples.speech $(ARGS)

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy nnet tools
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/pip install -q -c constraints.txt -e ".[benchmarks]"
	for net in vosk_ko tdnnf cnn_tdnnf xvector; do \
		$(BIN)/python -m benchmarks.inference_cpu $$net || exit 1; \
	done
	$(BIN)/python -m benchmarks.inference_gpu
	$(BIN)/python -m benchmarks.recurrent_cpu
	$(BIN)/python -m benchmarks.gru_cpu
	for threads in 1 2; do \
		$(BIN)/python -m benchmarks.recurrent_nets_cpu --threads $$threads || exit 1; \
	done
	$(BIN)/python -m benchmarks.training_cpu
	$(BIN)/python -m benchmarks.chain
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.data_loading
	$(BIN)/python -m benchmarks.report

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@
