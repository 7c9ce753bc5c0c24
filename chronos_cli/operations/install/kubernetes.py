"""The tick as a CronJob (batch/v1): each pod runs what is due and ends with it.

Pods may overlap, since a claim is one conditional write; so a long job holds up nothing. Nothing is retried by the
cluster: the next tick is the retry.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from chronos_cli.errors import UsageError
from chronos_cli.operations.install import InstallResult, Piece, cron_fields, refuse, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.operations.install import Tick

_HOME = "/var/lib/chronos"
_IMAGE = "chronos:latest"
_MANIFEST = """\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
  labels:
    app.kubernetes.io/name: chronos
    app.kubernetes.io/component: tick
spec:
  schedule: "{schedule}"
  concurrencyPolicy: Allow
  startingDeadlineSeconds: 300
  successfulJobsHistoryLimit: 1
  failedJobsHistoryLimit: 3
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          automountServiceAccountToken: false
          securityContext:
            seccompProfile:
              type: RuntimeDefault
          containers:
            - name: tick
              image: {image}
              command: ["chronos", "tick"]
              env:
{env}
                - name: CHRONOS_NAS_TOKEN
                  valueFrom:
                    secretKeyRef:
                      name: chronos-nas
                      key: token
                      optional: true
              securityContext:
                allowPrivilegeEscalation: false
                capabilities:
                  drop: ["ALL"]
              volumeMounts:
                - name: home
                  mountPath: {home}
          volumes:
            - name: home
              persistentVolumeClaim:
                claimName: chronos-home
"""
_NOTE = "it expects the home in the volume claim chronos-home, and the NAS token, if any, in the secret chronos-nas"


def pieces(tick: Tick, environ: Mapping[str, str]) -> tuple[Piece, ...]:
    """Return the manifest. Raises UsageError."""
    del environ
    # The cluster decides the owner of a volume; this one is mounted for this home alone.
    variables = {**tick.variables, "CHRONOS_HOME": _HOME, "CHRONOS_SAFE_HOMES": _HOME}
    lines = [
        f"                - name: {name}\n                  value: {json.dumps(value)}"
        for name, value in sorted(variables.items())
    ]
    text = _MANIFEST.format(
        name=tick.name,
        schedule=cron_fields(tick.every_s),
        image=json.dumps(tick.image or _IMAGE),
        env="\n".join(lines),
        home=_HOME,
    )
    return (Piece(where=f"CronJob {tick.name}", text=text),)


def install(tick: Tick, environ: Mapping[str, str]) -> InstallResult:
    """Apply the manifest to the cluster that kubectl speaks to. Raises UsageError and InstallError."""
    if not tick.image:
        raise UsageError("which image has chronos is not known", hint="give --image")
    command = ("kubectl", "apply", "-f", "-")
    done = run(command, environ, text=pieces(tick, environ)[0].text)
    if done.returncode != 0:
        raise refuse(command, done)
    return InstallResult(changed="unchanged" not in done.stdout, where=f"CronJob {tick.name}", note=_NOTE)


def remove(tick: Tick, environ: Mapping[str, str]) -> InstallResult:
    """Delete the CronJob, if there is one. Raises InstallError."""
    command = ("kubectl", "delete", "cronjob", tick.name, "--ignore-not-found")
    done = run(command, environ)
    if done.returncode != 0:
        raise refuse(command, done)
    return InstallResult(changed="deleted" in done.stdout, where=f"CronJob {tick.name}")
