"""Every string that this project writes into a cluster or reads from one by agreement, spelt once."""

from __future__ import annotations

from enum import StrEnum

GROUP = "sidecars.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

POLICY = "SidecarPolicy"
CLUSTER_POLICY = "ClusterSidecarPolicy"
PLURALS = {POLICY: "sidecarpolicies", CLUSTER_POLICY: "clustersidecarpolicies"}

# The field manager of every write. It must not begin with kubectl, before-first-apply, kustomize-controller,
# argocd-controller or helm: Flux takes fields of such managers over by prefix and then prunes them.
FIELD_MANAGER = "sidecar-policy"

# The field manager of what the command line writes in a person's name: annotations and specs of policies, pins.
CLI_FIELD_MANAGER = "sidecarpolicy-cli"

# The Lease, the Events' reportingController and the User-Agent.
CONTROLLER = "sidecarpolicy"

# Annotation on a Deployment's metadata: what on it is ours. Never on the Pod template.
RECORD = f"{GROUP}/injected"

# Finalizer on policies, never on workloads: a deleted policy goes when its sidecars are gone.
FINALIZER = f"{GROUP}/removal"

# Annotation on policies, set with the finalizer: what to do where nobody is there any more to take that off.
DELETION = f"{GROUP}/deletion"

# Kubernetes' own, of `kubectl delete --cascade=orphan`: what an object owns stays (metav1.FinalizerOrphanDependents).
ORPHAN_FINALIZER = "orphan"

# Label on a Deployment, its Pod template or a Namespace, set by the owner: "false" keeps us out, "true" lets us in
# against the namespace. In the Pod template an annotation does too, as meshes have it.
INJECT = f"{GROUP}/inject"

# Annotation on a Deployment, set by its owner: a Recreate Deployment may be restarted by us.
ALLOW_DOWNTIME = f"{GROUP}/allow-downtime"

# Annotation on a Deployment, set by its owner: stay at that revision (`web@<hash>`, `cluster/web@<hash>`; comma list).
PIN = f"{GROUP}/pin"

# Annotation on a Deployment or its Pod template, set by its owner: a comma list of sidecars that are left out there.
SKIP = f"{GROUP}/skip"

# Beginning of annotations on a Deployment, set by its owner: what is set anew in the sidecar whose name follows (JSON).
OVERRIDE = f"{GROUP}/override."

# Annotation on the operator's namespace, or on its Lease where it serves some namespaces only: no workload is changed
# while it is there.
STOP = f"{GROUP}/stop"

# Annotation on the Lease of an operator that serves some namespaces only: which ones, a comma list.
WATCH_NAMESPACES = f"{GROUP}/watch-namespaces"

# Namespaces whose names begin so are Kubernetes' own: no ClusterSidecarPolicy acts there unless it is labelled in.
KUBERNETES_NAMESPACES = "kube-"

# Labels of a ControllerRevision that holds one revision of a policy.
POLICY_KIND_LABEL = f"{GROUP}/policy-kind"
POLICY_NAME_LABEL = f"{GROUP}/policy-name"

# Annotations of such a ControllerRevision: when it became the update revision, and when every target had it.
SINCE = f"{GROUP}/since"
COMPLETED = f"{GROUP}/completed"

# Annotation of such a ControllerRevision: which of its policy's completions it was, counted from 1.
COMPLETION = f"{GROUP}/completion"

# Annotations of such a ControllerRevision: how often it has become the update revision or was resumed, and the halt
# of its rollout (JSON: id, reason, since).
ATTEMPT = f"{GROUP}/attempt"
HALT = f"{GROUP}/halt"

# Annotation of such a ControllerRevision: what its policy's author has approved for it, a comma list as in APPROVE.
APPROVED = f"{GROUP}/approved"

# Annotation on a policy, set by its author: goes on with the rollout that was halted under this id.
RESUME = f"{GROUP}/resume"

# Annotation on a policy, set by its author: a comma list of `removal@<generation>` and `canary/<group>@<revision>`.
APPROVE = f"{GROUP}/approve"

