"""Learning rates per parameter group: one schedule per group, one step counter for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax
from jax.typing import ArrayLike

from jaxsched._core._require import flag, length, positive, refuse, require, word
from jaxsched._core._trees import is_variable, text_of
from jaxsched._schedules._piecewise import piecewise_constant
from jaxsched._schedules._unbounded import constant
from jaxsched._transforms._checks import as_slot
from jaxsched._transforms._rates import behind, require_rate
from jaxsched._transforms._scheduled import AnyRate, Slot, Values, scheduled, times

Labels = Any  # a tree of names; each name applies to the whole subtree below it
Layer = str | tuple[str, ...]


def per_group(
    labels: Labels | Callable[[optax.Params], Labels],
    schedules: Mapping[str, AnyRate],
    *,
    flip_sign: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Multiplies the updates of each parameter group by the group's own learning rate.

        -schedules[label of the parameter](count) * update

    Use it instead of `scale_by_learning_rate`, behind one preconditioner for all groups. If groups
    need different optimizers, use `optax.partition`. A group with rate 0 does not move. Updates are
    negated, so that they go downhill. Behind a whole optimizer such as `optax.sgd(0.1)`, which
    already goes downhill, set `flip_sign=False`.

    Args:
      labels: a tree of names with the structure of the parameters, or of its upper part; or a
        function from parameters to such a tree, such as `by_path(...)`.
      schedules: by group name, a float, a schedule, a stateful schedule, or a function of the step.
      flip_sign: whether to negate the updates.

    Returns:
      A transform whose `hyperparams` has "head/learning_rate" for the group "head". In `override`
      and `retune`, the plain name "learning_rate" means all groups.

    Raises:
      ValueError: a parameter is in no group that has a schedule; a group has no parameter; or a
        value is not a schedule.

    Example:
      >>> labels = by_path(lambda path: "head" if path.startswith("head") else "body")
      >>> tx = per_group(labels, {"body": cosine(0.1, 0.0, 10), "head": 1.0})
      >>> params = {"embed": jnp.ones(1), "head": jnp.ones(1)}
      >>> updates, state = tx.update(params, tx.init(params))
      >>> print(updates["embed"], updates["head"])
      [-0.1] [-1.]
      >>> print(*hyperparams(state))
      body/learning_rate head/learning_rate

    References:
      `optax.partition`, which uses the same labels.
    """
    call = "per_group"
    named = hasattr(schedules, "items")
    require(named, refuse(call, "schedules", "be a dict of schedules by group", schedules))
    require(bool(schedules), f"`{call}(labels, schedules)` has no schedules. Give one per group.")
    sign = -1 if flag(call, "flip_sign", flip_sign) else 1
    slots = {name: as_slot(call, name, x) for name, x in schedules.items()}
    for name, slot in slots.items() if flip_sign else ():
        require_rate(call, name, slot)
    return behind(call, _grouped(call, labels, slots, "learning_rate", sign), *slots.values())


def layerwise(*, decay: ArrayLike, depth: Sequence[Layer]) -> optax.GradientTransformationExtraArgs:
    """Multiplies the updates of each layer by a factor that decays from the output to the input.

        update * decay**(len(depth) - 1 - d)    for the layers of depth d, from 0 at the input

    Use it after the preconditioner, for example between `scale_by_adam()` and
    `scale_by_learning_rate(...)`, or after a complete optimizer.

    Args:
      decay: factor from one layer to the layer below, positive; 0.65 to 0.9 is usual.
      depth: names of the layers from the input to the output, as they occur in the paths of the
        parameters: `["embed", "layers_0", "layers_1", "head"]`. Use a tuple for several names at
        one depth. A parameter belongs to the longest name on its path; `"layers/1"` spans two
        levels of the path.

    Returns:
      A transform whose `hyperparams` has "head/scale" for the layer "head", and so on.

    Raises:
      ValueError: `decay` is not positive; a parameter is in no layer, or in two; or a layer has no
        parameter.

    Example:
      >>> tx = optax.chain(optax.sgd(0.1), layerwise(decay=0.5, depth=["embed", "body", "head"]))
      >>> params = {"body": jnp.ones(1), "embed": jnp.ones(1), "head": jnp.ones(1)}
      >>> for name, value in hyperparams(tx.init(params)).items():
      ...     print(name, value)
      body/scale 0.5
      embed/scale 0.25
      head/scale 1.0

    References:
      BEiT, 2022, https://arxiv.org/abs/2106.08254: the top layer has `decay`, the head 1. ELECTRA,
      2020, https://arxiv.org/abs/2003.10555, leaves one power out: the top layer has `decay**2`.
      To leave one out, add an empty place `()`: `[..., "layers_11", (), "head"]`. Howard and Ruder,
      2018, https://arxiv.org/abs/1801.06146, use 1 / 2.6.
    """
    call = "layerwise"
    rate = positive(call, "decay", decay)
    layers = [_names_of(call, "depth", x, depth) for x in _listed(call, "depth", depth)]
    require(any(layers), refuse(call, "depth", "name at least one layer", depth))
    _require_distinct(call, "depth", [name for names in layers for name in names])
    slots = {
        names[0]: constant(rate ** (len(layers) - 1 - d)) for d, names in enumerate(layers) if names
    }
    group_of = {name: names[0] for names in layers for name in names}
    return _grouped(call, by_path(lambda path: _layer(path, group_of)), slots, "scale", 1)


