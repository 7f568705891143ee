"""Which coefficients clusters have for themselves, which they share, and which are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from clusterwise.core.errors import OptionError

_CORRELATED = 1e-9


@dataclass(frozen=True)
class Places:
    """Places of the coefficients of every cluster.

    Parameters
    ----------
    n_components, size
        Clusters, and coefficients of each.
    shared
        Places of coefficients that clusters share.
    groups
        For each of these places the group (k,) of each cluster, counted from 0: clusters of one
        group have one coefficient there.
    known
        Places of coefficients that are not free.
    means
        Places among the shared of those that are the means of others only.
    """

    n_components: int
    size: int
    shared: tuple[int, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    known: tuple[int, ...] = ()
    means: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        n_components: int,
        size: int,
        shared: Sequence[tuple[int, tuple[int, ...]]] = (),
        known: Sequence[int] = (),
    ) -> Places:
        """Places, those that are shared given with their groups; no groups: all clusters are one.

        Parameters
        ----------
        n_components, size, known
            As for the class.
        shared
            Pairs of a place and its groups.
        """
        everyone = (0,) * n_components
        return cls(
            n_components,
            size,
            tuple(place for place, _ in shared),
            tuple(tuple(groups) or everyone for _, groups in shared),
            tuple(known),
        )

    @cached_property
    def own(self) -> np.ndarray:
        """(o,) places of what each cluster has for itself."""
        return np.setdiff1d(np.arange(self.size), (*self.shared, *self.known))

    @cached_property
    def shared_places(self) -> np.ndarray:
        """(p,) places of what is shared."""
        return np.asarray(self.shared, int)

    @cached_property
    def elements(self) -> np.ndarray:
        """(k, p): which of the shared coefficients a cluster has at each of these places."""
        sizes = [max(groups) + 1 for groups in self.groups]
        first = np.cumsum([0, *sizes])[:-1]
        return np.array(self.groups, int).reshape(-1, self.n_components).T + first

    @property
    def n_shared(self) -> int:
        """Number s of coefficients that are shared."""
        return sum(max(groups) + 1 for groups in self.groups)

    @cached_property
    def selection(self) -> np.ndarray:
        """(k, p, s) ones where a cluster has a shared coefficient at a place."""
        return (self.elements[:, :, None] == np.arange(self.n_shared)).astype(float)

    @cached_property
    def first(self) -> tuple[np.ndarray, np.ndarray]:
        """A cluster and a place where each of the shared coefficients is."""
        found = [np.argwhere(self.elements == e)[0] for e in range(self.n_shared)]
        cluster, place = np.array(found, int).reshape(-1, 2).T
        return cluster, self.shared_places[place]

    @property
    def kinds(self) -> np.ndarray | None:
        """(k,) numbers that are the same for clusters that may trade places; None: all may."""
        return component_kinds(self.n_components, self.groups)

    def with_means(self, pooled: tuple[int, ...]) -> Places:
        """Places where these, which are shared, are each cluster's own; behind them the shared."""
        moved = {place: self.size + i for i, place in enumerate(pooled)}
        shared = tuple(moved.get(place, place) for place in self.shared)
        size = self.size + len(pooled)
        return replace(self, size=size, shared=shared, means=tuple(range(self.size, size)))

    @property
    def shared_with_rows(self) -> tuple[int, ...]:
        """Places of shared coefficients that rows depend on."""
        return tuple(place for place in self.shared if place not in self.means)

    def with_free_shared(self, free: Sequence[int]) -> Places:
        """Places where these of the shared are all that is not known."""
        kept = [i for i, place in enumerate(self.shared) if place in free]
        return replace(
            self,
            shared=tuple(self.shared[i] for i in kept),
            groups=tuple(self.groups[i] for i in kept),
            known=tuple(i for i in range(self.size) if i not in free),
        )

    def with_free_own(self) -> Places:
        """Places where what is shared is known."""
        return replace(self, shared=(), groups=(), known=(*self.known, *self.shared))

    def spread_out(self, precision: np.ndarray) -> np.ndarray:
        """Precision (s, s) of the shared coefficients, from that of one cluster's (p, p).

        Raises
        ------
        OptionError
            Where coefficients depend on one another that different groups of clusters share.
        """
        found = np.zeros((self.n_shared, self.n_shared))
        for i, j in np.ndindex(precision.shape):
            pairs = {(int(a), int(b)) for a, b in self.elements[:, [i, j]]}
            alike = len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
            if alike:
                for pair in pairs:
                    found[pair] = precision[i, j]
            elif abs(precision[i, j]) > _CORRELATED * np.sqrt(precision[i, i] * precision[j, j]):
                raise OptionError(
                    "The prior of coefficients that different groups of components share must "
                    "have none depend on another: give cw.Normal a diagonal covariance, and leave "
                    "the intercept out of shared."
                )
        return found


def component_kinds(n_components: int, groups: Sequence[Sequence[int]]) -> np.ndarray | None:
    """Numbers (k,) that are the same for components that groups do not tell apart.

    Two components may trade places where each grouping has both in one group, or each in a group
    of its own.

    Parameters
    ----------
    n_components
        k.
    groups
        For each grouping the group of each component; none: it has all in one.

    Returns
    -------
    numpy.ndarray or None
        None where all components are alike.
    """
    seen: dict[tuple[int, ...], int] = {}
    found = []
    for k in range(n_components):
        # Those that are alone in their group are all alike.
        key = tuple(own[k] if list(own).count(own[k]) > 1 else -1 for own in groups if own)
        found.append(seen.setdefault(key, len(seen)))
    return np.array(found) if len(seen) > 1 else None
