"""Reading recipes from YAML, with messages that name file, line and key; writing the resolved ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from skelformats.errors import SkelconvError, UnknownNameError
from skeltrain.recipe import Recipe

R = TypeVar("R", bound=Recipe)
Key = tuple[str, ...]


class RecipeError(SkelconvError, ValueError):
    """A recipe cannot be read, or says something that no recipe can say."""


@dataclass(frozen=True)
class Override:
    """One ``--set key=value``: the dotted key, and the value as YAML reads it."""

    key: Key
    value: Any

    @classmethod
    def parse(cls, text: str) -> Override:
        """Read ``optim.batch=64``; raises `RecipeError`."""
        name, equals, value = text.partition("=")
        key = tuple(name.strip().split("."))
        if not equals or not all(key):
            raise RecipeError(f"--set {text}: found no KEY=VALUE, expected for example optim.batch=64")
        try:
            return cls(key, yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {text}: the value is not YAML ({_first_line(error)})") from error
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"--set {text[:80]}: the value cannot be read ({error})") from error


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that ship with the package, sorted."""
    folder = files("skeltrain") / "recipes"
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def recipe_text(name: str) -> str:
    """Text of a shipped recipe; raises `UnknownNameError`."""
    if name not in recipe_names():
        raise UnknownNameError("recipe", name, recipe_names())
    return (files("skeltrain") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def describe_recipes() -> str:
    """List the shipped recipes: name, task, and the first line of the comment that each opens with."""
    lines = []
    for name in recipe_names():
        text = recipe_text(name)
        task = str((yaml.safe_load(text) or {}).get("task", ""))
        lines.append((name, task, text.splitlines()[0].removeprefix("#").strip()))
    width = max(len(name) for name, _, _ in lines)
    return "\n".join(f"{name:<{width}}  {task:<8}  {title}" for name, task, title in lines)


def load_recipe(where: str | Path, kind: type[R], overrides: Iterable[Override] = ()) -> R:
    """Read a recipe: a path (anything with a slash or a .yaml ending), or the name of a shipped one.

    Raises
    ------
    UnknownNameError
        No shipped recipe has this name.
    RecipeError
        The file cannot be read, is not YAML, is of another task, has a key that does not exist or a value of
        the wrong kind.
    """
    name, text = _source(where)
    return read_recipe(text, name, kind, overrides)


def recipe_task(where: str | Path) -> str:
    """Return the task that a recipe names; its other keys are not looked at.

    Raises
    ------
    UnknownNameError, RecipeError
        As `load_recipe`; or the recipe names no task.
    """
    name, text = _source(where)
    task = _parse(text, name)[1].get("task")
    if not isinstance(task, str):
        raise RecipeError(f"{name}: found no key 'task', expected the task that it is a recipe of")
    return task


def read_recipe(text: str, where: str, kind: type[R], overrides: Iterable[Override] = ()) -> R:
    """Check the YAML ``text`` that came from ``where``; raises `RecipeError`."""
    root, values = _parse(text, where)
    places: dict[Key, str] = {}
    for key, line in _lines(root):
        if key in places:
            raise RecipeError(f"{where}, line {line}: the key {'.'.join(key)} stands here a second time")
        places[key] = f"{where}, line {line}"
    for override in overrides:
        _assign(values, override)
        places[override.key] = "--set"
    _check_task(values, kind, where)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_explain(error, kind, places, where)) from error


def from_plain(values: Mapping[str, Any], where: str, kind: type[R]) -> R:
    """Check the settings of a recipe that was kept as plain data; raises `RecipeError`."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise RecipeError(
            f"{_explain(error, kind, {}, where)}\nIt was written by another version of skelconv, or edited: "
            "use that version, or train again"
        ) from error
    except RecursionError as error:
        raise RecipeError(f"{where}: found settings nested without end, expected a recipe") from error


def with_overrides(values: Mapping[str, Any], overrides: Iterable[Override]) -> dict[str, Any]:
    """Return settings, kept as plain data, with some of them changed; raises `RecipeError`."""
    changed = deepcopy(dict(values))
    for override in overrides:
        _assign(changed, override)
    return changed


def to_plain(recipe: Recipe) -> dict[str, Any]:
    """Return every setting as plain data: strings, numbers, lists and dictionaries."""
    return recipe.model_dump(mode="json")


def to_yaml(recipe: Recipe, heading: str) -> str:
    """Write every setting, defaults included, under a comment."""
    comment = "".join(f"# {line}\n" for line in heading.splitlines())
    return comment + yaml.safe_dump(to_plain(recipe), sort_keys=False, default_flow_style=None, width=110)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], free: Iterable[str] = ()) -> list[str]:
    """List where two recipes (as plain data) differ, one line a key; keys in ``free`` may differ."""
    a, b = dict(_flatten(old)), dict(_flatten(new))
    allowed = tuple(free)

    def is_free(key: str) -> bool:
        return any(fnmatchcase(key, name) or fnmatchcase(key, f"{name}.*") for name in allowed)

    keys = [key for key in {**a, **b} if not is_free(key) and a.get(key, ...) != b.get(key, ...)]
    return [f"{key}: {_shown(a, key)} there, {_shown(b, key)} here" for key in keys]


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "absent"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            value = {str(number): item for number, item in enumerate(value)}
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _lines(node: yaml.Node | None, prefix: Key = ()) -> Iterator[tuple[Key, int]]:
    """Walk a YAML tree: the key path of every entry, and the line it stands on."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*prefix, str(key.value))
            yield path, key.start_mark.line + 1
            yield from _lines(value, path)


