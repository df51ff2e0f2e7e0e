"""The numbers behind the picture of the embeddings: layout, separation, zero-shot scores, retrieval."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.data import Batch, PatchSet
from clippan_lib.shapes import HRMS, Features

TYPES = ("LRMS", "PAN", "HRMS")
Labels = Int[Tensor, " b"]


def _unit(features: Features) -> Features:
    return normalize(features.detach().cpu().double(), dim=1)


@dataclass(frozen=True)
class Embeddings:
    """What a supervisor makes of patches; rows are all LRMS, then all PAN, then all HRMS.

    Args:
        features: (3n, d), unit length.
        types: (3n,) index into `TYPES`.
        patches: (3n,) which patch each row shows, by its number in the set.
        predicted: (3n,) index of the nearest text.
        texts: (3, d), rows in the order of `TYPES`.
    """

    features: Features
    types: Int[Tensor, " b"]
    patches: Int[Tensor, " b"]
    predicted: Int[Tensor, " b"]
    texts: Float[Tensor, "3 d"]


@torch.no_grad()
def embed_patches(
    supervisor: Supervisor, patches: PatchSet, hrms: Callable[[Batch], HRMS], most: int = 300
) -> Embeddings:
    """Embed LRMS, PAN and HRMS of patches, on the CPU in the end.

    Args:
        supervisor: adapted or not.
        patches: evenly thinned out to at most `most`.
        hrms: makes HRMS of a batch, [0, 1], as `Run.hrms` does.
        most: patches embedded.
    """
    index = torch.linspace(0, len(patches) - 1, min(len(patches), most)).long().unique()
    device = supervisor.raw_texts.device
    rows: list[list[Tensor]] = [[], [], []]
    for chunk in index.split(64):
        batch = patches.batch(chunk).to(device)
        rows[0].append(supervisor.embed_lrms(batch.lrms))
        rows[1].append(supervisor.embed_pan(batch.pan))
        rows[2].append(supervisor.embed_hrms(hrms(batch)))
    features = torch.cat([torch.cat(kind) for kind in rows])
    types, shown = torch.arange(3).repeat_interleave(len(index)), index.repeat(3)
    predicted, texts = supervisor.zero_shot(features).cpu(), supervisor.embed_texts().detach().cpu()
    return Embeddings(features.cpu(), types, shown, predicted, texts)


def layout(features: Features, perplexity: float | int = 30, seed: int = 0) -> Float[np.ndarray, "b 2"]:
    """t-SNE layout in the plane, by cosine distance, started from the principal axes.

    van der Maaten and Hinton 2008 [vandermaaten2008visualizing].

    Args:
        features: (b, d) embeddings.
        perplexity: effective number of neighbours, below b.
        seed: seed of the optimisation; equal seeds give equal layouts.
    Returns: (b, 2), arbitrary units: only who lies near whom means something.
    Raises: ValueError if there are too few embeddings for the perplexity, or all of them are equal.
    """
    if len(features) <= perplexity:
        raise ValueError(
            f"perplexity {perplexity} needs more than {len(features)} embeddings: lower it or embed more"
        )
    points = _unit(features).numpy()
    if np.ptp(points, axis=0).max() < 1e-9:
        raise ValueError("all embeddings are equal (collapsed): there is no layout to draw")
    from sklearn.manifold import TSNE  # a second, for those who only plot

    tsne = TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=seed)
    return tsne.fit_transform(points).astype(np.float64)


def silhouette(features: Features, types: Labels) -> float:
    """How well the types separate: mean silhouette, by cosine distance, before any layout.

    Rousseeuw 1987 [rousseeuw1987silhouettes].

    Args:
        features: (b, d) embeddings.
        types: (b,) index into `TYPES`, at least two different.
    Returns: in [-1, 1]; 1 is separate, 0 is mixed.
    Raises: ValueError (of scikit-learn) on a single type.
    """
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(_unit(features).numpy(), types.cpu().numpy(), metric="cosine"))


def same_scene_retrieval(features: Features, types: Labels, scenes: Labels) -> tuple[float, float]:
    """How often the nearest image of another type shows the same place, and how often chance would.

    Args:
        features: (b, d) embeddings.
        types: (b,) index into `TYPES`.
        scenes: (b,) which place each shows.
    Returns: the share of hits and that of a random image of another type, both in [0, 1].
    Raises: ValueError if all are of one type: there is no other to search.
    """
    if (types == types[0]).all():
        raise ValueError(
            f"all {len(types)} embeddings are of type {TYPES[int(types[0])]}: there is no other to search"
        )
    unit, types, scenes = _unit(features), types.cpu(), scenes.cpu()
    other = types[:, None] != types[None, :]
    same = scenes[:, None] == scenes[None, :]
    nearest = (unit @ unit.T).masked_fill(~other, -torch.inf).argmax(1)
    hits = same.gather(1, nearest[:, None]).double().mean()
    chance = ((same & other).sum(1).double() / other.sum(1)).mean()
    return float(hits), float(chance)


def within_type_variance(features: Features, types: Labels) -> float:
    """Mean squared distance of unit embeddings to the mean of their type, averaged over types; 0 is collapse.

    Args:
        features: (b, d) embeddings.
        types: (b,) index into `TYPES`.
    Returns: in [0, 1].
    """
    unit, types = _unit(features), types.cpu()
    spreads = [unit[types == kind].var(0, correction=0).sum() for kind in types.unique()]
    return float(torch.stack(spreads).mean())


def zero_shot_scores(predicted: Labels, types: Labels) -> dict[str, float]:
    """Share of images whose nearest text is that of their type, over all and per type.

    Args:
        predicted: (b,) index of the nearest text, as `Supervisor.zero_shot` gives it.
        types: (b,) the true index into `TYPES`.
    Returns: `zero_shot_accuracy` and `recall_<type>` for each type, in [0, 1].
    Raises: ValueError if a type has no image, or an index lies outside `TYPES`.
    """
    predicted, types = predicted.cpu(), types.cpu()
    for name, labels in (("predicted", predicted), ("types", types)):
        if not ((labels >= 0) & (labels < len(TYPES))).all():
            raise ValueError(
                f"{name} holds {sorted(set(labels.tolist()))}: only 0, 1, 2 for {', '.join(TYPES)} are types"
            )
    right = (predicted == types).double()
    scores = {"zero_shot_accuracy": float(right.mean())}
    for index, name in enumerate(TYPES):
        if not (types == index).any():
            raise ValueError(f"no {name} image among {len(types)}: its recall is undefined")
        scores[f"recall_{name}"] = float(right[types == index].mean())
    return scores


def embedding_scores(embeddings: Embeddings) -> dict[str, float]:
    """All numbers of this module, by name."""
    features, types = embeddings.features, embeddings.types
    retrieval, chance = same_scene_retrieval(features, types, embeddings.patches)
    return {
        **zero_shot_scores(embeddings.predicted, types),
        "silhouette": silhouette(features, types),
        "within_type_variance": within_type_variance(features, types),
        "same_scene_retrieval": retrieval,
        "same_scene_chance": chance,
    }


def mean_similarity(features: Features, types: Labels, texts: Float[Tensor, "3 d"]) -> Float[Tensor, "3 3"]:
    """Mean cosine of each type of image with each text.

    Args:
        features: (b, d) embeddings.
        types: (b,) index into `TYPES`; each occurs.
        texts: (3, d), rows in the order of `TYPES`.
    Returns: (3, 3) on the CPU; rows image types, columns texts; [-1, 1]. A type without images gives NaN.
    """
    cosine, types = _unit(features) @ _unit(texts).T, types.cpu()
    return torch.stack([cosine[types == index].mean(0) for index in range(len(TYPES))])
