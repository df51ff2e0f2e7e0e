"""What the tables and figures of the course's notebooks show, and under which heading of the report they stand."""

TRUTH = "Scores against the truth"
NO_TRUTH = "Indices without a truth"
LANGUAGE = "What the language term changes"
SUPERVISOR = "The supervisor"
TEXTS = "Texts and protocols"
COST = "Cost"
DATA = "The data"
SCENE = "Sharpening a whole scene"
EXPLORERS = "Explorers and glossary"
OTHER = "Other results"
# In the order of the page, each with what is to be known before its tables are read
TOPICS = {
    TRUTH: "The truth is known at full resolution on synthetic scenes, and on any scene at reduced resolution, where "
    "the original LRMS is the truth.",
    NO_TRUTH: "These indices say how consistent an image is with its inputs. They do not rank methods by quality: a "
    "blurred image can score well.",
    LANGUAGE: "The same network, from the same start and on the same batches, with and without the language term.",
    SUPERVISOR: "The supervisor is CLIP with the adapters that Stage I trains.",
    TEXTS: "Which texts prefer a true fusion to a spoiled one, and what a network learns from other texts.",
    COST: "",
    DATA: "",
    SCENE: "",
    EXPLORERS: "The explorers of 09_explore as they were when the notebook ran.",
    OTHER: "",
}
NOTEBOOKS = {
    "00_tour": DATA,
    "01_data_preparation": DATA,
    "02_stage1_adaptation": SUPERVISOR,
    "03_embeddings": SUPERVISOR,
    "04_stage2_training": LANGUAGE,
    "05_zooms_and_errors": TRUTH,
    "06_methods_compared": TRUTH,
    "07_protocol_lab": TEXTS,
    "08_sharpen_your_scene": SCENE,
    "09_explore": EXPLORERS,
    "10_glossary": EXPLORERS,
}
# Of tables and figures that do not stand where their notebook does
_MOVED = {"Cost": COST, "06_cost": COST, "01_supervisor_losses": SUPERVISOR, "03_losses": OTHER}
_NAMES = {
    ("04_stage2_training", "Scores"): "Networks with and without language",
    ("06_methods_compared", "Scores"): "All methods",
    ("07_protocol_lab", "Scores"): "Networks trained with other texts",
    ("07_protocol_lab", "Change by the language term"): "Change by other texts",
    ("08_sharpen_your_scene", "Scores"): "Parts of the whole scene",
    ("02_stage1_adaptation", "Held-out patches"): "Stage I on held-out patches",
    ("03_embeddings", "Held-out patches"): "Embeddings of held-out patches",
}
# Title of a table, or its beginning, to what it shows
_SAYS = {
    "Networks with and without language": "“-C” has the language term; random CLIP and shuffled prompts are controls.",
    "All methods": "Networks with “, reduced” in their name were trained at reduced resolution, others at full.",
    "Splits": "Scenes and patches of each split.",
    "Interpolation": "How far EXP is from LRMS at its own samples, and how far half a pixel of shift moves it.",
    "Stage I on held-out": "How well the features tell LRMS, PAN and HRMS apart on patches that Stage I did not see, "
    "before and after it, and those of a CLIP of random weights.",
    "Embeddings of held-out": "How well the features tell LRMS, PAN and HRMS apart on patches that Stage I did not "
    "see: with HRMS made as in Stage I, and made by a method that Stage I never saw.",
    "Held-out patches": "How well the features tell LRMS, PAN and HRMS apart on patches that Stage I did not see.",
    "Facts": "Sizes of the samples.",
    "Error maps": "Absolute error of the first test scene, in digital numbers.",
    "Cost": "Parameters, and megapixels of PAN that are fused in a second on this machine.",
    "Gates of the supervisor": "Each gate asks: does it judge better than chance and than random weights?",
    "Protocols against": "How many more comparisons a text wins than the text of Stage I, with a 95 % interval.",
    "Protocols by spoiling": "Share of comparisons in which a text prefers the truth, by kind of spoiling.",
    "Protocols": "Share of comparisons in which a text prefers the truth to a spoiled image, with a 95 % interval.",
    "Fitted on training patches": "Share of comparisons won by a direction that was fitted with the truth at hand.",
    "What words move": "Change of six properties of a fused image after steps towards a text.",
    "Tiles against one image": "Difference of a scene sharpened in tiles from the same scene sharpened at once.",
    "Offset of MS": "Measured shift of MS against PAN.",
    "Losses of the last iteration": "Loss terms when training ended.",
}
FIGURES = {
    "01_histograms": "Histograms of the bands of a training scene.",
    "01_optics": "Measured gains at Nyquist beside those of the sensor's table.",
    "01_patches": "Patches of the training split: LRMS above PAN.",
    "01_spectra": "Power spectra of LRMS, PAN and, where it is known, the truth.",
    "02_stage1_losses": "Loss terms of Stage I by iteration.",
    "02_similarity": "Similarity of images and texts before and after Stage I; the diagonal should be largest.",
    "03_tsne": "t-SNE of the features of held-out patches before and after Stage I.",
    "04_curves": "Loss terms of Stage II by iteration, mean and spread over the seeds.",
    "04_paired_full": "Change by the language term, seed by seed, with 95 % intervals.",
    "05_zooms_full": "Full resolution: inputs and fused images, and the green box enlarged.",
    "05_zooms_reduced": "Reduced resolution: inputs, fused images, truth, the green box enlarged, and error maps.",
    "06_cost": "Quality (Q2n) and speed of all methods; up and to the right is better.",
    "06_zooms_reduced": "One classical method of each family, the stack and the networks, with error maps.",
    "07_spoiled": "A true patch and the ways in which it is spoiled.",
    "07_ranking": "Share of comparisons that each text wins, before and after Stage I.",
    "07_spoilings": "Share of comparisons that each text wins, by kind of spoiling.",
    "07_steered": "A patch after steps towards different texts.",
    "07_steering": "Change of six properties after steps towards each text.",
    "07_stage2": "Change by networks trained with other texts, seed by seed, with 95 % intervals.",
    "08_overview": "PAN and LRMS of the scene, with their coordinates.",
    "08_detail": "The most detailed part of the scene, fused by each method.",
    "08_dispute": "The part of the scene where the methods differ most.",
    "09_degrade": "From a sharp image to LRMS, and the frequency response of the MTF.",
    "09_compare": "Fused images of one area, their errors and spectra.",
    "09_embedding": "t-SNE of held-out patches with one patch and its neighbours.",
    "09_prompts": "A text of your own beside those of the protocols.",
    "09_words": "An image before and after steps towards a text, and the difference.",
    "09_history": "Loss terms of Stage I of the supervisor and of its control.",
    "10_glossary": "Eight images whose worth is known: the truth, fusions, and the truth with one fault each.",
    "03_losses": "Loss terms of the experiment by iteration.",
    "01_supervisor_losses": "Loss terms of Stage I by iteration.",
}


def topic_of_table(notebook: str, title: str) -> str:
    """The heading of a table.

    Args:
        notebook: that recorded it.
        title: as it was recorded.
    """
    return _MOVED.get(title, NOTEBOOKS.get(notebook, OTHER))


def topic_of_figure(name: str) -> str:
    """The heading of a figure; `name` is its file's, without ending."""
    if name not in FIGURES:
        return OTHER
    ours = (topic for notebook, topic in NOTEBOOKS.items() if notebook[:3] == name[:3])
    return _MOVED.get(name) or next(ours, OTHER)


def caption(name: str) -> str:
    """What a figure shows; of an unknown one the words of its name."""
    return FIGURES.get(name) or f"{name.replace('_', ' ').strip().capitalize()}."


def name_of_table(notebook: str, title: str) -> str:
    """What the report calls a table."""
    return _NAMES.get((notebook, title), title)


def says(name: str) -> str:
    """What a table shows, "" if it is none of the course's; `name` is what the report calls it."""
    return next((text for begin, text in _SAYS.items() if name.startswith(begin)), "")
