"""The town's animal clinic: its rules (a finding has one treatment, dosed by weight) and the notes written there.

Domain text: words, abbreviations and rules that the general text does not have. Abbreviations: Pt patient, O owner, wt weight, Hx history,
Ex examination, T temperature (degrees C), HR heart rate, Dx diagnosis, Rx treatment, PO by mouth, SC under the skin, TOP on the skin,
SID/BID/TID once/twice/three times a day, d days, Rv review, NAD nothing abnormal detected.
"""
# ruff: noqa: E501 - a sentence stays on its line

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

from recipes.tinytown import english, lexicon
from recipes.tinytown.breadth import FULL, Breadth
from recipes.tinytown.telling import COUNTED, Scene
from recipes.tinytown.world import Person, the_town


@dataclass(frozen=True)
class Condition:
    """What the clinic knows about an illness. The dose is dose_mg_per_kg times the weight, given `frequency` for `days`."""

    name: str
    signs: tuple[str, ...]  # what the owner sees: "has been scratching its ears"
    finding: str  # what the examination shows
    drug: str
    dose_mg_per_kg: int
    route: str  # PO, SC or TOP
    frequency: str  # SID, BID or TID
    days: int
    advice: str  # imperative, without a full stop
    review_days: int
    species: tuple[str, ...]


