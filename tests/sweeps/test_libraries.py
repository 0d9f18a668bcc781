"""Tiny models of twenty and more libraries of PyTorch modules, as their owners make them: PyTorch -> PyTorch, ONNX, Keras.

Segmentation, diffusion, speech, tables, recommendation, reinforcement learning, graphs. A library that is not installed is skipped.

``python -m tests.sweeps.test_libraries [name ...]`` prints the table.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Callable
from contextlib import contextmanager
from unittest.mock import MagicMock

import pytest
import torch

from tests.sweeps import torchvision_cpu  # noqa: F401  (before torchvision, which some of the libraries import)
from tests.sweeps.measure import measure, randomised, table

#: What the libraries import for training and for files, and no model of theirs needs.
UNNEEDED = (
    *("accelerate", "discrete_continuous_embed_readout", "julius", "pandas", "portalocker", "tabulate", "torchaudio"),
    *("x_mlps_pytorch", "xxhash"),
)
#: A named size in an example, and in the inputs that the result is measured on.
SIZES = {
    "batch": (2, 3),
    "seq": (8, 11),
    "h": (64, 96),
    "w": (64, 128),
    "t": (64, 80),
    "nodes": (10, 7),
    "edges": (24, 15),
}
#: Name -> (library, the inputs as on the command line, what makes the module).
MODELS: dict[str, tuple[str, dict[str, str], Callable]] = {}


class Stub(MagicMock):
    """Stands in for a module that is not needed."""

    __path__: tuple[str, ...] = ()
    __version__ = "1.0.0"

    def __call__(self, *args, **kwargs):
        return args[0] if len(args) == 1 and callable(args[0]) else super().__call__(*args, **kwargs)


class StubFinder:
    """Imports each module of ``UNNEEDED`` that is not installed as a stub."""

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name.split(".")[0] in UNNEEDED else None

    def create_module(self, spec):
        return Stub(name=spec.name)

    def exec_module(self, module):
        """A stub holds nothing."""


@contextmanager
def stubs():
    """Within the block, modules that are not needed are imported as stubs, for nobody else to find afterwards."""
    finder = StubFinder()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, Stub)]:
            del sys.modules[name]


def model(library: str, **inputs: str):
    """Register a function that imports a library's class and returns a module; ``int64[batch,seq] < 99`` bounds the numbers."""

    def register(make: Callable) -> Callable:
        MODELS[make.__name__] = (library, inputs, make)
        return make

    return register


def tensor(spec: str, fresh: bool) -> torch.Tensor:
    """Numbers of a specification such as ``int64[batch,seq] < 99``."""
    dtype, sizes, most = re.fullmatch(r"(\w+)\[(.*)\](?: < (\w+))?", spec).groups()
    shape = [SIZES[s][fresh] if s in SIZES else int(s) for s in sizes.split(",") if s]
    if dtype == "bool":
        return torch.ones(shape, dtype=torch.bool)
    if dtype.startswith("float"):
        return torch.rand(shape) if most else torch.randn(shape)
    most = SIZES[most][fresh] if most in SIZES else int(most)
    return torch.randint(0, most, shape, dtype=getattr(torch, dtype))


def named(spec: str) -> dict[int, str]:
    """Axis -> name of the free sizes of a specification."""
    sizes = re.search(r"\[(.*)\]", spec)[1].split(",")
    return {axis: size for axis, size in enumerate(sizes) if size in SIZES}


def build(name: str):
    """(module, example inputs, fresh inputs of other sizes, the names of the sizes)."""
    library, inputs, make = MODELS[name]
    importlib.import_module(library)
    torch.manual_seed(0)
    module = randomised(make())
    example, fresh = ({k: tensor(spec, other) for k, spec in inputs.items()} for other in (False, True))
    return module, example, fresh, {k: named(spec) for k, spec in inputs.items()}


