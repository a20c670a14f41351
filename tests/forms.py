"""What the tests of locks and queues share: each test in `async def` form, too; calls in another thread."""

from __future__ import annotations

import ast
from pathlib import Path
from threading import Thread

from minisched import Pause

GENERATORS_ONLY = {"check_syscall"}  # who calls this has its tasks made elsewhere


class Awaiting(ast.NodeTransformer):
    """Makes an `async def` of each generator function; `changed` says that there was one."""

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
    """Call a function in another thread; return what it returned or raised."""
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
    """Return the nodes of a function's body, without those of the functions in it."""
    todo = list(function.body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            todo.extend(ast.iter_child_nodes(node))


def add_async_forms(module):
    """Add the async form of each test that has a task in it: the same source, awaiting where a generator yields.

    It is the last statement of a module, and is given its globals.
    """
    path = module["__file__"]
    tree = ast.parse(Path(path).read_text(encoding="utf-8"), path)
    tree.body.pop()
    changed = set()  # names of functions: in the order of the source, helpers come before the tests
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
