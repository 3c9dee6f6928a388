"""Things found by name through an entry-point group, so that other packages can add their own: `Registry`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from skelformats.errors import SkelconvError, UnknownNameError

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Registry(Generic[Thing]):
    """Named things of one kind.

    Attributes
    ----------
    group
        Entry-point group; an entry's name is the thing's, its value ``module:object``.
    noun
        What one of them is called in messages.
    kind
        Class of them all; it has an attribute ``name``.
    builtin
        Those that need no entry point. An entry point of the same name is refused.
    """

    group: str
    noun: str
    kind: type[Thing]
    builtin: Mapping[str, Thing] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        """Every name: ours in their order, then installed ones, sorted."""
        installed = {point.name for point in entry_points(group=self.group)}
        return (*self.builtin, *sorted(installed - set(self.builtin)))

    def find(self, name: str) -> Thing:
        """Return the thing called ``name``.

        Raises
        ------
        UnknownNameError
            There is none; the message has the names that there are.
        SkelconvError
            The package that offers it cannot be imported, offers something else, or offers it twice.
        """
        points = tuple(entry_points(group=self.group, name=name))
        offers = [*(["skelconv"] if name in self.builtin else []), *(point.value for point in points)]
        if not offers:
            raise UnknownNameError(self.noun, name, self.names())
        if len(offers) > 1:
            raise SkelconvError(
                f"{self.noun} {name!r} is offered more than once ({', '.join(offers)}); uninstall all but one"
            )
        if name in self.builtin:
            return self.builtin[name]
        return self._loaded(points[0])

    def _loaded(self, point: EntryPoint) -> Thing:
        try:
            thing: Any = point.load()
        except (ImportError, AttributeError) as error:
            raise SkelconvError(
                f"the {self.noun} {point.name!r}, {point.value}, cannot be loaded ({error}); "
                "repair or uninstall the package that offers it"
            ) from error
        if not isinstance(thing, self.kind) or getattr(thing, "name", None) != point.name:
            raise SkelconvError(
                f"entry point {point.value} does not lead to an object of {self.kind.__name__} named "
                f"{point.name!r}; repair or uninstall the package that offers it"
            )
        return thing
