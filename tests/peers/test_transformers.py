"""The core against transformers' NemotronHForCausalLM: same weights, float32, CPU, through files on disk."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model import HybridConfig, HybridLM, load
from model.inference.generation import Generator, Request
from model.loading import save
from model.loss import next_token_labels, token_cross_entropy
from tests.model.miniatures import MINIATURES, miniature, random_ids, randomized

transformers = pytest.importorskip("transformers")
NemotronHForCausalLM = transformers.NemotronHForCausalLM

LENGTH = 37  # two chunks of 16 and a rest
GENERATED = 36


@pytest.fixture(scope="module", params=list(MINIATURES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[HybridLM, Any]:
    """Our model and transformers', which read the files that ours wrote."""
    lm = randomized(MINIATURES[request.param])
    directory = tmp_path_factory.mktemp("artifact")
    save(lm, directory)
    return lm, _theirs(directory)


def _theirs(directory: Path, **options: Any) -> Any:
    model, info = NemotronHForCausalLM.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True, output_loading_info=True, **options
    )
    assert not any(info.values()), info
    return model.eval()


def test_logits_agree(pair: tuple[HybridLM, Any]) -> None:
    lm, theirs = pair
    ids = random_ids(lm.config, 2, LENGTH)
    with torch.no_grad():
        difference = (lm(ids).logits - theirs(ids, use_cache=False).logits).abs().max()
    assert difference < 1e-4


def test_gradients_agree(pair: tuple[HybridLM, Any]) -> None:
    lm, theirs = pair
    ids = random_ids(lm.config, 2, LENGTH)
    losses = token_cross_entropy(lm.hidden_states(ids), lm.lm_head.weight, next_token_labels(ids))
    loss = losses.total / losses.count
    ours = torch.autograd.grad(loss, list(lm.parameters()))
    their_parameters = {_our_name(name): p for name, p in theirs.named_parameters()}
    logits = theirs(ids, use_cache=False).logits
    their_loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    expected = torch.autograd.grad(their_loss, [their_parameters[name] for name, _ in lm.named_parameters()])
    torch.testing.assert_close(loss, their_loss, rtol=1e-5, atol=0)
    for (name, _), gradient, reference in zip(lm.named_parameters(), ours, expected, strict=True):
        error = (gradient - reference).norm() / reference.norm()
        assert error < 1e-3, (name, float(error))


def test_greedy_decode_agrees(pair: tuple[HybridLM, Any]) -> None:
    """Their tokens are fed to our cache: at each step our best token is theirs, or the top two lie within 1e-3."""
    lm, theirs = pair
    prompt = random_ids(lm.config, 1, LENGTH)
    decided = 0
    with torch.no_grad():
        state = lm.new_state()
        last = lm(prompt, state=state).logits[0, -1]
        for token in _their_greedy_tokens(theirs, lm.config, prompt):
            top = last.topk(2)
            if top.values[0] - top.values[1] > 1e-3:
                assert top.indices[0] == token
                decided += 1
            last = lm(torch.tensor([[token]]), state=state).logits[0, -1]
    assert decided > GENERATED // 2


RAGGED = (37, 1, 12, 80, 5, 33, 16)
TIE = 1e-4


def test_ragged_batches_are_generated_as_transformers_does(pair: tuple[HybridLM, Any]) -> None:
    """Prompts of all lengths; ours with few rows, too, where requests join those that are under way and leave after
    different numbers of tokens. Token for token, until a row meets a tie of its best two logits."""
    lm, theirs = pair
    prompts = [random_ids(lm.config, length, seed=length).tolist() for length in RAGGED]
    expected = _their_batch(theirs, lm.config, prompts)
    requests = [Request(prompt, GENERATED - 4 * number) for number, prompt in enumerate(prompts)]
    for rows in (3, 32):
        completions = Generator(lm, max_rows=rows, prefill_chunk=30).run(requests)
        compared = 0
        for request, completion, tokens in zip(requests, completions, expected, strict=True):
            ids = torch.tensor([[*request.prompt_ids, *tokens]])
            with torch.no_grad():
                top = lm(ids).logits[0, len(request.prompt_ids) - 1 :].topk(2).values
            for step, token in enumerate(completion.token_ids):
                if top[step, 0] - top[step, 1] <= TIE:
                    break
                assert token == tokens[step], (request, step)
                compared += 1
        assert compared > 0.6 * sum(request.max_tokens for request in requests)


def _their_batch(theirs: Any, config: HybridConfig, prompts: list[list[int]]) -> list[list[int]]:
    """Padded on the left; one by one where they cannot: without attention, or with a bias of in_proj, which makes their
    padding leak into the state (transformers 5.23)."""
    if "*" not in config.pattern or config.use_bias:
        return [_their_greedy_tokens(theirs, config, torch.tensor([prompt])) for prompt in prompts]
    width = max(map(len, prompts))
    ids, mask = torch.zeros(len(prompts), width, dtype=torch.long), torch.zeros(len(prompts), width)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    made = theirs.generate(
        ids, attention_mask=mask.long(), do_sample=False, max_new_tokens=GENERATED, pad_token_id=0
    )
    return [row[width:].tolist() for row in made]