def unfreezing(schedule: AnyRate, groups: Sequence[str], *, every: int) -> dict[str, Slot]:
    """Returns schedules for `per_group` that unfreeze one group after the other.

        group i: 0 before step i * every, then schedule(count)

    All groups share one step counter. A group that is unfrozen at step k starts at the schedule's
    value for step k.

    Args:
      schedule: the schedule of an unfrozen group; a float, a schedule, a stateful schedule, or a
        function of the step.
      groups: names in the order of unfreezing, the head first.
      every: steps between one group and the next.

    Returns:
      A dict of schedules by group name.

    Raises:
      ValueError: `schedule` is not a schedule, `groups` is empty, or `every` is not a length.

    Example:
      >>> schedules = unfreezing(linear(1.0, 0.0, 10), ["head", "body"], every=5)
      >>> print(schedules["body"](jnp.arange(4, 7)))
      [0.  0.5 0.4]

    References:
      Howard and Ruder, 2018, https://arxiv.org/abs/1801.06146, section 3.3.
    """
    call = "unfreezing"
    order = _listed(call, "groups", groups)
    require(len(order) > 0, refuse(call, "groups", "name at least one group", groups))
    _require_distinct(call, "groups", [word(call, "groups", x) for x in order])
    rate = as_slot(call, "schedule", schedule)
    steps = length(call, "every", every)
    return {
        name: piecewise_constant([0.0, 1.0], [i * steps]) * rate if i else rate
        for i, name in enumerate(groups)
    }


def by_path(name: Callable[[str], Any]) -> Callable[[optax.Params], Labels]:
    """Returns a function that labels parameters by path, for `per_group` and `optax.partition`.

    Args:
      name: a function from a path, such as "encoder/layers_3/kernel", to a label. Under NNX too,
        the path ends in the name of the parameter.

    Returns:
      A function from parameters to a tree of labels.

    Example:
      >>> by_path(lambda path: path.split("/")[0])({"head": {"kernel": jnp.ones(2)}})
      {'head': {'kernel': 'head'}}
    """
    require(callable(name), refuse("by_path", "name", "be a function of a path", name))

    # An `nnx.Optimizer` has variables at the start, and arrays without them in an update.
    def labelled(params: optax.Params) -> Labels:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: name(text_of(path)), params, is_leaf=is_variable
        )

    return labelled


def _listed(call: str, argument: str, names: Any) -> list[Any]:
    listed = isinstance(names, Sequence) and not isinstance(names, str)
    require(listed, refuse(call, argument, "be a list of names", names))
    return list(names)


def _names_of(call: str, argument: str, names: Any, value: Any) -> tuple[str, ...]:
    """Return one name or a tuple of names as a tuple."""
    several = (names,) if isinstance(names, str) else names
    named = isinstance(several, tuple) and all(isinstance(name, str) and name for name in several)
    require(named, refuse(call, argument, "be a list of names", value))
    return tuple(several)


def _require_distinct(call: str, argument: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, refuse(call, argument, "have each name once", twice))


def _grouped(
    call: str, labels: Any, slots: Mapping[str, Any], name: str, sign: int
) -> optax.GradientTransformationExtraArgs:
    """Return a transform with one step counter that multiplies each group by its own value."""

    def labelled(tree: Any) -> Labels:
        found = labels(tree) if callable(labels) else labels
        _require_labels(call, found, slots)
        return found

    def make(values: Values) -> optax.GradientTransformation:
        def one(label: str, updates: Any) -> Any:
            factor = sign * values[f"{label}/{name}"]
            return jax.tree.map(lambda u: times(factor, u), updates)

        def init(params: optax.Params) -> optax.EmptyState:
            _require_groups(call, labelled(params), params, slots)
            return optax.EmptyState()

        def update(
            updates: optax.Updates, state: Any, params: optax.Params | None = None
        ) -> tuple[optax.Updates, Any]:
            return jax.tree.map(one, labelled(updates), updates), state

        return optax.GradientTransformation(init, update)

    return scheduled({f"{group}/{name}": slot for group, slot in slots.items()}, make)


def _require_labels(call: str, labels: Labels, slots: Mapping[str, Any]) -> None:
    """Raise unless every label is the name of a group."""
    names = ", ".join(slots)
    for path, label in jax.tree_util.tree_flatten_with_path(labels)[0]:
        known = isinstance(label, str) and label in slots
        require(known, f"`{call}`: `{text_of(path)}` is in {label!r}, and there is only {names}.")


def _require_groups(call: str, labels: Labels, params: Any, slots: Mapping[str, Any]) -> None:
    """Raise unless every group has a parameter."""
    found = set[str]()

    def check(label: str, below: Any) -> None:
        if jax.tree.leaves(below):
            found.add(label)

    jax.tree.map(check, labels, params)
    empty = [name for name in slots if name not in found]
    require(not empty, f"`{call}`: no parameter is in {', '.join(map(repr, empty))}.")


def _layer(path: str, group_of: Mapping[str, str]) -> str:
    """Return the group of the longest name on a path."""
    steps = path.split("/")
    on_it = {name for name in group_of if _is_on(name.split("/"), steps)}
    require(
        bool(on_it),
        f"`layerwise`: `{path}` is in no layer. `depth` has {', '.join(group_of)}.",
    )
    longest = max(len(name.split("/")) for name in on_it)
    names = sorted(name for name in on_it if len(name.split("/")) == longest)
    same = len({group_of[name] for name in names}) == 1
    require(same, f"`layerwise`: `{path}` is in {' and '.join(names)}. Name more of its path.")
    return group_of[names[0]]


def _is_on(name: list[str], path: list[str]) -> bool:
    return any(path[i : i + len(name)] == name for i in range(len(path) - len(name) + 1))
