"""Where JAX, Optax and Flax document their names, so that code in our text links to them.

`intersphinx` loads the inventories of the three sites. For a build without a network, `write` makes
inventories of the names that our pages mention.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

SITES = {
    "jax": "https://docs.jax.dev/en/latest/",
    "optax": "https://optax.readthedocs.io/en/latest/",
    "flax": "https://flax.readthedocs.io/en/latest/",
}
# Pages of the sites, and the names that they document. `$` is the name itself.
JAX = {
    "_autosummary/$.html": (
        "jax: Array eval_shape grad jit set_mesh shard_map vmap",
        "jax.lax: pmean scan",
        "jax.numpy: where",
        "jax.tree: map",
        "jax.tree_util: Partial register_dataclass",
    )
}
OPTAX = {
    "api/generated/$.html": (
        "optax: GradientTransformation GradientTransformationExtraArgs MultiSteps adam adamw",
        "optax: add_decayed_weights apply_if_finite apply_updates chain clip_by_global_norm ema",
        "optax: identity masked named_chain partition scale_by_adam scale_by_learning_rate",
        "optax: scale_by_schedule sgd",
        "optax.schedules: Schedule constant_schedule cosine_decay_schedule",
        "optax.schedules: cosine_onecycle_schedule exponential_decay inject_hyperparams",
        "optax.schedules: join_schedules linear_onecycle_schedule linear_schedule",
        "optax.schedules: piecewise_constant_schedule piecewise_interpolate_schedule",
        "optax.schedules: polynomial_schedule sgdr_schedule warmup_constant_schedule",
        "optax.schedules: warmup_cosine_decay_schedule warmup_exponential_decay_schedule",
        "optax.contrib: reduce_on_plateau schedule_free schedule_free_adamw",
        "optax.tree_utils: tree_get tree_set",
    )
}
FLAX = {
    "api_reference/flax.nnx/graph.html": ("flax.nnx: merge split update",),
    "api_reference/flax.nnx/module.html": ("flax.nnx: Module",),
    "api_reference/flax.nnx/object.html": ("flax.nnx: data",),
    "api_reference/flax.nnx/state.html": ("flax.nnx: State",),
    "api_reference/flax.nnx/training/optimizer.html": ("flax.nnx.optimizer: Optimizer",),
    "api_reference/flax.nnx/transforms.html": ("flax.nnx: jit",),
    "api_reference/flax.nnx/variables.html": ("flax.nnx: Param Variable",),
    "api_reference/flax.training.html": ("flax.training.train_state: TrainState",),
}
PAGES = {"jax": JAX, "optax": OPTAX, "flax": FLAX}
# How our text begins a name, and how an inventory does.
BEGINNINGS = {"jnp.": "jax.numpy.", "lax.": "jax.lax.", "nnx.": "flax.nnx."}
NAME = re.compile(r"(?<![\w.\"'])(?:jax|jnp|lax|optax|nnx|flax)(?:\.\w+)+")


def documented(library: str) -> Iterator[tuple[str, str]]:
    """Every name that a library documents, and the page."""
    for page, lines in PAGES[library].items():
        for line in lines:
            module, _, names = line.partition(": ")
            for name in names.split():
                yield f"{module}.{name}", page.replace("$", f"{module}.{name}")


@functools.cache
def targets() -> dict[str, str]:
    """The names in inventories, by the name without the modules in which it is re-exported."""
    found = [name for library in SITES for name, _ in documented(library)]
    short = {re.sub(r"\.(schedules|optimizer|train_state)\.", ".", name): name for name in found}
    return {
        **short,
        **{name: name for name in found},
        "TrainState": short["flax.training.TrainState"],
    }


def links(text: str) -> Iterator[tuple[int, int, str]]:
    """Where code mentions names of the three libraries: start, end and target."""
    known = targets()
    if text == "TrainState":
        yield 0, len(text), known[text]
    for found in NAME.finditer(text):
        name = found[0]
        for ours, theirs in BEGINNINGS.items():
            name = theirs + name.removeprefix(ours) if name.startswith(ours) else name
        if name in known:
            yield *found.span(), known[name]


def write(folder: Path) -> dict[str, tuple[str, tuple[None, str]]]:
    """Write the inventories; return what `intersphinx_mapping` has to be."""
    folder.mkdir(parents=True, exist_ok=True)
    for library in SITES:
        lines = [f"{name} py:function 1 {page}#$ -\n" for name, page in documented(library)]
        head = f"# Sphinx inventory version 2\n# Project: {library}\n# Version: latest\n"
        head += "# The remainder of this file is compressed using zlib.\n"
        packed = zlib.compress("".join(lines).encode())
        (folder / f"{library}.inv").write_bytes(head.encode() + packed)
    return {name: (site, (None, str(folder / f"{name}.inv"))) for name, site in SITES.items()}
