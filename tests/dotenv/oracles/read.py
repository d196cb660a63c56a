"""python-dotenv: reads a JSON list of texts, writes what it finds in each."""

import json
import logging
import sys

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from dotenv.variables import Variable, parse_variables

logging.disable(logging.CRITICAL)
texts, file, out = sys.argv[1:]


def lines(text):
    return text.count("\n")


found = []
for text in json.load(open(texts, encoding="utf-8")):
    with open(file, "wb") as stream:
        stream.write(text.encode())
    bindings, passed_over = [], []
    # As `dotenv_values` opens it.
    with open(file, encoding="utf-8") as stream:
        for binding in parse_stream(stream):
            original = binding.original.string
            line = binding.original.line + lines(original[: len(original) - len(original.lstrip())])
            if binding.error or binding.key is not None and binding.value is None:
                passed_over.append(line)
            elif binding.key is not None:
                substitutes = any(isinstance(atom, Variable) for atom in parse_variables(binding.value))
                bindings.append([binding.key, binding.value, line, substitutes])
    found.append(
        {
            "bindings": bindings,
            "passed_over": passed_over,
            "plain": dotenv_values(file, interpolate=False),
            "substituted": dotenv_values(file),
        }
    )
json.dump(found, open(out, "w", encoding="utf-8"))