MAMMALS = ("dog", "cat", "rabbit", "goat", "pony", "hamster")
BIRDS = ("hen", "goose", "parrot")
ALL = (*MAMMALS, *BIRDS, "tortoise")
CONDITIONS = tuple(
    Condition(*fields)
    for fields in (
        ("ear mites", ("scratches at its ears", "shakes its head", "holds one ear low"), "dark wax in both ears", "Otarin", 2, "TOP", "BID", 7, "clean the ears before each dose", 14, ("dog", "cat", "rabbit", "goat")),
        ("ringworm", ("has a round bald patch", "loses hair in rings", "licks one spot on its skin"), "a scaly circle on the skin", "Fungiden", 5, "PO", "SID", 21, "wash all bedding in hot water", 21, ("dog", "cat", "rabbit", "pony", "goat", "hamster")),
        ("colic", ("rolls on the ground", "kicks at its belly", "refuses hay"), "a tight, swollen belly", "Spasmol", 3, "SC", "SID", 2, "walk it slowly every hour", 1, ("pony", "goat")),
        ("bumblefoot", ("limps on one foot", "sits all day", "will not perch"), "a black scab under the foot", "Pedicil", 8, "PO", "BID", 10, "bathe the foot in salt water", 7, BIRDS),
        ("soft shell", ("has a shell that bends", "walks with its belly on the ground", "hardly eats"), "a soft rim of the shell", "Calcinal", 10, "PO", "SID", 30, "keep the heat lamp on by day", 30, ("tortoise",)),
        ("kennel cough", ("coughs like a goose", "gags after a walk", "coughs at night"), "a sore, red throat", "Bronchin", 6, "PO", "BID", 8, "keep it away from other animals", 8, ("dog", "cat")),
        ("snuffles", ("sneezes all day", "has a wet nose and wet front paws", "breathes with a noise"), "a thick white discharge from the nose", "Nasolin", 4, "PO", "BID", 12, "keep the hutch free of dust", 10, ("rabbit", "hamster")),
        ("overgrown teeth", ("drops its food", "dribbles from the mouth", "eats on one side only"), "front teeth that are far too long", "Dentarel", 1, "PO", "SID", 3, "give it hay and twigs to gnaw", 28, ("rabbit", "hamster", "pony")),
        ("foot rot", ("kneels to graze", "limps in wet weather", "lifts one hoof"), "a grey, smelly hoof", "Hoofazol", 7, "TOP", "BID", 5, "keep it on dry ground", 5, ("goat", "pony")),
        ("worms", ("eats a lot and stays thin", "has a dull coat", "has a round belly"), "eggs of worms in the dung", "Vermitex", 5, "PO", "SID", 3, "clear the dung away every day", 14, MAMMALS),
        ("gapes", ("gapes and stretches its neck", "coughs with an open beak", "wheezes"), "red worms in the windpipe", "Trachenol", 9, "PO", "SID", 5, "move the birds to fresh ground", 10, BIRDS),
        ("conjunctivitis", ("keeps one eye shut", "has a weeping eye", "rubs its face"), "a red, swollen eyelid", "Oculine", 1, "TOP", "TID", 6, "wipe the eye with boiled water", 6, ALL),
        ("sprain", ("limps after a jump", "will not put one leg down", "whines when lifted"), "a warm, swollen joint", "Dolofen", 2, "PO", "BID", 4, "give it rest and keep it off the stairs", 7, ("dog", "cat", "goat", "pony", "rabbit")),
        ("heat stroke", ("pants without stopping", "lies flat in the sun", "staggers"), "a very high temperature", "Coolex", 3, "SC", "SID", 1, "keep it in the shade with water", 2, ("dog", "rabbit", "hen", "goose")),
        ("bite wound", ("bleeds from the leg", "hides and licks its side", "yelps when touched"), "two small deep holes in the skin", "Woundil", 12, "PO", "BID", 7, "keep the wound clean and dry", 5, ("dog", "cat", "goat", "goose", "hen", "rabbit")),
        ("feather lice", ("pulls out its feathers", "scratches under its wings", "has ragged feathers"), "tiny grey lice at the quills", "Plumadust", 4, "TOP", "SID", 10, "dust the whole coop", 12, BIRDS),
        ("upset stomach", ("has been sick since morning", "eats grass", "has loose droppings"), "a tender belly", "Gastrel", 2, "PO", "TID", 3, "feed only boiled rice for a day", 3, ("dog", "cat", "parrot")),
        ("cystitis", ("strains to pass water", "passes only drops", "wets its bed"), "blood in the urine", "Urisol", 6, "PO", "BID", 9, "leave plenty of fresh water out", 9, ("dog", "cat", "rabbit", "hamster")),
        ("mange", ("scratches until it bleeds", "has crusts on its elbows", "has lost hair on its face"), "mites in the skin scraping", "Scabidol", 3, "SC", "SID", 14, "burn the old bedding", 14, ("dog", "goat", "cat", "hamster")),
        ("milk fever", ("trembles after giving birth", "cannot stand up", "has cold ears"), "a slow, weak pulse", "Calcivex", 20, "SC", "SID", 2, "keep it warm and milk it gently", 1, ("goat", "dog", "cat")),
        ("egg binding", ("strains on the nest", "stands like a penguin", "has not laid for days"), "an egg stuck low in the belly", "Oviease", 5, "SC", "BID", 2, "give it a warm bath", 1, BIRDS),
        ("shell rot", ("smells bad", "has a pitted shell", "flakes at the edges"), "a wet white pit in the shell", "Testudine", 8, "TOP", "BID", 20, "let the shell dry in the sun", 15, ("tortoise",)),
        ("fleas", ("nibbles at its tail", "scratches at night", "jumps up from its sleep"), "black specks in the coat", "Fleaban", 2, "TOP", "SID", 2, "beat the rugs and wash the basket", 28, ("dog", "cat", "rabbit")),
        ("laminitis", ("stands with its weight on its heels", "will not turn", "lies down too much"), "hot front hooves", "Lamifen", 4, "PO", "BID", 10, "take it off the rich grass", 7, ("pony", "goat")),
    )
)  # fmt: skip
BY_NAME = {condition.name: condition for condition in CONDITIONS}
WEIGHT_RANGE_KG = {
    "dog": (6, 38), "cat": (3, 7), "rabbit": (2, 5), "goat": (30, 60), "hen": (2, 4), "pony": (120, 250), "parrot": (1, 2),
    "tortoise": (2, 9), "hamster": (1, 1), "goose": (4, 8),
}  # fmt: skip
TEMPERATURE_C = {
    "dog": 38.5, "cat": 38.6, "rabbit": 39.0, "goat": 39.2, "hen": 41.2, "pony": 37.8, "parrot": 41.0, "tortoise": 28.0, "hamster": 37.4,
    "goose": 41.3,
}  # fmt: skip
HEART_RATE = {
    "dog": 95, "cat": 150, "rabbit": 200, "goat": 80, "hen": 250, "pony": 40, "parrot": 200, "tortoise": 30, "hamster": 350, "goose": 130,
}  # fmt: skip
FREQUENCY_WORDS = {"SID": "once a day", "BID": "twice a day", "TID": "three times a day"}
ROUTE_WORDS = {"PO": "by mouth", "SC": "under the skin", "TOP": "on the skin"}


