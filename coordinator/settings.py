"""Every setting, once: its flag, its environment variable, its default and its meaning come from here."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NewType
from urllib.parse import urlsplit

import platformdirs
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from coordinator.hosts import allowed_host, allowed_origin, is_loopback, read_host
from coordinator.redaction import without_credentials
from coordinator.secretfiles import read_file
from coordinator.storage.cluster import Cluster
from coordinator.storage.embedded import Fsync
from coordinator.storage.keys import Isolation
from coordinator.storage.topology import Topology
from coordinator.storage.url import topology_from_url

__all__ = ["RELOADED", "RELOADED_TLS", "File", "Settings"]

JWT_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")

LONGEST: Final = 10 * 365 * 86400.0  # seconds that a setting may name
LARGEST: Final = 2**40  # of anything that is counted
MAX_URL_BYTES: Final = 64 * 1024  # in the file of --redis-url-file

Port = Annotated[int, Field(ge=0, le=65535)]
Names = tuple[str, ...]
File = NewType("File", Path)
"""A path to a file; other paths are directories'."""


RELOADED_TLS: Final = frozenset({"tls_cert", "tls_key", "tls_client_ca", "tls_client_certs"})
"""What SIGHUP changes if it is TLS before and after."""
RELOADED: Final = RELOADED_TLS | {
    *("allowed_hosts", "allowed_origins", "log_level"),
    *("executor_rights", "reader_logs", "registration"),
    *("drain", "shutdown_grace"),
}
"""The settings that SIGHUP changes while serving; all others need a restart."""