def _their_greedy_tokens(theirs: Any, config: HybridConfig, prompt: Tensor) -> list[int]:
    if "*" in config.pattern:
        made = theirs.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=GENERATED
        )
        return made[0, prompt.shape[1] :].tolist()
    sequence = (
        prompt  # transformers cannot generate without an attention block: its full forward pass instead
    )
    for _ in range(GENERATED):
        best = theirs(sequence, use_cache=False).logits[:, -1:].argmax(-1)
        sequence = torch.cat([sequence, best], dim=1)
    return sequence[0, prompt.shape[1] :].tolist()


def _our_name(name: str) -> str:
    return "backbone." + name.removeprefix("model.") if name.startswith("model.") else name


@pytest.fixture(scope="module")
def their_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[HybridLM, Path]:
    """A model with a block of each kind, and a directory that transformers' own `save_pretrained` wrote it to."""
    lm = randomized(miniature("M-*-M", use_bias=True, mlp_bias=True))
    directory = tmp_path_factory.mktemp("ours")
    save(lm, directory)
    written = tmp_path_factory.mktemp("theirs")
    _theirs(directory).save_pretrained(written)
    return lm, written


def test_reads_what_transformers_writes(their_checkpoint: tuple[HybridLM, Path]) -> None:
    lm, directory = their_checkpoint
    _assert_same_model(load(directory), lm)
    assert load(directory).config == lm.config


def test_reads_shards_that_transformers_writes(
    their_checkpoint: tuple[HybridLM, Path], tmp_path: Path
) -> None:
    lm, directory = their_checkpoint
    _theirs(directory).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    _assert_same_model(load(tmp_path), lm)


def test_reads_the_key_dialect_of_transformers_modules(
    their_checkpoint: tuple[HybridLM, Path], tmp_path: Path
) -> None:
    """`model.layers...`, as a state dict of transformers' module has it; transformers reads that file too."""
    from safetensors.torch import save_file

    lm, directory = their_checkpoint
    theirs = _theirs(directory)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    theirs.config.save_pretrained(tmp_path)
    _assert_same_model(load(tmp_path), lm)
    _theirs(tmp_path)


LEGACY_NAMES = {"M": "mamba", "*": "attention", "-": "mlp"}
NEW_NAMES = {"M": "linear_attention", "*": "full_attention", "-": "mlp"}
CONFIG_DIALECTS: dict[str, dict[str, Any]] = {
    "pattern": {"hybrid_override_pattern": "M-*-M"},
    "pattern and count": {"hybrid_override_pattern": "M-*-M", "num_hidden_layers": 5},
    "new names": {"layers_block_type": [NEW_NAMES[letter] for letter in "M-*-M"]},
    "legacy names": {"layers_block_type": [LEGACY_NAMES[letter] for letter in "M-*-M"]},
    "layer_types": {"layer_types": [NEW_NAMES[letter] for letter in "M-*-M"]},
}


@pytest.mark.parametrize("dialect", CONFIG_DIALECTS)
def test_reads_the_config_dialects_as_transformers_does(
    their_checkpoint: tuple[HybridLM, Path], tmp_path: Path, dialect: str
) -> None:
    lm, directory = their_checkpoint
    raw = json.loads((directory / "config.json").read_text())
    del raw["layers_block_type"]
    (tmp_path / "config.json").write_text(json.dumps(raw | CONFIG_DIALECTS[dialect]))
    (tmp_path / "model.safetensors").symlink_to(directory / "model.safetensors")
    _assert_same_model(load(tmp_path), lm)
    ids = random_ids(lm.config, 1, LENGTH)
    with torch.no_grad():
        torch.testing.assert_close(lm(ids).logits, _theirs(tmp_path)(ids).logits, rtol=0, atol=1e-4)


def test_transformers_reads_our_shards_and_bfloat16(tmp_path: Path) -> None:
    """What was saved in bfloat16 is the same numbers there, the scan's parameters included."""
    from model.artifact.weights import save_weights

    lm = randomized(miniature("M-*-M")).to(torch.bfloat16)
    save(lm, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    save_weights(lm.state_dict(), tmp_path, max_shard_bytes=10_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    theirs = {_our_name(name): tensor for name, tensor in _theirs(tmp_path).state_dict().items()}
    for name, tensor in lm.state_dict().items():
        assert torch.equal(theirs[name], tensor.float()), name


def test_a_fresh_transformers_model_accepts_our_config(tmp_path: Path) -> None:
    """`time_step_min` of 0.0 would fail here with a math domain error; 1e-30 does not."""
    save(randomized(miniature("M-*-M")), tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    assert config.time_step_min == 1e-30
    NemotronHForCausalLM(config)


def test_packed_documents_equal_transformers_on_each_alone(pair: tuple[HybridLM, Any]) -> None:
    """transformers on a CPU cannot pack; each document by itself is what packing must reproduce."""
    lm, theirs = pair
    lengths = (5, 19, 13)
    ids = random_ids(lm.config, 1, sum(lengths))
    documents = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None]
    with torch.no_grad():
        alone = [theirs(part, use_cache=False).logits for part in ids.split(lengths, dim=1)]
        torch.testing.assert_close(lm(ids, documents).logits, torch.cat(alone, dim=1), rtol=0, atol=1e-4)


def _assert_same_model(read: HybridLM, written: HybridLM) -> None:
    expected = written.state_dict()
    assert read.config.pattern == written.config.pattern
    assert read.state_dict().keys() == expected.keys()
    for name, tensor in read.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
