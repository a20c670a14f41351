"""Run each test of a module in `async def` form, too; call a function in another thread.

The generator tests are rewritten by their syntax tree: `yield` becomes `await`. Only `test_waiting` and
`test_taskgroup` use this, since the kernel cannot tell the two forms apart; other modules show once for each function
that it can be awaited.
"""

from __future__ import annotations

import ast
from pathlib import Path
from threading import Thread

from minisched import Pause

GENERATORS_ONLY = {"check_syscall"}  # a test that calls this passes generator functions to the package


class Awaiting(ast.NodeTransformer):
    """Turn each generator function into an `async def`; `changed` says whether there was one."""

    changed = False

    def visit_FunctionDef(self, node):
        generator = any(isinstance(part, (ast.Yield, ast.YieldFrom)) for part in own_nodes(node))
        self.generic_visit(node)
        if not generator:
            return node
        self.changed = True
        return ast.copy_location(ast.AsyncFunctionDef(**dict(ast.iter_fields(node))), node)

    def visit_AsyncFunctionDef(self, node):
        return node

    def visit_Yield(self, node):
        self.generic_visit(node)
        pause = ast.Call(ast.Name("Pause", ast.Load()), [], [])
        return ast.fix_missing_locations(ast.copy_location(ast.Await(node.value or pause), node))

    def visit_YieldFrom(self, node):
        self.generic_visit(node)
        return ast.copy_location(ast.Await(node.value), node)


def in_thread(function, *args):
    """Call a function in another thread; return its result or its exception."""
    outcome = []

    def call():
        try:
            outcome.append(function(*args))
        except BaseException as error:
            outcome.append(error)

    thread = Thread(target=call)
    thread.start()
    thread.join(60)
    return outcome[0]


def own_nodes(function):
    """Return the nodes of a function's body, without the bodies of nested functions."""
    todo = list(function.body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            todo.extend(ast.iter_child_nodes(node))


def add_async_forms(module):
    """Add the `async def` form of each test that contains a task.

    The call is the last statement of a module, and gets the globals of the module.
    """
    path = module["__file__"]
    tree = ast.parse(Path(path).read_text(encoding="utf-8"), path)
    tree.body.pop()
    changed = set()  # names of rewritten functions; helpers come before the tests
    for number, node in enumerate(tree.body):
        awaiting = Awaiting()
        tree.body[number] = node = awaiting.visit(node)
        named = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if is_function and (awaiting.changed or named & changed) and not named & GENERATORS_ONLY:
            changed.add(node.name)
    made = {"__name__": module["__name__"], "__file__": path, "Pause": Pause}
    exec(compile(tree, path, "exec"), made)
    tests = {name: made[name] for name in made if name in changed and name.startswith("test_")}
    module.update({f"{name}_in_async_form": test for name, test in tests.items()})
