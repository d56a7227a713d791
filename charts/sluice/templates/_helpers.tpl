{{- define "sluice.name" -}}
{{- if contains "sluice" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-sluice{{ end }}
{{- end }}

{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sluice.labels" -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "sluice.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* An HTTP probe of the daemon: (list CONTEXT PATH). The pod's address is the node's. */}}
{{- define "sluice.probe" -}}
{{- $root := index . 0 -}}
host: 127.0.0.1
path: {{ index . 1 }}
port: {{ $root.Values.health.port }}
{{- end }}

{{- /* The versions of the CNI specification up to cni.version, as a JSON list. */}}
{{- define "sluice.cniVersions" -}}
{{- $versions := list }}
{{- range list "0.3.1" "0.4.0" "1.0.0" "1.1.0" }}
{{- if semverCompare (printf "<=%s" $.Values.cni.version) . }}{{ $versions = append $versions . }}{{ end }}
{{- end }}
{{- toJson $versions }}
{{- end }}

{{- /* Not empty: the API server knows the field for AppArmor. Before it is an annotation. */}}
{{- define "sluice.appArmorField" -}}
{{- if semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version }}yes{{ end }}
{{- end }}

{{- define "sluice.appArmorAnnotation" -}}
{{- $profile := .Values.appArmorProfile -}}
{{- if eq $profile.type "Unconfined" }}unconfined
{{- else if eq $profile.type "RuntimeDefault" }}runtime/default
{{- else }}localhost/{{ required "appArmorProfile.localhostProfile is missing" $profile.localhostProfile }}
{{- end }}
{{- end }}

{{- /* host:port */}}
{{- define "sluice.apiServer" -}}
{{ if contains ":" .Values.apiServer.host }}[{{ .Values.apiServer.host }}]{{ else }}{{ .Values.apiServer.host }}{{ end }}:{{ .Values.apiServer.port }}
{{- end }}