# Annotation on a policy, set by its author: when everything was to be restarted (RFC 3339). On a Pod template, where we
# set it: a comma list of `<policy>@<that time>`.
RESTARTED_AT = f"{GROUP}/restarted-at"

# Annotation on a Pod template, where we set it: a comma list of `<policy>@<hash>`, one entry for each policy for whose
# `restartOn` its Pods were restarted.
CONFIG = f"{GROUP}/config"

# Annotation of a ControllerRevision that holds the update revision: since when workloads restart because what the
# policy's `restartOn` names has changed. It goes when all of them have.
CONFIG_SINCE = f"{GROUP}/config-since"

# Why a workload failed whose change the API server would not have, in `status.failures`.
REFUSED = "Refused"

# Names of the two webhook configurations, and of the Secret with the webhook's certificate.
WEBHOOKS = CONTROLLER
WEBHOOK_SECRET = f"{CONTROLLER}-webhook-certificate"

# Name prefixes of such ControllerRevisions: StatefulSets and DaemonSets live in the same name space.
REVISION_PREFIXES = {POLICY: "sidepol-", CLUSTER_POLICY: "csidepol-"}


class Role(StrEnum):
    """What a sidecar is for; sets its defaults and its rank in the start order."""

    PROXY = "Proxy"
    LOGGER = "Logger"
    MONITOR = "Monitor"
    CUSTOM = "Custom"


class Position(StrEnum):
    """Before or after the application's own init containers."""

    BEFORE_INIT = "BeforeInit"
    AFTER_INIT = "AfterInit"


class Startup(StrEnum):
    """What the next container waits for."""

    WAIT_UNTIL_READY = "WaitUntilReady"
    WAIT_UNTIL_STARTED = "WaitUntilStarted"


class PodReadiness(StrEnum):
    """Whether the sidecar's readiness counts for the Pod's."""

    INCLUDE = "Include"
    EXCLUDE = "Exclude"


class Strategy(StrEnum):
    """How a revision is rolled out."""

    PROGRESSIVE = "Progressive"
    ALL_AT_ONCE = "AllAtOnce"
    ON_NEXT_CHANGE = "OnNextChange"


class OnFailure(StrEnum):
    """What becomes of a failed workload."""

    ROLLBACK = "Rollback"
    HALT = "Halt"


class Removal(StrEnum):
    """Whether sidecars may be taken out of many workloads without approval."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class Approval(StrEnum):
    """Whether a rollout goes on by itself when a canary group is done."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class OptOut(StrEnum):
    """Whether owners may leave the policy's sidecars out of their workloads."""

    ALLOWED = "Allowed"
    FORBIDDEN = "Forbidden"


class DeletionPolicy(StrEnum):
    """What becomes of the sidecars when their policy is deleted."""

    REMOVE = "Remove"
    ORPHAN = "Orphan"


class SkipReason(StrEnum):
    """Why a selected workload is skipped; in the order in which they are looked for."""

    TERMINATING = "Terminating"
    OPTED_OUT = "OptedOut"
    PROTECTED_NAMESPACE = "ProtectedNamespace"
    OVERRIDDEN = "Overridden"
    NAME_CONFLICT = "NameConflict"
    PORT_CONFLICT = "PortConflict"
    EMPTIED_BY_APPLY = "EmptiedByApply"
    PULL_SECRETS_UNREADABLE = "PullSecretsUnreadable"
    CONTROLLED = "Controlled"
    DRIVEN_BY_ROLLOUT = "DrivenByRollout"
    DEPLOYMENT_PAUSED = "DeploymentPaused"
    PINNED = "Pinned"
    OTHER_ROLLOUT_HALTED = "OtherRolloutHalted"
    DOWNTIME = "Downtime"
    BREAKS_AUTOSCALING = "BreaksAutoscaling"
    WINDOWS_NODE = "WindowsNode"
    NODE_TOO_OLD = "NodeTooOld"
    POD_SECURITY = "PodSecurity"


