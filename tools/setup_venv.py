"""Make .venv and install what requirements.lock pins, once.

Run by the Makefile with any Python. A stamp named after the two files that decide what is
installed says that an installation was finished; one that was killed leaves no stamp and is
taken up again. Standard library only, and old syntax only, so that an old Python can say what
is wrong instead of stumbling over it.
"""

import hashlib
import os
import subprocess
import sys
import time

NEEDED = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def stamp_name(root):
    """Name of the stamp: it changes when the pins, the package's needs or Python change."""
    digest = hashlib.sha256()
    for name in ("requirements.lock", "pyproject.toml"):
        with open(os.path.join(root, name), "rb") as file:
            digest.update(file.read())
    digest.update(root.encode())  # a moved tree has a broken environment
    return "installed-py%d.%d-%s" % (sys.version_info[:2] + (digest.hexdigest()[:16],))


def works(python):
    """Whether the environment's interpreter starts and has pip, and is of this version."""
    check = "import pip, sys; sys.exit(sys.version_info[:2] != %r)" % (tuple(sys.version_info[:2]),)
    try:
        return subprocess.call([python, "-c", check], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def install(root):
    """Install into root/.venv unless the stamp says that it was done."""
    venv = os.path.join(root, ".venv")
    stamp = os.path.join(venv, stamp_name(root))
    python = os.path.join(venv, "bin", "python")
    if os.path.exists(stamp) and works(python):
        return
    start = time.time()
    print("setting up .venv (some 6 GB with torch; minutes, once)", flush=True)
    if not works(python):
        subprocess.check_call([sys.executable, "-m", "venv", "--clear", venv])
    # Python compiles a module when it is first imported; most of these 6 GB never are
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--no-compile"]
    quiet = [] if sys.stdout.isatty() else ["--progress-bar", "off"]
    subprocess.check_call(pip + quiet + ["-r", os.path.join(root, "requirements.lock")])
    subprocess.check_call(pip + ["--quiet", "--no-deps", "--no-build-isolation", "-e", root])
    subprocess.check_call([python, "-m", "pip", "check"])
    for name in os.listdir(venv):
        if name.startswith("installed-"):
            os.remove(os.path.join(venv, name))
    with open(stamp, "w"):
        pass
    print("installed in %.0f s" % (time.time() - start), flush=True)


def main():
    """Check the interpreter, wait for another installation, install."""
    if sys.version_info < NEEDED:
        found = "%d.%d" % sys.version_info[:2]
        sys.exit(
            "Python %s found; 3.11 or newer is needed: make PYTHON=/path/to/python3.11 book" % found
        )
    import fcntl

    with open(os.path.join(ROOT, ".venv.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            install(ROOT)
        except subprocess.CalledProcessError as error:
            sys.exit("set-up stopped: %s gave %d" % (" ".join(error.cmd), error.returncode))


if __name__ == "__main__":
    main()
