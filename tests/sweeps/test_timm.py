"""A small member of each architecture family of ``timm``: PyTorch -> PyTorch, ONNX, Keras.

``python -m tests.sweeps.test_timm [name ...]`` prints the table.
"""

from __future__ import annotations

import pytest
import torch

from tests.sweeps import torchvision_cpu  # noqa: F401  (before torchvision, which timm imports)

timm = pytest.importorskip("timm")

from tests.sweeps.measure import measure, randomised, table

#: Smallest image of the architectures that take any size; 64 where none is named.
SIZES = {"inception_resnet_v2": 96, "inception_v3": 96, "inception_v4": 96, "botnet26t_256": 256, "halonet26t": 256}
#: What makes the smallest member smaller: fewer blocks, and for architectures of one fixed size that size.
OPTIONS: dict[str, dict[str, object]] = {
    "beit_base_patch16_224": {"img_size": 64, "depth": 2, "embed_dim": 96, "num_heads": 4},
    "cait_xxs24_224": {"img_size": 64, "depth": 2},
    "coat_tiny": {"img_size": 64},
    "convit_tiny": {"img_size": 64},
    "crossvit_tiny_240": {"img_size": 240},
    "deit_tiny_distilled_patch16_224": {"img_size": 64, "depth": 3},
    "efficientformer_l1": {"img_size": 224},
    "efficientformerv2_s0": {"img_size": 224},
    "efficientvit_m0": {"img_size": 224},
    "eva02_tiny_patch14_224": {"img_size": 56, "depth": 3},
    "gcvit_xxtiny": {"img_size": 224},
    "gmixer_12_224": {"img_size": 64},
    "gmlp_ti16_224": {"img_size": 64},
    "hiera_tiny_224": {"img_size": 224, "embed_dim": 32},
    "levit_128s": {"img_size": 224},
    "levit_conv_128s": {"img_size": 224},
    "mixer_s32_224": {"img_size": 64},
    "mvitv2_tiny": {"img_size": 64},
    "nest_tiny": {"img_size": 64},
    "pit_ti_224": {"img_size": 64},
    "resmlp_12_224": {"img_size": 64},
    "samvit_base_patch16_224": {"img_size": 64, "depth": 3, "embed_dim": 96, "num_heads": 4, "window_size": 3},
    "sequencer2d_s": {"img_size": 224},
    "swin_tiny_patch4_window7_224": {"img_size": 112, "depths": (2, 2, 1, 1), "embed_dim": 48},
    "swinv2_cr_tiny_224": {"img_size": 64, "depths": (2, 2, 1, 1), "embed_dim": 48},
    "swinv2_tiny_window8_256": {"img_size": 128, "depths": (2, 2, 1, 1), "embed_dim": 48},
    "test_coatnet": {"img_size": 160},
    "test_maxvit": {"img_size": 160},
    "tnt_s_patch16_224": {"img_size": 64, "depth": 3},
    "twins_pcpvt_small": {"img_size": 64},
    "twins_svt_small": {"img_size": 64},
    "visformer_tiny": {"img_size": 64},
    "vitamin_small_224": {"img_size": 64},
    "vit_relpos_small_patch16_224": {"img_size": 64, "depth": 3},
    "vit_srelpos_small_patch16_224": {"img_size": 64, "depth": 3},
    "vit_tiny_patch16_224": {"img_size": 64, "depth": 3},
    "vit_tiny_r_s16_p8_224": {"img_size": 64, "depth": 3},
    "volo_d1_224": {"img_size": 64},
    "xcit_nano_12_p16_224": {"img_size": 64, "depth": 3},
}
CONVOLUTIONAL = [
    "convnext_atto",
    "convnextv2_atto",
    "cs3darknet_focus_s",
    "cspresnet50",
    "cspnext_tiny",
    "densenet121",
    "dla46_c",
    "dpn48b",
    "eca_resnext26ts",
    "efficientnet_lite0",
    "ese_vovnet19b_slim",
    "fasternet_t0",
    "fbnetv3_b",
    "gernet_s",
    "ghostnet_050",
    "ghostnetv2_100",
    "ghostnetv3_050",
    "hardcorenas_a",
    "hgnetv2_b0",
    "hrnet_w18_small",
    "inception_next_atto",
    "inception_resnet_v2",
    "inception_v3",
    "inception_v4",
    "lcnet_050",
    "lcnetv2_small",
    "legacy_seresnet18",
    "mixnet_s",
    "mnasnet_small",
    "mobilenet_edgetpu_v2_xs",
    "mobilenetv1_100",
    "mobilenetv2_035",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small_050",
    "mobileone_s0",
    "nasnetalarge",
    "nf_regnet_b0",
    "pnasnet5large",
    "regnetx_002",
    "regnety_002",
    "regnetz_b16",
    "rdnet_tiny",
    "repghostnet_050",
    "repvgg_a0",
    "res2net50_48w_2s",
    "resnest14d",
    "resnet10t",
    "resnetblur18",
    "resnetv2_18",
    "resnetv2_50x1_bit",
    "rexnet_100",
    "selecsls42",
    "semnasnet_050",
    "seresnet18",
    "skresnet18",
    "spnasnet_100",
    "starnet_s050",
    "test_nfnet",
    "tf_efficientnet_b0",
    "tf_efficientnetv2_b0",
    "tf_mobilenetv3_small_minimal_100",
    "tinynet_e",
    "tresnet_m",
    "xception",
    "xception41",
]
MIXED = [
    "botnet26t_256",
    "coat_tiny",
    "convit_tiny",
    "convmixer_768_32",
    "cpubone_nano",
    "csatv2",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "efficientvim_m1",
    "efficientvit_b0",
    "efficientvit_m0",
    "fastvit_t8",
    "focalnet_tiny_srf",
    "gcresnext26ts",
    "halonet26t",
    "iformer_t",
    "lambda_resnet26t",
    "levit_128s",
    "levit_conv_128s",
    "lowformer_b0",
    "mambaout_femto",
    "mobilenetv4_hybrid_medium_075",
    "mobilevit_xxs",
    "mobilevitv2_050",
    "nextvit_small",
    "poolformer_s12",
    "poolformerv2_s12",
    "caformer_s18",
    "convformer_s18",
    "repvit_m0_9",
    "shvit_s1",
    "swiftformer_xs",
    "test_coatnet",
    "test_maxvit",
    "tiny_vit_5m_224",
    "vit_tiny_r_s16_p8_224",
    "vitamin_small_224",
]
TRANSFORMERS = [
    "beit_base_patch16_224",
    "cait_xxs24_224",
    "crossvit_tiny_240",
    "davit_tiny",
    "deit_tiny_distilled_patch16_224",
    "eva02_tiny_patch14_224",
    "gcvit_xxtiny",
    "hiera_tiny_224",
    "mvitv2_tiny",
    "nest_tiny",
    "pit_ti_224",
    "pvt_v2_b0",
    "samvit_base_patch16_224",
    "swin_tiny_patch4_window7_224",
    "swinv2_cr_tiny_224",
    "swinv2_tiny_window8_256",
    "tnt_s_patch16_224",
    "twins_pcpvt_small",
    "twins_svt_small",
    "visformer_tiny",
    "vit_relpos_small_patch16_224",
    "vit_srelpos_small_patch16_224",
    "vit_tiny_patch16_224",
    "volo_d1_224",
    "xcit_nano_12_p16_224",
]
MLP = ["gmixer_12_224", "gmlp_ti16_224", "mixer_s32_224", "resmlp_12_224", "sequencer2d_s"]
ALL = [*CONVOLUTIONAL, *MIXED, *TRANSFORMERS, *MLP]


def build(name: str):
    """(module, example inputs, fresh inputs of another batch size)."""
    torch.manual_seed(0)
    options = OPTIONS.get(name, {})
    size = options.get("img_size", SIZES.get(name, 64))
    module = randomised(timm.create_model(name, num_classes=10, **options))
    return module, (torch.randn(2, 3, size, size),), (torch.randn(3, 3, size, size),)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_architecture(name):
    row = measure(name, *build(name))
    print(row)
    assert row.passed, str(row)


if __name__ == "__main__":
    table(ALL, build)
