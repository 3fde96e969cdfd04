"""Packed states: the numbers of a state in one vector of floats and one of ints.

On an accelerator each array of a state is a buffer for the host and a kernel for the device. So a
transform is written on a record of named numbers, a NamedTuple, and an optimizer holds a
`PackedState`, in which all these numbers are two vectors. Flags are stored as ints.

Each vector is the only item of a dict, and its key lists the names of its numbers in order:

    {"ScheduledState.Override/count/overrides.rate_override.active:flag/warm:flag": [7, 0, 1]}

So a checkpoint that is restored without a target still names its numbers. A nested field is written
with a dot, and a ring with its size, `window.values:128`. The key of the ints starts with the names
of the record classes. Long rings, and arrays with the shape of the parameters, stay outside the
vectors.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

BLOCK = 32  # numbers selected together; compiling more takes quadratic time
LONGEST_RING = 256  # numbers of a ring that is still stored in a vector
INNER = "inner_state"  # the field of a record that holds the state of the wrapped transform

FLOAT, INT, FLAG, BESIDE = "float", "int", "flag", "beside"
VECTORS = (FLOAT,), (INT, FLAG)


class LikeParams(NamedTuple):
    """Arrays with the shapes of the parameters, in the state of a rule."""

    tree: Any  # with the structure of the parameters; None without parameters


class ReadOnly(Mapping[str, Any]):
    """The numbers of a state by name. It is a copy, so writing to it raises."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)

    def __setitem__(self, name: str, value: Any) -> None:
        raise TypeError(
            f"an optimizer state cannot be written to, got [{name!r}] = {value!r}. Use "
            f"`opt_state = override(opt_state, {name}=...)`, or None to return to the schedule."
        )


jax.tree_util.register_pytree_node(
    ReadOnly,
    lambda x: (tuple(x.values()), tuple(x)),
    lambda names, values: ReadOnly(dict(zip(names, values, strict=True))),
)


class PackedState(NamedTuple):
    """The state that an optimizer holds for one transform of this package.

    You can read the fields of the transform's own state from it, such as `state.count` and
    `state.hyperparams`.
    """

    floats: dict[str, jax.Array]  # float32 (float64 under x64), by the names of its numbers
    ints: dict[str, jax.Array]  # int32, by the names of its numbers
    arrays: dict[str, Any]  # by name: long rings, and arrays with the shapes of the parameters
    inner_state: Any  # the state of the wrapped transform

    @property
    def count(self) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The step counter, if the record has one."""
        return self.__getattr__("count")

    def __getattr__(self, name: str) -> Any:
        layout = None if name.startswith("_") else _known(self)
        if layout is None or name not in layout.fields:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = record_of(self)[layout.fields.index(name)]
        return ReadOnly(value) if isinstance(value, dict) else value

    def __repr__(self) -> str:
        # Errors of `optax.tree_utils.tree_set` show it, too.
        if _known(self) is not None:
            return f"<{record_of(self)}, to be changed by `override(opt_state, ...)` and others>"
        return f"PackedState{tuple(self)}"

    def __reduce__(self) -> Any:
        return _restored, (layout_of(self), *self)


class Entry(NamedTuple):
    """A number or array of a record, and its place."""

    name: str  # with a dot between nested fields
    kind: str
    shape: tuple[int, ...] = ()  # of a single run; the axes of a stack come before

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    @property
    def way(self) -> tuple[str, ...]:
        """The names of the fields on the path to it."""
        return tuple(map(urllib.parse.unquote, self.name.split(".")))

    @property
    def label(self) -> str:
        """Its text in a key."""
        marks = [FLAG] if self.kind == FLAG else []
        return ":".join([self.name, *marks, *map(str, self.shape)])


def entries_of(key: str) -> list[Entry]:
    """Return the entries of a vector, from its key."""

    def entry(label: str) -> Entry:
        name, *marks = label.split(":")
        sizes = tuple(int(mark) for mark in marks if mark != FLAG)
        return Entry(name, FLAG if FLAG in marks else INT, sizes)

    return [entry(label) for label in key.split("/") if label]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The way in which a record is packed."""

    tree: Any  # the structure of the record
    entries: tuple[Entry, ...]  # its leaves
    classes: str  # the names of the record classes
    fields: tuple[str, ...]

    @functools.cached_property
    def places(self) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
        """The entries in the vector of floats, and in the vector of ints."""
        floats, ints = (tuple(x for x in self.entries if x.kind in kinds) for kinds in VECTORS)
        return floats, ints

    @functools.cached_property
    def key(self) -> tuple[str, str]:
        """The keys of the two vectors."""
        floats, ints = ([x.label for x in places] for places in self.places)
        return "/".join(floats), "/".join([self.classes, *ints])

    @functools.cached_property
    def known_by(self) -> tuple[str, ...]:
        """What a state shows of its layout: the keys, and the names of separate arrays."""
        beside = (x.name for x in self.entries if x.kind == BESIDE and x.name != INNER)
        return *self.key, *sorted(beside)

    def __hash__(self) -> int:
        return hash(self.key)


