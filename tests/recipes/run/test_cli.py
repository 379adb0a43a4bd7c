import ctypes
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest

from recipes.run.cli import expand_environment, field_comments, load_yaml, parse


@dataclass(frozen=True)
class Base:
    data: str  # where the rows are
    # A heading, which is nobody's comment
    margin: float = 0.5  # of 100 %
    seed: int = 1


@dataclass(frozen=True)
class Longer(Base):
    margin: float = (
        0.25  # of the
        + 0.0  # whole
    )
    packing: bool = True  # several in a row
    told: str = field(default="a # b", metadata={"help": "the field's own help"})  # not this


@dataclass(frozen=True)
class Settings:
    kl_coef: float = 0.05
    names: list[str] = field(default_factory=list)
    resume: bool = False
    from_stage: str | None = field(default=None, metadata={"aliases": ["--from"]})


def written(tmp_path, text):
    path = tmp_path / "ppo.yaml"
    path.write_text(text)
    return str(path)


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    path = written(tmp_path, "kl_coef: 1e-2\nnames: [a, b]\n")
    (settings,) = parse(Settings, argv=["--config", path, "--resume"])
    assert settings == Settings(kl_coef=0.01, names=["a", "b"], resume=True)
    (settings,) = parse(Settings, argv=[f"--config={path}", "--kl_coef", "0.1"])
    assert settings.kl_coef == 0.1
    assert parse(Settings, argv=["--from", "ppo"])[0].from_stage == "ppo"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kl_coef: [0.1, 0.2]", r"ppo.yaml: kl_coef must be one value, found a list: \[0.1, 0.2\]"),
        ("from_stage: [a]", "from_stage must be one value, found a list"),
        ("from_stage: {a: b}", "from_stage must be one value, found key: value lines"),
        ("names: {a: b}", "names must be a list, found key: value lines"),
    ],
)
def test_a_list_where_one_value_stands_is_named(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        parse(Settings, argv=["--config", written(tmp_path, text)])


def test_help_shows_the_comment_beside_each_field_and_its_default(capsys):
    with pytest.raises(SystemExit):
        parse(Longer, argv=["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--data DATA where the rows are (required)" in shown
    assert "--margin MARGIN of the whole (default: 0.25)" in shown  # the child's, not its parent's
    assert "--seed SEED (default: 1)" in shown
    assert "--packing [PACKING] several in a row (default: True)" in shown
    assert "--no_packing, --no-packing not --packing" in shown
    assert "--told TOLD the field's own help (default: a # b)" in shown
    with pytest.raises(SystemExit):
        parse(Base, argv=["-h"])
    assert "of 100 % (default: 0.5)" in " ".join(capsys.readouterr().out.split())
    assert field_comments(Base) == {"data": "where the rows are", "margin": "of 100 %"}


@pytest.mark.parametrize("recipe", ["domain_sft", "lora_sft", "reward_model", "preferences", "evaluation", "pipeline"])
def test_help_needs_no_torch_and_explains_every_option(recipe):
    module = "recipes.pipeline.__main__" if recipe == "pipeline" else f"recipes.{recipe}"
    script = f"""if True:
        import sys
        from {module} import main
        try:
            main(["--help"])
        except SystemExit:
            print("imported:", sorted({{"torch", "transformers", "datasets", "peft"}} & set(sys.modules)))
    """
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
    assert shown.endswith("imported: []\n")
    options = re.split(r"\n  (?=-)", shown.split("\noptions:")[1])[2:]
    assert len(options) > 4
    assert all("(default:" in option or "(required)" in option or "not --" in option for option in options[:-1])


def test_an_unknown_key_names_the_file_and_the_nearest_key(tmp_path):
    with pytest.raises(ValueError, match=r"unknown key 'kl_coeff' in .*ppo.yaml; did you mean 'kl_coef'\?"):
        parse(Settings, argv=["--config", written(tmp_path, "kl_coeff: 1")])
    with pytest.raises(ValueError, match=r"unknown key 'resumed' in the command line; did you mean 'resume'\?"):
        parse(Settings, argv=["--resumed"])


def test_broken_yaml_names_file_and_line(tmp_path):
    with pytest.raises(ValueError, match=r"ppo.yaml, line 2: not valid YAML"):
        load_yaml(written(tmp_path, "a: 1\nb: [1, }\n"))
    with pytest.raises(ValueError, match="must hold 'key: value' lines, found list"):
        load_yaml(written(tmp_path, "- a\n"))
    with pytest.raises(FileNotFoundError, match="there is no config file"):
        load_yaml(tmp_path / "absent.yaml")


def test_environment_variables_expand_at_any_depth_and_a_missing_one_is_named(monkeypatch):
    monkeypatch.setenv("PLUMB_TEST", "x")
    assert expand_environment({"a": ["${PLUMB_TEST}/b", 3]}, "f") == {"a": ["x/b", 3]}
    with pytest.raises(ValueError, match=r"f uses \$\{PLUMB_ABSENT\}, which is not set"):
        expand_environment("${PLUMB_ABSENT}/b", "f")


@pytest.mark.parametrize(
    "body, code, said",
    [
        ("raise ValueError('row 3\\nis empty')", 1, "error: row 3 is empty\n"),
        ("raise FileNotFoundError('there is no a.txt')", 1, "error: there is no a.txt\n"),
        ("raise KeyboardInterrupt", 130, "stopped by Ctrl-C"),
    ],
)
def test_a_persons_mistake_is_one_line_and_no_traceback(body, code, said):
    script = f"from recipes.run.cli import command\ndef main():\n    {body}\ncommand(main)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == code
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1


TERMINATED = """
import multiprocessing, time
from recipes.run.cli import command

def main():
    with multiprocessing.get_context("fork").Pool(2) as pool:  # ends its workers by SIGTERM
        print(sum(pool.imap_unordered(abs, range(-9, 0))), flush=True)
    time.sleep(60)

command(main)
"""


def test_sigterm_is_one_line_and_ends_the_workers_of_a_pool_at_once():
    process = subprocess.Popen(
        [sys.executable, "-c", TERMINATED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "45\n"
    time.sleep(1)  # the pool is closed by now
    process.terminate()
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 143
    assert stderr.startswith("stopped by SIGTERM") and stderr.count("\n") == 1


def test_a_programming_error_still_shows_its_traceback():
    script = "from recipes.run.cli import command\ncommand(lambda: {}['x'])"
    assert "KeyError" in subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stderr


ALLOCATOR = """
import ctypes, os, sys
from recipes.run.cli import command

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

def main():
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype, libc.malloc.restype, libc.free.argtypes = Info, ctypes.c_void_p, [ctypes.c_void_p]
    libc.mallopt(-4, 0), libc.mallopt(-1, 2**31 - 1)  # as keep_freed_memory: all in the heap, nothing handed back
    for _ in range(50_000):
        libc.malloc(616)  # no gap is left for those that follow: they lie between the large ones
    blocks = [libc.malloc(size) for _ in range(4) for size in (2**24, 616)]
    for block in blocks:
        libc.free(block)
    print(os.environ["GLIBC_TUNABLES"], sys.argv[1:], libc.mallinfo2().keepcost // 2**24)

command(main)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="mallinfo2 is glibc's, from 2.33 on")
def test_small_blocks_do_not_keep_the_heap_in_pieces():
    """Four blocks of 16 MiB, small ones between, all freed: one free block of 64 MiB again, if no list holds the small ones."""

    def run(tunables: dict[str, str]) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"} | tunables
        done = subprocess.run([sys.executable, "-c", ALLOCATOR, "x"], capture_output=True, text=True, env=environment)
        return done.stdout.strip() or done.stderr

    assert run({}) == "glibc.malloc.tcache_count=0 ['x'] 4"
    more = "glibc.malloc.mxfast=64"
    assert run({"GLIBC_TUNABLES": more}) == f"{more}:glibc.malloc.tcache_count=0 ['x'] 4"
    own = "glibc.malloc.tcache_count=7"  # a person's own setting stays, and shows what it costs
    assert run({"GLIBC_TUNABLES": own}) == f"{own} ['x'] 0"


WAITING = """
import ctypes, glob, importlib.util
from recipes.run.cli import command

def main():
    (folder,) = importlib.util.find_spec("torch").submodule_search_locations
    ctypes.CDLL(glob.glob(folder + "/lib/libgomp*")[0])

command(main)
"""


def test_openmps_threads_sleep_while_they_wait_unless_a_person_says_otherwise():
    """What torch's own OpenMP says of its settings as it is loaded."""

    def wait_policy(**own: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | own
        environment["OMP_DISPLAY_ENV"] = "TRUE"
        done = subprocess.run([sys.executable, "-c", WAITING], capture_output=True, text=True, env=environment)
        return next(line.split("'")[1] for line in done.stderr.splitlines() if "OMP_WAIT_POLICY" in line)

    assert wait_policy() == "PASSIVE"
    assert wait_policy(OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"