def is_held_out_case(species: str, condition: str) -> bool:
    """Whether this (species, condition) pair is kept for the held-out sets: one species of each illness that several can have."""
    sufferers = BY_NAME[condition].species
    return len(sufferers) > 1 and species == sufferers[len(condition) % len(sufferers)]


@cache
def cases(is_held_out: bool, breadth: Breadth = FULL) -> tuple[tuple[str, Condition], ...]:
    """All (species, condition) pairs that occur, of the training or of the held-out side."""
    conditions = breadth.some(CONDITIONS)
    return tuple((s, c) for c in conditions for s in c.species if is_held_out_case(s, c.name) == is_held_out)


@dataclass(frozen=True)
class Case:
    """One visit: a patient, what was seen, and what follows from the rules."""

    patient: str
    species: str
    owner: Person
    weight_kg: int
    age_years: int
    sex: str  # F or M
    condition: Condition
    signs: tuple[str, str]
    since_days: int
    temperature_c: float
    heart_rate: int

    @property
    def dose_mg(self) -> int:
        return self.condition.dose_mg_per_kg * self.weight_kg


def draw_case(rng: Random, scene: Scene) -> Case:
    """Draw a case of the scene's side (training or held out); the owner is cast as "o"."""
    species, condition = rng.choice(cases(scene.is_held_out, scene.breadth))
    low, high = WEIGHT_RANGE_KG[species]
    return Case(
        patient=rng.choice(scene.breadth.some(lexicon.ANIMAL_NAMES)),
        species=species,
        owner=scene.person("o"),
        weight_kg=rng.randint(low, low + scene.breadth.count(high - low + 1) - 1),
        age_years=rng.randint(1, 12),
        sex=rng.choice("FM"),
        condition=condition,
        signs=tuple(rng.sample(condition.signs, 2)),
        since_days=rng.randint(1, 9),
        temperature_c=round(TEMPERATURE_C[species] + rng.choice((-0.2, 0.0, 0.1, 0.3, 0.6, 0.9)), 1),
        heart_rate=HEART_RATE[species] + rng.randint(-5, 12),
    )


def cast_case(scene: Scene, case: Case) -> None:
    """Put the case's facts into the scene's cast and world."""
    c = case.condition
    scene.cast |= {
        "pt": case.patient, "species": case.species, "wt": case.weight_kg, "age": case.age_years, "sex": case.sex, "dx": c.name,
        "sign": case.signs[0], "sign2": case.signs[1], "finding": c.finding, "drug": c.drug, "rate": c.dose_mg_per_kg, "dose": case.dose_mg,
        "route": c.route, "freq": c.frequency, "days": c.days,
        "days_words": f"{c.days} day" if c.days == 1 else f"{c.days} days",
        "rv_words": f"{c.review_days} day" if c.review_days == 1 else f"{c.review_days} days", "advice": c.advice, "rv": c.review_days, "since": case.since_days,
        "temp": case.temperature_c, "hr": case.heart_rate, "route_words": ROUTE_WORDS[c.route], "freq_words": FREQUENCY_WORDS[c.frequency],
        "since_words": "yesterday" if case.since_days == 1 else f"{english.number_word(case.since_days)} days",
        "yo": f"{case.age_years} y/o",
    }  # fmt: skip
    scene.world.apply("case", case.patient, case.species, case.owner.name, c.name, str(case.weight_kg))


def named(condition: str) -> str:
    """The condition as one has it: "a sprain", "worms"."""
    return english.with_article(condition) if condition in COUNTED else condition


def short_note(s: Scene) -> None:
    """The note in the clinic's abbreviations."""
    cast_case(s, draw_case(s.rng, s))
    tell_short_note(s)


def tell_short_note(s: Scene) -> None:
    """Tell the case that is cast as a note in abbreviations, a brief one without what follows the visit."""
    s.line(
        "Pt: {pt}, {species}, {sex}, {yo}, wt {wt} kg. O: {o.name}.",
        "{pt} ({species}, {sex}, {age} y), {wt} kg, O {o.name}.",
        "O: {o.name}. Pt: {pt}, {species}, {wt} kg, {yo}, {sex}.",
    )
    s.line(
        "Hx: {sign}, {since} d; and {sign2}.",
        "Hx: {since} d. {sign.cap}; also {sign2}.",
        "Hx: O reports that {pt} {sign} and {sign2}; {since} d.",
    )
    s.line(
        "Ex: T {temp}, HR {hr}. {finding.cap}.",
        "Ex: {finding}. T {temp}, HR {hr}, rest NAD.",
        "Ex: HR {hr}, T {temp}, {finding}, else NAD.",
    )
    s.line("Dx: {dx}.")
    s.line(
        "Rx: {drug} {rate} mg/kg = {dose} mg {route} {freq} {days} d.",
        "Rx: {drug} {dose} mg ({rate} mg/kg) {route} {freq} for {days} d.",
    )
    if not s.is_brief:
        s.line(
            "{o.name} is to {advice}. Rv with {pt} in {rv} d.",
            "Rv {pt} {rv} d; told {o.name} to {advice}.",
            "Plan for {pt}: {advice}, and Rv in {rv} d.",
        )


