"""What holds for every grader: how a specification is refused, and what importing costs."""

import subprocess
import sys
from typing import Any

import pytest

from evals.graders.grade import GRADERS, grade_text, validate_spec
from model.errors import ArtifactError


@pytest.mark.parametrize(
    "spec", [None, [], "math", {}, {"name": None}, {"name": ["math"]}, {"name": "maths"}]
)
def test_without_a_known_name_it_is_refused(spec: Any) -> None:
    for call in (validate_spec, lambda spec: grade_text(spec, "")):
        with pytest.raises(ArtifactError) as caught:
            call(spec)
        assert caught.value.where == "grader"


def test_importing_costs_neither_torch_nor_the_heavy_libraries() -> None:
    code = (
        "import sys, importlib, evals.graders.grade as g\n"
        "for module in g.GRADERS.values(): importlib.import_module(module)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'lm_eval', 'sympy', 'math_verify', 'nltk', 'langdetect'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert len(GRADERS) == 6
