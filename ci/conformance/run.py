"""Runs other people's suites against a mock control plane: scim2-tester, and schemathesis with the OpenAPI document.

Usage: run.py PORTCULLIS [SCHEMATHESIS_ARGUMENT]...
Exit status: 0 when both are clean, 1 when one is not, 2 when there is no control plane to ask.
"""

import json
import os
import pathlib
import secrets
import subprocess
import sys
import urllib.request

HERE = pathlib.Path(__file__).parent
BIN = pathlib.Path(sys.executable).parent


def ask(url, headers, body):
    headers = {"content-type": "application/json", **headers}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def main():
    portcullis, *rest = sys.argv[1:]
    key = secrets.token_hex()
    password = secrets.token_hex()
    command = [portcullis, "control-plane", "--listen", "127.0.0.1:0", "--test-api"]
    plane = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "AUTHFI_API_KEY": key, "AUTHFI_TENANT": "acme"}
    )
    try:
        line = plane.stdout.readline()
        if not line.startswith("control plane: "):
            print(f"no control plane: {line}", file=sys.stderr)
            return 2
        url = line.removeprefix("control plane: ").strip()
        manage, manager = f"{url}/manage/v1/acme", {"x-api-key": key}
        agent = ask(f"{manage}/access/agents/register", manager, {"hostname": "conformance"})
        scim = ask(f"{manage}/scim/tokens", manager, {"source": "conformance"})["token"]
        ask(f"{url}/api/v1/users", manager, {"email": "suite@acme.com", "password": password})
        login = ask(f"{url}/v1/acme/auth/login", {}, {"email": "suite@acme.com", "password": password})

        environment = {
            **os.environ,
            "PLANE_API_KEY": key,
            "PLANE_AGENT_ID": agent["agent_id"],
            "PLANE_AGENT_SECRET": agent["agent_secret"],
            "PLANE_ACCESS_TOKEN": login["access_token"],
            "PLANE_SCIM_TOKEN": scim,
            "SCIM_CLI_HEADERS": f"Authorization: Bearer {scim}",
        }
        suites = [
            ("scim2-tester", [BIN / "scim2", "--url", f"{url}/scim/v2/acme", "test"]),
            (
                "schemathesis",
                [BIN / "st", "--config-file", HERE / "schemathesis.toml", "run", f"{url}/openapi.json", *rest],
            ),
        ]
        failed = []
        for name, command in suites:
            print(f"--- {name}", flush=True)
            if subprocess.run(command, env=environment).returncode != 0:
                failed.append(name)
            if plane.poll() is not None:
                print(f"the control plane ended: {plane.returncode}", file=sys.stderr)
                return 1
        if failed:
            print(f"not clean: {', '.join(failed)}", file=sys.stderr)
        return 1 if failed else 0
    finally:
        plane.kill()
        plane.wait()


sys.exit(main())
