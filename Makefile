# `make demo` and `make test` set up everything they need in .venv, pinned by constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help setup demo test quick lint libraries models generation models-nnx modules suites training right faults conformance coverage fuzz hostile bench bench-serving precision serving gpu clean scale bench-scale models-on-ray docs gallery

help:            ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: .venv/ready   ## make .venv with dlbridge and all extras that the tests use

demo: setup          ## train the digits CNN in PyTorch, Keras (and Flax NNX if installed), export, compare, serve
	$(BIN)/python examples/demo.py

# two processes, each of which computes on one core: with more threads they wait for each other
PYTEST := OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test: setup          ## the default test suite
	$(PYTEST)

quick: setup         ## a part of the default suite, in less than two minutes
	$(PYTEST) -m quick

lint: setup          ## format, lint, types, import rules
	$(BIN)/ruff format --check dlbridge tests examples bench
	$(BIN)/ruff check dlbridge tests examples bench
	$(BIN)/lint-imports
	$(BIN)/mypy

# torchvision's own operators do not load beside a CPU torch, its models do: without its dependencies
.venv/torchvision: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps torchvision
	@touch $@

.venv/sweeps: .venv/torchvision
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt jax flax optax
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps timm
	@touch $@

# Libraries whose pins would replace the environment's: into a folder of their own, without their dependencies
LIBRARIES := axial-positional-embedding cloudpickle colt5-attention conformer deepctr-torch demucs denoising-diffusion-pytorch \
	diffusers efficientnet-pytorch einops einx ema-pytorch encodec entmax farama-notifications frozendict ftfy fvcore \
	g-mlp-pytorch gymnasium hyper-connections iopath kornia kornia-rs linformer local-attention loguru mlp-mixer-pytorch \
	monai nystrom-attention open-clip-torch perceiver-pytorch performer-pytorch product-key-memory pytorch-tabnet \
	pytorchvideo rotary-embedding-torch rtdl-num-embeddings rtdl-revisiting-models segmentation-models-pytorch \
	stable-baselines3 tab-transformer-pytorch tabm torch-einops-utils torch-geometric vit-pytorch vocos wcwidth x-transformers
.venv/libraries/ready: .venv/sweeps
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target .venv/libraries $(LIBRARIES)
	@touch $@

libraries: .venv/libraries/ready ## models of twenty-six more libraries: segmentation, diffusion, tables, graphs, speech (an hour)
	PYTHONPATH=.:.venv/libraries $(BIN)/python -m pytest -m slow tests/sweeps/test_libraries.py -s

suites: .venv/sweeps ## the layers and operations of Keras' own tests, to all targets (an hour)
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile tests/frameworks/keras/test_own_layers.py tests/frameworks/keras/test_own_ops.py

models: .venv/sweeps ## the sweep over whole models of torchvision, timm, transformers, keras.applications (an hour)
	$(BIN)/python -m pytest -m slow tests/sweeps --ignore tests/sweeps/test_libraries.py --ignore tests/sweeps/test_generation.py -s

generation: .venv/sweeps ## the same tokens as transformers from onnxruntime, PyTorch, Keras: 45 families (two hours)
	$(BIN)/python -m pytest -m slow tests/frameworks/test_generates.py tests/sweeps/test_generation.py -s

models-nnx: .venv/sweeps ## the same models of torchvision, timm, transformers to Flax NNX (an hour)
	DLBRIDGE_SWEEP_TARGETS=nnx $(BIN)/python -m pytest -m slow tests/sweeps/test_torchvision.py tests/sweeps/test_timm.py tests/sweeps/test_transformers.py -s

modules: setup       ## PyTorch's ModuleInfo database, every sample in eval and in training mode (an hour)
	$(BIN)/python -m pytest -n 2 -m slow tests/frameworks/pytorch/test_reads_modules.py

training: .venv/sweeps ## every optimizer and every loss in every framework, and the page of what they agree to (half an hour)
	$(BIN)/python -m pytest -m slow tests/training -s
	$(BIN)/python -m tests.helpers.parity

