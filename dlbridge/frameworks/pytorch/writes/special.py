"""Special functions, all of which PyTorch has."""

from __future__ import annotations

from dlbridge.frameworks.pytorch.rules import rules
from dlbridge.ops.extension import DOMAIN
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, call

#: What PyTorch calls the functions of the ``dlbridge`` domain.
FUNCTIONS = {
    "BesselI0": "torch.i0",
    "BesselI0e": "torch.special.i0e",
    "BesselI1": "torch.special.i1",
    "BesselI1e": "torch.special.i1e",
    "BesselJ0": "torch.special.bessel_j0",
    "BesselJ1": "torch.special.bessel_j1",
    "BesselK0": "torch.special.modified_bessel_k0",
    "BesselK0e": "torch.special.scaled_modified_bessel_k0",
    "BesselK1": "torch.special.modified_bessel_k1",
    "BesselK1e": "torch.special.scaled_modified_bessel_k1",
    "BesselY0": "torch.special.bessel_y0",
    "BesselY1": "torch.special.bessel_y1",
    "Digamma": "torch.digamma",
    "Erfc": "torch.erfc",
    "Erfcx": "torch.special.erfcx",
    "Erfinv": "torch.erfinv",
    "Lgamma": "torch.lgamma",
    "Ndtri": "torch.special.ndtri",
    "Zeta": "torch.special.zeta",
}


@rules("Polygamma", domain=DOMAIN)
def polygamma(op: Op) -> Code:
    order = op.scalar(0)
    if order is None:
        op.refuse("the order of polygamma is computed by the model; PyTorch takes a number")
    return call("torch.polygamma", int(order), op[1])
