"""Every public name has an example, and every example of the package runs: the API reference is made from them."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

pytestmark = pytest.mark.slow

MODULES = [importlib.import_module(name) for name in ("minisched", "minisched.testing", "minisched.lab")]
NAMES = [
    (module, name)
    for module in MODULES
    for name in getattr(module, "__all__", ())
    if not isinstance(getattr(module, name), int)  # READ and WRITE are explained where they are used
]
PACKAGE = [module.name for module in pkgutil.walk_packages(MODULES[0].__path__, "minisched.")]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def identified(value):
    return value if isinstance(value, str) else value.__name__


@pytest.mark.parametrize(("module", "name"), NAMES, ids=identified)
def test_a_public_name_has_an_example(module, name):
    docstring = inspect.getdoc(getattr(module, name)) or ""
    assert "Example:" in docstring, f"{module.__name__}.{name}: no section `Example:` in its docstring"
    assert ">>> " in docstring, f"{module.__name__}.{name}: its example is not a doctest"


@pytest.mark.parametrize("module", PACKAGE)
def test_the_examples_of_a_module_run_as_they_say(module):
    module = importlib.import_module(module)
    report: list[str] = []
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, globs={"__name__": "example"}):
        name = test.name.removeprefix(f"{module.__name__}.").partition(".")[0]
        if hasattr(module, name):
            test.globs[name] = getattr(module, name)  # an example need not import the name that it is about
        doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append)
    assert not report, "".join(report)
