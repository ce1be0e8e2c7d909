"""The rooms import only what docs/architecture.md allows, and nothing heavy comes with `import trajvit`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("modeling_trajvit", "processing", "training", "evaluation")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
# Which other rooms a room may import from.
ALLOWED = {
    "modeling_trajvit": set(),
    "processing": {"modeling_trajvit"},
    "training": {"modeling_trajvit", "processing"},
    "evaluation": {"modeling_trajvit", "processing", "training"},
}
# Pure PyTorch and transformers: what a checkpoint's own code may need on a machine without this package.
MODELING_LIBRARIES = {
    "safetensors",
    "torch",
    "torchvision",
    "transformers",
    "numpy",
    "huggingface_hub",
    "typing_extensions",
}
HEAVY = ("cv2", "scenedetect", "av", "skimage", "matplotlib", "sam2", "hydra", "datasets", "gradio", "ray", "deepspeed")
# What the extra `trajvit[sam2]` brings: only some of one room may need it, and only once it is used.
SAM2_LIBRARIES = {"sam2", "hydra", "omegaconf"}


def imports(path: Path) -> list[tuple[int, str]]:
    """(level, dotted module) of every import statement in a file, also those inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or ""))
    return found


def imported_at_once(path: Path) -> set[str]:
    """Top-level modules that are imported as soon as a file is: not inside a function, not for type checkers only."""
    nodes = list(ast.parse(path.read_text(encoding="utf-8")).body)
    found = set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            nodes += ast.iter_child_nodes(node)
    return found


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_the_rooms_below_it(path):
    room = room_of(path)
    for level, module in imports(path):
        assert level <= 1, f"relative imports stay inside a room: {'.' * level}{module}"
        head, *rest = module.split(".")
        if level == 0:
            assert head not in ROOMS, f"{module} resolves only inside a checkout: write trajvit.{module}"
            if head == "trajvit":
                assert rest, "a room does not import the face"
                assert rest[0] in ALLOWED[room] | {room}, f"{room} must not import {module}"


@pytest.mark.parametrize("path", sorted((ROOT / "modeling_trajvit").rglob("*.py")), ids=lambda path: path.name)
def test_the_models_need_only_pytorch_and_transformers(path):
    assert path.parent == ROOT / "modeling_trajvit", "one flat folder, so that a checkpoint carries its own code"
    outside = {module.split(".")[0] for level, module in imports(path) if level == 0}
    assert outside <= MODELING_LIBRARIES | set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sam2_is_needed_by_processing_only_and_only_when_used(path):
    if room_of(path) == "processing":
        assert not imported_at_once(path) & SAM2_LIBRARIES, "import it inside the function that needs it"
    else:
        assert not {module.split(".")[0] for level, module in imports(path) if level == 0} & SAM2_LIBRARIES


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_shadows_a_library_or_is_nameless(path):
    # `accelerate launch training/pretrain.py` puts the room first on the import path.
    assert path.stem not in {"datasets", "evaluate", "accelerate", "transformers", "torch", "peft", "deepspeed", "ray"}
    assert path.stem.strip("_") not in {"utils", "util", "helpers", "helper", "common", "misc"}


def test_models_and_processing_share_no_file_name():
    """A checkpoint carries the code of both in one folder."""
    models, processing = ({path.name for path in (ROOT / room).glob("*.py")} for room in ROOMS[:2])
    assert models & processing == {"__init__.py"}


def test_importing_the_face_stays_light():
    # Some releases of transformers bring PyAV with their pipelines.
    assert heavy_modules_of("trajvit") <= heavy_modules_of("transformers.pipelines")


def heavy_modules_of(name):
    code = f"import sys, {name}; print(*(heavy for heavy in {HEAVY!r} if heavy in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
