{{- /* What containers may do and see, for those of daemonset.yaml and of the removal. */}}
{{- define "sluice.ofFiles" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  seccompProfile:
    type: RuntimeDefault
  {{- with .Values.seLinuxOptions }}
  seLinuxOptions:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  capabilities:
    drop: [ALL]
    # The node's folders may belong to another user than root.
    add: [DAC_OVERRIDE]
resources:
  requests:
    cpu: 10m
    memory: 16Mi
{{- end }}

{{- define "sluice.privileges" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
{{- with .Values.seccompProfile }}
seccompProfile:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if include "sluice.appArmorField" . }}
appArmorProfile:
  {{- toYaml .Values.appArmorProfile | nindent 2 }}
{{- end }}
{{- with .Values.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
capabilities:
  drop: [ALL]
  add:
    {{- toYaml .Values.capabilities | nindent 4 }}
{{- end }}

{{- define "sluice.mountsOfCni" -}}
- name: cni-bin
  mountPath: /host/opt/cni/bin
- name: cni-net
  mountPath: /host/etc/cni/net.d
{{- end }}

{{- define "sluice.mountsOfState" -}}
- name: bpffs
  mountPath: /sys/fs/bpf
  mountPropagation: HostToContainer
- name: run
  mountPath: /run/sluice
- name: state
  mountPath: /var/lib/cni/sluice
{{- end }}

{{- /* In place of the daemon: takes Sluice away from the node, then waits to be uninstalled (docs/uninstall.md). */}}
{{- define "sluice.removal" -}}
initContainers:
  # First what the runtime reads: it must not call a daemon that does not come back.
  - name: remove-cni
    image: {{ include "sluice.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command: [/opt/sluice/bin/install-cni, --remove]
    {{- include "sluice.ofFiles" . | nindent 4 }}
    volumeMounts:
      {{- include "sluice.mountsOfCni" . | nindent 6 }}
  - name: remove
    image: {{ include "sluice.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command: [/opt/sluice/bin/sluiced, --remove, --run-dir=/run/sluice, --state-dir=/var/lib/cni/sluice]
    securityContext:
      {{- include "sluice.privileges" . | nindent 6 }}
    {{- with .Values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    volumeMounts:
      {{- include "sluice.mountsOfState" . | nindent 6 }}
containers:
  # Ready: nothing of Sluice's is left on the node.
  - name: removed
    image: {{ include "sluice.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command: [sleep, infinity]
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      seccompProfile:
        type: RuntimeDefault
      capabilities:
        drop: [ALL]
{{- end }}
