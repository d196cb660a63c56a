"""Found first by the processes that `vault_core.applications.flowfile` starts."""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

from vault_core.applications import flowfile

flowfile.install()

# The one that this one hides, as of the distribution.
others = [place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parent]
spec = PathFinder.find_spec("sitecustomize", others)
if spec is not None and spec.loader is not None:
    spec.loader.exec_module(module_from_spec(spec))
