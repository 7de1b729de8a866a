"""What a model is asked for by name: its own classes, however they are spelled, and words that no training named.

Two names are one class where the common vocabulary says so: 'Liver' and 'hepar', 'kidney_left' and 'LEFT kidney'.
A model of open vocabulary may be asked for anything. New words get the label values after the model's own, in
alphabetical order, so that the order in which they are given changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from medmoe_cli.core.base.errors import ConfigError, MedMoEError, raise_all
from medmoe_cli.core.base.suggest import did_you_mean, nearest
from medmoe_cli.core.config.plan import Plan
from medmoe_cli.core.data.prompts_file import PromptEntry, PromptsFile
from medmoe_cli.core.data.vocabulary import key_of
from medmoe_cli.core.workflows.model_files.loaded_model import LoadedModel

# Two letters exchanged in a word of five ('livre') are a slip; 'right kidney' is no slip of 'left kidney'.
_SLIP = 0.8
_LONGEST = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class NewConcept:
    """Something that no training of the model named.

    Attributes:
        name: of its label.
        words: that the model is asked for.
        near: a class that may have been meant, when they look like a slip of the pen.
    """

    name: str
    words: str
    near: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Models that know what they will be asked for.

    Attributes:
        models: with labels for what is new.
        prompts: the prompts file in the models' own names for their classes; None without one.
        new: what no training named, in the order of its label values.
        synonyms: other new words for labels, which a prompts file gives; asked for after the labels' own.
    """

    models: tuple[LoadedModel, ...]
    prompts: PromptsFile | None
    new: tuple[NewConcept, ...] = ()
    synonyms: tuple[str, ...] = ()

    @property
    def warning(self) -> str | None:
        """One line on what is new, with its values in the masks."""
        if not self.new and not self.synonyms:
            return None
        values = self.models[0].plan.file_names
        parts = []
        for one in self.new:
            hint = f"; did you mean '{one.near}'?" if one.near else ""
            parts.append(f"'{one.words}' (label value {values[one.name]}{hint})")
        parts += [f"'{words}'" for words in self.synonyms]
        return f"not a class this model was trained on: {', '.join(parts)}"


def class_of(text: str, plan: Plan) -> str | None:
    """The class that a text names, by its name or its words, however they are spelled; None where none or several."""
    if text in plan.labels:
        return text
    exact = [name for name, own in _words(plan).items() if own == text]
    alike = exact or _alike(text, plan)
    return alike[0] if exact or len(alike) == 1 else None


def asked_for(models: Sequence[LoadedModel], *, texts: Sequence[str], prompts: PromptsFile | None) -> Asked:
    """Make what is asked for by name askable.

    Args:
        models: asked together; the first one's words for the classes hold.
        texts: of `--text`.
        prompts: a prompts file, which may hold texts.

    Returns:
        The models as they are where nothing is new, or where not all of them take any words: what they do not know
        is refused where it is asked.

    Raises:
        ConfigError: words that cannot name a label, or new ones that only some of the models take.
    """
    plan = models[0].plan
    entries = () if prompts is None else tuple(entry for case in prompts.cases.values() for entry in case)
    wanted = [(None, text) for text in texts] + [(entry.label, entry.text) for entry in entries if entry.text]
    unknown = [(label, text) for label, text in wanted if class_of(text, plan) is None]
    if not unknown or not any(model.segmenter.open_vocabulary for model in models):
        return Asked(models=tuple(models), prompts=_in_own_names(prompts, plan))
    raise_all([problem for _, text in unknown for problem in _problems(text, models)])
    new, synonyms = _concepts(unknown, plan)
    opened = tuple(_with(model, new, synonyms) for model in models)
    return Asked(models=opened, prompts=_in_own_names(prompts, opened[0].plan), new=new, synonyms=synonyms)


def _words(plan: Plan) -> dict[str, str]:
    return {name: plan.class_prompts.get(name, name) for name in plan.labels}