# All layouts that this process has packed, or read from a pickle. The keys of a state name its
# numbers, but only an optimizer knows the class of each record.
_layouts: dict[tuple[str, ...], Layout] = {}


def _restored(layout: Layout, *fields: Any) -> PackedState:
    _layouts.setdefault(layout.known_by, layout)
    return PackedState(*fields)


def layout_of(state: PackedState) -> Layout:
    """Return the layout of a state's record, or raise."""
    layout = _known(state)
    if layout is None:
        names = " ".join([*state.floats, *state.ints]).replace("/", " ")
        raise ValueError(
            f"no optimizer of this process has a state with these numbers: {names}. Build the "
            "optimizer first. If it has changed, use `graft(tx.init(params), old_state)`."
        )
    return layout


def _known(state: PackedState) -> Layout | None:
    """Return the layout of a state; None if it is of another process or has no arrays."""
    fields: Any = state[:3]
    if not all(isinstance(x, dict) for x in fields):
        return None
    vectors = [*state.floats.values(), *state.ints.values()]
    if not all(getattr(x, "ndim", 0) > 0 for x in vectors):
        return None
    return _layouts.get(("".join(state.floats), "".join(state.ints), *sorted(state.arrays)))


def packed(record: Any, like: PackedState | None = None) -> PackedState:
    """Return the state of a record: new, or with the float width of the previous state."""
    marked = _marked(record, root=True)
    flat, tree = jax.tree_util.tree_flatten_with_path(marked)
    entries = tuple(_entry(path, leaf) for path, leaf in flat)
    layout = Layout(tree, entries, ".".join(dict.fromkeys(_classes(marked))), record._fields)
    _layouts[layout.known_by] = layout  # the latest: a notebook may define a class again
    return _packed(layout, [x.tree if isinstance(x, _Beside) else x for _, x in flat], like)


def with_record(state: PackedState, record: Any) -> PackedState:
    """Return a state with the numbers of another record of its kind."""
    layout = layout_of(state)
    return _packed(layout, layout.tree.flatten_up_to(record), state)


def record_of(state: PackedState, own: Layout | None = None, *, read: bool = False) -> Any:
    """Return the record of a state, with the layout of its transform if that is known.

    With `read`, outside `jit`, its numbers are NumPy arrays, so that each vector is fetched once.
    """
    layout, vectors = layout_of(state), (_vector(state.floats), _vector(state.ints))
    # If two records have the same names, only their transforms know the classes.
    layout = own if own is not None and own.known_by == layout.known_by else layout
    for places, vector in zip(layout.places, vectors, strict=True):
        size = sum(entry.size for entry in places)
        if vector.shape[-1] != size:
            raise ValueError(
                f"a vector of an optimizer state has {vector.shape[-1]} numbers along its last "
                f"axis, but its names are for {size}. A stack of states has its axes in front."
            )
    if read and all(map(_is_here, vectors)):
        numbers, arrays = _split_up(layout, map(np.asarray, vectors)), state.arrays
    elif any(isinstance(x, jax.ShapeDtypeStruct) for x in vectors):
        split = functools.partial(_split_up, layout)
        numbers, arrays = jax.eval_shape(split, vectors), state.arrays
    else:
        # A checkpoint may be restored as NumPy arrays, which may be read-only.
        numbers, arrays = _split(layout, vectors), jax.tree.map(_on_device, state.arrays)
    floats, ints = map(iter, numbers)

    def leaf(entry: Entry) -> Any:
        if entry.kind == BESIDE:
            return state.inner_state if entry.name == INNER else arrays[entry.name]
        return next(floats if entry.kind == FLOAT else ints)

    return layout.tree.unflatten(map(leaf, layout.entries))


