"""Run a peer's cases on request: started by benchmarks/peer.py with the peers' own Python.

    python serve.py devito_acoustic '{"nodes": 1000, "steps": 100, "shots": 2}'

Answers each line of input, the name of a case, with one line of JSON once that case has run.
"""

import importlib
import json
import os
import sys
import traceback
import warnings


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what peers print is not an answer
    warnings.simplefilter("ignore")
    try:
        script = importlib.import_module(sys.argv[1])
        warnings.simplefilter("ignore")  # SymPy, once imported, shows its own again
        cases = script.cases(**json.loads(sys.argv[2]))
    except Exception as error:
        traceback.print_exc()
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        return
    answers.write(json.dumps({"cases": list(cases)}) + "\n")
    for line in sys.stdin:
        cases[line.strip()]()
        answers.write("{}\n")


if __name__ == "__main__":
    main()
