"""A weight that belongs to no layer."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("dlbridge")
class Weight(layers.Layer):
    """A free weight; called with any tensor of the model, which only says where it stands."""

    def __init__(self, shape, dtype=None, trainable=True, **kwargs):
        super().__init__(trainable=trainable, **kwargs)  # without the dtype: "int8" as a policy means quantisation
        self.shape, self.kind = tuple(shape), dtype or self.dtype
        self.value = self.add_weight(name="value", shape=self.shape, trainable=trainable, dtype=self.kind)

    def call(self, x):
        return ops.convert_to_tensor(self.value)

    def compute_output_spec(self, x):
        return keras.KerasTensor(self.shape, dtype=self.kind)

    def get_config(self):
        return {**super().get_config(), "shape": self.shape, "dtype": self.kind, "trainable": self.trainable}
