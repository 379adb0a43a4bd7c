"""Expected numbers: transformers' and peft's own forward passes. Tolerance 1e-5 in float32 unless bit for bit is said."""

import copy

import pytest
import torch
from torch import nn

from alignment.ppo.actor_critic import ActorCritic, build_critic, build_policy, output_head, packed_logits
from base_model.sequence import entropy_nats, pad_right
from tests.alignment.ppo.ppo_setup import lively, lora
from tests.conftest import random_model

V = 50
ROWS = [[3, 9, 4, 8, 1], [7, 2], [5, 6, 7]]


@pytest.fixture
def model(dialect):
    return lively(random_model(dialect, V))


def value_head(model, seed=1):
    torch.manual_seed(seed)
    return nn.Linear(model.config.hidden_size, 1)


def places():
    """Every place but each row's last predicts: (tokens_BT, place_N, target_N), rows padded on the right with a real id."""
    tokens_BT, _ = pad_right(ROWS, 0)
    place_N = torch.tensor([b * tokens_BT.shape[1] + t for b, row in enumerate(ROWS) for t in range(len(row) - 1)])
    target_N = torch.tensor([token for row in ROWS for token in row[1:]])
    return tokens_BT, place_N, target_N


def row_by_row(model):
    with torch.no_grad():
        logits_NV = torch.cat([model(input_ids=torch.tensor([row])).logits[0, :-1] for row in ROWS])
    return logits_NV


def test_packed_logits_are_those_of_each_row_alone(model):
    tokens_BT, place_N, _ = places()
    logits_NV, hidden_ND = packed_logits(model, tokens_BT, place_N)
    torch.testing.assert_close(logits_NV, row_by_row(model), atol=1e-5, rtol=0)
    assert hidden_ND.shape == (len(place_N), model.config.hidden_size)
    torch.testing.assert_close(output_head(model)(hidden_ND), logits_NV, atol=1e-5, rtol=0)
    assert model(input_ids=tokens_BT).logits.shape == (*tokens_BT.shape, V), "the hook is gone afterwards"


def test_what_a_model_does_after_its_head_still_happens():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=V, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, final_logit_softcapping=0.5, attn_implementation="eager",
    )  # fmt: skip
    gemma = lively(Gemma2ForCausalLM(config).eval())
    logits_NV, _ = packed_logits(gemma, *places()[:2])
    torch.testing.assert_close(logits_NV, row_by_row(gemma), atol=1e-5, rtol=0)
    assert logits_NV.abs().max() <= 0.5


