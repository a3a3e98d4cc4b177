"""What the API reference shows beyond the source: signatures of attrs classes, and links to named objects.

zensical.toml names this file; griffe, which reads the source for mkdocstrings, imports it.
"""  # noqa: INP001 - not a package: griffe imports it by its path

from __future__ import annotations

import re
from collections.abc import Iterator

import griffe

_MAKERS = {"attrs.frozen", "attrs.define"}
_NAMED = re.compile(r"(?<![`\[])`([A-Za-z_][\w.]*)`(?![`\]])")


class Ruxa(griffe.Extension):
    """Add to the loaded package what griffe cannot read in it."""

    def on_package(self, *, pkg: griffe.Module, **_: object) -> None:
        """Complete all objects of the package once all of its modules are loaded."""
        for each in _objects(pkg):
            if isinstance(each, griffe.Class) and "__init__" not in each.members:
                _add_init(each)
            if isinstance(each, griffe.Attribute) and each.docstring is None:
                _add_comment(each)
        targets = _targets(pkg)
        for each in _objects(pkg):
            if each.docstring is not None:
                each.docstring.value = _linked(_with_code(each.docstring.value), targets)


def _objects(parent: griffe.Object) -> Iterator[griffe.Object]:
    yield parent
    for member in parent.members.values():
        if isinstance(member, griffe.Object):
            yield from _objects(member)


def _add_comment(attribute: griffe.Attribute) -> None:
    """Make the comment ``#: ...`` above *attribute* its docstring."""
    lines = attribute.lines_collection[attribute.filepath]
    last = first = (attribute.lineno or 1) - 1
    while first and lines[first - 1].lstrip().startswith("#: "):
        first -= 1
    text = "\n".join(line.lstrip().removeprefix("#: ") for line in lines[first:last])
    if not text and "TypeAlias" in str(attribute.annotation):
        text = "A type alias."
    elif not text and attribute.name.isupper():
        text = "A constant."
    if text:
        attribute.docstring = griffe.Docstring(text, lineno=first + 1, parent=attribute)


# ---- attrs


def _maker(cls: griffe.Class) -> griffe.Expr | str | None:
    """Return the decorator of *cls* that makes it an attrs class."""
    return next((each.value for each in cls.decorators if each.callable_path in _MAKERS), None)


def _add_init(cls: griffe.Class) -> None:
    if _maker(cls) is None:
        return
    fields: dict[str, griffe.Parameter] = {}
    for base in reversed([cls, *cls.mro()]):
        if isinstance(base, griffe.Class) and _maker(base) is not None:
            fields |= {parameter.name: parameter for parameter in _fields(base)}
    positional = griffe.ParameterKind.positional_or_keyword
    ordered = sorted(fields.values(), key=lambda field: field.kind is not positional)
    init = griffe.Function(
        "__init__",
        parameters=griffe.Parameters(griffe.Parameter("self", kind=positional), *ordered),
        parent=cls,
        lineno=cls.lineno,
        endlineno=cls.lineno,
    )
    cls.set_member("__init__", init)


def _fields(cls: griffe.Class) -> Iterator[griffe.Parameter]:
    kw_only = "kw_only=True" in str(_maker(cls))
    for name, attribute in cls.members.items():
        if not isinstance(attribute, griffe.Attribute) or attribute.annotation is None:
            continue
        if name.startswith("_") or "instance-attribute" not in attribute.labels:  # a property, a ClassVar
            continue
        options, default = _options(attribute.value)
        if options.get("init") == "False":
            continue
        keyword = kw_only or options.get("kw_only") == "True"
        kind = "keyword_only" if keyword else "positional_or_keyword"
        yield griffe.Parameter(
            options.get("alias", name).strip("\"'"),
            annotation=attribute.annotation,
            kind=griffe.ParameterKind[kind],
            default=default,
        )


def _options(value: griffe.Expr | str | None) -> tuple[dict[str, str], griffe.Expr | str | None]:
    """Return the keywords of a call of ``attrs.field``, and the default of the field."""
    if not isinstance(value, griffe.ExprCall):
        return {}, value
    keywords = {each.name: each.value for each in value.arguments if isinstance(each, griffe.ExprKeyword)}
    options = {name: str(text) for name, text in keywords.items()}
    if "factory" in keywords:
        made = {"dict": "{}", "list": "[]", "tuple": "()"}
        return options, made.get(options["factory"], f"{options['factory']}()")
    if str(value.function) != "field":  # a helper that declares an optional field
        return options, options.get("default", "None")
    return options, keywords.get("default")


# ---- docstrings as Markdown


def _with_code(text: str) -> str:
    """Return *text*, in which ``::`` announces code, as Markdown, where the indentation alone does."""
    text = re.sub(r"^::$\n*", "", text, flags=re.MULTILINE)
    text = re.sub(r"(?<=[.!?]) ::$", "", text, flags=re.MULTILINE)
    return re.sub(r"::$", ":", text, flags=re.MULTILINE)


def _targets(package: griffe.Module) -> dict[str, str]:
    """Return the path of each public object under the names by which docstrings call it."""
    found: dict[str, str] = {}
    for module in _public_modules(package):
        found[module.path] = module.path
        for name in module.exports or ():
            path = f"{module.path}.{name}"
            target = module.members.get(str(name))
            if target is None or not target.has_docstring:
                continue
            found[path] = path
            if str(name)[0].isupper():  # a function's bare name may be that of a method, too
                found.setdefault(str(name), path)
            for member in _members(target):
                found.setdefault(f"{name}.{member}", f"{path}.{member}")
    for name in ("RuxaClient", "Completions", "GenerationTask"):
        for key in [key for key in found if key.partition(".")[0] == name]:
            found[key] = f"{package.path}.{key}"
    return found


def _public_modules(parent: griffe.Module) -> Iterator[griffe.Module]:
    for name, member in parent.members.items():
        if isinstance(member, griffe.Module) and not name.startswith("_"):
            yield member
            yield from _public_modules(member)


def _members(target: griffe.Object | griffe.Alias | None) -> list[str]:
    try:
        shown = target.members if target is not None and target.is_class else {}
    except griffe.AliasResolutionError:
        return []
    return [name for name, member in shown.items() if not name.startswith("_") and member.has_docstring]


def _linked(text: str, targets: dict[str, str]) -> str:
    """Return *text* in which each public name between backticks is a link."""

    def link(found: re.Match[str]) -> str:
        path = targets.get(found[1])
        return found[0] if path is None else f"[{found[0]}][{path}]"

    return _NAMED.sub(link, text)