def usable_cores() -> int:
    """The cores this process may use, where the system says, or those there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseModel):
    """What `herocoordinator serve` runs with. Times are in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    api_http_ip: str = Field("127.0.0.1", description="Address the HTTP API listens on.")
    api_http_port: Port = Field(9652, description="Port of the HTTP API; 0 takes a free one.")
    api_ws_ip: str = Field("127.0.0.1", description="Address the WebSocket API listens on.")
    api_ws_port: Port = Field(9653, description="Port of the WebSocket API; 0 takes a free one.")

    tls_cert: File | None = Field(
        None,
        description="Serve https:// and wss:// with the certificate in this file (PEM; ours first, then those between "
        "it and its root). Read again on SIGHUP, as are the next two.",
    )
    tls_key: File | None = Field(None, description="The file with its private key (PEM, without a passphrase).")
    tls_client_ca: File | None = Field(
        None, description="The file with the CAs that may have signed clients' certificates (PEM)."
    )
    tls_client_certs: Literal["none", "optional", "required"] | None = Field(
        None,
        description="Whether a client must show a certificate of --tls-client-ca: `none`, it is not asked; `optional`, "
        "a wrong one is refused; `required`, none is as well. Unless given, `required` with --tls-client-ca and `none` "
        "without.",
    )

    auth: Literal["none", "keys"] | None = Field(
        None,
        description="Who may call: `none`, whoever reaches the ports; `keys`, who logs in with a key or a token, and "
        "what each may is in SECURITY.md. Unless given, `none` on loopback; elsewhere it must be said.",
    )
    behind_proxy: Names = Field(
        (),
        description="Networks (CIDR) of a proxy that speaks TLS for us, with commas between. With it, --auth keys "
        "needs no --tls-cert off loopback, and only that proxy and this machine may connect. Where a client is, it is "
        "believed by X-Forwarded-For or Forwarded.",
    )
    operator_token_file: File | None = Field(
        None,
        description="File of the operator's one or two tokens, made if it is not there (0600). Unless given, "
        "operator.token in the data directory; with an external store and --auth keys it must be.",
    )
    metrics_token_file: File | None = Field(
        None, description="File of one or two tokens (hc_…) that show /metrics with --auth keys, beside the operator's."
    )
    jwt_keys: File | None = Field(
        None,
        description="With --auth keys, take JWTs of an identity provider that these public keys have signed: a file "
        "with a JWKS, or with keys or certificates in PEM, read again when it changes. Needs the extra `jwt`, and the "
        "next two.",
    )
    jwt_issuer: str | None = Field(None, description="What the claim `iss` of a JWT must be.")
    jwt_audience: str | None = Field(None, description="What the claim `aud` of a JWT must be, or have in a list.")
    jwt_algorithms: Names = Field(
        (),
        description="Algorithms of JWTs, with commas between. Unless given, what a JWKS says of a key; else RS256 of "
        "RSA, ES256, ES384 or ES512 by the curve, EdDSA of Ed25519.",
    )
    jwt_principal_claim: str = Field(
        "sub", description="The claim of a JWT that says whose it is: actor:ID or runner:CONTEXT:ID."
    )
    registration: Literal["closed", "open"] = Field(
        "closed",
        description="With --auth keys: `open`, anybody may create an actor that is not there yet, and an actor a "
        "context that is not there yet, of which it is an admin.",
    )
    executor_rights: Literal["submit", "run"] = Field(
        "submit",
        description="With --auth keys, executors may create, run and delete jobs, flows and messages of their own "
        "(`submit`), or run what admins have created under their id (`run`).",
    )
    reader_logs: Literal["hidden", "shown"] = Field(
        "hidden", description="Whether readers see log lines, with --auth keys."
    )

    audit_log: File | None = Field(
        None,
        description="File to which a JSON line is appended for each write, denial and login: who, what, where, the "
        "outcome, without params; `-` for standard error. A new file has mode 0600. See SECURITY.md.",
    )

    access_log: File | None = Field(
        None,
        description="File to which a JSON line is appended for each call: who, what, where, the outcome, how long it "
        "took and its request id, without params; `-` for standard error. A new file has mode 0600.",
    )

    otel_endpoint: str | None = Field(
        None,
        description="http:// or https:// URL of an OpenTelemetry collector that gets a span of each call and attempt, "
        "by OTLP over HTTP, such as http://127.0.0.1:4318. OTEL_* variables say the rest. Needs the extra `otel`.",
    )

    redis_url: str | None = Field(
        None,
        repr=False,
        description="An existing Redis (7 or newer) or Valkey: redis://, rediss:// or unix://, with redis-py's "
        "options; redis+cluster:// for a cluster, redis+sentinel:// for a master that Sentinels name. Without it an "
        "embedded Valkey keeps the data in the data directory.",
    )
    redis_url_file: File | None = Field(
        None,
        description="A file with that URL, for one with a password: every user of the machine sees a command line.",
    )
    redis_addr: str | None = Field(None, description="HOST:PORT, short for --redis-url redis://HOST:PORT.")
    isolation: Isolation = Field(
        "index",
        description="How contexts are kept apart: `index`, context N in database N; `prefix`, all in one database, "
        "keys under {N}:.",
    )
    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("herocoordinator", appauthor=False)),
        description="Where the embedded Valkey keeps its data.",
    )
    fsync: Fsync = Field(
        "always",
        description="When the embedded Valkey's writes reach the disk itself: `always`, before a write is "
        "acknowledged; `everysec`, within a second. Either survives kill -9 of every process.",
    )
    store_memory: NonNegativeInt | None = Field(
        None,
        description="Bytes of memory the embedded Valkey's data may take; at it, writes that need more are refused. 0 "
        "is no limit. By default half of what the machine, or its control group, has.",
    )

    workers: PositiveInt = Field(
        default_factory=usable_cores,
        description="Processes that serve, on the same ports; with 1 there is just one process.",
    )
    max_connections: PositiveInt = Field(
        4096,
        description="Clients connected at once, over HTTP and over WebSocket each, to all workers together; a further "
        "one gets 503. With --auth keys the last eighth is for who has fewer than 16. By default fewer where the limit "
        "of open files is low.",
    )
    max_in_flight: PositiveInt = Field(
        1024, description="Unanswered calls a WebSocket connection may have before it is not read from."
    )
    max_subscriptions: PositiveInt = Field(
        1000,
        description="Subscriptions of one WebSocket connection, and calls of job.take waiting at once in a worker. Of "
        "these a connection, or a runner, may have an eighth, and the clients at one address half; the last eighth, "
        "and a quarter more at each address, are for contexts of which fewer than 16 wait.",
    )
    max_body_bytes: PositiveInt = Field(1024 * 1024, description="Size of an HTTP body.")
    max_frame_bytes: PositiveInt = Field(1024 * 1024, description="Size of a WebSocket message.")
    max_batch_length: PositiveInt = Field(1000, description="Calls in one JSON-RPC batch.")
    max_batch_reply_bytes: PositiveInt = Field(
        16 * 1024 * 1024, description="Size of the reply to a batch; calls whose result is beyond it get an error."
    )
    max_unsent_bytes: PositiveInt = Field(
        16 * 1024 * 1024,
        description="Bytes of replies a connection may leave unaccepted, those expected of its calls on their way "
        "included; at it no more of its calls go to the store.",
    )
    caller_calls: NonNegativeInt = Field(
        0,
        description="Calls a second of one caller: of who has logged in, or else of an address (of IPv6 its /64). Two "
        "seconds' worth may come at once; what is more gets an error that says when to try again. Each of the workers "
        "counts by itself, and gives its share. 0 is no limit.",
    )
    caller_bytes: NonNegativeInt = Field(
        0, description="Bytes a second of one caller's messages and the replies to them, in the same way."
    )
    caller_store_time: NonNegativeFloat = Field(
        0.0,
        description="Seconds of the store's time a second that one caller's calls may take, as 0.2, in the same way: "
        "what a call takes is known after it, so those that come then are refused until it is paid for.",
    )
    context_jobs: NonNegativeInt = Field(
        0, description="Jobs one context may have; what would create more is refused. 0 is no limit."
    )
    context_flows: NonNegativeInt = Field(0, description="Flows one context may have, in the same way.")
    context_bytes: NonNegativeInt = Field(
        0,
        description="Bytes of memory the jobs, flows and messages of one context may take, results included, in the "
        "same way. The same for all coordinators of a store.",
    )
    max_result_bytes: PositiveInt = Field(
        1024 * 1024, description="Size of the result of a job or flow, as JSON; a larger one is refused."
    )
    mailbox_length: PositiveInt = Field(
        1024,
        description="Requests that may wait in one context's mailbox before senders have to wait; calls of one client "
        "that travel together are one.",
    )
    request_timeout: PositiveFloat = Field(30.0, description="A request is answered by then, if with an error.")
    client_write_timeout: PositiveFloat = Field(
        30.0, description="A client that accepts nothing of its replies for so long is disconnected."
    )
    ws_ping_interval: NonNegativeFloat = Field(
        20.0,
        description="A WebSocket client that was silent for so long is pinged, and disconnected if nothing comes "
        "within 20 s; 0 never pings.",
    )
    keep_alive_timeout: PositiveFloat = Field(75.0, description="An idle HTTP connection is closed after this.")

    store_connections: PositiveInt = Field(
        256,
        description="Contexts a worker serves at once, each with its own connection to the store; others take turns. "
        "By default fewer where the limit of open files is low.",
    )
    store_timeout: PositiveFloat = Field(
        5.0, description="The store may take so long to connect or to answer before it counts as lost."
    )
    context_idle_timeout: PositiveFloat = Field(
        60.0, description="An unused context's connection is closed after this."
    )
    lost_retries: Annotated[int, Field(ge=0, le=255)] = Field(
        3,
        description="Attempts that may follow one that was lost with its runner, of a job without `lost_retries` of "
        "its own. They do not count as `retries`.",
    )
    event_retention: PositiveFloat = Field(3600.0, description="The events of a flow are kept so long after it ended.")
    retention: NonNegativeFloat = Field(
        0.0, description="Flows and messages that ended are deleted after this, with their jobs; 0 keeps them."
    )
    shutdown_grace: PositiveFloat = Field(10.0, description="Time for requests in flight when told to stop.")
    drain: NonNegativeFloat = Field(
        0.0,
        description="On SIGTERM, serve on for so long while /readyz answers 503, so that load balancers send nobody "
        "here any more when it stops. SIGINT, or a second SIGTERM, stops at once.",
    )

    public_url: str | None = Field(
        None,
        description="http:// or https:// URL at which clients reach this server through a proxy, for both front-ends; "
        "its pages are our own, and the OpenRPC document names it as the server.",
    )
    allowed_origins: Names = Field(
        (),
        description="Origins of web pages that may call, beside the server's own; comma-separated, * for any.",
    )
    allowed_hosts: Names = Field(
        (),
        description="Names accepted in Host, beside loopback's, addresses off loopback, this machine's name, "
        "--public-url's and the certificate's; * for any.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least serious level logged.")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="`auto` is `console` on a terminal and `json` elsewhere."
    )

    @model_validator(mode="before")
    @classmethod
    def _read_redis_url(cls, given: Any) -> Any:
        """Once, so that every worker has the same."""
        path = given.get("redis_url_file") if isinstance(given, dict) else None
        if path is None or not str(path).strip():
            return given
        if given.get("redis_url") is not None:
            raise ValueError("give --redis-url or --redis-url-file, not both")
        try:
            url = read_file(Path(path).expanduser(), MAX_URL_BYTES)[0].decode().strip()
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"--redis-url-file: {path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}"
            ) from None
        if not url:
            raise ValueError(f"--redis-url-file: {path} is empty")
        return {**given, "redis_url": url}

    @field_validator("*", mode="before")
    @classmethod
    def _is_something(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            raise ValueError("is empty; leave it out for the default")
        return value

    @field_validator("*")
    @classmethod
    def _is_bounded(cls, value: Any) -> Any:
        if isinstance(value, float) and value > LONGEST:
            raise ValueError(f"is at most {LONGEST:.0f} s, which are ten years")
        if isinstance(value, int) and value > LARGEST:
            raise ValueError(f"is at most {LARGEST}")
        return value

    @field_validator("api_http_ip", "api_ws_ip")
    @classmethod
    def _can_be_looked_up(cls, address: str) -> str:
        host = address[1:-1] if address.startswith("[") and address.endswith("]") else address
        try:
            socket.getaddrinfo(host, None, socket.AF_INET6 if ":" in host else socket.AF_INET)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no name"
            raise ValueError(f"{address!r} is neither an IP address nor a name that leads to one: {reason}") from None
        return host

    @field_validator("redis_addr")
    @classmethod
    def _has_host_and_port(cls, address: str | None) -> str | None:
        host = None if address is None else read_host(address)
        if address is not None and (host is None or not host.port):
            raise ValueError(f"{without_credentials(address)!r} is no HOST:PORT, as 127.0.0.1:6379")
        return address

    @field_validator("data_dir")
    @classmethod
    def _is_in_a_place_there_is(cls, directory: Path) -> Path:
        try:
            expanded = directory.expanduser()
            expanded.absolute()
        except RuntimeError as error:
            raise ValueError(f"{directory}: {error}") from None
        except FileNotFoundError:
            raise ValueError(f"{directory}: the working directory is gone; give the whole path") from None
        return expanded

    @field_validator("public_url")
    @classmethod
    def _leads_to_a_server(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        is_bare = not parts.query and not parts.fragment and not any(character.isspace() for character in url)
        if parts.scheme not in ("http", "https") or read_host(parts.netloc) is None or not is_bare:
            raise ValueError(
                f"{without_credentials(url)!r} is no http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]"
            )
        return url.rstrip("/")

    @field_validator("otel_endpoint")
    @classmethod
    def _leads_to_a_collector(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise ValueError("credentials are not read from here: set OTEL_EXPORTER_OTLP_HEADERS")
        is_bare = not parts.query and not parts.fragment and not any(character.isspace() for character in url)
        if parts.scheme not in ("http", "https") or read_host(parts.netloc) is None or not is_bare:
            raise ValueError(f"{url!r} is no http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]")
        return url.rstrip("/")

    @field_validator("allowed_origins", "allowed_hosts")
    @classmethod
    def _are_names(cls, names: Names, info: ValidationInfo) -> Names:
        for name in names:
            (allowed_origin if info.field_name == "allowed_origins" else allowed_host)(name)
        return names

    @model_validator(mode="after")
    def _check_store(self) -> Settings:
        if self.redis_url is not None and self.redis_addr is not None:
            raise ValueError("give --redis-url or --redis-addr, not both")
        store = self.external_store()
        if self.isolation == "index" and isinstance(store, Cluster):
            raise ValueError(
                "a cluster keeps contexts apart by their keys, not by databases: it needs --isolation prefix"
            )
        if store is not None and self.isolation == "index" and store.database != 0:
            raise ValueError(
                f"the Redis URL names database {store.database}, but with --isolation index context N lives in "
                "database N; leave it out, or use --isolation prefix"
            )
        return self

    @field_validator("behind_proxy")
    @classmethod
    def _are_networks(cls, networks: Names) -> Names:
        for network in networks:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise ValueError(f"{network!r} is no network, as 10.0.0.0/24 or 10.0.0.7") from None
        return networks

    @model_validator(mode="after")
    def _check_auth(self) -> Settings:
        outside = [address for address in (self.api_http_ip, self.api_ws_ip) if not is_loopback(address)]
        if outside and self.auth is None:
            raise ValueError(
                f"{outside[0]} is not loopback: give --auth keys, so that callers log in, or --auth none to let "
                "everybody who reaches it call everything"
            )
        if self.auth != "keys":
            return self
        if outside and not (self.is_tls or self.behind_proxy):
            raise ValueError(
                f"{outside[0]} is not loopback: with --auth keys, tokens need TLS there: give --tls-cert and "
                "--tls-key, or --behind-proxy for a proxy that speaks it"
            )
        if self.external_store() is not None and self.operator_token_file is None:
            raise ValueError("--auth keys with an external store needs --operator-token-file, made if it is not there")
        return self

    @field_validator("jwt_algorithms")
    @classmethod
    def _are_of_public_keys(cls, algorithms: Names) -> Names:
        for algorithm in algorithms:
            if algorithm not in JWT_ALGORITHMS:
                raise ValueError(
                    f"{algorithm!r} is no algorithm that public keys verify; they are {', '.join(JWT_ALGORITHMS)}"
                )
        return algorithms

    @model_validator(mode="after")
    def _check_jwt(self) -> Settings:
        needed = {"--jwt-issuer": self.jwt_issuer, "--jwt-audience": self.jwt_audience}
        if self.jwt_keys is None:
            given = [flag for flag, value in needed.items() if value is not None]
            if given or self.jwt_algorithms:
                raise ValueError(f"{(*given, '--jwt-algorithms')[0]} needs --jwt-keys")
            return self
        missing = [flag for flag, value in needed.items() if value is None]
        if missing:
            raise ValueError(f"--jwt-keys needs {missing[0]}: a JWT for somebody else must not be good here")
        if self.auth != "keys":
            raise ValueError("--jwt-keys needs --auth keys: without that nobody logs in")
        return self

    @model_validator(mode="after")
    def _check_tls(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("cert", "key") if self.tls_key is None else ("key", "cert")
            raise ValueError(f"--tls-{given} needs --tls-{missing}")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("--tls-client-ca needs --tls-cert and --tls-key")
        if self.tls_client_certs in ("optional", "required") and self.tls_client_ca is None:
            raise ValueError(f"--tls-client-certs {self.tls_client_certs} needs --tls-client-ca")
        return self

    @property
    def has_logins(self) -> bool:
        """Whether callers log in."""
        return self.auth == "keys"

    @property
    def operator_file(self) -> Path:
        """Where the operator's tokens are, if callers log in."""
        return self.operator_token_file or self.data_dir / "operator.token"

    @property
    def is_tls(self) -> bool:
        """Whether both front-ends speak TLS."""
        return self.tls_cert is not None

    @property
    def client_certificates(self) -> Literal["none", "optional", "required"]:
        """What is asked of clients."""
        return self.tls_client_certs or ("none" if self.tls_client_ca is None else "required")

    def external_store(self) -> Topology | None:
        """The configured store, or None for the embedded one. Raises ValueError if the URL is not one."""
        url = f"redis://{self.redis_addr}" if self.redis_addr is not None else self.redis_url
        return None if url is None else topology_from_url(url)
