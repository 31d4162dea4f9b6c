"""The request of `POST /v1/chat/completions`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from model.chat.messages import Message, check_conversation
from stages.serve.protocol.base import MOST_TOP_LOGPROBS, ApiModel, GenerationRequest, only, without_nulls


def _message(value: Any) -> Any:
    """As this core reads it: a developer message is the system message."""
    value = without_nulls(value)
    return (
        {**value, "role": "system"} if isinstance(value, dict) and value.get("role") == "developer" else value
    )


class FunctionDefinition(ApiModel):
    name: str = Field(min_length=1, pattern=r"^[^\s\"\\]+$")
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    strict: Annotated[bool, only(False)] = False

    @field_validator("parameters")
    @classmethod
    def _describes_an_object(cls, schema: dict[str, Any]) -> dict[str, Any]:
        if schema.get("type", "object") != "object":
            raise ValueError(f"the schema has the type {schema['type']!r}; arguments are an object")
        if not isinstance(schema.get("properties", {}), dict):
            raise ValueError("the schema's properties are no JSON object")
        required = schema.get("required", [])
        if not (isinstance(required, list) and all(isinstance(name, str) for name in required)):
            raise ValueError("the schema's required is no list of names")
        return schema


class Tool(ApiModel):
    type: Literal["function"]
    function: FunctionDefinition

    def for_template(self) -> dict[str, Any]:
        """As it was written, less what the model is not told."""
        return self.model_dump(exclude_unset=True, exclude={"function": {"strict"}})


class FunctionName(ApiModel):
    name: str


class NamedFunction(ApiModel):
    type: Literal["function"] = "function"
    function: FunctionName


class TemplateKwargs(ApiModel):
    enable_thinking: bool | None = None


class ChatRequest(GenerationRequest):
    """OpenAI's, and `thinking_budget`, `thinking_grace`, `chat_template_kwargs.enable_thinking`, `top_k`, `ignore_eos`."""

    messages: list[Annotated[Message, BeforeValidator(_message)]]
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=MOST_TOP_LOGPROBS)
    tools: list[Tool] = Field(default_factory=list)
    tool_choice: Literal["none", "auto", "required"] | NamedFunction = "auto"
    parallel_tool_calls: bool = True
    chat_template_kwargs: TemplateKwargs = TemplateKwargs()
    response_format: Annotated[dict[str, Any] | None, only({"type": "text"})] = None
    modalities: Annotated[list[str] | None, only(["text"])] = None
    verbosity: Annotated[str | None, only("medium")] = None

    @property
    def wanted_tokens(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def forced_function(self) -> str | None:
        """The function that has to be called; "" for any of them; None where none has to be."""
        if isinstance(self.tool_choice, NamedFunction):
            return self.tool_choice.function.name
        if self.tool_choice != "required":
            return None
        return self.tools[0].function.name if len(self.tools) == 1 else ""

    @field_validator("messages")
    @classmethod
    def _is_a_conversation(cls, messages: list[Message]) -> list[Message]:
        check_conversation(messages)
        return messages

    @model_validator(mode="after")
    def _chat_fits_together(self) -> "ChatRequest":
        both = (self.max_tokens, self.max_completion_tokens)
        if None not in both and both[0] != both[1]:
            raise ValueError("max_tokens: differs from max_completion_tokens, its new name")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: needs logprobs")
        names = [tool.function.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise ValueError("tools: two functions have one name")
        if self.forced_function is None:
            return self
        if not names:
            raise ValueError("tool_choice: asks for a call, and there are no tools")
        if self.forced_function and self.forced_function not in names:
            raise ValueError(f"tool_choice: there is no tool {self.forced_function!r}")
        if self.chat_template_kwargs.enable_thinking or self.thinking_budget is not None:
            raise ValueError(
                "tool_choice: an answer that has to begin with a call has no thinking; turn it off"
            )
        return self