class WarningReason(StrEnum):
    """What an author or owner should know although nothing is refused."""

    NO_STARTUP_GATE = "NoStartupGate"
    UNKNOWN_START_AFTER = "UnknownStartAfter"
    UNKNOWN_CONTAINER = "UnknownContainer"
    ENV_KEPT = "EnvKept"
    METADATA_KEPT = "MetadataKept"
    PULL_SECRETS_HIDDEN = "PullSecretsHidden"
    INVALID_MARK = "InvalidMark"
    OPT_OUT_FORBIDDEN = "OptOutForbidden"
    OVERRIDE_IGNORED = "OverrideIgnored"
    INVALID_RECORD = "InvalidRecord"
    INVALID_REVISION = "InvalidRevision"
    MUTATED = "Mutated"
    GATE_PROBES_APPLICATION = "GateProbesApplication"
    SLOW_START = "SlowStart"
    SHORT_TERMINATION = "ShortTermination"
    QOS_CHANGE = "QosChange"
    REQUESTS_CHANGE = "RequestsChange"
    HIDES_ENV_FROM = "HidesEnvFrom"
    SHARED_PORT_NAME = "SharedPortName"
    HOST_PORT = "HostPort"
    LOCAL_STORAGE = "LocalStorage"
    WAITS_FOR_MESH = "WaitsForMesh"
    INJECTOR_ORDER = "InjectorOrder"
    NODE_TOO_OLD = "NodeTooOld"
    NODES_UNKNOWN = "NodesUnknown"
    NAMESPACED_INSTALL = "NamespacedInstall"
    NATIVE_SIDECARS_BETA = "NativeSidecarsBeta"
    EMPTIED_BY_APPLY = "EmptiedByApply"
    EMPTY_CANARY_GROUP = "EmptyCanaryGroup"
    UNKNOWN_FIELD = "UnknownField"
    NEEDS_ADMISSION = "NeedsAdmission"
    DROPPED_FIELD = "DroppedField"
    CONFIG_UNREADABLE = "ConfigUnreadable"
    CONFIG_NOT_FOUND = "ConfigNotFound"
    CONFIG_NOT_NOTED = "ConfigNotNoted"


class Reason(StrEnum):
    """Reasons of a policy's conditions."""

    ACCEPTED = "Accepted"
    INVALID = "Invalid"
    ORDER_CYCLE = "OrderCycle"
    ACCEPTANCE_FAILED = "AcceptanceFailed"
    REMOVING = "Removing"
    UNSUPPORTED_CLUSTER = "UnsupportedCluster"
    NO_TARGETS = "NoTargets"
    ALL_SKIPPED = "AllSkipped"
    ROLLOUT_HALTED = "RolloutHalted"
    ROLLED_BACK = "RolledBack"
    FIELD_CONFLICT = "FieldConflict"
    COMPLETED_WITH_FAILURES = "CompletedWithFailures"
    ROLLOUT_COMPLETE = "RolloutComplete"
    STOPPED = "Stopped"
    PAUSED = "Paused"
    AWAITING_APPROVAL = "AwaitingApproval"
    AWAITING_OWNERS = "AwaitingOwners"
    REMOVAL_HELD = "RemovalHeld"
    ROLLING_OUT = "RollingOut"


class EventReason(StrEnum):
    """Reasons of the Events on policies and Deployments."""

    INJECTED = "SidecarsInjected"
    REMOVED = "SidecarsRemoved"
    REMOVAL_GIVEN_UP = "RemovalGivenUp"
    SKIPPED = "SidecarsSkipped"
    REJECTED = "PolicyRejected"
    FAILED = "RolloutFailed"
    ROLLED_BACK = "RolledBack"
    HALTED = "RolloutHalted"
    RESUMED = "RolloutResumed"
    CONFIG_CHANGED = "ConfigChanged"
    STOPPED = "Stopped"
    STARTED = "Started"
    LEFT_TO_OWNER = "LeftToOwner"
    RECORD_REBUILT = "RecordRebuilt"
    POLICY_MISSING = "PolicyMissing"
    FIELD_CONFLICT = "FieldConflict"
