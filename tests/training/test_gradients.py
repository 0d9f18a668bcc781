"""Converted models train as the original does: gradients in float64, and running statistics after a training step."""

import numpy as np
import pytest
import tensorflow as tf
import torch

import dlbridge
from dlbridge import frameworks
from dlbridge.frameworks.keras.runner import float_type
from tests.helpers import architectures

RNG = np.random.default_rng(3)
IMAGE = RNG.normal(size=(3, 3, 32, 32))
#: Architecture -> example inputs.
CASES = {
    "ResNet18": (IMAGE,),
    "Bert": (RNG.integers(0, 50, (2, 6)), np.ones((2, 6))),
    "LSTMTagger": (RNG.integers(0, 20, (2, 5)),),
    "GRURegressor": (RNG.normal(size=(3, 4, 5)),),
    "SqueezeExcite": (RNG.normal(size=(2, 6, 7, 7)),),
    "UNet": (RNG.normal(size=(2, 3, 8, 8)),),
    "ConvNeXtBlock": (RNG.normal(size=(2, 6, 6, 6)),),
    "WaveNet": (RNG.normal(size=(2, 4, 9)),),
    "Recommender": (RNG.integers(0, 20, (3, 4)), RNG.integers(0, 20, (3,))),
    "BasicBlock": (RNG.normal(size=(2, 4, 6, 6)),),
}
ARGUMENTS = {"BasicBlock": (4, 8, 2)}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """(the module in float64, its inputs, the model that was read of it)."""
    torch.manual_seed(0)
    name = request.param
    module = getattr(architectures, name)(*ARGUMENTS.get(name, ()))
    module = architectures.randomized(module).double()
    inputs = tuple(torch.from_numpy(x) for x in CASES[name])
    return module, inputs, dlbridge.load(module, inputs=inputs)


def importance(outputs):
    """What each element of the outputs weighs in the loss, so that every one counts."""
    return np.cos(np.arange(int(np.prod(outputs.shape)))).reshape(outputs.shape)


def of_pytorch(module, inputs, training=False):
    """State-dict key -> gradient."""
    module.train(training)
    module.zero_grad()
    outputs = module(*inputs)
    (outputs * torch.from_numpy(importance(outputs))).sum().backward()
    module.eval()
    return {k: p.grad.numpy().copy() for k, p in module.named_parameters()}


def of_keras(model, inputs, training=False):
    """State-dict key -> gradient, and -> weight after it."""
    source, written = model.write("keras"), model.write("pytorch")
    live = frameworks.get("keras").load(source)
    arrays = [tf.constant(x.numpy()) for x in inputs]
    with float_type(source), tf.GradientTape() as tape:
        outputs = live(arrays if len(arrays) > 1 else arrays[0], training=training)
        loss = tf.reduce_sum(outputs * importance(outputs))
    from dlbridge.frameworks.keras.runner import _variables

    variables = {k: v for k, v in _variables(live).items() if k in source.weights}
    found = tape.gradient(loss, [v.value for v in variables.values()])
    grads = {
        k: np.zeros(v.shape) if g is None else tf.convert_to_tensor(g).numpy()
        for (k, v), g in zip(variables.items(), found, strict=True)
    }
    state = source.initializers(frameworks.get("keras").weights(live))
    both = {k: w for k, w in written.weights.items() if not k.endswith("num_batches_tracked")}  # Keras counts none
    return tuple({k: w.read(found) for k, w in both.items()} for found in (source.initializers(grads), state))


def close(got, right):
    assert np.abs(got - right).max() <= 1e-8 * max(np.abs(right).max(), 1e-12)


def test_gradients(case):
    module, inputs, model = case
    right = of_pytorch(module, inputs)
    again = of_pytorch(model.to_pytorch(), inputs)
    keras, _ = of_keras(model, inputs)
    assert right.keys() == again.keys()
    scale = max(np.abs(g).max() for g in right.values())
    for name, gradient in right.items():
        # Keras' LSTM has the sum of PyTorch's two biases, whose gradients are the same.
        one_bias = name.replace("bias_hh", "bias_ih") if name.startswith("lstm.") else name
        for got in (again[name], keras[one_bias]):
            assert got.shape == gradient.shape, name
            assert np.abs(got - gradient).max() <= 1e-8 * max(np.abs(gradient).max(), 1e-6 * scale), name


def test_a_training_step_of_batch_normalisation(case):
    module, inputs, model = case
    if not any(name.endswith("running_mean") for name, _ in module.named_buffers()):
        pytest.skip("no batch normalisation")
    before = {k: v.clone() for k, v in module.state_dict().items()}
    right = of_pytorch(module, inputs, training=True)
    after = {k: v.numpy().copy() for k, v in module.state_dict().items() if "running" in k}
    module.load_state_dict(before)
    again = model.to_pytorch()
    of_pytorch(again, inputs, training=True)
    gradients, state = of_keras(model, inputs, training=True)
    for name, value in after.items():
        close(again.state_dict()[name].numpy(), value)
        close(state[name], value)
    scale = max(np.abs(g).max() for g in right.values())
    for name, gradient in right.items():
        assert np.abs(gradients[name] - gradient).max() <= 1e-8 * max(np.abs(gradient).max(), 1e-6 * scale), name