def get(path: str, **options):
    """An instance of a class by its path, ``library.module:Class``."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)(**options)


IMAGE = "float32[batch,3,h,w]"

# segmentation_models_pytorch

SMP = {"encoder_name": "resnet18", "encoder_weights": None, "classes": 2}


@model("segmentation_models_pytorch", x=IMAGE)
def smp_unet():
    return get("segmentation_models_pytorch:Unet", **SMP)


@model("segmentation_models_pytorch", x=IMAGE)
def smp_unetplusplus():
    return get("segmentation_models_pytorch:UnetPlusPlus", **SMP)


@model("segmentation_models_pytorch", x=IMAGE)
def smp_fpn():
    return get("segmentation_models_pytorch:FPN", **SMP)


@model("segmentation_models_pytorch", x=IMAGE)
def smp_manet():
    return get("segmentation_models_pytorch:MAnet", **SMP)


@model("segmentation_models_pytorch", x=IMAGE)
def smp_deeplabv3plus():
    return get("segmentation_models_pytorch:DeepLabV3Plus", **SMP)


@model("segmentation_models_pytorch", x="float32[batch,3,96,96]")
def smp_pspnet():
    return get("segmentation_models_pytorch:PSPNet", **SMP)


@model("segmentation_models_pytorch", x=IMAGE)
def smp_linknet():
    return get("segmentation_models_pytorch:Linknet", **SMP)


@model("segmentation_models_pytorch", x="float32[batch,3,64,64]")
def smp_segformer():
    return get("segmentation_models_pytorch:Segformer", **SMP | {"encoder_name": "mit_b0"})


@model("segmentation_models_pytorch", x=IMAGE)
def smp_upernet():
    return get("segmentation_models_pytorch:UPerNet", **SMP)


# vit_pytorch

VIT = {"image_size": 64, "patch_size": 16, "num_classes": 5, "dim": 32, "depth": 2, "heads": 2, "mlp_dim": 64}


@model("vit_pytorch", img="float32[batch,3,64,64]")
def vit():
    return get("vit_pytorch:ViT", **VIT)


@model("vit_pytorch", img="float32[batch,3,64,64]")
def simple_vit():
    return get("vit_pytorch:SimpleViT", **VIT)


@model("vit_pytorch", x="float32[batch,3,64,64]")
def cct():
    return get("vit_pytorch.cct:CCT", img_size=64, embedding_dim=32, n_conv_layers=2, kernel_size=7, stride=2, padding=3,
               pooling_kernel_size=3, pooling_stride=2, pooling_padding=1, num_layers=2, num_heads=2, mlp_ratio=2.0, num_classes=5)  # fmt: skip


@model("vit_pytorch", x="float32[batch,3,64,64]")
def mobile_vit():
    return get("vit_pytorch.mobile_vit:MobileViT", image_size=(64, 64), dims=[32, 48, 64], num_classes=5,
               channels=[16, 16, 16, 16, 24, 24, 32, 32, 48, 48, 64])  # fmt: skip


@model("vit_pytorch", x="float32[batch,3,64,64]")
def cvt():
    return get(
        "vit_pytorch.cvt:CvT", num_classes=5, s1_emb_dim=16, s2_emb_dim=24, s3_emb_dim=32, s3_depth=1, s3_heads=2
    )


@model("vit_pytorch", video="float32[batch,3,8,32,32]")
def vivit():
    return get("vit_pytorch.vivit:ViViT", image_size=32, image_patch_size=16, frames=8, frame_patch_size=2, num_classes=5,
               dim=32, spatial_depth=1, temporal_depth=1, heads=2, mlp_dim=32)  # fmt: skip


@model("vit_pytorch", x="float32[batch,3,64,64]")
def max_vit():
    return get(
        "vit_pytorch.max_vit:MaxViT", num_classes=5, dim=16, depth=(1, 1), dim_head=8, window_size=4, dim_conv_stem=16
    )


# x_transformers


@model("x_transformers", x="int64[batch,seq] < 50")
def x_decoder():
    layers = get("x_transformers:Decoder", dim=32, depth=2, heads=2, attn_dim_head=16, rotary_pos_emb=True)
    return get("x_transformers:TransformerWrapper", num_tokens=50, max_seq_len=64, attn_layers=layers)


@model("x_transformers", x="int64[batch,seq] < 50", mask="bool[batch,seq]")
def x_encoder():
    layers = get("x_transformers:Encoder", dim=32, depth=2, heads=2, attn_dim_head=16, use_rmsnorm=True, ff_glu=True)
    return get("x_transformers:TransformerWrapper", num_tokens=50, max_seq_len=64, attn_layers=layers)


@model("x_transformers", x="float32[batch,seq,6]")
def x_continuous():
    layers = get("x_transformers:Encoder", dim=32, depth=2, heads=2, attn_dim_head=16, alibi_pos_bias=True)
    return get("x_transformers:ContinuousTransformerWrapper", dim_in=6, dim_out=4, max_seq_len=64, attn_layers=layers)


# diffusers

BLOCKS = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}


@model("diffusers", sample="float32[batch,3,32,32]", timestep="int64[batch] < 900")
def diffusers_unet2d():
    return get("diffusers:UNet2DModel", sample_size=32, **BLOCKS, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
               up_block_types=("AttnUpBlock2D", "UpBlock2D"))  # fmt: skip


@model(
    "diffusers",
    sample="float32[batch,4,32,32]",
    timestep="int64[batch] < 900",
    encoder_hidden_states="float32[batch,seq,32]",
)
def diffusers_unet_condition():
    return get("diffusers:UNet2DConditionModel", sample_size=32, **BLOCKS, cross_attention_dim=32, attention_head_dim=8,
               down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))  # fmt: skip


@model("diffusers", sample=IMAGE)
def diffusers_vae():
    return get("diffusers:AutoencoderKL", **BLOCKS, down_block_types=("DownEncoderBlock2D",) * 2,
               up_block_types=("UpDecoderBlock2D",) * 2)  # fmt: skip


@model(
    "diffusers", hidden_states="float32[batch,4,8,8]", timestep="int64[batch] < 900", class_labels="int64[batch] < 10"
)
def diffusers_dit():
    return get("diffusers:DiTTransformer2DModel", num_attention_heads=2, attention_head_dim=16, num_layers=2, sample_size=8,
               num_embeds_ada_norm=10)  # fmt: skip


@model("diffusers", sample="float32[batch,4,32,32]", timestep="int64[batch] < 900", encoder_hidden_states="float32[batch,seq,32]",
       controlnet_cond="float32[batch,3,256,256]")  # fmt: skip
def diffusers_controlnet():
    return get("diffusers:ControlNetModel", **BLOCKS, cross_attention_dim=32, attention_head_dim=8,
               conditioning_embedding_out_channels=(16, 32, 32, 32), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"))  # fmt: skip


@model("diffusers", hidden_states="float32[batch,4,16,16]", encoder_hidden_states="float32[batch,seq,32]",
       pooled_projections="float32[batch,24]", timestep="int64[batch] < 900")  # fmt: skip
def diffusers_sd3():
    return get("diffusers:SD3Transformer2DModel", sample_size=16, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
               num_attention_heads=4, joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=24,
               pos_embed_max_size=16)  # fmt: skip


@model("diffusers", hidden_states="float32[batch,seq,8]", encoder_hidden_states="float32[batch,5,16]",
       pooled_projections="float32[batch,24]", timestep="float32[batch] < 1", img_ids="float32[seq,3]", txt_ids="float32[5,3]")  # fmt: skip
def diffusers_flux():
    return get("diffusers:FluxTransformer2DModel", patch_size=1, in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=16,
               num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=24, axes_dims_rope=(4, 4, 8))  # fmt: skip


@model("diffusers", hidden_states="float32[batch,4,16,16]", encoder_hidden_states="float32[batch,seq,16]",
       timestep="int64[batch] < 900")  # fmt: skip
def diffusers_pixart():
    return get("diffusers:PixArtTransformer2DModel", num_attention_heads=2, attention_head_dim=8, in_channels=4, num_layers=2,
               cross_attention_dim=16, sample_size=16, caption_channels=16, use_additional_conditions=False)  # fmt: skip


@model("diffusers", sample=IMAGE)
def diffusers_tiny_vae():
    return get("diffusers:AutoencoderTiny", encoder_block_out_channels=(16, 16), decoder_block_out_channels=(16, 16),
               num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))  # fmt: skip


@model("diffusers", sample="float32[batch,2,t]", timestep="int64[batch] < 900")
def diffusers_unet1d():
    return get("diffusers:UNet1DModel", sample_size=64, in_channels=2, out_channels=2, block_out_channels=(8, 16), extra_in_channels=16, use_timestep_embedding=False, time_embedding_type="fourier",
               down_block_types=("DownBlock1DNoSkip", "DownBlock1D"), up_block_types=("UpBlock1D", "UpBlock1DNoSkip"))  # fmt: skip


# monai


@model("monai", x="float32[batch,1,32,32,32]")
def monai_unet():
    return get(
        "monai.networks.nets:UNet",
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        channels=(4, 8, 16),
        strides=(2, 2),
        num_res_units=1,
    )


@model("monai", x="float32[batch,1,h,w]")
def monai_segresnet():
    return get("monai.networks.nets:SegResNet", spatial_dims=2, init_filters=8, blocks_down=(1, 1), blocks_up=(1,))


@model("monai", x="float32[batch,1,h,w]")
def monai_basic_unet():
    return get("monai.networks.nets:BasicUNet", spatial_dims=2, features=(8, 8, 16, 16, 16, 8))


@model("monai", x_in="float32[batch,1,32,32,32]")
def monai_unetr():
    return get("monai.networks.nets:UNETR", in_channels=1, out_channels=2, img_size=(32, 32, 32), feature_size=4, hidden_size=24,
               mlp_dim=32, num_heads=2)  # fmt: skip


@model("monai", x_in="float32[batch,1,64,64]")
def monai_swin_unetr():
    return get("monai.networks.nets:SwinUNETR", in_channels=1, out_channels=2, depths=(1, 1, 1, 1), num_heads=(2, 2, 2, 2),
               feature_size=12, spatial_dims=2)  # fmt: skip


@model("monai", x="float32[batch,1,h,w]")
def monai_attention_unet():
    return get(
        "monai.networks.nets:AttentionUnet",
        spatial_dims=2,
        in_channels=1,
        out_channels=2,
        channels=(4, 8, 16),
        strides=(2, 2),
    )


@model("monai", x="float32[batch,1,h,w]")
def monai_densenet():
    return get(
        "monai.networks.nets:DenseNet",
        spatial_dims=2,
        in_channels=1,
        out_channels=3,
        init_features=8,
        growth_rate=4,
        block_config=(2, 2),
    )


@model("monai", x="float32[batch,1,64,64]")
def monai_dynunet():
    return get("monai.networks.nets:DynUNet", spatial_dims=2, in_channels=1, out_channels=2, kernel_size=(3, 3, 3), strides=(1, 2, 2),
               upsample_kernel_size=(2, 2), filters=(8, 8, 16))  # fmt: skip


@model("monai", x="float32[batch,1,32,32]", timesteps="int64[batch] < 900")
def monai_diffusion_unet():
    return get("monai.networks.nets:DiffusionModelUNet", spatial_dims=2, in_channels=1, out_channels=1, num_res_blocks=1, channels=(16, 16),
               attention_levels=(False, True), norm_num_groups=8, num_head_channels=8)  # fmt: skip


# tables


@model("rtdl_revisiting_models", x_cont="float32[batch,6]", x_cat="int64[batch,2] < 3")
def ft_transformer():
    options = importlib.import_module("rtdl_revisiting_models").FTTransformer.get_default_kwargs(n_blocks=2)
    return get("rtdl_revisiting_models:FTTransformer", n_cont_features=6, cat_cardinalities=[3, 4], d_out=2, **options)


@model("rtdl_revisiting_models", x="float32[batch,6]")
def tabular_resnet():
    return get("rtdl_revisiting_models:ResNet", d_in=6, d_out=2, n_blocks=2, d_block=16, d_hidden_multiplier=2.0, d_hidden=None,
               dropout1=0.1, dropout2=0.0)  # fmt: skip


@model("tabm", x_num="float32[batch,6]", x_cat="int64[batch,2] < 3")
def tabm():
    return importlib.import_module("tabm").TabM.make(
        n_num_features=6, cat_cardinalities=[3, 4], d_out=2, k=4, n_blocks=2, d_block=16, dropout=0.1
    )


@model("tabm", x_num="float32[batch,6]")
def tabm_periodic():
    embeddings = get("rtdl_num_embeddings:PeriodicEmbeddings", n_features=6, d_embedding=8, lite=False)
    return importlib.import_module("tabm").TabM.make(
        n_num_features=6, num_embeddings=embeddings, d_out=2, k=4, n_blocks=2, d_block=16, dropout=0.1
    )


@model("tabm", x_num="float32[batch,3]")
def tabm_piecewise():
    embeddings = get("rtdl_num_embeddings:PiecewiseLinearEmbeddings", bins=[torch.linspace(-2, 2, n) for n in (4, 6, 9)], d_embedding=8,
                     activation=False, version="B")  # fmt: skip
    return importlib.import_module("tabm").TabM.make(
        n_num_features=3, num_embeddings=embeddings, d_out=2, k=4, n_blocks=2, d_block=16, dropout=0.1
    )


@model("pytorch_tabnet", x="float32[batch,6]")
def tabnet():
    groups = torch.eye(6)
    return get("pytorch_tabnet.tab_network:TabNet", input_dim=6, output_dim=2, group_attention_matrix=groups)


@model("pytorch_tabnet", x="float32[batch,6] < 1")
def tabnet_entmax():
    groups = torch.eye(6)
    return get("pytorch_tabnet.tab_network:TabNet", input_dim=6, output_dim=2, cat_idxs=[1], cat_dims=[3], cat_emb_dim=[2], mask_type="entmax",
               group_attention_matrix=groups)  # fmt: skip


@model("tab_transformer_pytorch", x_categ="int64[batch,2] < 3", x_numer="float32[batch,4]")
def tab_transformer():
    return get(
        "tab_transformer_pytorch:FTTransformer",
        categories=(3, 4),
        num_continuous=4,
        dim=16,
        dim_out=1,
        depth=2,
        heads=2,
    )


# recommendation


def click_model(name: str, **options):
    inputs = importlib.import_module("deepctr_torch.inputs")
    columns = [
        inputs.SparseFeat("user", 4, embedding_dim=4),
        inputs.SparseFeat("item", 4, embedding_dim=4),
        inputs.DenseFeat("age", 1),
    ]
    if name == "DIN":
        sequence = inputs.VarLenSparseFeat(
            inputs.SparseFeat("hist_item", 4, embedding_dim=4, embedding_name="item"), 4, length_name="length"
        )
        columns = [*columns[:2], sequence, inputs.SparseFeat("length", 4, embedding_dim=4)]
        return get("deepctr_torch.models:DIN", dnn_feature_columns=columns, history_feature_list=["item"])
    both = {"linear_feature_columns": columns, "dnn_feature_columns": columns}
    return get(f"deepctr_torch.models:{name}", **both, **options)


CLICKS = "float32[batch,3] < 4"


@model("deepctr_torch", X=CLICKS)
def deepfm():
    return click_model("DeepFM")


@model("deepctr_torch", X=CLICKS)
def xdeepfm():
    return click_model("xDeepFM")


@model("deepctr_torch", X=CLICKS)
def dcnmix():
    return click_model("DCNMix")


@model("deepctr_torch", X=CLICKS)
def autoint():
    return click_model("AutoInt")


@model("deepctr_torch", X=CLICKS)
def fibinet():
    return click_model("FiBiNET")


@model("deepctr_torch", X="float32[batch,7] < 4")
def din():
    return click_model("DIN")


# graphs


class OnGraph(torch.nn.Module):
    """Layers of a graph network, with an activation between them."""

    def __init__(self, *layers: torch.nn.Module):
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, x, edge_index):
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x, edge_index))
        return self.layers[-1](x, edge_index)


def graph_layers(name: str, **options) -> OnGraph:
    return OnGraph(
        *(get(f"torch_geometric.nn:{name}", in_channels=i, out_channels=o, **options) for i, o in ((8, 16), (16, 4)))
    )


GRAPH = {"x": "float32[nodes,8]", "edge_index": "int64[2,edges] < 7"}


@model("torch_geometric", **GRAPH)
def gcn():
    return graph_layers("GCNConv")


@model("torch_geometric", **GRAPH)
def sage():
    return graph_layers("SAGEConv")


@model("torch_geometric", **GRAPH)
def gat():
    return graph_layers("GATConv")


@model("torch_geometric", **GRAPH)
def gatv2():
    return graph_layers("GATv2Conv")


@model("torch_geometric", **GRAPH)
def gin():
    return OnGraph(
        get("torch_geometric.nn:GINConv", nn=torch.nn.Linear(8, 16)),
        get("torch_geometric.nn:GINConv", nn=torch.nn.Linear(16, 4)),
    )


@model("torch_geometric", **GRAPH)
def graph_transformer():
    return graph_layers("TransformerConv")


@model("torch_geometric", **GRAPH)
def edge_conv():
    return OnGraph(get("torch_geometric.nn:EdgeConv", nn=torch.nn.Linear(16, 4)))


@model("torch_geometric", x="float32[batch,9,8]", adj="float32[batch,9,9] < 1")
def dense_gcn():
    return get("torch_geometric.nn:DenseGCNConv", in_channels=8, out_channels=4)


@model("torch_geometric", x="float32[nodes,8]", edge_index="int64[2,edges] < 7", batch="int64[nodes] < 3")
def pooled_gcn():
    class Pooled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = (
                get("torch_geometric.nn:GCNConv", in_channels=8, out_channels=16),
                torch.nn.Linear(16, 4),
            )

        def forward(self, x, edge_index, batch):
            pool = importlib.import_module("torch_geometric.nn").global_mean_pool
            return self.head(pool(torch.relu(self.conv(x, edge_index)), batch, 3))

    return Pooled()


# attention of other kinds, vision and sound


@model("denoising_diffusion_pytorch", x="float32[batch,3,32,32]", time="int64[batch] < 900")
def lucidrains_unet():
    return get("denoising_diffusion_pytorch:Unet", dim=16, dim_mults=(1, 2), flash_attn=False)


@model("denoising_diffusion_pytorch", x="float32[batch,3,64]", time="int64[batch] < 900")
def lucidrains_unet1d():
    return get("denoising_diffusion_pytorch:Unet1D", dim=16, dim_mults=(1, 2), channels=3)


@model("open_clip", image="float32[batch,3,32,32]", text="int64[batch,12] < 99")
def open_clip():
    return get("open_clip.model:CLIP", embed_dim=32, vision_cfg={"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32},
               text_cfg={"context_length": 12, "vocab_size": 100, "width": 32, "heads": 2, "layers": 2})  # fmt: skip


@model("open_clip", image="float32[batch,3,32,32]", text="int64[batch,12] < 99")
def open_coca():
    return get("open_clip.coca_model:CoCa", embed_dim=32,
               vision_cfg={"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32, "attentional_pool": True,
                           "attn_pooler_heads": 2, "output_tokens": True},
               text_cfg={"context_length": 12, "vocab_size": 100, "width": 32, "heads": 2, "layers": 2, "embed_cls": True, "output_tokens": True},
               multimodal_cfg={"context_length": 12, "vocab_size": 100, "width": 32, "heads": 2, "layers": 2})  # fmt: skip


@model("efficientnet_pytorch", inputs="float32[batch,3,64,64]")
def efficientnet():
    return importlib.import_module("efficientnet_pytorch").EfficientNet.from_name(
        "efficientnet-b0", image_size=64, num_classes=5
    )


def policy(algorithm: str, observation: tuple[int, ...], discrete: bool):
    spaces = importlib.import_module("gymnasium").spaces
    image = len(observation) == 3
    low, high, dtype = (0, 255, "uint8") if image else (-1.0, 1.0, "float32")
    box = spaces.Box(low, high, observation, dtype=dtype)
    action = spaces.Discrete(4) if discrete else spaces.Box(-1.0, 1.0, (2,))
    policies = importlib.import_module(f"stable_baselines3.{algorithm}.policies")
    return (policies.CnnPolicy if image else policies.MlpPolicy)(box, action, lambda _: 1e-3)


@model("stable_baselines3", obs="float32[batch,6]")
def sb3_dqn():
    return policy("dqn", (6,), discrete=True).q_net


@model("stable_baselines3", obs="uint8[batch,4,84,84] < 255")
def sb3_dqn_pixels():
    return policy("dqn", (4, 84, 84), discrete=True).q_net


@model("stable_baselines3", obs="float32[batch,6]")
def sb3_ppo():
    class Deterministic(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.policy = policy("ppo", (6,), discrete=False)

        def forward(self, obs):
            return self.policy(obs, deterministic=True)

    return Deterministic()


@model("stable_baselines3", obs="float32[batch,6]")
def sb3_sac_actor():
    class Deterministic(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.actor = policy("sac", (6,), discrete=False).actor

        def forward(self, obs):
            return self.actor(obs, deterministic=True)

    return Deterministic()


@model("conformer", x="float32[batch,seq,32]")
def conformer():
    return get("conformer:Conformer", dim=32, depth=2, dim_head=16, heads=2, conv_kernel_size=7)


@model("perceiver_pytorch", data="float32[batch,16,16,3]")
def perceiver():
    return get("perceiver_pytorch:Perceiver", num_freq_bands=4, max_freq=8.0, depth=1, num_latents=8, latent_dim=32, latent_heads=2,
               cross_dim_head=16, latent_dim_head=16, num_classes=5)  # fmt: skip


@model("perceiver_pytorch", data="float32[batch,seq,12]")
def perceiver_io():
    return get("perceiver_pytorch:PerceiverIO", dim=12, queries_dim=32, logits_dim=5, depth=1, num_latents=8, latent_dim=32, latent_heads=2,
               cross_dim_head=16, latent_dim_head=16)  # fmt: skip


@model("performer_pytorch", x="int64[batch,seq] < 50")
def performer():
    return get("performer_pytorch:PerformerLM", num_tokens=50, max_seq_len=64, dim=32, depth=2, heads=2, dim_head=16)


@model("nystrom_attention", x="float32[batch,seq,32]")
def nystromformer():
    return get("nystrom_attention:Nystromformer", dim=32, depth=1, heads=2, dim_head=16, num_landmarks=4)


@model("linformer", x="int64[batch,32] < 50")
def linformer():
    return get("linformer:LinformerLM", num_tokens=50, dim=32, seq_len=32, depth=2, heads=2, k=8)


@model("g_mlp_pytorch", x="int64[batch,32] < 50")
def gmlp():
    return get("g_mlp_pytorch:gMLP", num_tokens=50, dim=32, depth=2, seq_len=32)


@model("g_mlp_pytorch", x="float32[batch,3,32,32]")
def gmlp_vision():
    return get("g_mlp_pytorch:gMLPVision", image_size=32, patch_size=8, num_classes=5, dim=32, depth=2)


@model("mlp_mixer_pytorch", input="float32[batch,3,32,32]")
def mixer():
    return get("mlp_mixer_pytorch:MLPMixer", image_size=32, channels=3, patch_size=8, dim=32, depth=2, num_classes=5)


@model("encodec", x="float32[batch,1,t]")
def encodec_encoder():
    return get("encodec.modules:SEANetEncoder", n_filters=4, dimension=16, ratios=[4, 2], lstm=1)


@model("encodec", z="float32[batch,16,seq]")
def encodec_decoder():
    return get("encodec.modules:SEANetDecoder", n_filters=4, dimension=16, ratios=[4, 2], lstm=1)


@model("demucs", mix="float32[batch,2,2048]")
def demucs():
    return get("demucs.demucs:Demucs", sources=["a", "b"], channels=4, depth=2, resample=False)


@model("demucs", mix="float32[batch,2,16384]")
def hdemucs():
    return get("demucs.hdemucs:HDemucs", sources=["a", "b"], channels=4, nfft=1024, depth=4, freq_emb=0.2)


@model("vocos", x="float32[batch,20,seq]")
def vocos():
    return get("vocos.models:VocosBackbone", input_channels=20, dim=32, intermediate_dim=64, num_layers=2)


@model("pytorchvideo", x="float32[batch,3,4,64,64]")
def x3d():
    return importlib.import_module("pytorchvideo.models.x3d").create_x3d(
        input_clip_length=4, input_crop_size=64, model_num_class=5, depth_factor=0.6
    )


@model("pytorchvideo", x="float32[batch,3,4,64,64]")
def slow_r50():
    create = importlib.import_module("pytorchvideo.models.resnet").create_resnet
    return create(model_depth=50, model_num_class=5, stem_dim_out=16, head_pool_kernel_size=(4, 2, 2))


@model("rotary_embedding_torch", x="float32[batch,2,seq,16]")
def rotary():
    class Rotated(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rotary = get("rotary_embedding_torch:RotaryEmbedding", dim=16)

        def forward(self, x):
            return self.rotary.rotate_queries_or_keys(x)

    return Rotated()


@model("local_attention", x="int64[batch,32] < 50")
def local_attention():
    return get(
        "local_attention:LocalTransformer",
        num_tokens=50,
        dim=32,
        depth=2,
        max_seq_len=64,
        local_attn_window_size=8,
        dim_head=16,
        heads=2,
    )


@model("kornia", x="float32[batch,3,h,w]")
def dexined():
    return get("kornia.models.dexined:DexiNed", pretrained=False)


@model("kornia", input="float32[batch,1,32,32]")
def hardnet():
    return get("kornia.feature:HardNet", pretrained=False)


@model("kornia", x="float32[batch,3,64,64]")
def tiny_vit():
    return get("kornia.models.tiny_vit:TinyViT", img_size=64, num_classes=5, embed_dims=[16, 16, 32, 32], depths=[1, 1, 1, 1],
               num_heads=[1, 1, 2, 2], window_sizes=[4, 4, 4, 2])  # fmt: skip


@model("kornia", input="float32[batch,1,32,32]")
def sift():
    return get("kornia.feature:SIFTDescriptor", patch_size=32)


@model("kornia", input=IMAGE)
def blur_and_edges():
    return torch.nn.Sequential(
        get("kornia.filters:GaussianBlur2d", kernel_size=(5, 5), sigma=(1.5, 1.5)), get("kornia.filters:Sobel")
    )


@model("kornia", input="float32[batch,3,h,w] < 1")
def colour_spaces():
    return torch.nn.Sequential(get("kornia.color:RgbToHsv"), get("kornia.color:HsvToRgb"), get("kornia.color:RgbToLab"))


ALL = list(MODELS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_model(name):
    with stubs():
        pytest.importorskip(MODELS[name][0], exc_type=ImportError)
        module, example, fresh, dynamic = build(name)
        row = measure(name, module, example, fresh, dynamic=dynamic)
    print(row)
    assert row.passed, str(row)


if __name__ == "__main__":
    with stubs():
        table(ALL, build)
