"""An OpenAI-compatible endpoint that is asked for texts, through the `openai` client.

The client itself retries what may pass (no connection, 408, 409, 429, 5xx, time-outs) with growing waits, or the wait
that the server asks for. What stays without an answer is a NoReplyError; a refusal that every request would meet
(401, 403, 404) is a UsageError.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import openai
from openai.types.chat import ChatCompletion

from model.errors import UsageError

_LONGEST_WAIT = 120.0  # seconds that the client lets a server ask for before it takes the answer as a refusal


class NoReplyError(Exception):
    """The endpoint gave no answer to a request; the text says why."""


@dataclass(frozen=True)
class Endpoint:
    """base_url, model, api_key_env: the address, the name of its model, the variable with the key (None: no key
    is sent). timeout: seconds to wait for one answer. spell: how the user writes a setting of this class, for remedies.
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    temperature: float = 0.0
    max_tokens: int = 512
    timeout: float = 120.0
    retries: int = 4
    spell: Callable[[str], str] = str

    @cached_property
    def key(self) -> str:
        """The key; a word that is none where no key is wanted, so that the client takes none from the environment.
        UsageError where the variable has no key."""
        variable = self.api_key_env
        if variable is None:
            return "none"
        key = os.environ.get(variable, "").strip()
        if not key:
            raise UsageError(
                f"the environment variable {variable} is not set",
                where="api_key_env",
                remedy=f"put the endpoint's API key into {variable}",
            )
        if not (key.isascii() and key.isprintable()):
            raise UsageError(
                f"the environment variable {variable} holds characters that no API key has",
                where="api_key_env",
                remedy=f"put the endpoint's API key, and nothing else, into {variable}",
            )
        return key

    async def open(self) -> openai.AsyncOpenAI:
        """A client, to be closed by the caller."""
        return openai.AsyncOpenAI(
            base_url=self.base_url, api_key=self.key, timeout=self.timeout, max_retries=self.retries
        )

    async def reply(self, client: openai.AsyncOpenAI, prompt: str) -> tuple[str, bool]:
        """The text and whether it was cut off. NoReplyError if there is none; UsageError if no request can have one."""
        attempts = 1 + self.retries
        try:
            # The client's time-outs are between bytes; this one holds for a server that sends one now and then.
            async with asyncio.timeout(attempts * self.timeout + self.retries * _LONGEST_WAIT):
                completion = await client.chat.completions.create(
                    model=self.model,
                    messages=[{"role": "user", "content": prompt}],
                    temperature=self.temperature,
                    max_tokens=self.max_tokens,
                )
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise self._refused(error) from error
        except openai.APIStatusError as error:
            raise NoReplyError(f"the endpoint answered {error.status_code}{_reason(error)}") from error
        except (openai.APITimeoutError, TimeoutError) as error:
            raise NoReplyError(f"no answer within {self.timeout:g} seconds") from error
        except openai.APIConnectionError as error:
            cause = str(error.__cause__ or error) or type(error.__cause__).__name__
            raise NoReplyError(f"no connection ({cause})") from error
        except (openai.OpenAIError, ValueError) as error:  # the client could not read what came
            raise NoReplyError("the answer is no chat completion") from error
        return _content(completion)

    def _refused(self, error: openai.APIStatusError) -> UsageError:
        what = {
            401: "the endpoint does not accept the API key",
            403: "the endpoint refuses access",
            404: f"the endpoint knows no model {self.model!r}, or the address is wrong",
        }[error.status_code]
        remedy = f"check {self.spell('base_url')} and {self.spell('endpoint_model')}"
        if error.status_code != 404:
            remedy = (
                f"check the key in ${self.api_key_env}"
                if self.api_key_env
                else f"name the environment variable that holds your key with {self.spell('api_key_env')}"
            )
        return UsageError(what + _reason(error), where=self.base_url, remedy=remedy)


def _reason(error: openai.APIStatusError) -> str:
    """What the server says about an error, as far as it is a short text."""
    body = error.body
    said = body.get("message") if isinstance(body, dict) else None
    return f" ({' '.join(said.split())[:160]})" if isinstance(said, str) and said.strip() else ""


def _content(completion: object) -> tuple[str, bool]:
    """The text and whether it was cut off. The client does not check what a server sends: anything may be missing."""
    choices = completion.choices if isinstance(completion, ChatCompletion) else None
    if not (isinstance(choices, list) and choices):
        raise NoReplyError("the answer is no chat completion")
    content = getattr(getattr(choices[0], "message", None), "content", None)
    cut_off = getattr(choices[0], "finish_reason", None) == "length"
    return (content if isinstance(content, str) else ""), cut_off
