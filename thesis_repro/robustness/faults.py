"""Faults that public certifiers had, and the check that catches each of them in this one.

The list is read by the book (a table) and by the tests, which plant every fault and see it caught.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Fault:
    """One fault.

    name : what is planted
    fault : what goes wrong
    seen : where it was seen
    check : file and function of the test that catches it, below tests/
    arguments : what the test is called with
    """

    name: str
    fault: str
    seen: str
    check: str
    arguments: tuple[object, ...] = ()


BOUNDS = "robustness/test_lipschitz.py"
CERTIFY = "robustness/test_gloro.py"
ROUNDING = "robustness/test_rounding.py"
MARGINS = "robustness/test_margins.py"
CONDUCT = "robustness/test_faults.py"
STRUCTURE = "robustness/test_structure.py"
MODES = "robustness/test_modes.py"
HERE = "this package, an earlier state"

FAULTS = (
    Fault(
        "ties",
        "All entries equal to the largest logit are masked, so that ties are certified.",
        "klasleino/gloro, issue 9",
        f"{CERTIFY}::test_ties_are_never_certified",
    ),
    Fault(
        "normalisation",
        "A constant added inside a normalisation makes K too small for small weights.",
        "klasleino/gloro, issue 8",
        f"{BOUNDS}::test_estimate_is_scale_invariant",
        (1e-30,),
    ),
    Fault(
        "power iteration",
        "Ten steps of power iteration, a lower estimate, serve as the bound.",
        "gloro and liresnet, code",
        f"{BOUNDS}::test_bounds_are_never_below_5000_power_iterations_and_fast_is_close",
        (1,),
    ),
    Fault(
        "stop rule",
        "Power iteration stops when the iterate moves little, early on flat spectra.",
        "gloro, code",
        f"{BOUNDS}::test_bounds_are_never_below_5000_power_iterations_and_fast_is_close",
        (2,),
    ),
    Fault(
        "unknown layer",
        "A layer that is not known counts as 1-Lipschitz.",
        "gloro, code",
        f"{BOUNDS}::test_a_layer_that_is_not_known_is_refused",
    ),
    Fault(
        "max-pooling",
        "Max-pooling counts as 1-Lipschitz although its windows overlap.",
        "gloro, code",
        f"{BOUNDS}::test_measured_gain_is_within_the_bound",
        ("max 3x3/1",),
    ),
    Fault(
        "residual sum",
        "A residual sum counts as its branch alone.",
        "several",
        f"{BOUNDS}::test_other_residual_sums_get_the_sound_sum",
    ),
    Fault(
        "reshaped kernel",
        "The norm of the reshaped kernel stands for that of the convolution.",
        "pytorch, issue 99149",
        f"{BOUNDS}::test_bounds_are_never_below_5000_power_iterations_and_fast_is_close",
        (1,),
    ),
    Fault(
        "layer above 1",
        "A layer that is called 1-Lipschitz has a larger gain.",
        "deel-lip, issue 93",
        f"{BOUNDS}::test_measured_gain_is_within_the_bound",
        ("minmax",),
    ),
    Fault(
        "autocast",
        "TF32 or autocast is on while certifying.",
        "liresnet and BRONet, code",
        f"{ROUNDING}::test_reduced_precision_is_off_inside_and_restored_after",
    ),
    Fault(
        "rounding",
        "Rounding near the boundary is left out of the margin.",
        "arXiv 2205.10159, 2603.13334",
        f"{ROUNDING}::test_no_label_that_rounding_can_flip_is_certified",
    ),
    Fault(
        "input scaling",
        "Inputs are scaled and epsilon is not.",
        "convex_adversarial, script",
        f"{BOUNDS}::test_measured_gain_is_within_the_bound",
        ("scale",),
    ),
    Fault(
        "second logit",
        "Only the second-largest logit is compared.",
        "board of certified robustness, remark",
        f"{CERTIFY}::test_every_pair_counts_not_only_the_second_largest_logit",
    ),
    Fault(
        "NaN",
        "Logits that are NaN or infinite pass a comparison.",
        "general",
        f"{CERTIFY}::test_logits_that_are_not_finite_are_rejected",
        (float("inf"),),
    ),
    Fault(
        "crash",
        "A computation that crashes counts as a result.",
        "CTBench, pull requests 2 and 3",
        f"{CONDUCT}::check_that_a_crash_is_an_error",
    ),
    Fault(
        "checkpoint",
        "The checkpoint with the best VRA on the test set is kept.",
        "scripts of BCP and GloRo, code",
        f"{CONDUCT}::check_that_training_never_reads_the_test_set",
    ),
    Fault(
        "shuffling",
        "The data has the same order in every epoch.",
        "gloro, code",
        "test_training.py::test_every_point_is_seen_once_an_epoch_in_a_new_order",
    ),
    Fault(
        "schedule",
        "A schedule that should decay after half of training decays from the start.",
        "gloro, code",
        f"{CONDUCT}::check_that_decay_after_half_waits_for_half",
    ),
    Fault(
        "stale bound",
        "A bound is kept by the weights alone: a changed eps, stride or layer is not seen.",
        f"pytorch, issue 8208; {HERE}",
        f"{STRUCTURE}::test_a_changed_net_gets_the_bound_of_what_it_is_now",
        ("eps",),
    ),
    Fault(
        "hooks",
        "A hook or a replaced method makes a layer compute something else than its type says.",
        HERE,
        f"{STRUCTURE}::test_what_a_layer_does_unseen_is_refused_on_every_call",
        ("hook",),
    ),
    Fault(
        "broadcasting",
        "A scaling that makes three channels of one counts as its largest factor.",
        HERE,
        f"{STRUCTURE}::test_a_layer_that_makes_more_of_its_input_than_its_bound_counts_is_refused",
    ),
    Fault(
        "vanishing squares",
        "Squares of small weights vanish, and their norm counts as zero.",
        HERE,
        f"{STRUCTURE}::test_rows_and_columns_of_different_scales_are_counted",
        (torch.float32, 1e-25),
    ),
    Fault(
        "overflow",
        "A radius reaches to where sums may overflow.",
        HERE,
        f"{STRUCTURE}::test_a_radius_ends_where_the_format_might_overflow",
    ),
    Fault(
        "filter",
        "A float32 pass is taken for the float64 one, without its own rounding at the point.",
        "general",
        f"{MARGINS}::test_labels_and_verdicts_are_those_of_a_float64_pass",
        ("cancelling",),
    ),
    Fault(
        "closer look",
        "A second pass, in part in float64, is judged as if the whole ball were in float64.",
        "general",
        f"{MARGINS}::test_no_point_that_is_proved_for_the_other_function_is_counted",
    ),
    Fault(
        "two functions",
        "Points proved for the net in float32 and points proved for it in float64 are added up.",
        "general",
        f"{MARGINS}::test_no_point_that_is_proved_for_the_other_function_is_counted",
    ),
    Fault(
        "eps",
        "Batch normalisation adds its eps rounded to float32; the bound takes the exact one.",
        HERE,
        f"{STRUCTURE}::test_batch_normalisation_adds_its_eps_in_its_own_format",
        (1.00000005,),
    ),
    Fault(
        "transforms",
        "Convolutions by transforms (NNPACK) are on while certifying.",
        HERE,
        f"{ROUNDING}::test_reduced_precision_is_off_inside_and_restored_after",
    ),
    Fault(
        "training mode",
        "An attack asks the net in training mode, and breaks what was certified in eval mode.",
        "adversarial-attacks-pytorch, issue 21; foolbox, issue 74",
        f"{MODES}::test_the_mode_is_eval_inside_and_all_is_as_before",
        ("attacks.break_certificates",),
    ),
    Fault(
        "frozen layers",
        "Certifying puts layers that were frozen into training mode.",
        "avalanche, issue 772",
        f"{MODES}::test_the_mode_is_eval_inside_and_all_is_as_before",
        ("certifying.certify",),
    ),
    Fault(
        "pixel scale",
        "Smoothing takes pixels up to 255 and gives a radius in units of them.",
        "diffusion_denoised_smoothing, issue 2",
        "robustness/certifiers/test_smoothing.py::test_what_makes_no_sense_is_refused",
    ),
    Fault(
        "NaN attack",
        "A gradient that is not finite makes an attack return points that are not numbers.",
        HERE,
        "robustness/test_attacks.py::test_nothing_non_finite_leaves_an_attack",
        ("slope",),
    ),
)
