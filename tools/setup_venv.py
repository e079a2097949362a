"""Make .venv and install what requirements.lock pins, once.

Run by the Makefile with any Python. A stamp named after the two files that decide what is
installed says that an installation was finished; one that was killed leaves no stamp and is
taken up again. Standard library only, and old syntax only, so that an old Python can say what
is wrong instead of stumbling over it.
"""

import ast
import errno
import hashlib
import os
import subprocess
import sys
import time

NEEDED = (3, 11)
# what of the user's pip settings is kept: where packages come from and how to get there; a
# constraint chooses among the builds of a version, the version is pinned
KEPT = ("index-url", "extra-index-url", "no-index", "find-links", "trusted-host", "constraint")
KEPT += ("proxy", "cert", "client-cert", "keyring-provider", "cache-dir", "no-cache-dir")
KEPT += ("timeout", "default-timeout", "retries")
NOT_LOCKABLE = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def stamp_name(root):
    """Name of the stamp: it changes when the pins, the package's needs or Python change."""
    digest = hashlib.sha256()
    for name in ("requirements.lock", "pyproject.toml"):
        with open(os.path.join(root, name), "rb") as file:
            digest.update(file.read())
    digest.update(root.encode())  # a moved tree has a broken environment
    return "installed-py%d.%d-%s" % (sys.version_info[:2] + (digest.hexdigest()[:16],))


def environment():
    """The user's environment without what changes where Python looks and pip installs."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}


def pip_settings(listed):
    """Variables for the kept settings among the lines of `pip config list`.

    A later line goes over an earlier one; a variable goes over all, as with pip itself.
    """
    found = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in ("global", "install", ":env:") and key in KEPT:
            found.setdefault(section, {})[key] = ast.literal_eval(value)
    merged = {}
    for section in ("global", "install", ":env:"):
        merged.update(found.get(section, {}))
    return {"PIP_" + key.upper().replace("-", "_"): value for key, value in merged.items()}


def pip_environment(python):
    """The environment in which pip of this interpreter installs there, and nowhere else."""
    own = environment()
    asked = dict(own, **{k: v for k, v in os.environ.items() if k.startswith("PIP_")})
    # `user = yes` of a settings file would list the settings of that one file alone
    asked.update(PIP_USER="0", PIP_GLOBAL="0", PIP_SITE="0")
    listed = subprocess.check_output([python, "-m", "pip", "config", "list"], env=asked)
    return dict(own, PIP_CONFIG_FILE=os.devnull, PIP_USER="0", **pip_settings(listed.decode()))


def works(python):
    """Whether the environment's interpreter starts and has pip, and is of this version."""
    check = "import pip, sys; sys.exit(sys.version_info[:2] != %r)" % (tuple(sys.version_info[:2]),)
    try:
        command = [python, "-c", check]
        return subprocess.call(command, env=environment(), stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def installed(root):
    """Whether the stamp says that all was installed, and the interpreter still starts."""
    venv = os.path.join(root, ".venv")
    stamp = os.path.join(venv, stamp_name(root))
    return os.path.exists(stamp) and works(os.path.join(venv, "bin", "python"))


def install(root):
    """Install into root/.venv unless the stamp says that it was done."""
    if installed(root):
        return
    venv = os.path.join(root, ".venv")
    python = os.path.join(venv, "bin", "python")
    start = time.time()
    print("setting up .venv (some 6 GB with torch; minutes, once)", flush=True)
    if not works(python):
        subprocess.check_call([sys.executable, "-m", "venv", "--clear", venv], env=environment())
    env = pip_environment(python)
    # Python compiles a module when it is first imported; most of these 6 GB never are
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--no-compile"]
    quiet = [] if sys.stdout.isatty() else ["--progress-bar", "off"]
    lock = os.path.join(root, "requirements.lock")
    subprocess.check_call(pip + quiet + ["-r", lock], env=env)
    here = ["--quiet", "--no-deps", "--no-build-isolation", "-e", root]
    subprocess.check_call(pip + here, env=env)
    subprocess.check_call([python, "-m", "pip", "check"], env=env)
    for name in os.listdir(venv):
        if name.startswith("installed-"):
            os.remove(os.path.join(venv, name))
    with open(os.path.join(venv, stamp_name(root)), "w"):
        pass
    print("installed in %.0f s" % (time.time() - start), flush=True)


def lock(file):
    """Wait until nobody else holds this file; without locks in the file system, go on."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NOT_LOCKABLE:
            raise
        print("this file system has no locks: do not run make twice at a time", file=sys.stderr)


def main():
    """Check the interpreter, wait for another installation, install."""
    if sys.version_info < NEEDED:
        found = "%d.%d" % sys.version_info[:2]
        sys.exit(
            "Python %s found; 3.11 or newer is needed: make PYTHON=/path/to/python3.11 book" % found
        )
    try:
        if not installed(ROOT):  # a checkout that was set up may be read-only since
            with open(os.path.join(ROOT, ".venv.lock"), "w") as file:
                lock(file)
                install(ROOT)
    except subprocess.CalledProcessError as error:
        sys.exit("set-up stopped: %s gave %d" % (" ".join(error.cmd), error.returncode))
    except OSError as error:
        sys.exit("set-up stopped: %s" % error)


if __name__ == "__main__":
    main()
