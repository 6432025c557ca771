{{- define "herocoordinator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "herocoordinator.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "herocoordinator.labels" -}}
{{ include "herocoordinator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{/* What would not start, or would lose data, is refused here, with the way out. */}}
{{- define "herocoordinator.check" -}}
{{- $external := .Values.store.external.urlSecretName -}}
{{- if and (gt (int .Values.replicas) 1) (not $external) -}}
{{- fail "replicas: the embedded store belongs to one coordinator; give store.external.urlSecretName, or 1" -}}
{{- end -}}
{{- if eq .Values.auth.mode "keys" -}}
{{- if not (or .Values.tls.secretName .Values.behindProxy) -}}
{{- fail "auth.mode: keys: tokens need TLS; give tls.secretName, or behindProxy for a proxy that speaks it" -}}
{{- end -}}
{{- if and $external (not .Values.auth.operatorTokenSecretName) -}}
{{- fail "auth.mode: keys with an external store needs auth.operatorTokenSecretName" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.tls.clientCaSecretName (not .Values.tls.secretName) -}}
{{- fail "tls.clientCaSecretName needs tls.secretName" -}}
{{- end -}}
{{- if .Values.serviceMonitor.enabled -}}
{{- if and (eq .Values.auth.mode "keys") (not .Values.auth.metricsTokenSecretName) -}}
{{- fail "serviceMonitor.enabled: with auth.mode: keys it needs auth.metricsTokenSecretName" -}}
{{- end -}}
{{- if .Values.behindProxy -}}
{{- fail "serviceMonitor.enabled: with behindProxy nobody but the proxy may connect; have Prometheus ask that" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A value of TOML. Helm reads every number as a float; whole ones are written as such. */}}
{{- define "herocoordinator.toml" -}}
{{- if kindIs "float64" . -}}
{{- if eq (floor .) . }}{{ printf "%.0f" . }}{{ else }}{{ toJson . }}{{ end -}}
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}

{{- define "herocoordinator.config" -}}
{{- $name := include "herocoordinator.fullname" . -}}
{{- $service := printf "%s.%s" $name .Release.Namespace -}}
{{- $hosts := list $name $service (printf "%s.svc" $service) (printf "%s.svc.%s" $service .Values.clusterDomain) -}}
auth = {{ toJson .Values.auth.mode }}
workers = {{ int .Values.workers }}
drain = {{ include "herocoordinator.toml" .Values.drainSeconds }}
shutdown-grace = {{ include "herocoordinator.toml" .Values.shutdownGraceSeconds }}
isolation = {{ toJson .Values.store.isolation }}
allowed-hosts = {{ concat $hosts .Values.allowedHosts | toJson }}
{{- if .Values.behindProxy }}
behind-proxy = {{ toJson .Values.behindProxy }}
{{- end }}
{{- if .Values.tls.secretName }}
tls-cert = "/run/secrets/herocoordinator/tls/tls.crt"
tls-key = "/run/secrets/herocoordinator/tls/tls.key"
{{- end }}
{{- if .Values.tls.clientCaSecretName }}
tls-client-ca = "/run/secrets/herocoordinator/client-ca/ca.crt"
tls-client-certs = {{ toJson .Values.tls.clientCerts }}
{{- end }}
{{- if .Values.auth.operatorTokenSecretName }}
operator-token-file = "/run/secrets/herocoordinator/operator/operator.token"
{{- end }}
{{- if .Values.auth.metricsTokenSecretName }}
metrics-token-file = "/run/secrets/herocoordinator/metrics/metrics.token"
{{- end }}
{{- if .Values.store.external.urlSecretName }}
redis-url-file = "/run/secrets/herocoordinator/store/url"
{{- end }}
{{- range $key, $value := .Values.settings }}
{{ $key }} = {{ include "herocoordinator.toml" $value }}
{{- end }}
{{- end -}}

{{/* How a kubelet looks: it has no client certificate, and is not the proxy. Call it with (list $ PATH). */}}
{{- define "herocoordinator.probe" -}}
{{- $root := index . 0 -}}
{{- $path := index . 1 -}}
{{- $tls := $root.Values.tls.secretName -}}
{{- if and $root.Values.tls.clientCaSecretName (eq $root.Values.tls.clientCerts "required") -}}
tcpSocket:
  port: http
{{- else if $root.Values.behindProxy -}}
exec:
  command:
    - python3
    - -c
    - >-
      import ssl, urllib.request;
      urllib.request.urlopen("{{ ternary "https" "http" (not (not $tls)) }}://localhost:9652{{ $path }}", timeout=4
      {{- if $tls }}, context=ssl._create_unverified_context(){{ end }})
{{- else -}}
httpGet:
  path: {{ $path }}
  port: http
  scheme: {{ ternary "HTTPS" "HTTP" (not (not $tls)) }}
{{- end -}}
{{- end -}}