class _Beside:
    """Content outside the vectors: a leaf of its record, whatever is in it."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree


def _marked(x: Any, *, root: bool = False) -> Any:
    """Return a record in which content outside the vectors is a leaf."""
    if isinstance(x, LikeParams):
        return LikeParams(_Beside(x.tree))
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        record = cast(Any, x)
        beside = (*getattr(record, "BESIDE", ()), *([INNER] if root else []))
        pairs = zip(record._fields, record, strict=True)
        return type(record)(*(_Beside(y) if n in beside else _marked(y) for n, y in pairs))
    children, structure = _one_level(x)
    if any(child is x for child in children):
        return x if _is_small(x) else _Beside(x)
    return structure.unflatten(map(_marked, children))


def _one_level(x: Any) -> Any:
    return jax.tree.flatten(x, is_leaf=lambda y: y is not x)


def _is_small(x: Any) -> bool:
    """Return whether `x` is a number, or a short ring."""
    kind = jnp.result_type(x)
    plain = any(jnp.issubdtype(kind, k) for k in (jnp.floating, jnp.integer, jnp.bool_))
    return plain and jnp.size(x) <= LONGEST_RING


def _classes(marked: Any) -> Iterator[str]:
    """Yield the names of the classes of a record and of nested ones, the outer first."""
    if isinstance(marked, tuple) and hasattr(marked, "_fields"):
        yield type(cast(Any, marked)).__name__
    for child in _one_level(marked)[0]:
        if child is not marked:
            yield from _classes(child)


def _entry(path: Any, leaf: Any) -> Entry:
    name = ".".join(map(_quoted, path))
    if isinstance(leaf, _Beside):
        return Entry(name, BESIDE, ())
    kind = jnp.result_type(leaf)
    flag = FLAG if kind == jnp.bool_ else INT
    return Entry(name, FLOAT if jnp.issubdtype(kind, jnp.floating) else flag, jnp.shape(leaf))


def _quoted(key: Any) -> str:
    """Return the name in a key of a path, without the characters that separate names."""
    return urllib.parse.quote(name_of(key), safe="").replace(".", "%2E")


def name_of(key: Any) -> str:
    """Return the name in a key of a path; a position counts as a name."""
    return str(next(getattr(key, a) for a in ("key", "name", "idx") if hasattr(key, a)))


def _vector(vectors: dict[str, Any]) -> Any:
    """Return the only vector in a dict; an empty vector for an empty dict."""
    return next(iter(vectors.values()), np.zeros(0, np.float32))


def _on_device(x: Any) -> Any:
    return jnp.asarray(x) if isinstance(x, np.ndarray) else x


def _is_here(x: Any) -> bool:
    """Return whether this process can read an array by itself."""
    if isinstance(x, np.ndarray):
        return True
    known = isinstance(x, jax.Array) and not isinstance(x, Tracer)
    return known and (x.is_fully_addressable or x.is_fully_replicated)


def _packed(layout: Layout, leaves: Sequence[Any], like: PackedState | None) -> PackedState:
    pairs = list(zip(layout.entries, leaves, strict=True))
    arrays = {entry.name: leaf for entry, leaf in pairs if entry.kind == BESIDE}
    inner_state = arrays.pop(INNER, ())
    # A state keeps its float width, whatever that of the process is.
    width = jnp.result_type(_vector(like.floats) if like is not None and like.floats else float)
    width = jax.dtypes.canonicalize_dtype(width)
    numbers = [[leaf for entry, leaf in pairs if entry.kind in kinds] for kinds in VECTORS]
    vectors = _joined(layout, width, numbers)
    floats, ints = ({k: x} if x.shape[-1] else {} for k, x in zip(layout.key, vectors, strict=True))
    return PackedState(floats, ints, arrays, inner_state)


@functools.partial(jax.jit, static_argnums=(0, 1), inline=True)
def _joined(layout: Layout, width: Any, numbers: list[list[Any]]) -> list[jax.Array]:
    """Return the two vectors of numbers; those of a stack have axes in front."""
    fronts = [
        jnp.shape(x)[: jnp.ndim(x) - len(place.shape)]
        for entries, values in zip(layout.places, numbers, strict=True)
        for place, x in zip(entries, values, strict=True)
    ]
    front = jnp.broadcast_shapes(*fronts)
    return [
        _vector_of(entries, values, front, dtype)
        for entries, values, dtype in zip(layout.places, numbers, (width, jnp.int32), strict=True)
    ]


def _vector_of(
    entries: Sequence[Entry], values: Sequence[Any], front: tuple[int, ...], dtype: Any
) -> jax.Array:
    pairs = [*zip(entries, values, strict=True)]
    blocks = [pairs[i : i + BLOCK] for i in range(0, len(pairs), BLOCK)]
    vectors = [_block(block, front, dtype) for block in blocks] or [jnp.zeros((*front, 0), dtype)]
    return jnp.concatenate(vectors, axis=-1)


def _block(pairs: Sequence[tuple[Entry, Any]], front: tuple[int, ...], dtype: Any) -> jax.Array:
    """Return a few numbers as a vector, by selects, since XLA compiles one kernel per operand."""
    size, start = sum(entry.size for entry, _ in pairs), 0
    vector, index = jnp.zeros((*front, size), dtype), jnp.arange(size, dtype=jnp.int32)
    for entry, value in pairs:
        stop = start + entry.size
        x = jnp.broadcast_to(jnp.asarray(value, dtype), front + entry.shape)
        x = x.reshape((*front, entry.size))
        if entry.shape:
            around = [(0, 0, 0)] * len(front) + [(start, size - stop, 0)]
            x = jax.lax.pad(x, jnp.zeros((), dtype), around)
        vector = jnp.where((index >= start) & (index < stop), x, vector)
        start = stop
    return vector


def parts(entries: Sequence[Entry], vector: Any) -> list[Any]:
    """Return the numbers of a vector."""
    found, start = list[Any](), 0
    for entry in entries:
        stop = start + entry.size
        x = vector[..., start:stop] if entry.shape else vector[..., start]
        if len(entry.shape) > 1:
            x = x.reshape((*vector.shape[:-1], *entry.shape))
        found.append(x != 0 if entry.kind == FLAG else x)
        start = stop
    return found


def _split_up(layout: Layout, vectors: Iterable[Any]) -> list[list[Any]]:
    return [parts(entries, vector) for entries, vector in zip(layout.places, vectors, strict=True)]


_split = functools.partial(jax.jit, static_argnums=0, inline=True)(_split_up)
