"""The rows of a data set as a stage will see them: each token trained or not, roles, where answers stop, what is cut, what is unknown.

    python -m recipes.inspect runs/tiny/base answers.csv --columns '{"prompt": "question", "completion": "answer"}' --html rows.html
    python -m recipes.inspect Qwen/Qwen2.5-0.5B-Instruct chats.jsonl --on_long_rows truncate --context_length 512 --rows 20
    python -m recipes.inspect --config answers.yaml            # a stage's own settings; those that do not concern rows are passed over

The stage is guessed from the columns (`text` domain_sft, `messages` or `completion` lora_sft, `chosen` and the like dpo, `prompt` alone
ppo), or named with --stage. Rows come from the functions that the stage trains with, for any parent, with a chat template or without. A
row that the stage refuses ends the list with the stage's own error. Seconds; nothing is trained, nothing is written but the page.
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from alignment.ppo.config import PPOConfig
from eval.words import visible
from recipes.lora_sft import InstructionConfig, with_template
from recipes.run.cli import command, load_yaml, parse
from recipes.run.finetune import DataConfig, context_tokens, load_tokenizer, recorded_untrained
from sft.examples import IGNORED, RowCounts
from sft.token_view import Token, TokenView, ViewedRow
from sft.training import TrainingConfig

STAGES = ("lora_sft", "domain_sft", "reward_model", "dpo", "ppo")


@dataclass(frozen=True)
class InspectConfig:
    """The parent, the stage, and those of its settings that decide what a row is."""

    model: str  # parent checkpoint
    stage: str | None = field(default=None, metadata={"help": f"{', '.join(STAGES)}; guessed from the columns"})
    rows: int = 5  # or pairs shown, the first ones
    html: str | None = None  # file for the same as a page
    weights: bool = True  # look for untrained tokens in the parent's weights, where it has no record of them
    chat_template: str = InstructionConfig.chat_template  # lora_sft: own or plain, for a parent without one
    on_long_rows: str = InstructionConfig.on_long_rows  # lora_sft: error, drop or truncate
    context_length: int | None = None  # lora_sft, domain_sft: most tokens of a row; None: the parent's context
    packing: bool = True  # domain_sft: several documents in a row
    max_length: int | None = None  # reward_model, dpo: most tokens of prompt and answer; None: the parent's context
    cut_long_prompts: bool = False  # reward_model: the beginning of a long prompt goes, and not the pair
    max_completion_length: int = PPOConfig.max_completion_length  # ppo: tokens that a prompt leaves room for
    overlong_prompts: str = PPOConfig.overlong_prompts  # ppo: error, or skip prompts that leave no room

    def __post_init__(self) -> None:
        if self.stage not in (None, *STAGES):
            raise ValueError(f"stage is {self.stage!r}; use one of {', '.join(STAGES)}")
        if self.rows < 1:
            raise ValueError(f"rows must be at least 1, got {self.rows}")


CONFIG_TYPES = (InspectConfig, DataConfig)


def main(argv: list[str] | None = None) -> list[ViewedRow]:
    """Print the rows, and write the page; returns them."""
    config, data = parse(*CONFIG_TYPES, argv=_as_flags(list(sys.argv[1:] if argv is None else argv)))
    from recipes.run.quiet import quiet_bars

    quiet_bars()
    config = replace(config, stage=config.stage or guess_stage(data))
    view, facts = open_parent(config)
    notes: list[str] = []
    shown, problem = [], None
    row_maker = ROWS[config.stage]
    with closing(row_maker(config, data, view, notes)) as rows:
        try:
            shown.extend(islice(rows, config.rows * (2 if row_maker is pair_rows else 1)))
        except ValueError as error:
            problem = error
    page = {
        "title": f"{data.data} as {config.stage} will see it",
        "facts": facts,
        "rows": shown,
        "notes": notes,
        "problem": str(problem or ""),
    }
    print_rows(page)
    if config.html:
        from base_model.checkpoints import write_text_atomically

        write_text_atomically(Path(config.html), render(page))
        print(config.html)
    if problem:
        raise problem
    return shown


def _as_flags(arguments: list[str]) -> list[str]:
    """The command line with MODEL and DATA as flags, and a stage's config as those of its settings that are known here, in front."""
    named = []
    for flag in ("--model", "--data"):
        if arguments and not arguments[0].startswith("-"):
            named += [flag, arguments.pop(0)]
    if "--config" in arguments[:-1]:
        place = arguments.index("--config")
        _, file = arguments[place : place + 2]
        del arguments[place : place + 2]
        known = {name for kind in CONFIG_TYPES for name in kind.__dataclass_fields__}
        for name, value in load_yaml(file).items():
            if name in known and isinstance(value, bool):
                named.insert(0, f"--{name}" if value else f"--no_{name}")
            elif name in known and value is not None:
                named[:0] = [f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return [*named, *arguments]


def guess_stage(data: DataConfig) -> str:
    """The stage that reads such columns. Raises ValueError where none does."""
    from base_model.documents import read_rows

    first = next(read_rows(replace(data.source, on_bad_rows="skip"), required=()), None)
    if first is None:
        raise ValueError(f"{data.data} holds no rows")
    columns = first.fields.keys()
    if columns & {"chosen", "rejected", "ranked", "responses"}:
        return "dpo"
    if "messages" in columns or {"prompt", "completion"} <= columns:
        return "lora_sft"
    for name, stage in (("text", "domain_sft"), ("prompt", "ppo")):
        if name in columns:
            return stage
    raise ValueError(
        f"{first.location}: no stage reads the columns {', '.join(columns)}; map them with --columns, or name the --stage"
    )


def open_parent(config: InspectConfig) -> tuple[TokenView, dict[str, str]]:
    """What rows are looked at with, and what there is to say of the parent."""
    from types import SimpleNamespace

    from transformers import GenerationConfig

    from base_model.conversation import marked_template
    from base_model.stops import stop_token_ids
    from base_model.untrained import named, untrained_ids

    tokenizer, role_ids = load_tokenizer(config.model), []
    template = "the parent's" if tokenizer.chat_template else "none"
    if config.stage == "lora_sft":
        if not tokenizer.chat_template:
            template = f"the parent has none, {config.chat_template} is put on"
        asked = InstructionConfig(config.model, config.chat_template, config.on_long_rows)
        tokenizer, role_ids = with_template(tokenizer, asked)
        marked = marked_template(tokenizer)
        found = "found by rendering prefixes" if marked is None else "found by TRL's training template"
        template += f"; answers {'marked by it' if marked == tokenizer.chat_template else found}"
    try:
        listed = SimpleNamespace(generation_config=GenerationConfig.from_pretrained(config.model))
    except OSError:  # a parent need not have one
        listed = None
    stops = stop_token_ids(tokenizer, listed)
    untrained, source = recorded_untrained(config.model), "by its record"
    if untrained is None and config.weights:
        untrained, source = untrained_ids(_load(config), tokenizer), "by the look of its weights"
    facts = {"parent": config.model, "chat template": template, "stop tokens": named(stops, tokenizer)}
    if untrained is None:
        facts["never trained in it"] = "not looked for"
    else:
        untrained |= set(role_ids)
        facts["never trained in it"] = f"{named(untrained, tokenizer, 4) or 'no token'} ({source})"
    return TokenView(tokenizer, frozenset(stops), frozenset(untrained or role_ids)), facts


def _load(config: InspectConfig) -> Any:
    from reward.train import load_for_reward
    from sft.lora import load_parent

    return (load_for_reward if config.stage == "reward_model" else load_parent)(config.model)


# ---- the rows of each stage; `notes` takes what is to be said of all


def conversation_rows(
    config: InspectConfig, data: DataConfig, view: TokenView, notes: list[str]
) -> Iterator[ViewedRow]:
    """lora_sft: conversations, before they are packed."""
    from sft.examples import conversations
    from sft.packing import RowCollator

    counts = RowCounts()
    most = context_tokens(config.model, TrainingConfig(context_length=config.context_length))
    rows = conversations(data.source, view.tokenizer, counts, context_tokens=most, on_long_rows=config.on_long_rows)
    try:
        for row in rows:
            labels = RowCollator(0)([row.whole])["labels"][0].tolist()
            tokens, kept = len(labels), len(row.kept["input_ids"]) if row.kept else 0
            cut = f"{tokens - kept} of {tokens} tokens are cut: the context has {most}, and the last whole answer in it ends at {kept}"
            left_out = f"left out: {tokens} tokens, the context has {most}"
            yield view.row(
                row.location, row.whole["input_ids"], [label != IGNORED for label in labels], row.messages,
                cut=range(kept, tokens), notes=[] if kept == tokens else [cut if kept else left_out],
            )  # fmt: skip
    finally:
        rows.close()
        notes += [f"left out: {problem}" for problem in counts.first_problems]
        if counts.skipped > len(counts.first_problems):
            notes.append(f"{counts.skipped} bad rows are left out in all, up to the last row shown")


def packed_rows(config: InspectConfig, data: DataConfig, view: TokenView, notes: list[str]) -> Iterator[ViewedRow]:
    """domain_sft: rows of documents, which do not see each other. All of the text is read: that is what packing goes by."""
    from sft.domain import domain_data
    from sft.packing import RowCollator

    most = context_tokens(config.model, TrainingConfig(context_length=config.context_length))
    with tempfile.TemporaryDirectory() as folder:
        rows, counts = domain_data(
            data.source, view.tokenizer, Path(folder), context_tokens=most, packing=config.packing
        )
        counted = counts["domain"]
        notes.append(
            f"{counted.read - counted.skipped} documents are {counted.pieces} pieces of at most {most} tokens, in {len(rows)} rows"
        )
        notes += [f"left out: {problem}" for problem in counted.first_problems]
        for number, row in enumerate(rows, start=1):
            labels = RowCollator(0)([row])["labels"][0].tolist()
            lengths = row.get("seq_lengths") or [len(labels)]
            told = f"{len(lengths)} piece{'s' if len(lengths) > 1 else ''}, of {', '.join(map(str, lengths))} tokens"
            yield view.row(
                f"row {number} of {len(rows)}", row["input_ids"], [label != IGNORED for label in labels], notes=[told]
            )


def pair_rows(config: InspectConfig, data: DataConfig, view: TokenView, notes: list[str]) -> Iterator[ViewedRow]:
    """dpo and reward_model: the chosen and the rejected answer of each pair, behind their prompt.

    dpo learns on the answers' tokens; a reward model reads its score at an answer's last."""
    from alignment.dpo import preference_rows
    from recipes.reward_model import longest_row
    from reward.model import encode_answers
    from reward.preferences import read_preferences
    from reward.train import fitting_pairs

    is_dpo, counts = config.stage == "dpo", Counter()
    pairs = read_preferences(data.source, counts=counts, tokenizer=view.tokenizer)
    notes.append(", ".join(f"{count} {name}" for name, count in (+counts).items()))
    most, cut_long = longest_row(config, config), config.cut_long_prompts and not is_dpo
    fitting = fitting_pairs(view.tokenizer, pairs, most, Counter(), cut_long_prompts=cut_long)
    fits = next(fitting, None)
    for number, pair in enumerate(pairs, start=1):
        is_left_out = fits is None or fits[0] is not pair
        for side, kept in zip(("chosen", "rejected"), fits[1:] if fits else ((), ()), strict=True):
            (whole,) = encode_answers(view.tokenizer, [pair["prompt"]], [pair[side]])
            start = len(whole) - 1
            if is_left_out:
                cut, told = range(len(whole)), [f"the pair is left out: a side is longer than {most} tokens"]
            else:
                cut = range(1, 1 + len(whole) - len(kept))
                told = [f"{len(cut)} of the prompt's oldest tokens are cut, {most} fit"] if cut else []
                if is_dpo:
                    (row,) = preference_rows(view.tokenizer, [pair], most, Counter())
                    start = len(row["prompt_ids"])
            messages = [*_messages(pair["prompt"], view), {"role": "assistant", "content": pair[side]}]
            is_learnt = [place >= start for place in range(len(whole))]
            yield view.row(f"pair {number} of {len(pairs)}, {side}", whole, is_learnt, messages, cut=cut, notes=told)
        if not is_left_out:
            fits = next(fitting, None)


def prompt_rows(config: InspectConfig, data: DataConfig, view: TokenView, notes: list[str]) -> Iterator[ViewedRow]:
    """ppo: prompts; nothing of them is learnt, the answers are sampled."""
    from types import SimpleNamespace

    from transformers import AutoConfig

    from alignment.ppo.inputs import room_tokens
    from alignment.ppo.prompts import PromptSet
    from base_model.chat import render_prompt
    from recipes.ppo import read_prompts

    room = room_tokens(
        SimpleNamespace(config=AutoConfig.from_pretrained(config.model, trust_remote_code=False)), config
    )
    rows = read_prompts(data.source, view.tokenizer, config.rows)
    usable = PromptSet(rows, view.tokenizer, room_tokens=room, overlong=config.overlong_prompts, name=data.data).rows
    for number, row in enumerate(rows):
        ids = render_prompt(view.tokenizer, row["prompt"])
        left_out = [] if number in usable else [f"left out: {len(ids)} tokens, and an answer leaves room for {room}"]
        cut = range(len(ids)) if left_out else range(0)
        messages = _messages(row["prompt"], view)
        yield view.row(f"prompt {number + 1}", ids, [False] * len(ids), messages, cut=cut, notes=left_out)


ROWS = {
    "lora_sft": conversation_rows,
    "domain_sft": packed_rows,
    "dpo": pair_rows,
    "reward_model": pair_rows,
    "ppo": prompt_rows,
}


def _messages(prompt: Any, view: TokenView) -> list[dict[str, str]]:
    """A prompt as messages, text that goes in as it stands included."""
    from base_model.chat import raw_prompt

    if not isinstance(prompt, str):
        return list(prompt)
    return [{"role": "user", "content": prompt}] if view.tokenizer.chat_template else raw_prompt(prompt)


# ---- for people


def token_text(token: Token) -> str:
    """A token's text with what can't be seen made visible: data is untrusted, and may hold what steers a terminal."""
    return visible(token.text.replace("\ufdd0", "")).replace("\n", "↵\n") + "■" * token.is_stop


def state(token: Token) -> str:
    """What becomes of a token, in a word."""
    return "cut" if token.is_cut else "trained" if token.is_learnt else ""


def print_rows(page: dict[str, Any]) -> None:
    """The rows in the terminal: a line for each run of tokens of one role and state, neighbouring tokens in two shades."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shades = {"trained": ("bold green", "green"), "cut": ("dim strike", "dim strike"), "": ("default", "bright_black")}
    console = Console(highlight=False)

    def say(text: str, style: str = "") -> None:
        console.print(Text(visible(text), style=style))

    say(page["title"], "bold")
    for name, fact in page["facts"].items():
        say(f"  {name}: {fact}")
    for row in page["rows"]:
        counted = Counter(map(state, row.tokens))
        console.print()
        say(f"{row.title}: {len(row.tokens)} tokens, {counted['trained']} trained, {counted['cut']} cut", "bold")
        for note in row.notes:
            say(f"  ! {note}", "yellow")
        table = Table.grid(padding=(0, 2))
        for run in row.runs():
            text = Text(overflow="fold")
            for place, token in enumerate(run):
                special = " underline" * token.is_special
                style = "bold white on red" if token.is_untrained else shades[state(token)][place % 2]
                text.append(token_text(token), style + special)
            if text.plain.endswith("\n"):  # "↵" says it
                text.right_crop(1)
            table.add_row(
                Text(f"  {visible(run[0].role)}", "cyan"), Text(state(run[0]), shades[state(run[0])][0]), text
            )
        console.print(table)
    console.print()
    for note in page["notes"]:
        say(note, "yellow")
    say("trained: green; control tokens: underlined; never trained in the parent: red; ■ an answer stops")


def render(page: dict[str, Any]) -> str:
    """The same as a page on its own: everything escaped, no script."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "state": state, "token_text": token_text}
    return environment.get_template("inspect.html").render(page)


if __name__ == "__main__":
    command(main)
