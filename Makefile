# make demo   speech made on the spot -> a trained acoustic model, with pictures
# make test   the whole test suite
# make fuzz   two minutes of damaged files through every reader
# All set up everything they need in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NATIVE := kernels/native_libraries/manifest.json

.PHONY: demo test check fuzz bench

demo: $(NATIVE)
	$(BIN)/python -m examples.speech $(ARGS)

test: $(NATIVE)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy nnet tools
	$(BIN)/lint-imports --no-cache

fuzz: $(NATIVE)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --seconds 120 --seed 1 $(ARGS)

bench: $(NATIVE)
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
	$(BIN)/python -m benchmarks.features_cpu
	$(BIN)/python -m benchmarks.report

$(STAMP): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

$(NATIVE): $(STAMP) kernels/native_build.py $(shell find kernels -name '*.cpp' -o -name '*.h')
	$(BIN)/python -m nnet.kernels.native_build
	touch $@
