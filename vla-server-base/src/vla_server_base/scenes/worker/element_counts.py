"""Counts what a model would compile to: elements, points of flexcomps, texels, levels, replicas."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from vla_server_base.errors import SceneRefused
from vla_server_base.scenes import limits
from vla_server_base.scenes.worker.element_checks import numbers


@dataclass
class ModelCounts:
    """What a model would compile to."""

    elements: int = 0
    flex_points: int = 0
    texels: int = 0

    def check(self, where: str, what: str = "this makes") -> None:
        """Check the counts against the limits.

        Raises:
            SceneRefused: one is over its limit.
        """
        _check_limit(f"{where}: {what}", "elements, replicated ones counted,", self.elements, limits.MAX_ELEMENTS)
        _check_limit(f"{where}: {what}", "points in flexcomps", self.flex_points, limits.MAX_FLEX_POINTS)
        _check_limit(f"{where}: {what}", "texels in textures", self.texels, limits.MAX_TEXELS)


class ElementCounter:
    """Counts the elements of one model while they are read, each as often as the replicates around it make it."""

    def __init__(self):
        self.counts = ModelCounts()
        self._attached: list[ModelCounts] = []
        self._num_attached = 0
        # For each open element, how many copies of its children the replicates around them make.
        self._replicas: list[int] = []

    @property
    def is_at_root(self) -> bool:
        """Whether no element is open."""
        return not self._replicas

    def open(self, tag: str, attributes: Mapping[str, str], where: str) -> None:
        """Count an element, and open it.

        Raises:
            SceneRefused: that makes too many, or it attaches no model.
        """
        around = self._replicas[-1] if self._replicas else 1
        inside = around * (_product(tag, "count", attributes, where) if tag == "replicate" else 1)
        self.counts.elements += around
        if tag == "attach":
            if "model" not in attributes:
                raise SceneRefused(
                    f"{where}: <attach> without a model is not supported", hint="write the body in its place"
                )
            self._num_attached += around
        if tag == "flexcomp":
            points = max(_product(tag, name, attributes, where) for name in ("count", "cellcount"))
            self.counts.flex_points += around * points
        if tag == "texture":
            self.counts.texels += _num_texels(attributes, where)
        self._replicas.append(inside)
        _check_limit(f"{where}: this makes", "levels of elements", len(self._replicas), limits.MAX_DEPTH)
        _check_limit(f"{where}: this makes", "replicas of one element", inside, limits.MAX_REPLICAS)
        self.counts.check(where)

    def open_include(self) -> None:
        """Open an <include>, which is not an element of the model."""
        self._replicas.append(self._replicas[-1])

    def close(self) -> None:
        """Close the element that was opened last."""
        self._replicas.pop()

    def add_model(self, counts: ModelCounts) -> None:
        """Add a model that may be attached."""
        self._attached.append(counts)

    def count_attached(self, where: str) -> None:
        """Count each attached model as the largest of all.

        Raises:
            SceneRefused: that makes too many.
        """
        for name in ("elements", "flex_points", "texels"):
            largest = max((getattr(counts, name) for counts in self._attached), default=0)
            setattr(self.counts, name, getattr(self.counts, name) + self._num_attached * largest)
        self.counts.check(where, "with the models that are attached, this makes")


def _num_texels(attributes: Mapping[str, str], where: str) -> int:
    width, height = (_product("texture", name, attributes, where) for name in ("width", "height"))
    # A cube has six squares; MuJoCo ignores its height attribute.
    return width * max(height, 6 * width if attributes.get("type") != "2d" else 1)


def _product(tag: str, attribute: str, attributes: Mapping[str, str], where: str) -> int:
    # A zero beside a huge number must not hide it; nor is every float an integer.
    factors = numbers(tag, attribute, attributes.get(attribute, "1"), where)
    return prod(int(min(max(number, 1.0), 1e12)) for number in factors)


def _check_limit(what: str, unit: str, number: int, limit: int) -> None:
    if number > limit:
        raise SceneRefused(f"{what} {number} {unit}; the limit is {limit}", hint="make it smaller")
