"""explain: a model's step as source, a drawing, a table of costs, and derivations by SymPy."""

from groundup.explain.derive import Derivation as Derivation
from groundup.explain.explanation import Explanation as Explanation, explain as explain
from groundup.explain.summary import LayerRow as LayerRow
