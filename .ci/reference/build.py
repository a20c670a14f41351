"""Build the API reference: `python .ci/reference/build.py FOLDER` (after `pip install -e '.[docs]'`).

pdoc makes the pages, one for each module with public names. This program adds what pdoc cannot know:
- the groups of the names, which are comments in `__all__` ("# run it");
- the classes that a program gets from calls and does not import, such as the portal of `yield Portal()`;
- the pages of the guide to extensions and of all calls;
- every warning is an error, and every public name has a docstring and a place on its page.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TypeVar

import pdoc
import pdoc.doc
import pdoc.render
from pdoc.render_helpers import to_html

import minisched
from minisched import Syscall

MODULES = ("minisched", "minisched.testing", "minisched.lab")
GIVEN = "given by calls"  # the group of the classes that are not imported


def main(folder: Path) -> int:
    warnings.simplefilter("error")
    modules = [module for name in MODULES if hasattr(module := import_module(name), "__all__")]
    for name, module in [*sys.modules.items()]:
        for variable in {"Answer", "Item"} & vars(module).keys() if name.startswith("minisched") else ():
            setattr(module, variable, TypeVar(variable))  # a str at run time
    groups = {module.__name__: groups_of(module) for module in modules}
    for kind in given_by_calls(modules[0]):
        modules[0].__all__.append(kind.__name__)
        setattr(modules[0], kind.__name__, kind)
        groups["minisched"][kind.__name__] = GIVEN
    for module in modules:
        for name in module.__all__:
            show_inherited_methods(getattr(module, name), modules)
    pdoc.render.configure(docformat="google", template_directory=Path(__file__).parent, search=True)

    def grouped(module: pdoc.doc.Module) -> dict[str, list[pdoc.doc.Doc]]:
        by_group: dict[str, list[pdoc.doc.Doc]] = {}
        for name in getattr(module.obj, "__all__", ()):  # pdoc renders an empty module for the search
            by_group.setdefault(groups[module.modulename][name] or "names", []).append(module.members[name])
        return by_group

    pdoc.render.env.globals.update(grouped=grouped, is_shown=is_shown)
    names = [module.__name__ for module in modules]
    pdoc.pdoc(*names, *(f"!{name}\\." for name in names[1:]), output_directory=folder)
    write_guide(folder / "extending.html", "Extending minisched", guide())
    write_guide(folder / "calls.html", "All calls", all_calls((folder / "minisched.html").read_text(encoding="utf-8")))
    problems = [problem for module in modules for problem in problems_of(module, folder)]
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


def guide() -> str:
    """Return the guide in `demos/extend`, in Markdown."""
    return (Path(__file__).parents[2] / "demos/extend/README.md").read_text(encoding="utf-8")


def all_calls(page: str) -> str:
    """Return the section of the guide with the table of all calls, each with a link into the page of the package."""
    kinds = [name for name, value in vars(minisched).items() if isinstance(value, type)]

    def linked(found: re.Match[str]) -> str:
        owner, _, method = found[1].partition("(")[0].rpartition(".")
        targets = [f"{kind}.{method}" for kind in kinds if owner and kind.lower().endswith(owner)] or [method]
        target = next((target for target in targets if f'id="{target}"' in page), None)
        return f"| [`{found[1]}`](minisched.html#{target}) |" if target else found[0]

    return re.sub(r"^\| `([^`]+)` \|", linked, guide()[guide().index("## All calls") :], flags=re.MULTILINE)


def write_guide(page: Path, title: str, text: str) -> None:
    """Write a page from Markdown."""
    content = to_html(re.sub(r"<!-- .*? -->\n", "", text))
    template = pdoc.render.env.get_template("guide.html.jinja2")
    page.write_text(template.render(title=title, content=content), encoding="utf-8")


def groups_of(module: ModuleType) -> dict[str, str]:
    """Return the group of each public name: the last comment before it in the list `__all__`."""
    group, groups = "", {}
    text = inspect.getsource(module).rpartition("__all__")[2]
    for comment, name in re.findall(r"# ([^\n]+)|[\"'](\w+)[\"']", text):
        if comment:
            group = comment
        else:
            groups[name] = group
    return groups


def given_by_calls(module: ModuleType) -> list[type]:
    """Return the classes of the package that calls and methods return, other than public ones and calls."""
    given: dict[type, None] = {}
    for name in module.__all__:
        public = getattr(module, name)
        if not callable(public):
            continue
        namespace = vars(sys.modules[public.__module__])
        bases = getattr(public, "__orig_bases__", ())
        answers = [getattr(answer, "__name__", answer) for base in bases for answer in getattr(base, "__args__", ())]
        methods = [public, *(value for key, value in vars(public).items() if not key.startswith("_"))]
        answers += [str(getattr(method, "__annotations__", {}).get("return", "")) for method in methods]
        for answer in answers:
            kind = namespace.get(str(answer).strip("'"))
            if isinstance(kind, type) and kind.__module__.startswith("minisched.") and not issubclass(kind, Syscall):
                given[kind] = None
    return [kind for kind in given if kind.__name__ not in module.__all__]


def show_inherited_methods(kind: object, modules: list[ModuleType]) -> None:
    """Give a class the methods and properties that it inherits from a base class of the package that has no page."""
    public = {getattr(module, name) for module in modules for name in module.__all__}
    for base in kind.__mro__[1:] if isinstance(kind, type) else ():
        if base.__module__.startswith("minisched.") and base not in public:
            for name, method in vars(base).items():
                if not name.startswith("_") and name not in vars(kind) and isinstance(method, FunctionType | property):
                    setattr(kind, name, method)


def is_shown(doc: pdoc.doc.Doc) -> bool:
    """Return whether a member has a place on its page: methods without a docstring of their own have none."""
    if doc.name == "__init__":
        return bool(doc.docstring or doc.signature_without_self.parameters)
    if isinstance(doc, pdoc.doc.Function) and doc.qualname.count("."):
        return not doc.name.startswith("_") and bool(getattr(doc.obj, "__doc__", None))
    return not doc.name.startswith("_") and bool(doc.docstring)


def problems_of(module: ModuleType, folder: Path) -> list[str]:
    """Return what is missing on the page of a module."""
    page = (folder / (module.__name__.replace(".", "/") + ".html")).read_text(encoding="utf-8")
    problems = []
    for name in sorted({*re.findall(r'href="#([\w.]+)"', page)} - {*re.findall(r'id="([\w.]+)"', page)}):
        kind, _, method = name.partition(".")
        owners = getattr(getattr(module, kind, None), "__mro__", ())
        if any(method in vars(owner) and owner.__module__.startswith("minisched.") for owner in owners):
            problems.append(f"{module.__name__}.{name} is linked and not on its page")
    for name in module.__all__:
        if f'<section id="{name}">' not in page:
            problems.append(f"{module.__name__}.{name} is not on its page")
        if not getattr(module, name).__doc__:
            problems.append(f"{module.__name__}.{name} has no docstring")
    return problems


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
