"""Nodes: frozen pytrees whose fields declare what they hold."""

from __future__ import annotations

import dataclasses
import inspect
import struct
from typing import Any, cast, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxsched._core import _fields
from jaxsched._core._fields import fields_of, kind_of

# Attributes outside the fields, so that they are not part of the tree.
RESIDENT = "_resident"
HASH = "_hash"


@dataclass_transform(
    frozen_default=True,
    eq_default=False,
    field_specifiers=(
        dataclasses.field,
        _fields.number_field,
        _fields.length_field,
        _fields.list_field,
        _fields.form_field,
        _fields.choice_field,
    ),
)
class Node:
    """A base class whose subclasses become frozen pytrees.

    Two nodes are equal, and have equal hashes, if they have the same tree with the same numbers, to
    the last bit. So a frozen configuration that holds a node is traced once. A node that contains a
    tracer is equal only to itself.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _require_fields(cls)
        _register(cls)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Node):
            return NotImplemented
        return self is other or _same(self, other)

    def __hash__(self) -> int:
        kept = vars(self).get(HASH)
        if kept is None:
            kept = vars(self)[HASH] = _hash(self)
        return kept

    @classmethod
    def _expect(cls, call: str, **given: Any) -> None:
        """Raise if the arguments look like those of another order, before each is checked."""

    def _check(self, call: str) -> None:
        """Raise if the fields of a new node do not fit together."""

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled and copied: the fields, without caches of this process."""
        return {name: x for name, x in vars(self).items() if name not in (HASH, RESIDENT)}


def _register(cls: type) -> None:
    """Make a class a frozen pytree: fields are leaves or children, unless they are static.

    Nothing is validated here, since unflattening rebuilds nodes around tracers.
    """
    dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
    fields = fields_of(cls)
    static = tuple(f.name for f in fields if kind_of(f).is_static)
    data = tuple(f.name for f in fields if f.name not in static)
    keys = tuple(map(jax.tree_util.GetAttrKey, data))

    def flatten(x: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        own = vars(x).__getitem__
        structure = tuple(map(own, static))
        # With their types: 1 and True are equal, but are not the same structure.
        return tuple(map(own, data)), (structure, tuple(map(type, structure))) if static else ()

    def flatten_with_keys(x: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, structure = flatten(x)
        return tuple(zip(keys, children, strict=True)), structure

    def unflatten(structure: tuple[Any, ...], children: Any) -> Any:
        new = object.__new__(cls)
        vars(new).update(zip(data, children, strict=True))
        vars(new).update(zip(static, structure[0] if static else (), strict=True))
        return new

    # Not `register_dataclass`: in jax 0.10.2 the structures of two such classes are equal if their
    # fields are, so that a compiled program of one is sometimes used for the other.
    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


def _require_fields(cls: type) -> None:
    """Raise for a class whose declarations are not fields, or hide attributes of a base class."""
    if "__init__" in vars(cls):
        raise TypeError(
            f"`{cls.__name__}` has an `__init__`, but a node is built from its fields. Declare "
            "each as an annotation in the class, such as `rate: float`, and remove `__init__`."
        )
    bases = cls.__mro__[1:]
    inherited = {name for base in bases for name in vars(base)}
    fields = {f.name for base in bases if dataclasses.is_dataclass(base) for f in fields_of(base)}
    own = {name for name, x in inspect.get_annotations(cls).items() if "ClassVar" not in str(x)}
    hidden = own & (inherited - fields - {"steps"}) | {*vars(cls)} & fields - own
    for name in sorted(hidden):
        raise TypeError(
            f"`{name}` of `{cls.__name__}` hides an attribute of a base class. Choose another name."
        )


def _hash(x: Node) -> int:
    leaves, tree = jax.tree.flatten(x)
    try:
        return hash((tree, *map(_key, leaves)))
    except TypeError:  # a tracer, or a static value that has no hash
        return id(x)


def _key(leaf: Any) -> Any:
    """Return the hashed part of a leaf. Numbers of arrays are excluded: reading them may block."""
    match leaf:
        case Tracer():
            raise TypeError
        case np.ndarray() | jax.Array():
            return leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)
        case np.generic():
            return leaf.dtype, leaf.tobytes()
        case float():
            return struct.pack("d", leaf)
        case _:
            return leaf


def _same(a: Node, b: Node) -> bool:
    if type(a) is not type(b) or hash(a) != hash(b):
        return False
    (xs, tree), (ys, other) = jax.tree.flatten(a), jax.tree.flatten(b)
    xs, ys = [*xs, *_marks(a)], [*ys, *_marks(b)]
    return tree == other and len(xs) == len(ys) and all(map(same_leaf, xs, ys))


def _marks(x: Node) -> list[Any]:
    """Return attributes stored outside the fields, without caches of this process."""
    known = {HASH, RESIDENT, *(field.name for field in fields_of(x))}
    noted = {name: value for name, value in vars(x).items() if name not in known}
    return [*sorted(noted), *(noted[name] for name in sorted(noted))]


def same_leaf(x: Any, y: Any) -> bool:
    """Return whether two leaves are the same to the last bit; tracers must be identical."""
    if x is y or isinstance(x, Tracer) or isinstance(y, Tracer):
        return x is y
    if isinstance(x, (np.ndarray, jax.Array)):
        return isinstance(y, (np.ndarray, jax.Array)) and _bits(x) == _bits(y) is not None
    return type(x) is type(y) and bool(_key(x) == _key(y))


def _bits(x: np.ndarray | jax.Array) -> tuple[Any, ...] | None:
    """Return an array in comparable form; None if this process cannot read it."""
    if isinstance(x, jax.Array) and (x.is_deleted() or not x.is_fully_addressable):
        return None
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return *_key(x), np.asarray(jax.random.key_data(x) if is_key else x).tobytes()


def require_unstacked(x: Any, place: str = "", rank: int = 0) -> None:
    """Raise if a number or list in a node has more axes than in a single schedule."""
    if isinstance(x, Node):
        for field in fields_of(x):
            if not kind_of(field).is_static and kind_of(field).rank is not None:
                place = f"`{field.name}` of `{type(x).__name__}`"
                require_unstacked(getattr(x, field.name), place, kind_of(field).rank or 0)
    elif isinstance(x, tuple):
        for child in cast(tuple[Any, ...], x):
            require_unstacked(child, place, rank)
    elif isinstance(x, jax.Array) and x.ndim != rank:
        raise ValueError(
            f"a stacked schedule must be called under `jax.vmap`: {place} has shape {x.shape}, "
            f"but a single schedule has {'a number' if rank == 0 else 'a list'} there."
        )
