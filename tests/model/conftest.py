from tests.stages.conftest import tokenizer_directory

__all__ = ["tokenizer_directory"]