def test_a_model_whose_head_is_not_called_is_refused(model):
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.config, self.unused = model, model.config, nn.Linear(4, 4)

        def get_output_embeddings(self):
            return self.unused

        def forward(self, **inputs):
            return self.inner(**inputs)

    with pytest.raises(ValueError, match="Around does not pass its hidden states through get_output_embeddings"):
        packed_logits(Around(), *places()[:2])
    with pytest.raises(ValueError, match="must be a causal language model"):
        output_head(nn.Linear(2, 2))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_forward_gives_logprob_value_and_entropy_at_each_place(model, temperature):
    head = value_head(model)
    module = ActorCritic(model, head, reference=copy.deepcopy(model), temperature=temperature)
    out = module(*places(), want_entropy=True)
    logits_NV = row_by_row(model) / temperature
    expected = torch.distributions.Categorical(logits=logits_NV)
    torch.testing.assert_close(out.logprob_N, expected.log_prob(places()[2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.entropy_N, expected.entropy(), atol=1e-5, rtol=0)
    hidden_ND = torch.cat([model.base_model(input_ids=torch.tensor([row])).last_hidden_state[0, :-1] for row in ROWS])
    torch.testing.assert_close(out.value_N, head(hidden_ND).squeeze(1), atol=1e-5, rtol=0)
    assert entropy_nats(logits_NV).gt(0).all()


def test_lora_off_is_the_base_model_bit_for_bit(model, dialect):
    base = copy.deepcopy(model)
    policy, reference = build_policy(model, lora(), None)
    module = ActorCritic(policy, value_head(base), reference=reference)
    plain = ActorCritic(base, value_head(base), reference=copy.deepcopy(base))
    assert module(*places(), reference=True).logprob_N.equal(plain(*places()).logprob_N)
    assert not module(*places()).logprob_N.equal(plain(*places()).logprob_N), "the adapter must matter"
    assert {name for name, p in policy.named_parameters() if p.requires_grad} == {
        name for name, _ in policy.named_parameters() if "lora_" in name
    }, "looking at the reference must leave the adapter training"


def test_an_adapter_that_comes_with_the_model_is_its_own_frozen_reference(model):
    from peft import get_peft_model

    adapted = get_peft_model(model, lora())
    with torch.no_grad():
        before = adapted(input_ids=torch.tensor([ROWS[0]])).logits.clone()
    policy, reference = build_policy(adapted, None, None)
    module = ActorCritic(policy, value_head(model), reference=reference)
    at_first = module(*places(), reference=True).logprob_N
    torch.testing.assert_close(at_first, module(*places()).logprob_N, atol=0, rtol=0)
    optimizer = torch.optim.SGD(module.policy_parameters(), lr=10.0)
    module(*places()).logprob_N.sum().backward()
    optimizer.step()
    assert not module(*places()).logprob_N.equal(at_first)
    assert module(*places(), reference=True).logprob_N.equal(at_first)
    with torch.no_grad():
        assert not policy(input_ids=torch.tensor([ROWS[0]])).logits.equal(before)


def test_the_reference_of_a_full_policy_is_a_frozen_copy(model):
    policy, reference = build_policy(model, None, None)
    assert policy is model and reference is not model
    assert not any(parameter.requires_grad for parameter in reference.parameters())
    assert all(a.equal(b) for a, b in zip(policy.state_dict().values(), reference.state_dict().values(), strict=True))


def test_what_cannot_be_a_policy_is_refused(model):
    from peft import PromptTuningConfig, get_peft_model

    with pytest.raises(ValueError, match="ref_model is the policy itself"):
        build_policy(model, None, model)
    with pytest.raises(ValueError, match="lengthen the row"):
        build_policy(copy.deepcopy(model), PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"), None)
    adapted = get_peft_model(copy.deepcopy(model), lora())
    with pytest.raises(ValueError, match="already has an adapter and peft_config asks for another"):
        build_policy(adapted, lora(), None)
    for parameter in adapted.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="is_trainable=True"):
        build_policy(adapted, None, model)


def classifier(dialect, num_labels=1, vocab=V):
    from transformers import AutoModelForSequenceClassification

    config = random_model(dialect, vocab).config
    config.num_labels = num_labels
    torch.manual_seed(4)
    return lively_head(AutoModelForSequenceClassification.from_config(config).eval())


def lively_head(model):
    with torch.no_grad():
        model.score.weight.mul_(20)
    return model


def test_a_critic_from_a_reward_model_starts_as_its_centred_score(dialect, model):
    reward = classifier(dialect)
    reward.config.reward_mean, reward.config.reward_std = 0.3, 2.0
    trunk, head = build_critic(model, "separate", reward)
    module = ActorCritic(model, head, reference=copy.deepcopy(model), critic=trunk)
    tokens_BT, place_N, target_N = places()
    got = module(tokens_BT, place_N, target_N).value_N[3]  # first row, the place before its last token
    with torch.no_grad():
        raw = reward(input_ids=torch.tensor([ROWS[0][:4]])).logits[0, 0]  # the score of the row up to there
    assert got.item() == pytest.approx(((raw - 0.3) / 2.0).item(), abs=1e-5)
    assert trunk is not reward.base_model, "the reward model itself must not learn"


@pytest.mark.parametrize("kind", ["shared", "separate"])
def test_a_critic_without_a_reward_model_starts_at_zero(model, kind):
    trunk, head = build_critic(model, kind)
    assert (trunk is None) == (kind == "shared")
    module = ActorCritic(model, head, reference=copy.deepcopy(model), critic=trunk)
    assert module(*places()).value_N.eq(0).all()


def test_a_value_model_that_does_not_fit_is_refused(dialect, model):
    with pytest.raises(ValueError, match="one label and a `score` head, got .* with 2 labels"):
        build_critic(model, "separate", classifier(dialect, num_labels=2))
    with pytest.raises(ValueError, match="value_model has 60 tokens and the policy 50"):
        build_critic(model, "separate", classifier(dialect, vocab=60))
    with pytest.raises(ValueError, match="critic is 'shared'; set critic='separate'"):
        build_critic(model, "shared", classifier(dialect))


def test_dropout_stays_off_whatever_is_asked():
    noisy = random_model("gpt2", V)
    for module in noisy.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.9
    module = ActorCritic(noisy, value_head(noisy), reference=copy.deepcopy(noisy)).train(True)
    assert module(*places()).logprob_N.equal(module(*places()).logprob_N)


def test_critic_only_gradients_leave_a_shared_trunk_alone(model):
    module = ActorCritic(model, value_head(model), reference=copy.deepcopy(model))
    module(*places(), value_trains_trunk=False).value_N.sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert module.value_head.weight.grad is not None