def prose_note(s: Scene) -> None:
    """The same told in sentences."""
    cast_case(s, draw_case(s.rng, s))
    s.say(
        "{o.name} brought in {pt}, a {species} of {wt} kg.",
        "{pt}, a {wt} kg {species}, came to the clinic with {o.name}.",
        "{o.name} came with {pt}, a {species} that weighs {wt} kg.",
    )
    s.say(
        "{pt} {sign}, and for some days it also {sign2}.",
        "According to {o.name}, {pt} {sign}. It also {sign2}.",
        "{o.name} says that {pt} {sign} and {sign2}.",
    )
    s.say(
        "On examination, {pt} had {finding}.",
        "In {pt} we found {finding}.",
        "The examination of {pt} showed {finding}.",
    )
    s.say("This is {dx.a}.", "The diagnosis is {dx.a}.", "That means {dx.a}.")
    s.say(
        "For {dx.a}, {species.plural} get {drug} at {rate} mg per kg, so {pt} gets {dose} mg {route_words} {freq_words} for {days_words}[| in all].",
        "We gave {pt} {drug}: {rate} mg per kg, which makes {dose} mg, {route_words}, {freq_words}, for {days_words}.",
    )
    s.say("{o.name} was asked to {advice}.", "We told {o.name} to {advice}.")
    s.say(
        "We will see {pt} again in {rv_words}.",
        "Review of {pt} is in {rv_words}.",
        "The next visit of {pt} is in {rv_words}.",
    )


def rule_sheet(s: Scene) -> None:
    """What the clinic's book says about one condition in one species."""
    cast_case(s, draw_case(s.rng, s))
    s.line("{dx.cap} in the {species}", "Clinic book: {dx} ({species})")
    s.line(
        "A {species} with {dx.a} often {sign} or {sign2}.",
        "Think of {dx} when a {species} {sign}. Often it {sign2} as well.",
        "The owner will say that the {species} {sign}.",
    )
    s.say("Look for {finding}.", "The sign to look for is {finding}.", "On examination you will find {finding}.")
    s.say(
        "In a {species}, the drug of choice is {drug}, {rate} mg/kg {route}. The {species} gets it {freq} for {days} d.",
        "Give the {species} {drug} {rate} mg/kg {route} {freq}; a {species} needs it for {days} d.",
    )
    s.say("A {species} of {wt} kg needs {dose} mg.", "For a {species} of {wt} kg that makes {dose} mg.")
    s.say("Tell the owner to {advice}.", "The owner of the {species} should {advice}.")
    s.say(
        "See the {species} again after {rv} d, as we did with {pt} of {o.name}.",
        "Rv after {rv} d. Last seen in {pt}, the {species} of {o.name}.",
    )


def letter_home(s: Scene) -> None:
    """What the owner takes home."""
    cast_case(s, draw_case(s.rng, s))
    s.line("Dear {o.name},")
    s.line(
        "{pt} has {dx.a}.",
        "We saw {pt} today, and it is {dx.a}.",
        "Your {species} {pt} was with us today. It has {dx.a}.",
    )
    s.say("We found {finding}.", "That is why it {sign}.", "This explains why {pt} {sign}.")
    s.say(
        "Please give {pt} {dose} mg of {drug} {route_words}, {freq_words}. {pt} needs it for {days_words}.",
        "The medicine for {pt} is {drug}: {dose} mg {route_words}. Do this {freq_words}, {o.name}, for {days_words}.",
    )
    s.say("That is right for {pt} with its {wt} kg.", "We worked it out for {pt} and its {wt} kg, at {rate} mg per kg.")
    s.say("Also, please {advice}.", "It will help {pt} if you {advice}.")
    s.say("Come back in {rv_words}.", "We would like to see {pt} in {rv_words}.")
    s.line("Your animal clinic", "The clinic team", "With best wishes from the clinic")