def _alike(text: str, plan: Plan) -> list[str]:
    """The classes whose name or words are this text in another spelling."""
    key = key_of(text)
    return [name for name, own in _words(plan).items() if key in (key_of(name), key_of(own))]


def _in_own_names(prompts: PromptsFile | None, plan: Plan) -> PromptsFile | None:
    """Labels and texts that are classes in another spelling become the classes' names."""
    if prompts is None:
        return None

    def own(text: str | None) -> str | None:
        return None if text is None else class_of(text, plan) or _tidy(text)

    def renamed(entry: PromptEntry) -> PromptEntry:
        return entry.model_copy(update={"label": own(entry.label), "text": own(entry.text)})

    return prompts.model_copy(
        update={"cases": {case: tuple(map(renamed, entries)) for case, entries in prompts.cases.items()}}
    )


def _concepts(unknown: Iterable[tuple[str | None, str]], plan: Plan) -> tuple[tuple[NewConcept, ...], tuple[str, ...]]:
    """New labels with their words, and new words for labels that have some."""
    by_words: dict[str, tuple[str | None, str]] = {}
    for label, text in sorted(unknown, key=lambda pair: (pair[1].casefold(), pair[1], pair[0] or "")):
        by_words.setdefault(key_of(text), (label, _tidy(text)))
    known = {key_of(name): name for name in plan.labels}
    new: dict[str, NewConcept] = {}
    synonyms = []
    for label, words in by_words.values():
        name = label or words
        if key_of(name) in known or key_of(name) in new:
            synonyms.append(words)
        else:
            new[key_of(name)] = NewConcept(name=name, words=words, near=_near(words, plan))
    return tuple(new.values()), tuple(synonyms)


def _with(model: LoadedModel, new: Sequence[NewConcept], synonyms: Sequence[str]) -> LoadedModel:
    plan = model.plan
    labels, file_labels = dict(plan.labels), dict(plan.file_names)
    for one in new:
        labels[one.name] = _next(labels)
        file_labels[one.name] = _next(file_labels)
    words = {**plan.class_prompts, **{one.name: one.words for one in new}}
    changes = {"labels": labels, "file_labels": file_labels, "class_prompts": words}
    opened = plan.model_copy(update=changes)
    model.segmenter.concepts((*(one.words for one in new), *synonyms))
    return replace(model, plan=opened, class_names=opened.class_names)


def _next(values: Mapping[str, int]) -> int:
    return max(values.values(), default=0) + 1


def _near(words: str, plan: Plan) -> str | None:
    names = {key_of(own): name for name, words_of in _words(plan).items() for own in (name, words_of)}
    close = nearest(key_of(words), names, cutoff=_SLIP)
    return None if close is None else names[close]


def _problems(text: str, models: Sequence[LoadedModel]) -> list[MedMoEError]:
    words = _tidy(text)
    if not key_of(words) or key_of(words) == "background":
        return [ConfigError(f"nothing to look for: '{words}'", where="--text", fix="name a structure")]
    if len(words) > _LONGEST or not words.isprintable() or set(words) & set("/\\"):
        why = f"a label's name has no slashes and at most {_LONGEST} letters"
        return [
            ConfigError(f"cannot name a label '{words[:_LONGEST]}'", where="--text", why=why, fix="use other words")
        ]
    alike = _alike(words, models[0].plan)
    if alike:
        means = " and ".join(f"'{name}'" for name in alike)
        fix = "write the one that is meant exactly so"
        return [ConfigError(f"'{words}' may mean several classes", where="--text", why=f"it is {means}", fix=fix)]
    closed = [model for model in models if not model.segmenter.open_vocabulary]
    return [
        ConfigError(
            f"unknown class '{words}'",
            where="--text",
            why=f"{model.source} knows its own classes alone: {did_you_mean(words, model.plan.labels)}",
            fix="ask for a class of all models, or leave the model out",
        )
        for model in closed
    ]


def _tidy(text: str) -> str:
    return " ".join(text.split())
