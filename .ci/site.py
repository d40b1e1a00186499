"""A hook of MkDocs: pages of the site from outside docs/, and links that lead out of it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parent.parent
_ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
_LINK = re.compile(r"(\]\(|(?:src|srcset)=\")([^)\"#]*)")
_DOCUMENTED = {
    "collector": "What `from collector import …` offers. These names are stable.",
    "collector.sinks": "What a sink of your own derives from: [sinks](sinks.md).",
    "collector.testing": "Tests for your schemas: [the SDK](sdk.md#testing-with-collector).",
}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the repository's root and the API; the index of docs/ gives way to them."""
    index = files.get_file_from_path("README.md")
    if index is not None:
        files.remove(index)
    for source, name in _ROOT_PAGES.items():
        text = (_ROOT / source).read_text("utf-8")
        files.append(File.generated(config, name, content=_LINK.sub(_from_root, text)))
    files.append(File.generated(config, "api.md", content=_api()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Have links to the root's files, and to the index of docs/, lead to their pages."""
    if page.file.src_uri in _ROOT_PAGES.values():
        return markdown

    def to_page(found: re.Match[str]) -> str:
        target = found[2]
        if target == "README.md" and "/" not in page.file.src_uri:
            target = "index.md"
        if target.startswith("../") and target[3:] in _ROOT_PAGES and "/" not in page.file.src_uri:
            target = _ROOT_PAGES[target[3:]]
        return found[1] + target

    return _LINK.sub(to_page, markdown)


def _from_root(found: re.Match[str]) -> str:
    target = _ROOT_PAGES.get(found[2], found[2].removeprefix("docs/"))
    return found[1] + ("index.md" if target == "README.md" else target)


def _api() -> str:
    """The page of the API: every name that a package lists as public, by its docstring."""
    parts = ["# Python\n"]
    for package, about in _DOCUMENTED.items():
        parts.append(f"## `{package}`\n\n{about}\n")
        parts += [
            f"::: {package}.{name}\n    options: {{heading_level: 3}}\n"
            for name in _public(package)
        ]
    return "\n".join(parts)


def _public(package: str) -> list[str]:
    """The names in a package's ``__all__``."""
    tree = ast.parse((_ROOT / package.replace(".", "/") / "__init__.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise ValueError(package)
