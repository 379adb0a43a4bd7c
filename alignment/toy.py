"""A task small enough to enumerate, so that what PPO and DPO should reach is known exactly.

Four letters and an end token, at most 5 tokens an answer: 1,365 answers, 2 prompts. With a reward r(x, y) of every answer,
the policy that maximises  J(pi) = E_x [ E_pi r(x, y) - beta KL(pi || pi_ref) ]  has the value

    J* = E_x [ beta log sum_y pi_ref(y | x) exp(r(x, y) / beta) ],

at pi*(y | x) ~ pi_ref(y | x) exp(r(x, y) / beta), and J of any policy is a sum over the enumerated answers. How far training
came is `gap_closed` = (J - J_ref) / (J* - J_ref). DPO on enough pairs labelled with the exact Bradley-Terry
probabilities of r has the same optimum.

Legend: X prompts (2), Y answers (1,365), T tokens of prompt + answer.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product

import torch
from torch import Tensor

from base_model.sequence import pad_right, token_logprobs

LETTERS = "abcd"
EOS_ID = len(LETTERS)
MAX_TOKENS = 5  # of an answer, its end token included; an answer of 5 letters has none
PROMPTS = ("a", "b")


@cache
def answers() -> tuple[tuple[int, ...], ...]:
    """Every answer as ids: up to 4 letters and the end token, or 5 letters. 341 + 1,024 = 1,365."""
    letters = range(EOS_ID)
    ended = [(*word, EOS_ID) for length in range(MAX_TOKENS) for word in product(letters, repeat=length)]
    return (*ended, *product(letters, repeat=MAX_TOKENS))


def make_tokenizer():
    """One token a character and the end token `<eos>`. There is no padding token: padding is known by mask, not by id."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {**{letter: i for i, letter in enumerate(LETTERS)}, "<eos>": EOS_ID}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", model_max_length=8)


def make_model(dialect: str = "gpt2", seed: int = 0, *, d_model: int = 48, n_layer: int = 2):
    """A random transformers model over the 5 tokens, its weights spread enough that the reference is far from uniform.

    GPT-2's learned positions tell the prompt's letter from the answer's, so that it can come as near the optimum as one
    likes (exact gradient ascent: 0.999 after 200 steps); a Llama of this size can't tell them apart and ends at 0.77."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    ids = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": EOS_ID}
    if dialect == "gpt2":
        drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        config = GPT2Config(
            vocab_size=EOS_ID + 1, n_positions=8, n_embd=d_model, n_layer=n_layer, n_head=4, **drop, **ids,
            tie_word_embeddings=False,
        )  # fmt: skip
        model = GPT2LMHeadModel(config)
    else:
        config = LlamaConfig(
            vocab_size=EOS_ID + 1, hidden_size=d_model, intermediate_size=2 * d_model, num_hidden_layers=n_layer,
            num_attention_heads=4, max_position_embeddings=8, tie_word_embeddings=False, **ids,
        )  # fmt: skip
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(5)  # logits of about unit spread
    return model.eval()


@dataclass(frozen=True)
class Toy:
    """A reward table over the enumerated answers, and what follows from it."""

    reward_XY: Tensor  # float64
    beta: float

    def score(self, prompts, completions, **columns) -> list[float]:
        """The reward as a judge: text in, r(x, y) out. An answer of fewer than 5 letters is one that ended."""
        return [
            self.reward_XY[PROMPTS.index(x), _index_of(y)].item() for x, y in zip(prompts, completions, strict=True)
        ]

    def objective(self, logprob_XY: Tensor, reference_XY: Tensor) -> float:
        """J(pi) = E_x sum_y pi(y|x) (r(x, y) - beta (log pi - log pi_ref)), exact."""
        return (logprob_XY.exp() * (self.reward_XY - self.beta * (logprob_XY - reference_XY))).sum(1).mean().item()

    def optimum(self, reference_XY: Tensor) -> float:
        """J* = E_x beta log sum_y pi_ref exp(r / beta), exact."""
        return (self.beta * (reference_XY + self.reward_XY / self.beta).logsumexp(1)).mean().item()

    def gap_closed(self, logprob_XY: Tensor, reference_XY: Tensor) -> float:
        """(J - J_ref) / (J* - J_ref): 0 at the reference, 1 at the optimum, negative where training did harm."""
        start = self.objective(reference_XY, reference_XY)
        return (self.objective(logprob_XY, reference_XY) - start) / (self.optimum(reference_XY) - start)

    def kl_nats(self, logprob_XY: Tensor, reference_XY: Tensor) -> float:
        """KL(pi || pi_ref) an answer, averaged over prompts, exact."""
        return (logprob_XY.exp() * (logprob_XY - reference_XY)).sum(1).mean().item()


def make_toy(seed: int = 0, beta: float = 0.3) -> Toy:
    """A reward with structure to learn: for each prompt its own worth of letters and of letter pairs, a bonus for ending."""
    generator = torch.Generator().manual_seed(seed)
    letter_XL = torch.randn(len(PROMPTS), EOS_ID, generator=generator, dtype=torch.float64) * 0.25
    pair_XLL = torch.randn(len(PROMPTS), EOS_ID, EOS_ID, generator=generator, dtype=torch.float64) * 0.25
    reward_XY = torch.empty(len(PROMPTS), len(answers()), dtype=torch.float64)
    for x in range(len(PROMPTS)):
        for y, answer in enumerate(answers()):
            letters = [token for token in answer if token != EOS_ID]
            worth = sum(letter_XL[x, letter].item() for letter in letters)
            worth += sum(pair_XLL[x, i, j].item() for i, j in pairwise(letters))
            reward_XY[x, y] = worth + 0.5 * (answer[-1] == EOS_ID)
    return Toy(reward_XY, beta)


@torch.no_grad()
def answer_logprobs(model) -> Tensor:
    """log pi(y | x) of every answer, (X, Y) float64, from one forward pass a prompt. exp sums to 1 over each row."""
    rows = []
    for prompt in PROMPTS:
        start = [LETTERS.index(prompt)]
        tokens_YT, is_pad_YT = pad_right([[*start, *answer] for answer in answers()], 0)
        logits_YTV = model(input_ids=tokens_YT, attention_mask=(~is_pad_YT).long()).logits
        logprob_YS = token_logprobs(logits_YTV, tokens_YT).double()
        rows.append(logprob_YS.masked_fill(is_pad_YT[:, 1:], 0).sum(1))
    return torch.stack(rows)


@cache
def _places() -> dict[tuple[int, ...], int]:
    return {answer: y for y, answer in enumerate(answers())}


def _index_of(completion: str) -> int:
    letters = tuple(LETTERS.index(letter) for letter in completion)
    return _places()[letters if len(letters) == MAX_TOKENS else (*letters, EOS_ID)]
