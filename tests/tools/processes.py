"""Eight devices, in one process or in two: a run of digits with every rule and every guard.

    python tests/tools/processes.py

starts two processes with four host devices each, trains in both, and says whether they did the
same. `test_processes.py` asks more of what they wrote down.

Every device sees images, losses and divergences of its own. In the style "jit" the arrays are
global, and so is the loss; in the style "shard_map" each device has its own, and `axis_name` is all
that the rules are told. No metric is shared by anything but the rules themselves.
"""

import functools
import hashlib
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import launch
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxsched as js
from jaxsched._commands._tasks._data import digits
from jaxsched._commands._tasks._model import Network

STEPS, BATCH, AXIS = 60, 64, "batch"
STYLES = ("jit", "shard_map")
OUTLIERS = 25  # the step in which the images of one device are far from all others
FAULTS = {  # what is added to the losses of some examples at a step
    "none": None,
    "process": (32, slice(BATCH // 2, BATCH), np.nan),  # all that the second of two processes sees
    "device": (32, slice(BATCH * 6 // 8, BATCH * 7 // 8), 400.0),  # what one of eight devices sees
}
RTOL = 1e-5  # of a rate: sums over devices are rounded in another order, here by up to 4e-7


class Batch(NamedTuple):
    """What a step sees."""

    pixels: Any
    labels: Any
    fault: Any  # added to each example's loss where it is reported, and to no gradient


class Carry(NamedTuple):
    """What goes from step to step."""

    params: Any
    before: Any  # the parameters a step earlier, for the divergence
    opt_state: Any


RULES = {  # so impatient that each acts within the run
    "reduce_on_plateau": lambda axis: js.reduce_on_plateau(patience=6, factor=0.7, axis_name=axis),
    "reduce_when_flat": lambda axis: js.reduce_when_flat(
        block_size=1, blocks=8, rtol=0.5, factor=0.8, axis_name=axis
    ),
    "greedy": lambda axis: js.greedy(patience=3, factor=0.9, window_size=3, axis_name=axis),
    "kl_adaptive": lambda axis: js.kl_adaptive(0.005, up=1.1, down=1.1, axis_name=axis),
    "spike_guard": lambda axis: js.spike_guard(
        sigmas=1.5, window_size=8, min_observations=4, recover_steps=5, factor=0.5, axis_name=axis
    ),
    "auto_warmup": lambda axis: js.auto_warmup(ratio=2.0, axis_name=axis),
    "hypergradient": lambda axis: js.hypergradient(0.05, axis_name=axis),
    "feedback": lambda axis: js.feedback(
        lambda s, loss: jnp.clip(s + 0.05 * jnp.sign(0.5 - loss), 0.5, 1.5), axis_name=axis
    ),
}


def optimizer(axis: str | None = None) -> optax.GradientTransformationExtraArgs:
    """Every rule in one product, inside every guard."""
    curve = js.cosine(0.1, 0.02, 20).cycle()
    rate = functools.reduce(lambda a, b: a * b, (rule(axis) for rule in RULES.values()), curve)
    tx = js.inject(functools.partial(optax.sgd, momentum=0.9), learning_rate=rate)
    tx = js.keep_best(tx, backtrack=True, axis_name=axis)
    tx = js.skip_spikes(tx, metric="value", window_size=16, axis_name=axis)
    return optax.chain(js.monitor(axis_name=axis), tx, js.snapshot(curve, keep=2))


def batches(fault: str) -> list[Batch]:
    """The global batches of a run, as NumPy arrays."""
    images, order = digits().train, np.random.default_rng(0)
    pixels, labels = np.asarray(images.pixels), np.asarray(images.labels)
    out = []
    for step in range(STEPS):
        which = order.choice(len(labels), BATCH, replace=False)
        batch = Batch(pixels[which], labels[which], np.zeros(BATCH, np.float32))
        if step == OUTLIERS:
            batch.pixels[: BATCH // 8] *= 200
        if FAULTS[fault] is not None and step == FAULTS[fault][0]:
            batch.fault[FAULTS[fault][1]] = FAULTS[fault][2]
        out.append(batch)
    return out


def begun(tx: optax.GradientTransformation) -> Carry:
    params = Network().init(jax.random.key(0), jnp.zeros((1, 64)))["params"]
    return Carry(params, jax.tree.map(jnp.array, params), tx.init(params))


def advanced(tx: Any, carry: Carry, batch: Batch, axis: str | None = None) -> Carry:
    """A step, on all that there is or on the share of one device."""

    def logits(params: Any) -> jax.Array:
        return Network().apply({"params": params}, batch.pixels)

    def loss(params: Any) -> Any:
        said = logits(params)
        own = optax.softmax_cross_entropy_with_integer_labels(said, batch.labels)
        mean = own.mean() if axis is None else jax.lax.pmean(own.mean(), axis)
        return mean, (jnp.mean(own + batch.fault), said)

    gradients, (value, said) = jax.grad(loss, has_aux=True)(carry.params)
    was, now = jax.nn.log_softmax(logits(carry.before)), jax.nn.log_softmax(said)
    kl = optax.losses.kl_divergence_with_log_targets(now, was).mean()
    # Gone back to the best twice, it has not moved but for rounding, which is no divergence.
    kl = jnp.where(kl > 1e-6, kl, 0)
    updates, opt_state = tx.update(gradients, carry.opt_state, carry.params, value=value, kl=kl)
    return Carry(optax.apply_updates(carry.params, updates), carry.params, opt_state)


def stepper(style: str, mesh: Mesh) -> tuple[Any, Any]:
    """How a run of a style begins, and its step, both compiled."""
    axis = AXIS if style == "shard_map" else None
    tx = optimizer(axis)
    step = functools.partial(advanced, tx, axis=axis)
    if style == "shard_map":
        # It refuses to compile unless it can prove that what is P() is the same on all devices.
        step = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P())
    begin = jax.jit(lambda: begun(tx), out_shardings=NamedSharding(mesh, P()))
    return begin, jax.jit(step, donate_argnums=0)


def trained(fault: str, mesh: Mesh, compiled: tuple[Any, Any]) -> dict[str, Any]:
    """A run, and all that is to be known of it: floats as text, with every bit."""
    begin, step = compiled
    carry = begin()
    record: dict[str, Any] = {"rates": [], "events": []}
    for batch in batches(fault):
        carry = step(carry, shared(batch, mesh))
        record["rates"].append(float(js.hyperparams(carry.opt_state)["learning_rate"]).hex())
        record["events"].append({k: int(x) for k, x in js.events(carry.opt_state).items()})
    jax.tree.map(require_alike, carry)
    factors = dict(zip(RULES, js.factors(carry.opt_state)["learning_rate"], strict=True))
    record["factors"] = {name: counted(state) for name, state in factors.items()}
    record["params"], record["state"] = checksum(carry.params), checksum(carry.opt_state)
    record["norm"] = float(optax.tree.norm(jax.tree.map(np.asarray, carry.params))).hex()
    return record


def shared(batch: Batch, mesh: Mesh) -> Batch:
    """A global batch, of which this process has only its own part."""
    share = BATCH // jax.process_count()
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    sharding = NamedSharding(mesh, P(AXIS))
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x[mine], x.shape), batch
    )


def require_alike(x: jax.Array) -> None:
    """Every device of this process has the same, to the last bit."""
    first, *others = [np.asarray(shard.data) for shard in x.addressable_shards]
    assert first.shape == x.shape
    assert all(first.tobytes() == other.tobytes() for other in others)


def counted(state: Any) -> dict[str, Any]:
    """The scalars of a rule: its counts, and its factor where it has one."""
    fields = {"scale", "cuts", "raises", "spikes", "memory", "judged"}
    found = {name: x for name, x in state._asdict().items() if name in fields}
    return {name: np.asarray(x).item() for name, x in found.items()}


def checksum(tree: Any) -> str:
    """Of every bit, in the order of the leaves."""
    whole = hashlib.sha256()
    for x in jax.tree.leaves(tree):
        whole.update(np.asarray(x).tobytes())
    return whole.hexdigest()


def all_runs(mesh: Mesh, styles: tuple[str, ...] = STYLES) -> dict[str, Any]:
    """Every style with every fault, each compiled once."""
    out = {}
    for style in styles:
        compiled = stepper(style, mesh)
        out[style] = {fault: trained(fault, mesh, compiled) for fault in FAULTS}
    return out


def mesh_of(devices: int) -> Mesh:
    return Mesh(np.array(jax.devices()[:devices]), (AXIS,))


@functools.cache
def on_one_device() -> dict[str, Any]:
    """The runs that all others are to be like."""
    return all_runs(mesh_of(1), ("jit",))["jit"]


def started() -> list[dict[str, Any]]:
    """What each of two processes wrote."""
    return launch.started(__file__)


def main() -> None:
    first, second = started()
    print(f"both processes wrote the same: {first == second}")
    for style, runs in first.items():
        for fault, run in runs.items():
            print(f"{style:9} fault: {fault:7} {run['events'][-1]} {run['params'][:16]}")
            print("   ", run["factors"])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        launch.work(lambda: all_runs(mesh_of(8)), sys.argv[1:])
    else:
        main()
