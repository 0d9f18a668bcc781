import keras
from keras import layers, ops


def build_model():
    photo = keras.Input((3, 32, 32), name="photo")
    facts = keras.Input((12,), name="facts")
    x = layers.Permute((2, 3, 1))(photo)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(16, 3, strides=2, activation="relu", name="conv1")(x)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(32, 3, strides=2, activation="relu", name="conv2")(x)
    x = layers.GlobalAveragePooling2D(name="seen")(x)
    fc = layers.Dense(32, activation="relu", name="fc1")(facts)
    x = ops.concatenate([x, fc], axis=1)
    x = layers.Dense(32, activation="relu", name="fc2")(x)
    price = layers.Dense(1, name="fc3")(x)
    sold_soon = layers.Dense(1, activation="sigmoid", name="sold")(x)
    return keras.Model([photo, facts], [price, sold_soon], name="two_inputs")


def train(model, photo, facts, label):
    model.compile(optimizer=keras.optimizers.SGD(momentum=0.9), loss=["mean_squared_error", None])
    model.fit([photo, facts], label, epochs=5)
