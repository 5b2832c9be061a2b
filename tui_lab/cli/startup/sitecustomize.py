"""Python imports this before a watched or examined script: undo what made it do so, then begin to record.

The environment and sys.path are as they would be without us when the real `sitecustomize`, if there is one, and the
script run.
"""

import sys

if __name__ == "sitecustomize":
    _loaded_before = set(sys.modules)
    import os

    def _restore() -> "str | None":
        """Undo the changes of the environment; return the JSON for this process, None where it was not meant."""
        import json

        text = os.environ.pop("TUI_LAB_WATCH", None)
        if text is None:
            return None
        start = json.loads(text)
        if start["python_path"] is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = start["python_path"]
        sys.path[:] = [entry for entry in sys.path if entry != start["folder"]]
        sys.path_importer_cache.pop(start["folder"], None)
        return text

    def _import_hidden() -> None:
        """Run the sitecustomize that this one hides. What it raises is for Python, as usual."""
        import importlib

        this = sys.modules.pop("sitecustomize")
        try:
            importlib.import_module("sitecustomize")
        except ModuleNotFoundError as error:
            if error.name != "sitecustomize":
                raise
        finally:
            sys.modules.setdefault("sitecustomize", this)

    def _begin(text: str) -> None:
        """Import the tui_lab that started this process, wherever it is, and begin."""
        import importlib.util
        import json

        start = json.loads(text)
        package = start["package"]
        spec = importlib.util.spec_from_file_location(
            "tui_lab", os.path.join(package, "__init__.py"), submodule_search_locations=[package]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["tui_lab"] = module
        spec.loader.exec_module(module)
        importlib.import_module(start["begin"]).begin(_loaded_before, **start["settings"])

    _text = _restore()
    if _text is not None:
        try:
            _import_hidden()
        finally:
            _begin(_text)
