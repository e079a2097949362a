"""Augmentation: on the device, in batches, seeded."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Maps a batch (n, c, h, w) in [0, 1] to another one of that shape."""

CROP = 4
"""Black pixels on each side of an image before a random crop of the old size."""


def crop_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Crop each image at random from one with a black border, and mirror half of them.

    (n, c, h, w) to the same, on the device of x; `generator` is on that device too.

    Examples
    --------
    >>> crop_flip(torch.rand(2, 3, 32, 32), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 32, 32])
    """
    n, _, height, width = x.shape
    device = x.device
    top, left = torch.randint(0, 2 * CROP + 1, (2, n), generator=generator, device=device)
    mirrored = torch.rand(n, generator=generator, device=device) < 0.5
    columns = torch.arange(width, device=device).expand(n, width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns) + left[:, None]
    rows = torch.arange(height, device=device) + top[:, None]
    padded = nn.functional.pad(x, (CROP,) * 4)
    images = torch.arange(n, device=device)[:, None, None]
    cut = padded.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None]]
    return cut.permute(0, 3, 1, 2)


AUGMENTATIONS: dict[str, Augment | None] = {"none": None, "crop-flip": crop_flip}
"""Augmentations by the name that a configuration holds."""


def with_noise(augment: Augment | None, sigma: float) -> Augment:
    """Gaussian noise of deviation `sigma` on each pixel after an augmentation; not clipped.

    Examples
    --------
    >>> noisy = with_noise(None, 0.1)
    >>> noisy(torch.rand(2, 3, 8, 8), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 8, 8])
    """

    def noisy(x: Tensor, generator: torch.Generator) -> Tensor:
        x = x if augment is None else augment(x, generator)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return x + sigma * noise

    return noisy
