"""What stands where in a net: its modules by name, and how its sequences come apart."""

import difflib

from torch import nn


def find(model: nn.Module, name: str) -> nn.Module:
    """The module of this dotted name.

    Raises
    ------
    ValueError
        If there is none; names that come close are listed.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    if name in modules:
        return modules[name]
    known = [n for n in modules if n]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:8]
    raise ValueError(f"no module is called {name!r}; close names: {', '.join(close)}")


def evaluating(model: object) -> None:
    """Refuse a net in training mode: it answers at random, and its statistics would move.

    Raises
    ------
    ValueError
        Naming the first module in training mode. A callable that is no nn.Module passes.
    """
    if not isinstance(model, nn.Module):
        return
    for name, module in model.named_modules():
        if module.training and not _sequential(module):  # the flag of a plain sequence is moot
            raise ValueError(f"{_where(name)} is in training mode; call model.eval() first")


def overwriting(model: nn.Module) -> None:
    """Refuse a net whose activations are written over.

    Raises
    ------
    ValueError
        Naming the first module that works in place.
    """
    for name, module in model.named_modules():
        if getattr(module, "inplace", False):
            raise ValueError(
                f"{_where(name)} ({type(module).__name__}) works in place and would overwrite the "
                f"activations; set its inplace to False"
            )


def _where(name: str) -> str:
    return f"module {name!r}" if name else "the model"


def _sequential(module: nn.Module) -> bool:
    return (
        getattr(type(module), "forward", None) is nn.Sequential.forward and len(module._modules) > 0
    )


def untouched(module: nn.Module) -> bool:
    """Whether a module computes what its type says: no hook of its own, no replaced forward."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    return not hooks and "forward" not in vars(module)


def places(model: nn.Module, module: nn.Module | None) -> int:
    """How often a module stands in a model, under any name."""
    found = [inner for _, inner in model.named_modules(remove_duplicate=False)]
    return sum(inner is module for inner in found)


def suffix(model: nn.Module, name: str) -> nn.Module | None:
    """What runs after a module as a net of its own; None where the way there is not sequential."""
    if not name:
        return model
    parts = _split(model, name)
    return None if parts is None else _sequence(parts[1])


def prefix(model: nn.Module, name: str) -> nn.Module:
    """What runs up to a module, and the module."""
    parts = _split(model, name)
    assert parts is not None
    return _sequence(parts[0])


def _sequence(modules: list[nn.Module]) -> nn.Sequential:
    found = nn.Sequential(*modules)
    found.training = False  # eval() would reach into the model
    return found


def _split(model: nn.Module, name: str) -> tuple[list[nn.Module], list[nn.Module]] | None:
    """The modules up to one of them, and those after it, if all the way there is sequential."""
    before: list[nn.Module] = []
    after: list[nn.Module] = []
    for part in name.split("."):
        if not (_sequential(model) and untouched(model) and part in model._modules):
            return None
        children = [
            (child, module) for child, module in model._modules.items() if module is not None
        ]
        place = [child for child, _ in children].index(part)
        before += [module for _, module in children[:place]]
        after = [*(module for _, module in children[place + 1 :]), *after]
        model = children[place][1]
    return [*before, model], after
