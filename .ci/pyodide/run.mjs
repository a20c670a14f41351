// Runs pytest in Pyodide, which is CPython compiled to WebAssembly:
//     node run.mjs PYODIDE REPOSITORY PACKAGES [PYTEST ARGUMENT]...
// PYODIDE is the folder of the npm package, PACKAGES one that `pip install --target` has filled.
// The exit status is pytest's; 70 if Python itself came to an end.
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [pyodide, repository, packages] = process.argv.slice(2, 5).map((path) => resolve(path));
const { loadPyodide } = await import(pathToFileURL(`${pyodide}/pyodide.mjs`));

const PYTEST = `
import os, sys
os.chdir("/repository")
sys.path[:0] = ["/repository", "/repository/.ci/pyodide", "/packages"]
sys.dont_write_bytecode = True
print("Python", sys.version)
import pytest
# This version of hypothesis counts references to its random generators, which newer Pythons borrow instead.
borrowed = ["-W", "ignore:It looks like"]
int(pytest.main(["-p", "without_system", "-p", "no:cacheprovider", *borrowed, *arguments]))
`;

try {
  const python = await loadPyodide({ indexURL: `${pyodide}/` });
  for (const [place, folder] of [["/repository", repository], ["/packages", packages]]) {
    python.FS.mkdir(place);
    python.FS.mount(python.FS.filesystems.NODEFS, { root: folder }, place);
  }
  python.FS.symlink("/proc/self/fd", "/dev/fd"); // where tests look for open files
  python.globals.set("arguments", python.toPy(process.argv.slice(5)));
  process.exit(python.runPython(PYTEST));
} catch (error) {
  console.error(error);
  process.exit(70);
}
