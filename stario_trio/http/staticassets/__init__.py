"""Files for the web: found once, served for ever under names that change with their content."""

from __future__ import annotations

from stario_trio.http.staticassets.assets import REGISTRY, StaticAssets, asset
from stario_trio.http.staticassets.files import CONTENT_TYPES, CachedFile, fingerprint

__all__ = ["CONTENT_TYPES", "CachedFile", "StaticAssets", "asset", "fingerprint"]

# Upstream's name, which tests of programs empty.
_collections = REGISTRY
