"""Keras 3 on JAX: a schedule inside `model.fit`, and the twin of a Keras callback.

`to_keras` makes a `LearningRateSchedule`, which is saved with the model as text. A twin has the
arguments and the numbers of the callback. Run it with `python examples/keras_fit.py`.
"""

import os
import tempfile

os.environ["KERAS_BACKEND"] = "jax"  # before Keras

import keras
import numpy as np
from sklearn.datasets import load_digits

import jaxsched as js

# 1. Data: 1797 handwritten digits of 8 x 8 pixels. The last 360 are for validation.
pixels, labels = load_digits(return_X_y=True)
pixels, labels = np.float32(pixels / 16), np.int32(labels)
TRAIN, BATCH, EPOCHS = 1437, 128, 10

# 2. A schedule in steps. `fit` counts the short batch at the end of an epoch as a step.
units = js.Units(batch_size=BATCH, dataset_size=TRAIN, drop_remainder=False)
schedule = js.parse("linear(1e-3, 1e-2, 2ep) >> cosine(1e-2, 0.0, 8ep)", units=units)


class Used(keras.callbacks.Callback):
    """Records the rate of each step from the optimizer."""

    def on_train_begin(self, logs=None):
        self.rates = []

    def on_train_batch_begin(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


def fit(rate, callback):
    keras.utils.set_random_seed(0)
    layers = keras.Input((64,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10, "softmax")
    model = keras.Sequential(layers)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    held_out = pixels[TRAIN:], labels[TRAIN:]
    how = {"batch_size": BATCH, "epochs": EPOCHS, "callbacks": [callback], "verbose": 0}
    return model, model.fit(pixels[:TRAIN], labels[:TRAIN], validation_data=held_out, **how).history


# 3. The twin receives the same losses. Here a step is an epoch.
def followed(rate, losses):
    tx, rates = js.scale_by_learning_rate(rate), []
    state = tx.init({})
    for loss in losses:
        _, state = tx.update({}, state)
        rates.append(float(js.hyperparams(state)["learning_rate"]))
        state = js.observe(state, value=loss)
    return rates


def main():
    model, seen = fit(js.compat.keras.to_keras(schedule), used := Used())
    for i in range(EPOCHS):
        rate, right = used.rates[i * units.epochs(1)], seen["val_accuracy"][i]
        print(f"epoch {i}  rate used {rate:.6f}  loss {seen['loss'][i]:.4f}  {right:.1%} right")
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        restored = keras.models.load_model(f"{folder}/model.keras").optimizer
    print("saved with the model:", restored.get_config()["learning_rate"]["config"]["schedule"])

    plateau = {"factor": 0.5, "patience": 2, "min_delta": 0.03}
    _, theirs = fit(1e-2, keras.callbacks.ReduceLROnPlateau(**plateau))
    ours = followed(js.compat.keras.ReduceLROnPlateau(1e-2, **plateau), theirs["val_loss"])
    print("the callback's rates:", *theirs["learning_rate"])
    print("the twin's rates:    ", *ours)
    return used.rates, seen, restored, theirs["learning_rate"], ours


if __name__ == "__main__":
    main()
