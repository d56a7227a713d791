{{- /* What containers may do and see, for those of daemonset.yaml and of the removal. */}}
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
    # The node's folders may belong to another user than root.
    - DAC_OVERRIDE
{{- end }}

{{- define "sluice.mounts" -}}
- name: cni-bin
  mountPath: /host/opt/cni/bin
- name: cni-net
  mountPath: /host/etc/cni/net.d
- name: bpffs
  mountPath: /sys/fs/bpf
  mountPropagation: HostToContainer
- name: run
  mountPath: /run/sluice
- name: state
  mountPath: /var/lib/cni/sluice
{{- end }}

{{- /* What needs no more than the network. */}}
{{- define "sluice.unprivileged" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  seccompProfile:
    type: RuntimeDefault
  capabilities:
    drop: [ALL]
resources:
  requests:
    cpu: 10m
    memory: 16Mi
{{- end }}

{{- /* On the node's network, before and after there is one for pods. */}}
{{- define "sluice.ofPods" -}}
hostNetwork: true
# The cluster's DNS may be pods of this very network.
dnsPolicy: Default
priorityClassName: {{ .Values.priorityClassName }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "sluice.volumes" -}}
- name: cni-bin
  hostPath:
    path: {{ .Values.cni.binDir }}
    type: DirectoryOrCreate
- name: cni-net
  hostPath:
    path: {{ .Values.cni.confDir }}
    type: DirectoryOrCreate
# Programs, links and maps are pinned here: they outlive the pod.
- name: bpffs
  hostPath:
    path: /sys/fs/bpf
    type: Directory
# The CNI binary's socket, and what is attached. Not to survive a boot.
- name: run
  hostPath:
    path: /run/sluice
    type: DirectoryOrCreate
# Deletions that the CNI binary queued while the daemon was down.
- name: state
  hostPath:
    path: /var/lib/cni/sluice
    type: DirectoryOrCreate
{{- end }}

{{- /* Labels and annotations of the hooks: (list CONTEXT WEIGHT). They stay if removal fails, for a look; a next try replaces them. */}}
{{- define "sluice.ofRemoval" -}}
labels:
  {{- include "sluice.labels" (index . 0) | nindent 2 }}
annotations:
  helm.sh/hook: pre-delete
  helm.sh/hook-weight: {{ index . 1 | quote }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
  helm.sh/hook-output-log-policy: hook-failed
{{- end }}

{{- define "sluice.selectorOfRemoval" -}}
app.kubernetes.io/name: sluice-removal
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