def _assign(values: dict[str, Any], override: Override) -> None:
    *sections, last = override.key
    for depth, section in enumerate(sections):
        inner = values.get(section)
        if inner is None:
            inner = values[section] = {}
        if not isinstance(inner, dict):
            name = ".".join(override.key[: depth + 1])
            raise RecipeError(f"--set {'.'.join(override.key)}: {name} is a value, not a section")
        values = inner
    values[last] = override.value


def _source(where: str | Path) -> tuple[str, str]:
    """Return what to call a recipe, and its text."""
    text = str(where)
    if "/" not in text and not text.endswith((".yaml", ".yml")):
        return f"recipe {text}", recipe_text(text)
    path = Path(text)
    try:
        return str(path), path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: the recipe cannot be read ({error})") from error


def _parse(text: str, where: str) -> tuple[yaml.Node | None, dict[str, Any]]:
    """Return the YAML tree, which knows lines, and its values."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{where}: this is not YAML: {_first_line(error)}") from error
    except RecursionError as error:
        raise RecipeError(f"{where}: found settings nested without end, expected a recipe") from error
    except ValueError as error:  # such as a date that does not exist
        raise RecipeError(f"{where}: found a value that YAML cannot read ({error})") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise RecipeError(f"{where}: found a {type(values).__name__}, expected keys and values")
    return root, values


_VERBS = ("pretrain", "probe")
"""Tasks that have a verb of their own; `skeltrain train` runs every task."""


def _check_task(values: Mapping[str, Any], kind: type[Recipe], where: str) -> None:
    wanted = kind.model_fields["task"].default if "task" in kind.model_fields else None
    found = values.get("task", wanted)
    if found != wanted:
        verb = found if found in _VERBS else "train"
        raise RecipeError(
            f"{where}: found a recipe of task {found!r}, expected {wanted!r}. Run it with `skeltrain {verb}`"
        )


def _explain(error: ValidationError, kind: type[Recipe], places: Mapping[Key, str], where: str) -> str:
    problems = []
    for entry in error.errors():
        key = tuple(str(part) for part in entry["loc"])
        place = next((places[key[:n]] for n in range(len(key), 0, -1) if key[:n] in places), where)
        problems.append(f"{place}: {_problem(entry['type'], entry['msg'], entry.get('input'), key, kind)}")
    return "\n".join(problems)


def _problem(type_: str, message: str, value: Any, key: Key, kind: type[Recipe]) -> str:
    name = ".".join(key)
    if type_ == "extra_forbidden":
        known = _keys_at(kind, key[:-1])
        near = difflib.get_close_matches(key[-1], known, n=1)
        within = f"in {'.'.join(key[:-1])}" if len(key) > 1 else "at the top"
        hint = f" Did you mean {'.'.join((*key[:-1], near[0]))!r}?" if near else ""
        return f"unknown key {name!r}.{hint} Keys {within}: {', '.join(known)}"
    if type_ == "value_error":
        return f"{name}: {message.removeprefix('Value error, ')}"
    if type_ in ("model_type", "model_attributes_type"):
        return f"{name}: found {value!r}, expected a section with the keys {', '.join(_keys_at(kind, key))}"
    expected = message.removeprefix("Input should be ").removeprefix("a valid ")
    return f"{name}: found {value!r}, expected {expected}"


def _keys_at(kind: type[BaseModel], key: Key) -> list[str]:
    """Names of the settings in the section at ``key``; numbers in it count the entries of a list."""
    model = kind
    for part in key:
        if part.isdigit():
            continue
        if part not in model.model_fields:
            return []
        inner = _section_in(model.model_fields[part].annotation)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """Find the section in an annotation such as ``Section | None`` or ``tuple[Section, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)


def _first_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else str(problem)
