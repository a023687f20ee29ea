"""Writes docs/api.md from the docstrings of petinfer's public names.

usage: python docs/make_api.py [--check]

With ``--check`` it writes nothing and exits with 1 if the page is not current or a public name or parameter is undocumented.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import petinfer

PAGE = Path(__file__).with_name("api.md")

INTRODUCTION = """\
# API

`import petinfer` provides the names on this page and no others. Everything else in the package may change without notice.
This page is generated from the docstrings by `python docs/make_api.py`. `Photo` stands for a path, the bytes of a file, an
open binary file, a Pillow image, or RGB pixels (uint8 [height, width, 3]).
"""

# A heading that begins a section of a docstring, and its title on the page.
SECTIONS = {"Args": "Parameters", "Attributes": "Attributes", "Returns": "Returns", "Raises": "Raises"}

Entries = dict[str, str]


def page() -> str:
    """The page, Markdown."""
    contents = "\n".join(f"- [`{name}`](#{name.lower()}): {summary(getattr(petinfer, name))}" for name in names())
    parts = [INTRODUCTION, contents + "\n"]
    for name in names():
        value = getattr(petinfer, name)
        parts += [f"## {name}\n", signature(name, value), text(value), fields_of(value)]
        parts += [part for member in members(value) for part in member_parts(*member)]
    return "\n".join(part for part in parts if part)


def names() -> list[str]:
    """The public names: classes first, then errors from the base class on."""
    errors = [name for name in petinfer.__all__ if issubclass(getattr(petinfer, name), Exception)]
    errors.sort(key=lambda name: len(getattr(petinfer, name).__mro__))
    return [name for name in petinfer.__all__ if name not in errors] + errors


def members(value: Any) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class defines, in the order of its source."""
    for name, member in vars(value).items():
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            yield f"{value.__name__}.{name}", member


def member_parts(name: str, member: Any) -> list[str]:
    """A heading, the signature of a method, and the docstring."""
    if isinstance(member, property):
        returned = inspect.signature(member.fget).return_annotation if member.fget else ""
        return [f"### {name}\n", f"```python\n{name}: {plain(returned)}\n```\n", text(member)]
    return [f"### {name}\n", signature(name, member), text(member)]


def signature(name: str, value: Any) -> str:
    """The signature in a code block, a parameter per line if it is long. Of an error, its base class."""
    if inspect.isclass(value) and issubclass(value, Exception):
        return f"```python\nclass {name}({value.__mro__[1].__name__})\n```\n"
    found = inspect.signature(value)
    parameters = [str_of(each) for each in found.parameters.values() if each.name != "self"]
    if any(each.kind is each.KEYWORD_ONLY for each in found.parameters.values()):
        first = next(i for i, each in enumerate(found.parameters.values()) if each.kind is each.KEYWORD_ONLY)
        parameters.insert(first, "*")
    prefix = "class " if inspect.isclass(value) else ""
    returned = "" if inspect.isclass(value) else f" -> {plain(found.return_annotation)}"
    line = f"{prefix}{name}({', '.join(parameters)}){returned}"
    if len(line) > 100:
        line = f"{prefix}{name}(\n" + "".join(f"    {each},\n" for each in parameters) + f"){returned}"
    return f"```python\n{line}\n```\n"


def str_of(parameter: inspect.Parameter) -> str:
    """A parameter with its type and default."""
    value = parameter.default
    default = "" if value is parameter.empty else f' = "{value}"' if isinstance(value, str) else f" = {value!r}"
    star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
    return f"{star}{parameter.name}: {plain(parameter.annotation)}{default}"


def plain(annotation: Any) -> str:
    """An annotation as written in the source."""
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def text(value: Any) -> str:
    """A docstring as Markdown."""
    description, sections = parse(inspect.getdoc(value) or "")
    parts = [markdown(description)]
    for heading, entries in sections.items():
        listed = "\n".join(
            f"- `{name}`: {markdown(entry)}" if name else markdown(entry) for name, entry in entries.items()
        )
        parts.append(f"**{SECTIONS[heading]}**\n\n{listed}")
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(value: Any) -> str:
    """The first sentence of a docstring."""
    return markdown((inspect.getdoc(value) or "").split("\n\n")[0])


