"""The picture of one stop, from a trace: `python -m stario_trio.report trace.jsonl`.

Four steps, each a plain function of what the one before returns: `model` (lines to facts), `picture` (facts to rows),
then `text` or `svg` (rows to characters or shapes).
"""

from __future__ import annotations
