"""The Helm chart: what Helm makes of it, and that a coordinator starts with the settings it writes.

Helm is the one on the PATH, or is built by Go from its module; without either only the files themselves are looked at.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml

from coordinator import __version__
from coordinator.cli.cert import make_certificate
from coordinator.cli.serve import serve
from tests.support.server import coordinator

CHART: Final = Path(__file__).parents[1] / "deploy/helm/herocoordinator"
HELM: Final = "helm.sh/helm/v3/cmd/helm@v3.14.4"
SECRETS: Final = "/run/secrets/herocoordinator"
OPTIONS: Final = {name.removeprefix("--") for parameter in serve.params for name in parameter.opts}

TLS: Final = {"tls.secretName": "cert"}
EXTERNAL: Final = {**TLS, "store.external.urlSecretName": "url", "auth.operatorTokenSecretName": "operator"}

Render = Callable[..., subprocess.CompletedProcess[str]]


def values() -> Any:
    return yaml.safe_load((CHART / "values.yaml").read_text())


def schema() -> Any:
    return json.loads((CHART / "values.schema.json").read_text())


def test_the_default_values_are_what_the_schema_allows_and_each_has_a_place_in_it() -> None:
    jsonschema.Draft7Validator.check_schema(schema())
    jsonschema.validate(values(), schema())

    def compare(value: Any, place: Any, path: str) -> None:
        if isinstance(value, dict) and "properties" in place:
            assert {*value} == {*place["properties"]} - {"global"}, path
            for name, inner in value.items():
                compare(inner, place["properties"][name], f"{path}.{name}")

    compare(values(), schema(), "values")


def test_it_is_of_this_version_and_leaves_no_setting_to_two_values() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    owned = {*schema()["properties"]["settings"]["propertyNames"]["not"]["enum"]}

    assert chart["appVersion"] == __version__
    assert owned <= OPTIONS
    for wrong in ("tls-key", "redis-url", "HEROCOORDINATOR_FSYNC", "--fsync"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"settings": {wrong: "x"}}, schema())


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if (found := shutil.which("helm")) is not None:
        return Path(found)
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    reason = "there is neither Helm nor Go"
    if go is not None:
        directory = tmp_path_factory.mktemp("helm")
        done = subprocess.run(
            [go, "install", HELM],
            env={**os.environ, "GOBIN": str(directory), "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local"},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        if done.returncode == 0:
            return directory / "helm"
        reason = f"Go cannot build Helm: {done.stderr[-300:]}"
    warnings.warn(f"{reason}: NO test renders the Helm chart", stacklevel=1)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def render(helm: Path) -> Render:
    """What `helm template`, or another command, says with these values."""

    def run(given: dict[str, Any], command: tuple[str, ...] = ("template", "hero")) -> subprocess.CompletedProcess[str]:
        options = [word for name, value in given.items() for word in ("--set-json", f"{name}={json.dumps(value)}")]
        return subprocess.run(
            [helm, *command, str(CHART), "--namespace", "jobs", "--kube-version", "1.31.0", *options],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def manifests(render: Render, given: dict[str, Any]) -> dict[tuple[str, str], Any]:
    done = render(given)
    assert done.returncode == 0, done.stderr
    found = [one for one in yaml.safe_load_all(done.stdout) if one]
    assert all(one["metadata"]["namespace"] == "jobs" for one in found)
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def pod_of(found: dict[tuple[str, str], Any]) -> Any:
    return found["StatefulSet", "hero-herocoordinator"]["spec"]["template"]["spec"]


def settings_of(found: dict[tuple[str, str], Any]) -> dict[str, Any]:
    written = found["ConfigMap", "hero-herocoordinator"]["data"]["coordinator.toml"]
    settings = tomllib.loads(written)
    assert {*settings} <= OPTIONS
    return settings


@pytest.mark.slow
@pytest.mark.timeout(960)
class TestRendered:
    def test_helm_lints_it(self, render: Render) -> None:
        for given in (TLS, EXTERNAL, {"auth.mode": "none"}):
            done = render(given, ("lint", "--strict"))
            assert done.returncode == 0, done.stdout

    def test_with_the_embedded_store_a_volume_is_claimed_and_the_pod_may_do_nothing_else(self, render: Render) -> None:
        found = manifests(render, TLS)
        whole = found["StatefulSet", "hero-herocoordinator"]
        pod = pod_of(found)
        (container,) = pod["containers"]

        (claim,) = whole["spec"]["volumeClaimTemplates"]
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert {*mounts} == {claim["metadata"]["name"], *(volume["name"] for volume in pod["volumes"])}
        assert whole["spec"]["serviceName"] == "hero-herocoordinator-headless"
        environment = {one["name"]: one["value"] for one in container["env"]}
        assert environment["HEROCOORDINATOR_DATA_DIR"].startswith(mounts["data"]["mountPath"] + "/")
        assert (pod["securityContext"]["runAsNonRoot"], pod["enableServiceLinks"]) == (True, False)
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"] == "2Gi"

    def test_the_services_lead_to_the_pods_ports(self, render: Render) -> None:
        found = manifests(render, {**TLS, "service.httpPort": 443})
        template = found["StatefulSet", "hero-herocoordinator"]["spec"]["template"]
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}

        assert ports == {"http": 9652, "ws": 9653}
        for name in ("hero-herocoordinator", "hero-herocoordinator-headless"):
            spec = found["Service", name]["spec"]
            assert spec["selector"].items() <= template["metadata"]["labels"].items()
            assert {port["targetPort"] for port in spec["ports"]} == {*ports}
        assert {p["name"]: p["port"] for p in found["Service", "hero-herocoordinator"]["spec"]["ports"]} == {
            "http": 443,
            "ws": 9653,
        }

    @pytest.mark.parametrize(
        ("given", "kind", "says"),
        [
            (TLS, "httpGet", {"path": "/readyz", "port": "http", "scheme": "HTTPS"}),
            ({"auth.mode": "none"}, "httpGet", {"path": "/readyz", "port": "http", "scheme": "HTTP"}),
            ({**TLS, "tls.clientCaSecretName": "ca", "tls.clientCerts": "required"}, "tcpSocket", {"port": "http"}),
            ({"behindProxy": ["10.0.0.0/8"]}, "exec", None),
        ],
        ids=["tls", "plain", "certificates of clients", "proxy"],
    )
    def test_the_kubelet_asks_in_a_way_that_is_answered(
        self, render: Render, given: dict[str, Any], kind: str, says: Any
    ) -> None:
        (container,) = pod_of(manifests(render, given))["containers"]

        assert kind in container["startupProbe"]
        assert kind in container["livenessProbe"]
        probe = container["readinessProbe"]
        assert says is None or probe[kind] == says
        if kind == "exec":
            code = probe["exec"]["command"][-1]
            compile(code, "probe", "exec")
            assert "http://localhost:9652/readyz" in code

    def test_it_is_given_the_time_that_it_takes_to_stop(self, render: Render) -> None:
        found = manifests(render, {**TLS, "drainSeconds": 12.5, "shutdownGraceSeconds": 40})

        assert (settings_of(found)["drain"], settings_of(found)["shutdown-grace"]) == (12.5, 40)
        assert pod_of(found)["terminationGracePeriodSeconds"] == 13 + 40 + 30

    def test_an_external_store_takes_its_url_from_a_secret(self, render: Render) -> None:
        found = manifests(render, {**EXTERNAL, "replicas": 3, "store.isolation": "prefix"})
        whole, pod = found["StatefulSet", "hero-herocoordinator"], pod_of(found)
        volumes = {volume["name"]: volume for volume in pod["volumes"]}

        assert "volumeClaimTemplates" not in whole["spec"]
        assert volumes["store"]["secret"]["items"] == [{"key": "url", "path": "url"}]
        assert volumes["data"] == {"name": "data", "emptyDir": {}}
        assert settings_of(found)["redis-url-file"] == f"{SECRETS}/store/url"
        assert all(volume["secret"]["defaultMode"] == 0o440 for volume in volumes.values() if "secret" in volume)
        mounted = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        named = {value for value in settings_of(found).values() if str(value).startswith(SECRETS)}
        assert {str(Path(path).parent) for path in named} == {path for path in mounted if path.startswith(SECRETS)}

    def test_other_settings_keep_their_kinds(self, render: Render) -> None:
        given = {"max-body-bytes": 4194304, "retention": 604800.5, "allowed-origins": ["https://a.example"]}

        settings = settings_of(manifests(render, {**TLS, "settings": {**given, "log-level": 'a"b'}}))

        assert {name: settings[name] for name in given} == given
        assert type(settings["max-body-bytes"]) is int
        assert settings["log-level"] == 'a"b'
        assert "hero-herocoordinator.jobs.svc" in settings["allowed-hosts"]

    def test_files_that_settings_name_are_mounted(self, render: Render) -> None:
        volume = {"name": "jwt", "configMap": {"name": "idp"}}
        mount = {"name": "jwt", "mountPath": "/etc/jwt", "readOnly": True}
        pod = pod_of(manifests(render, {**TLS, "extraVolumes": [volume], "extraVolumeMounts": [mount]}))

        assert volume in pod["volumes"]
        assert mount in pod["containers"][0]["volumeMounts"]

    def test_a_change_of_the_settings_starts_the_pods_anew(self, render: Render) -> None:
        def checksum(given: dict[str, Any]) -> str:
            template = manifests(render, given)["StatefulSet", "hero-herocoordinator"]["spec"]["template"]
            return str(template["metadata"]["annotations"]["checksum/config"])

        assert checksum(TLS) == checksum(TLS) != checksum({**TLS, "settings": {"retention": 60}})

    def test_prometheus_is_told_of_it_when_that_is_wanted(self, render: Render) -> None:
        monitored = {**TLS, "auth.metricsTokenSecretName": "metrics", "serviceMonitor.enabled": True}
        found = manifests(render, {**monitored, "serviceMonitor.caSecretName": "ca"})
        (endpoint,) = found["ServiceMonitor", "hero-herocoordinator"]["spec"]["endpoints"]

        assert (endpoint["port"], endpoint["path"], endpoint["scheme"]) == ("http", "/metrics", "https")
        assert endpoint["authorization"]["credentials"] == {"name": "metrics", "key": "metrics.token"}
        assert endpoint["tlsConfig"]["serverName"] == "hero-herocoordinator.jobs.svc"
        assert not [kind for kind, _ in manifests(render, TLS) if kind == "ServiceMonitor"]

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ({}, "give tls.secretName, or behindProxy"),
            ({**TLS, "replicas": 2}, "replicas: the embedded store belongs to one coordinator"),
            ({**TLS, "store.external.urlSecretName": "url"}, "needs auth.operatorTokenSecretName"),
            ({"auth.mode": "none", "tls.clientCaSecretName": "ca"}, "needs tls.secretName"),
            ({**TLS, "serviceMonitor.enabled": True}, "needs auth.metricsTokenSecretName"),
            ({**TLS, "settings": {"redis-url": "redis://:secret@store"}}, "redis-url"),
            ({**TLS, "replica": 2}, "replica"),
            ({**TLS, "persistence.size": "ten"}, "persistence.size"),
        ],
    )
    def test_what_would_not_start_or_lose_data_is_refused(
        self, render: Render, given: dict[str, Any], says: str
    ) -> None:
        done = render(given)

        assert done.returncode != 0
        assert says in done.stderr

    def test_a_coordinator_starts_as_the_pod_says(self, render: Render, tmp_path: Path) -> None:
        given = {**TLS, "auth.operatorTokenSecretName": "operator", "settings": {"fsync": "everysec"}}
        found = manifests(render, given)
        (container,) = pod_of(found)["containers"]
        _, certificate, key = make_certificate(("localhost", "hero-herocoordinator"), 1)
        token = "hc_" + base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
        for name, content in {
            "tls/tls.crt": certificate,
            "tls/tls.key": key,
            "operator/operator.token": token.encode(),
        }.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o400)
        config = tmp_path / "coordinator.toml"
        config.write_text(
            found["ConfigMap", "hero-herocoordinator"]["data"]["coordinator.toml"].replace(SECRETS, str(tmp_path))
        )
        assert container["args"] == ["serve", "--config", "/etc/herocoordinator/coordinator.toml"]
        environment = {one["name"]: one["value"] for one in container["env"]}
        environment["HEROCOORDINATOR_DATA_DIR"] = str(tmp_path / "volume/data")

        with coordinator("--config", str(config), env=environment) as server:
            port = server.http.rpartition(":")[2]
            asked = subprocess.run(
                ["curl", "-sk", "-H", "Host: hero-herocoordinator.jobs.svc", f"https://127.0.0.1:{port}/readyz"],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            server.process.kill()  # it would drain
        assert (asked.returncode, "ready" in asked.stdout.lower()) == (0, True), asked