right: .venv/sweeps  ## a hundred right models through the verification on PyTorch, Keras and ONNX: no false alarm (half an hour)
	$(BIN)/python -m tests.sweeps.test_right

faults: setup        ## plant faults of 136 kinds, and 531 by hand, into what is written: what is caught, and what is traced to its node
	$(BIN)/python -m pytest -m slow tests/verification/test_faults.py tests/verification/test_edits.py -s

conformance: setup   ## score of the ONNX node tests for PyTorch and Keras
	mkdir -p out
	$(BIN)/python -m dlbridge.conformance --json out/conformance.json --report docs/conformance.md

coverage: setup      ## docs/coverage.md: every rule and the tests that use it
	mkdir -p out
	rm -f out/rules.*.json
	DLBRIDGE_RULES_USED=out/rules.json $(BIN)/python -m pytest -n 2 --dist loadfile
	$(BIN)/python -m dlbridge.conformance.coverage --conformance out/conformance.json out/rules.*.json

fuzz: setup          ## 20,000 mutants of files of every kind: no raw error, no hang, no memory beyond a bound
	$(BIN)/python -m tests.helpers.fuzz --mutants 20000

hostile: setup       ## 100,000 hostile requests, configurations and repositories each, for the server (15 minutes)
	$(BIN)/python -m tests.helpers.serving_fuzz --cases 100000

gpu: setup           ## the runtime and the server on an NVIDIA GPU; without one it says so and does nothing (5 minutes)
	$(BIN)/python -m tests.helpers.gpu

bench: .venv/torchvision ## benchmarks, as ratios to peers; a case that fails ends them with an error
	$(BIN)/python -m bench

precision: .venv/sweeps ## docs/precision.md: size, speed and loss of float16, int8, int4 (15 minutes)
	$(BIN)/python -m bench.precision

# what bench/serving.py compares with: Triton's server, in an environment of its own
.venv-peers/ready:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check nvidia-pytriton==0.7.0 onnxruntime
	@touch $@

bench-serving: .venv/torchvision .venv-peers/ready ## the server beside NVIDIA's Triton and the session alone (6 minutes)
	$(BIN)/python -m bench serving

# NVIDIA's client wants an older protobuf: an environment of its own, and schemathesis with it
.venv-triton/ready:
	$(PYTHON) -m venv .venv-triton
	.venv-triton/bin/pip install --quiet --disable-pip-version-check 'tritonclient[all]==2.73.0' schemathesis==4.32.5
	@touch $@

serving: setup .venv-triton/ready ## the server under NVIDIA's clients, overload, kills and reloads (15 minutes)
	$(BIN)/python -m pytest -m slow tests/sweeps/serving -s

.venv/ray: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt 'ray[data,serve,train]'
	@touch $@

scale: .venv/ray .venv-triton/ready ## batch runs and serving on Ray, with workers and replicas that die (5 minutes)
	$(BIN)/python -m pytest -m slow tests/batch tests/training/test_group.py tests/verification/test_on_ray.py tests/sweeps/serving/test_on_ray.py

models-on-ray: .venv/sweeps .venv/ray ## the sweep over whole models, spread over the workers of a Ray cluster (WORKERS=2)
	$(BIN)/python -m tests.sweeps.on_ray --workers $(or $(WORKERS),2) tests/sweeps/test_torchvision.py tests/sweeps/test_timm.py tests/sweeps/test_transformers.py

bench-scale: .venv/ray ## what Ray costs: requests and rows, beside the same without it
	$(BIN)/python -m bench scale

clean:               ## remove .venv and caches
	rm -rf .venv .venv-triton .venv-peers .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.venv/docs/ready:
	$(PYTHON) -m venv .venv/docs
	.venv/docs/bin/pip install --quiet --disable-pip-version-check 'mkdocs>=1.6,<2' 'mkdocs-material>=9.6,<10' 'mkdocstrings[python]>=0.29'
	@touch $@

docs: .venv/docs/ready ## the documentation as a site, in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --strict --quiet

gallery: .venv/libraries/ready ## docs/gallery.md: printed models beside the code that they were read from
	PYTHONPATH=.:.venv/libraries $(BIN)/python -m tests.sweeps.gallery docs/gallery.md
