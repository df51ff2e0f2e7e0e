"""Public weights of others: whose fit which of our networks, and how they get in: none left over, none missing."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple
from zipfile import ZipFile, is_zipfile

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clippan_lib.errors import CheckpointError
from clippan_lib.files import load_exactly, misfit, read_tensors, refuse_non_finite
from clippan_lib.fusion.networks.arbrpn import ArbRPN
from clippan_lib.fusion.networks.drpnn import DRPNN
from clippan_lib.fusion.networks.fusionnet import FusionNet
from clippan_lib.fusion.networks.lambda_pnn import LambdaPNN
from clippan_lib.fusion.networks.lformer import LFormer
from clippan_lib.fusion.networks.msdcnn import MSDCNN
from clippan_lib.fusion.networks.pan_mamba import PanMamba
from clippan_lib.fusion.networks.pannet import PanNet
from clippan_lib.fusion.networks.pnn import PNN
from clippan_lib.fusion.networks.ship import SHIP
from clippan_lib.mtf import upsample
from clippan_lib.sensors import get_sensor
from clippan_lib.shapes import LRMS, Image

_circular = partial(upsample, border="circular")


def _bicubic(lrms: LRMS, ratio: int) -> Image:
    return F.interpolate(lrms, scale_factor=ratio, mode="bicubic", align_corners=False)


class Published(NamedTuple):
    """How a public file fits ours.

    Args:
        build: (bands, ratio) → our network.
        renamed: pattern of our parameters' names (re.sub) → theirs, one after the other.
        ignored: pattern of their names that our network has no use for, each with its reason beside it.
        inside: key of the weights in a file that holds more.
        prefix: what every one of their names begins with.
        upsampling: (lrms, ratio) → what their code takes for the MS image at the size of PAN; None where our network
            does that as theirs.
    """

    build: Callable[[int, int], nn.Module]
    renamed: Mapping[str, str] = {}
    ignored: str = ""
    inside: str = ""
    prefix: str = ""
    upsampling: Callable[[Tensor, int], Tensor] | None = _circular


_DLPAN_DETAILS = {
    r"^details\.conv2": "conv3",
    r"^details\.": "",
    r"^blocks\.(\d)\.conv1": r"backbone.\1.conv20",
    r"^blocks\.(\d)\.conv2": r"backbone.\1.conv21",
}
_TWICE = r"res\d\."  # the same blocks are in the file as backbone.*

_LFORMER = {
    r"^attention\.norm_lms\.gain": "attn.ms_pre_norm.g",
    r"^attention\.norm_pan\.gain": "attn.pan_pre_norm.g",
    r"^attention\.(q|k|v)(uery|ey|alue)": r"attn.\1",
    r"^attention\.project": "attn.proj_out",
    r"^detail\.(lms|pan)": r"pre_hp.hp_\1",
    r"^detail\.fuse": "pre_hp.hp_conv",
    r"^detail\.blocks": "pre_hp.msrb",
    r"^branches\.(\d+)\.embed": r"hp_branch.\1.attn_hp_conv",
    r"^branches\.(\d+)\.fuse": r"hp_branch.\1.to_hp_dim",
    r"^branches\.(\d+)\.blocks": r"hp_branch.\1.res_block",
    r"^evolutions\.(\d+)\.slide": r"refined_blocks.\1.reflash_attn.body.0",
    r"^evolutions\.(\d+)\.mix": r"refined_blocks.\1.reflash_attn.body.1",
    r"^evolutions\.(\d+)\.project": r"refined_blocks.\1.proj_v",
    r"^modulations\.(\d+)\.refine": r"refined_blocks.\1.res_block.fn",
    r"^modulations\.(\d+)\.fuse": r"refined_blocks.\1.fuse_conv",
    r"^blocks\.": "final_conv.",
    r"^last\.": "final_conv.2.",
}

PUBLISHED = {
    "dlpan_pnn": Published(partial(PNN, hidden=(64, 32), residual=False)),
    "a_pnn": Published(PNN),  # and Z-PNN's, whose network it is
    "lambda_pnn": Published(
        LambdaPNN,
        {
            r"^conv(\d)": r"conv_\1",
            r"block(\d)\.conv1": r"res_block_\1.body.0",
            r"block(\d)\.conv2": r"res_block_\1.body.2",
            r"attention(\d)\.channel\.squeeze": r"CBAM_\1.ChannelGate.mlp.1",
            r"attention(\d)\.channel\.expand": r"CBAM_\1.ChannelGate.mlp.3",
            r"attention(\d)\.spatial\.conv": r"CBAM_\1.SpatialGate.spatial.conv_1",
        },
    ),
    "dlpan_pannet": Published(PanNet, _DLPAN_DETAILS, ignored=_TWICE),
    "z_pannet": Published(  # and PanNet-TA-FR's
        partial(PanNet, border="replicate", bias=False),
        {
            r"^deconv": "Conv2d_transpose",
            r"^details\.conv1": "Conv",
            r"^details\.conv2": "Conv_9",
        }
        | {rf"^details\.blocks\.{i}\.conv{j}": f"Conv_{2 * i + j}" for i in range(4) for j in (1, 2)},
        ignored="dephtconv_",  # the box of the high-pass filter
    ),
    "fusionnet": Published(FusionNet, _DLPAN_DETAILS, ignored=_TWICE),
    "msdcnn": Published(MSDCNN, {r"^(conv\d)\.conv(\d)": r"\1_\2"}),
    "drpnn": Published(DRPNN, {r"^hidden\.(\d)": r"backbone.\1.conv2"}),
    "arbrpn": Published(
        ArbRPN,
        {
            r"^from_pan": "wrapper",
            r"^from_band": "conv1",
            r"^to_band": "conv2",
            r"^onward": "hidden_unit_forward_list",
            r"^back": "hidden_unit_backward_list",
            r"\.merge\.": ".0.",
            r"\.blocks\.": ".1.",
        },
        inside="state_dict",
        upsampling=None,
    ),
    "lformer": Published(LFormer, _LFORMER, inside="model"),
    "lformer_qb": Published(partial(LFormer, attention_dim=32, hidden=48), _LFORMER, inside="model"),
    # nihe is φ, the conversion of HRMS to PAN, which is no part of a fusion network here
    "clippan_lformer": Published(
        partial(LFormer, stages=3), _LFORMER, ignored=r"nihe\.", upsampling=_bicubic
    ),
    "pan_mamba": Published(
        PanMamba,
        {
            r"^((singles|swaps|crosses).*norm\w*)": r"\1.body",
            r"^encoder_(ms|pan)\.(\d)\.conv([12])": r"\1_encoder.\2.conv_\3",
            r"^encoder_(ms|pan)": r"\1_encoder",
            r"^token_(ms|pan)": r"\1_to_token.proj",
            r"^singles_(ms|pan)\.(\d+)\.mamba": r"\1_feature_extraction.\2.encoder",
            r"^singles_(ms|pan)": r"\1_feature_extraction",
            r"^shallow_ms": "shallow_fusion1",
            r"^shallow_pan": "shallow_fusion2",
            r"^swaps\.0": "swap_mamba1",  # theirs count from 1
            r"^swaps\.1": "swap_mamba2",
            r"^crosses\.0": "deep_fusion1",
            r"^crosses\.1": "deep_fusion2",
            r"^crosses\.2": "deep_fusion3",
            r"^crosses\.3": "deep_fusion4",
            r"^crosses\.4": "deep_fusion5",
            r"mamba_(ms|pan)": r"\1encoder",
            r"(deep_fusion\d)\.conv": r"\1.dwconv",
            r"(deep_fusion\d)\.(branch_\w+|out_proj)": r"\1.cross_mamba.\2",
            r"branch_pan\.in_proj": "in_proj_extra",
            r"branch_pan\.A_log": "A_b_log",
            r"branch_pan\.(\w+)": r"\1_b",
            r"branch(_ms)?\.": "",
            r"norm_ms": "norm1",
            r"norm_pan": "norm2",
            r"^conv1": "output.conv_in",
            r"^conv2": "output.conv_last",
            r"^gate\.conv1": "output.process.0.process.0",
            r"^gate\.conv2": "output.process.0.process.2",
            r"^gate\.squeeze": "output.process.0.conv_du.0",
            r"^gate\.expand": "output.process.0.conv_du.2",
        },
        ignored=r"(ms|pan)_encoder\.\d\.identity|(ms|pan)_to_token\.norm",  # theirs do not use them
        inside="net",
        prefix="module.",
        upsampling=None,
    ),
    "ship": Published(
        SHIP,
        {
            r"^encode_ms": "vis",
            r"^encode_pan": "inf",
            # the release counts from 1, and keeps PAN's updates inside its interactions
            r"^interactions\.0": "interaction1",
            r"^interactions\.1": "interaction2",
            r"^interactions\.2": "interaction3",
            r"^updates\.0": "interaction1.reflashFused2",
            r"^updates\.1": "interaction2.reflashFused2",
            r"\.first\.": ".convout.",
            r"\.second\.": ".reflashFused1.",
            r"\.attention\.": ".convatten.",
            r"\.fuse\.": ".convf.0.",
            r"(interaction\d\.norm\d)": r"\1.body",
            r"^merge\.": "postprocess.0.",
            r"\.rotate\.permutation": ".invconv.p",
            r"\.rotate\.sign": ".invconv.sign_s",
            r"\.rotate\.log_diagonal": ".invconv.log_s",
            r"\.rotate\.": ".invconv.",
            r"\.shift1\.": ".F.",
            r"\.shift2\.": ".G.",
            r"\.scale\.": ".H.",
            r"\.([FGH])\.conv\.": r".\1.conv3.",
            r"\.block(\d)\.": r".conv\1.",
            r"\.conv([12])\.(weight|bias)$": r".conv_\1.\2",
            r"^reduce\.": "postprocess.1.",
            r"^reconstruct\.0\.": "reconstruction.conv_in.",
            r"^reconstruct\.1\.": "reconstruction.process.0.",
            r"^reconstruct\.2\.": "reconstruction.process.1.",
            r"^reconstruct\.3\.": "reconstruction.conv_last.",
            r"\.squeeze\.": ".conv_du.0.",
            r"\.expand\.": ".conv_du.2.",
        },
        # weights that never reach the output: PAN's reflections, whose product is overwritten; skips that are
        # not added; the update of PAN after the last interaction
        ignored=r"interaction\d\.reflashInfrared|(vis|inf)\.\d\.identity|interaction3\.reflashFused2",
        upsampling=None,
    ),
}

_REMEDY = "give the path of the authors' file, or get it again if it was cut short"


def load_published(
    name: str, path: Path | str, sensor: str, ratio: int = 4, as_published: bool = False
) -> nn.Module:
    """A network with the weights of a public checkpoint.

    Their images are scaled by 2047 (DLPan) or 2048 (GRIP-UNINA), a relative difference of 5e-4.

    Args:
        name: a key of `PUBLISHED`: whose checkpoint it is.
        path: `.safetensors`, or a file of `torch.save`, which is read without running code from it.
        sensor: that it was trained for, a name of `get_sensor`; decides the number of bands.
        ratio: PAN-to-MS scale of the images to be fused; all public checkpoints were trained at 4.
        as_published: True upsamples MS as the public code does, which gives its output up to the edge: most join
            opposite borders, CLIPPan's LFormer uses torch's bicubic. False upsamples as our methods and scores
            do, `mtf.upsample` with repeated borders: for tables, where a network that joins borders is marked
            down for it.
    Raises: ValueError on an unknown name or sensor; CheckpointError on a file that cannot be read, or naming what is
        left over, missing, of another shape or kind of number, or not finite.
    """
    if name not in PUBLISHED:
        raise ValueError(f"unknown published checkpoint {name!r}; known: {', '.join(PUBLISHED)}")
    published = PUBLISHED[name]
    network = published.build(get_sensor(sensor).n_bands, ratio)
    theirs = _read(Path(path), published)
    ours = {key: _their_name(key, published) for key in network.state_dict()}
    wanted = {ours[key]: value for key, value in network.state_dict().items()}
    if found := misfit(theirs, wanted):
        raise CheckpointError(f"{path} does not fit the network: {found}; is the sensor right?")
    refuse_non_finite(theirs, path, _REMEDY)
    load_exactly(network, {key: theirs[name_there] for key, name_there in ours.items()})
    if as_published and published.upsampling:
        network.upsample = published.upsampling
    return network


def _read(path: Path, published: Published) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        state, _ = read_tensors(path, _REMEDY)
    else:
        state = _read_pickled(path, published.inside)
    wanted = {key.removeprefix(published.prefix): value for key, value in state.items()}
    if published.ignored:
        return {key: value for key, value in wanted.items() if not re.match(published.ignored, key)}
    return wanted


def _read_pickled(path: Path, inside: str) -> dict[str, Tensor]:
    try:
        _refuse_damaged(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than weights, or is damaged: save its state_dict alone, or {_REMEDY} ({error})"
        ) from None
    except Exception as error:  # damaged, a pickle stumbles over anything, from KeyError to struct.error
        raise CheckpointError(
            f"{path} cannot be read as a file of torch.save ({error!r}); {_REMEDY}"
        ) from error
    if isinstance(state, dict) and inside in state:
        state = state[inside]
    if not isinstance(state, dict) or not all(_is_plain(*each) for each in state.items()):
        raise CheckpointError(f"{path} does not hold a plain table of weights: save its state_dict alone")
    return dict(state)


def _refuse_damaged(path: Path) -> None:
    """What torch does not look at itself: the checksums of an archive, and whether it claims more than it has.

    torch stores weights as they are: an archive that would unpack to more than its own size was not written by it.
    """
    if not path.is_file():
        raise FileNotFoundError("no such file")
    if is_zipfile(path):
        with ZipFile(path) as archive:
            claimed, size = sum(each.file_size for each in archive.infolist()), path.stat().st_size
            if claimed > size:
                raise ValueError(f"it claims {claimed} bytes and has {size}")
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} in it does not have its checksum")


def _is_plain(name: Any, value: Any) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and not value.is_meta
    )


def _their_name(key: str, published: Published) -> str:
    for pattern, replacement in published.renamed.items():
        key = re.sub(pattern, replacement, key)
    return key
