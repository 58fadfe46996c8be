"""explain: a model's step as source, a drawing, a table of costs, and derivations by SymPy.

What it returns is in `groundup.explain.explanation`.
"""

from groundup.explain.api import explain as explain