def parse(docstring: str) -> tuple[str, dict[str, Entries]]:
    """A docstring's description, and the entries of each section."""
    parts = re.split(rf"^({'|'.join(SECTIONS)}):\n", docstring, flags=re.M)
    sections = {heading: entries_of(body) for heading, body in zip(parts[1::2], parts[2::2], strict=True)}
    return parts[0].strip(), sections


def entries_of(body: str) -> Entries:
    """The ``name: description`` entries of a section; text without a name is an entry with the name "" ."""
    lines = textwrap.dedent(body).strip("\n")
    entries: Entries = {}
    for block in re.split(r"\n(?=\S)", lines):
        match = re.match(r"([*\w]+): (.*)", block, re.S)
        name, description = (match[1], match[2]) if match else ("", block)
        entries[name] = entries[name] + " " + description if name in entries else description
    return entries


def markdown(words: str) -> str:
    """Docstring text as Markdown: each paragraph on one line, ``code`` with single backticks, doctests in code blocks."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", words.strip()):
        if paragraph.startswith(">>>"):
            paragraphs.append(f"```pycon\n{paragraph}\n```")
        else:
            paragraphs.append(" ".join(paragraph.split()).replace("``", "`"))
    return "\n\n".join(paragraphs)


def fields_of(value: Any) -> str:
    """The fields of a dataclass, each with the string below it in the source."""
    if not is_dataclass(value):
        return ""
    lines = [f"- `{name}: {kind}`: {markdown(words)}" for name, (kind, words) in documented_fields(value).items()]
    return "**Attributes**\n\n" + "\n".join(lines) + "\n"


def documented_fields(value: Any) -> dict[str, tuple[str, str]]:
    """The type and the description of each field of a class; the description is "" where there is none."""
    body = class_body(value)
    found = {}
    for i, node in enumerate(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_"):
            following = body[i + 1] if i + 1 < len(body) else None
            words = (
                following.value.value
                if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                else ""
            )
            found[node.target.id] = (ast.unparse(node.annotation), str(words))
    return found


def class_body(value: Any) -> list[ast.stmt]:
    """The statements of a class."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    assert isinstance(definition, ast.ClassDef)
    return definition.body


def instance_attributes(value: Any) -> set[str]:
    """The public attributes that ``__init__`` sets on ``self``."""
    inits = [node for node in class_body(value) if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    return {
        node.attr
        for init in inits
        for node in ast.walk(init)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and not node.attr.startswith("_")
    }


def undocumented() -> list[str]:
    """The public names, fields, attributes and parameters without a description."""
    found = []
    for name in names():
        value = getattr(petinfer, name)
        found += [] if value.__doc__ else [name]
        if is_dataclass(value):
            found += [f"{name}.{field}" for field, (_, words) in documented_fields(value).items() if not words]
            continue
        _, sections = parse(inspect.getdoc(value) or "")
        found += [f"{name}.{each}" for each in instance_attributes(value) if each not in sections.get("Attributes", {})]
        if not issubclass(value, Exception):
            found += undocumented_parameters(name, value)
        for member_name, member in members(value):
            found += [] if inspect.getdoc(member) else [member_name]
            found += [] if isinstance(member, property) else undocumented_parameters(member_name, member)
    return sorted(found)


def undocumented_parameters(name: str, value: Callable[..., Any]) -> list[str]:
    """The parameters that are neither in the docstring's ``Args`` nor mentioned in its description."""
    description, sections = parse(inspect.getdoc(value) or "")
    parameters = [each for each in inspect.signature(value).parameters if each != "self"]
    documented = set(sections.get("Args", {})) | (
        set(re.findall(r"\w+", description)) if len(parameters) == 1 else set()
    )
    return [f"{name}({each})" for each in parameters if each not in documented]


def main(arguments: list[str]) -> int:
    """Write or check the page; returns the exit code."""
    missing = undocumented()
    if missing:
        print(f"undocumented: {', '.join(missing)}", file=sys.stderr)
        return 1
    if arguments == ["--check"]:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page()
        print(f"{PAGE}: {'current' if current else 'not current (run python docs/make_api.py)'}", file=sys.stderr)
        return int(not current)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
