{{/* The name of everything, whatever the release is called: the operator knows its Lease by it. */}}
{{- define "sidecarpolicy.name" -}}
sidecarpolicy
{{- end }}

{{- define "sidecarpolicy.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "sidecarpolicy.name" .) }}
{{- end }}

{{/* What never changes, so that it can select. */}}
{{- define "sidecarpolicy.selector" -}}
app.kubernetes.io/name: sidecarpolicy
app.kubernetes.io/component: operator
{{- end }}

{{- define "sidecarpolicy.labels" -}}
app.kubernetes.io/name: sidecarpolicy
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sidecarpolicy.operatorLabels" -}}
{{ include "sidecarpolicy.labels" . }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "sidecarpolicy.webhookSelector" -}}
app.kubernetes.io/name: sidecarpolicy-webhook
{{- end }}

{{- define "sidecarpolicy.webhookLabels" -}}
{{ include "sidecarpolicy.labels" . }}
app.kubernetes.io/component: webhook
{{- end }}

{{/* What the Pods of operator and webhook have in common: where they run, as whom, and what fetches their image. */}}
{{- define "sidecarpolicy.podSpec" -}}
enableServiceLinks: false
{{- if kindIs "bool" .Values.hostUsers }}
hostUsers: {{ .Values.hostUsers }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "sidecarpolicy.image" -}}
{{- with .Values.image -}}
{{- if .registry }}{{ .registry }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}
