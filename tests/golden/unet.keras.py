import keras
from keras import layers, ops


def double_conv(x, filters, has_conv1_to_channels_last, name):
    x = layers.Permute((2, 3, 1))(x) if has_conv1_to_channels_last else x
    x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"{name}.conv1")(x)
    return layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"{name}.conv2")(x)


def up(relu2_permuted, relu2_permuted_1, filters, name):
    relu2_permuted = layers.Conv2DTranspose(
        filters,
        2,
        strides=2,
        name=f"{name}.grow",
    )(relu2_permuted)
    relu2_permuted_1 = ops.concatenate([relu2_permuted_1, relu2_permuted], axis=3)
    return double_conv(
        relu2_permuted_1,
        filters,
        has_conv1_to_channels_last=False,
        name=f"{name}.convs",
    )


def build_model():
    inputs = keras.Input((3, 32, 32), name="image")
    x = double_conv(inputs, 16, has_conv1_to_channels_last=True, name="down1")
    pool = layers.MaxPooling2D(2)(x)
    pool = double_conv(pool, 32, has_conv1_to_channels_last=False, name="down2")
    pool_1 = layers.MaxPooling2D(2)(pool)
    pool_1 = double_conv(pool_1, 64, has_conv1_to_channels_last=False, name="bottom")
    pool_1 = up(pool_1, pool, 32, name="up2")
    pool_1 = up(pool_1, x, 16, name="up1")
    pool_1 = layers.Conv2D(1, 1, activation="sigmoid", name="head")(pool_1)
    pool_1 = layers.Permute((3, 1, 2))(pool_1)
    return keras.Model(inputs, pool_1, name="unet")


def train(model, image, label):
    model.compile(optimizer="adam", loss="binary_crossentropy")
    model.fit(image, label, epochs=5, batch_size=8)