def phone_log(s: Scene) -> None:
    """A call, as question and answer."""
    cast_case(s, draw_case(s.rng, s))
    s.line("Call from {o.name} about {pt} ({species}, {wt} kg).", "Phone: {o.name}, {species} {pt}, {wt} kg.")
    s.line('"{pt} {sign}," said {o.name}. "And it {sign2}."', "{o.name} says that {pt} {sign}, {since} d.")
    s.line(
        '"Did you see {finding} in {pt}?" we asked, and {o.name} said yes.',
        "Asked O to look; {o.name} found {finding} in the {species}.",
    )
    s.line(
        "Likely {dx}. Start {pt} on {drug} {dose} mg ({rate} mg/kg x {wt} kg) {route} {freq}.",
        "Sounds like {dx}. {drug} {rate} mg/kg, so {dose} mg {route} {freq} {days} d for {pt}.",
    )
    s.line("Told {o.name} to {advice}; Rv {rv} d.", "{o.name} will {advice}. Rv {rv} d.")


def follow_up(s: Scene) -> None:
    """The review visit: how the treatment went, and what follows from it."""
    cast_case(s, draw_case(s.rng, s))
    s.cast["given"] = s.pick(("every dose", "all doses but one", "the full course"))
    s.line("Rv: {pt}, {species}, {wt} kg, O {o.name}.", "{o.name} is back with {pt} ({species}, {wt} kg) after {rv} d.")
    s.line(
        "{pt} was seen {rv} d ago with {finding}; Dx for the {species}: {dx}; on {drug} {dose} mg {freq}.",
        "{pt} had {dx.a} and was given {drug} {dose} mg ({rate} mg/kg) {route} {freq}.",
    )
    if s.chance(0.7):
        s.line(
            "O gave {given}. {pt} is well again, T {temp}, HR {hr}.",
            "{o.name} gave {given}, and {pt} eats and sleeps well. T {temp}.",
        )
        s.line(
            "Ex: NAD. No further Rx.",
            "Ex: no more {finding.bare}. {drug} can stop.",
            "Nothing left to see. {pt} is discharged.",
        )
    else:
        s.line("{pt} still {sign}. {o.name} gave {given}.", "Ex: still {finding}. T {temp}, HR {hr}. O gave {given}.")
        s.line(
            "{drug} {dose} mg {freq} for {days} d more. Rv {rv} d.",
            "Repeat {drug} {rate} mg/kg = {dose} mg {route} {freq} {days} d for {pt}.",
        )
    s.line("{o.name} to keep on as before: {advice}.", "Reminded {o.name} to {advice}.")


def handover(s: Scene) -> None:
    """Two colleagues, one patient."""
    cast_case(s, draw_case(s.rng, s))
    s.cast["vet"] = next(p for p in the_town() if p.job == "vet")
    s.cast["n"] = next(p for p in the_town() if p.job == "nurse")
    s.line('"What have we got?" asked {vet.name}, the vet.', '"Who is in the waiting room?" asked {vet.name}.')
    s.line(
        '"{pt}, a {species} of {wt} kg," said {n.name}. "It {sign} and {sign2}."',
        '"{o.name} with {pt}, a {wt} kg {species} that {sign}," said {n.name}.',
    )
    s.line(
        '{vet.name} [took|had] a look at {pt}. "I see {finding}. That is {dx.a}, {n.name}."',
        '"Look, {finding}," said {vet.name}. "So {pt} has {dx.a}."',
    )
    s.line('"Which drug for {pt}?"', '"And the treatment?" asked {n.name}.')
    s.line(
        '"{drug}, {rate} mg per kg. How much is that for {wt} kg?"',
        '"{drug} at {rate} mg per kg, {freq_words}. And for {pt}?"',
    )
    s.line(
        '"{dose} mg {route_words}," said {n.name}. "For {days_words}."',
        '"That makes {dose} mg," said {n.name}, and wrote down {days_words}.',
    )
    s.line(
        '"Right. And tell {o.name} to {advice}."',
        '"Good. {o.name} must {advice}," said {vet.name}. "Back in {rv_words}."',
    )


CLINIC_SHAPES = {
    shape.__name__: shape for shape in (short_note, prose_note, rule_sheet, letter_home, phone_log, follow_up, handover)
}
