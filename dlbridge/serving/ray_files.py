"""Files that have a Ray cluster serve a repository: a Serve config, and a KubeRay manifest around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dlbridge import __version__
from dlbridge.files import check_free, replacing
from dlbridge.serving.repository import Repository
from dlbridge.serving.server import Settings

CONFIG, MANIFEST = "serve.yaml", "kuberay.yaml"
#: Where the manifest mounts the repository.
_MOUNT = "/models"


def write(path: Path, settings: Settings, folder: Path) -> list[Path]:
    """Write ``serve.yaml`` (for ``serve deploy``) and ``kuberay.yaml`` (for ``kubectl apply``).

    Args:
        path: The repository.
        settings: How to serve.
        folder: Where they are written.

    Returns:
        The files.

    Raises:
        FileError: When there is no such repository, or one of the files is there.
    """
    Repository(path, settings.models)
    folder.mkdir(parents=True, exist_ok=True)
    contents = {CONFIG: serve_config(path.resolve(), settings), MANIFEST: manifest(settings)}
    files = [check_free(folder / name) for name in contents]
    for file, content in zip(files, contents.values(), strict=True):
        with replacing(file) as fresh:
            fresh.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return files


def serve_config(path: Path, settings: Settings) -> dict[str, Any]:
    """Ray Serve's config. The front deploys the models itself, so the config need not change with the repository."""
    arguments: dict[str, Any] = {"path": str(path), "max_body": settings.max_body}
    if settings.models:
        arguments["models"] = list(settings.models)
    if settings.poll is not None:
        arguments["poll"] = settings.poll
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": settings.http_port or 8000},
        "grpc_options": {
            "port": settings.grpc_port or 8001,
            "grpc_servicer_functions": ["dlbridge.serving.on_ray:add_methods"],
        },
        "applications": [
            {
                "name": "dlbridge",
                "route_prefix": "/",
                "import_path": "dlbridge.serving.on_ray:application",
                "args": arguments,
            }
        ],
    }


def manifest(settings: Settings) -> dict[str, Any]:
    """A ``RayService`` of KubeRay: a head, and workers that come and go; the repository is on a volume that they share.

    The token comes from the secret ``dlbridge-token``.
    """
    environment = [
        {"name": "DLBRIDGE_TOKEN", "valueFrom": {"secretKeyRef": {"name": "dlbridge-token", "key": "token"}}}
    ]
    container = {
        "image": f"dlbridge-scale:{__version__}",
        "env": environment,
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}},
        "volumeMounts": [{"name": "models", "mountPath": _MOUNT, "readOnly": True}],
    }
    volumes = [{"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}}]
    ports = [
        {"containerPort": 6379, "name": "gcs"},
        {"containerPort": settings.http_port or 8000, "name": "http"},
        {"containerPort": settings.grpc_port or 8001, "name": "grpc"},
    ]

    def pods(name: str, **more: Any) -> dict[str, Any]:
        return {"template": {"spec": {"containers": [{"name": name, **container, **more}], "volumes": volumes}}}

    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "dlbridge"},
        "spec": {
            "serveConfigV2": yaml.safe_dump(serve_config(Path(_MOUNT), settings), sort_keys=False),
            "rayClusterConfig": {
                "enableInTreeAutoscaling": True,
                "headGroupSpec": {"rayStartParams": {}, **pods("head", ports=ports)},
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": 1,
                        "minReplicas": 1,
                        "maxReplicas": 4,
                        "rayStartParams": {},
                        **pods("worker"),
                    }
                ],
            },
        },
    }
