"""Cases of resized images."""

from __future__ import annotations

from tests.helpers.op_cases.case import C, Case, X, case


def cases() -> list[Case]:
    image = X((2, 3, 4, 5))
    up, down = C([1, 1, 2, 2], "float32"), C([1, 1, 0.6, 0.7], "float32")
    found = [case("Resize", image, None, up, layer="F.interpolate("), case("Resize", image, None, down)]
    for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        for coordinates in ("half_pixel", "asymmetric", "align_corners"):
            options = {"nearest_mode": rounding, "coordinate_transformation_mode": coordinates}
            found.append(case("Resize", image, None, C([1, 1, 1.5, 3], "float32"), **options))
    for mode in ("linear", "cubic"):
        for coordinates in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric"):
            options = {"mode": mode, "coordinate_transformation_mode": coordinates}
            found.append(case("Resize", image, None, None, C([2, 3, 7, 9]), **options))
            found[-1] = case("Resize", X((2, 3, 4, 5), free=()), None, None, C([2, 3, 7, 9]), **options)
            found.append(case("Resize", image, None, down, **options, tolerance=1e-4))
        found.append(case("Resize", image, None, down, mode=mode, antialias=1, tolerance=1e-4))
        found.append(case("Resize", image, None, up, mode=mode, exclude_outside=1, tolerance=1e-4))
    crop = C([0, 0, 0.2, 0.1, 1, 1, 0.8, 1.2], "float32")
    crop_options = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 9.0}
    return [
        *found,
        case("Resize", image, None, up, mode="cubic", cubic_coeff_a=-0.5),
        case("Resize", X((2, 3, 4, 5), free=()), crop, None, C([2, 3, 3, 6]), mode="linear", **crop_options),
        case("Resize", image, None, None, C([7, 9]), axes=[2, 3], keep_aspect_ratio_policy="not_larger"),
        case(
            "Resize", image, None, None, C([7, 9]), axes=[2, 3], keep_aspect_ratio_policy="not_smaller", mode="linear"
        ),
        case("Resize", X((2, 3, 4)), None, C([1, 1, 2], "float32"), mode="linear", layer='mode="linear"'),
        case("Resize", X((2, 2, 2, 3, 2)), None, C([1, 1, 2, 2, 2], "float32"), mode="linear", layer="trilinear"),
    ]
