"""Learning-rate and hyperparameter schedules for JAX and Optax.

    import jaxsched as js

    rate = js.warmup_cosine(0.1, total_steps=1000, warmup_steps=50) * js.reduce_on_plateau()
    tx = js.inject(optax.adamw, learning_rate=rate)  # an optax.GradientTransformation
    js.plot(rate, "rate.png")

`help(jaxsched.NAME)` shows the formula, the units, an example and the source of each name.
"""

# The public names are in `_public.py`. They load, with JAX, when the first one is used: so
# `import jaxsched` and `jaxsched --help` are quick.

from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from jaxsched._public import *
    from jaxsched._public import __all__ as __all__

    __version__: str
else:

    def __getattr__(name: str):
        import importlib
        import sys

        if name == "__version__":
            return importlib.import_module("importlib.metadata").version(__name__)
        if name.startswith("_") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        public = importlib.import_module(f"{__name__}._public")
        globals().update({each: getattr(public, each) for each in public.__all__})
        globals()["__all__"] = public.__all__
        if name not in globals():
            meant = importlib.import_module(f"{__name__}._core._meant")
            raise AttributeError(meant.attribute(sys.modules[__name__], name))
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted(__getattr__("__all__"))
