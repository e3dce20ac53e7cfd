"""Makes LiteLLM's calls for `overhead.py --peers`, and makes the environment in which it is installed.

As a script it runs in that environment: it imports nothing of this project, and nothing of ours imports LiteLLM.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from overhead_loop import MODEL, Variant, request, serve

REQUIREMENTS = Path(__file__).with_name("peers.txt")
PACKAGES = ("litellm", "httpx", "aiohttp")


def installed() -> str:
    """The Python of the peers' environment, which is made at the first use. Raises CalledProcessError."""
    sum_ = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "cheapdeep_ops" / f"peers-{sum_}"
    python, mark = folder / "bin" / "python", folder / "installed"
    if not mark.exists():
        print(f"installing {REQUIREMENTS.name} into {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        # Wheels alone: a source distribution would run its own code here.
        options = ("-q", "--require-hashes", "--no-deps", "--only-binary", ":all:")
        subprocess.run([python, "-m", "pip", "install", *options, "-r", REQUIREMENTS], check=True)
        mark.touch()
    return str(python)


def environment() -> dict[str, str]:
    """The variables of the peers' process: no key of the caller's is among them."""
    # Without the second one, LiteLLM loads its prices from the network when it is imported.
    return {"PATH": os.defpath, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def made(kind: str, url: str) -> Variant:
    """The calls of LiteLLM's SDK, or of its Router."""
    import litellm  # noqa: PLC0415 - it is installed in the peers' environment alone

    given = request("bare")
    messages = [{"role": "system", "content": given["system"]}, *given["messages"]]
    arguments: dict[str, Any] = {"messages": messages, "max_tokens": given["max_tokens"]}
    target = {"model": f"anthropic/{MODEL}", "api_base": url, "api_key": "any"}
    if kind == "litellm-router":
        router = litellm.Router(model_list=[{"model_name": "deep", "litellm_params": target}])
        return Variant(call=lambda: router.acompletion(model="deep", **arguments))
    return Variant(call=lambda: litellm.acompletion(**target, **arguments))


if __name__ == "__main__":
    variant, api = sys.argv[1:]
    serve(lambda: made(variant.partition("/")[0], api), PACKAGES)
