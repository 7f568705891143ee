"""The engines by name."""

from __future__ import annotations

from clusterwise.core.errors import OptionError
from clusterwise.engines.engine import AbstractEngine
from clusterwise.engines.optimisers import EM, SVI, VI, MemoizedVI
from clusterwise.engines.samplers import NUTS, Gibbs

ENGINES: dict[str, type[AbstractEngine]] = {
    engine.name: engine for engine in (EM, VI, SVI, MemoizedVI, Gibbs, NUTS)
}


def resolve_engine(engine: str | AbstractEngine) -> AbstractEngine:
    """An engine from its name, or as it was configured."""
    if isinstance(engine, AbstractEngine):
        return engine
    if engine not in ENGINES:
        raise OptionError(
            f"engine={engine!r} is not known; use one of {', '.join(map(repr, ENGINES))} or a "
            "configured one such as cw.EM(max_iter=500)."
        )
    return ENGINES[engine]()
