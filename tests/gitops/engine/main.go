// engine compares and syncs what is in Git as Argo CD does, with the engine that does it there, unchanged.
//
// It serves HTTP on 127.0.0.1, at the address that it prints first, and ends when its standard input does. A request is
// {"namespace": ..., "objects": [...], ...} to /diff or /sync. The answer of /diff tells which objects are OutOfSync,
// the one of /sync how it ended: {"phase": "Succeeded", "message": "..."}; both say why not in "error".
//
// What Argo CD keeps in its cluster cache is read anew for every request: what bears its tracking label.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/diff"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/sync"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/sync/common"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/kube"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/tracing"
	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	trackingLabel = "app.kubernetes.io/instance"
	application   = "apps"
	manager       = "argocd-controller"
)

// What an application of these tests may consist of.
var managed = []schema.GroupVersionResource{{Group: "apps", Version: "v1", Resource: "deployments"}}

type request struct {
	Namespace  string                       `json:"namespace"`
	Objects    []*unstructured.Unstructured `json:"objects"`
	ServerSide bool                         `json:"serverSide"` // ServerSideApply=true, or the server-side diff
	Replace    bool                         `json:"replace"`    // Replace=true
	Prune      bool                         `json:"prune"`
}

type answer struct {
	OutOfSync []string `json:"outOfSync"`
	Phase     string   `json:"phase"`
	Message   string   `json:"message"`
	Error     string   `json:"error"`
}

type argo struct {
	config  *rest.Config
	dynamic dynamic.Interface
	kubectl *kube.KubectlCmd
	parser  *managedfields.GvkParser
}

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		os.Exit(1)
	}
}

func serve() error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 1000, 1000
	a := &argo{config: config, kubectl: &kube.KubectlCmd{Log: logr.Discard(), Tracer: tracing.NopTracer{}}}
	if a.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	if _, a.parser, err = a.kubectl.LoadOpenAPISchema(config); err != nil {
		return err
	}
	for path, do := range map[string]func(context.Context, *request) (*answer, error){"/diff": a.diff, "/sync": a.sync} {
		http.HandleFunc(path, func(out http.ResponseWriter, in *http.Request) {
			var wanted request
			said := &answer{}
			err := json.NewDecoder(in.Body).Decode(&wanted)
			if err == nil {
				said, err = do(in.Context(), &wanted)
			}
			if err != nil {
				said = &answer{Error: err.Error()}
			}
			_ = json.NewEncoder(out).Encode(said)
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.Serve(listener, nil)
}

// reconcile pairs what is wanted with what is there and bears the application's label.
func (a *argo) reconcile(ctx context.Context, wanted *request) (sync.ReconciliationResult, error) {
	live := map[kube.ResourceKey]*unstructured.Unstructured{}
	for _, resource := range managed {
		list, err := a.dynamic.Resource(resource).Namespace(wanted.Namespace).List(ctx, metav1.ListOptions{
			LabelSelector: trackingLabel + "=" + application,
		})
		if err != nil {
			return sync.ReconciliationResult{}, err
		}
		for index := range list.Items {
			live[kube.GetResourceKey(&list.Items[index])] = &list.Items[index]
		}
	}
	for _, each := range wanted.Objects {
		labels := each.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[trackingLabel] = application
		each.SetLabels(labels)
		key := kube.GetResourceKey(each)
		if _, known := live[key]; known {
			continue
		}
		found, err := a.kubectl.GetResource(ctx, a.config, each.GroupVersionKind(), each.GetName(), each.GetNamespace())
		if err == nil {
			live[key] = found
		}
	}
	return sync.Reconcile(wanted.Objects, live, wanted.Namespace, namespaced{}), nil
}

func (a *argo) compare(found sync.ReconciliationResult, serverSide bool) (*diff.DiffResultList, error) {
	options := []diff.Option{diff.WithLogr(logr.Discard())}
	if serverSide {
		applier, cleanup, err := a.kubectl.ManageServerSideDiffDryRuns(a.config)
		if err != nil {
			return nil, err
		}
		defer cleanup()
		options = append(options, diff.WithServerSideDiff(true), diff.WithManager(manager), diff.WithGVKParser(a.parser),
			diff.WithServerSideDryRunner(diff.NewK8sServerSideDryRunner(applier)))
	}
	return diff.DiffArray(found.Target, found.Live, options...)
}

func (a *argo) diff(ctx context.Context, wanted *request) (*answer, error) {
	found, err := a.reconcile(ctx, wanted)
	if err != nil {
		return nil, err
	}
	compared, err := a.compare(found, wanted.ServerSide)
	if err != nil {
		return nil, err
	}
	said := &answer{OutOfSync: []string{}}
	for index, each := range compared.Diffs {
		if each.Modified {
			object := found.Target[index]
			if object == nil {
				object = found.Live[index]
			}
			key := kube.GetResourceKey(object)
			said.OutOfSync = append(said.OutOfSync, key.String())
			said.Message += string(each.PredictedLive) + "\n" + string(each.NormalizedLive) + "\n"
		}
	}
	return said, nil
}

func (a *argo) sync(ctx context.Context, wanted *request) (*answer, error) {
	found, err := a.reconcile(ctx, wanted)
	if err != nil {
		return nil, err
	}
	compared, err := a.compare(found, false)
	if err != nil {
		return nil, err
	}
	one, cleanup, err := sync.NewSyncContext("main", found, a.config, a.config, a.kubectl, wanted.Namespace,
		sync.WithLogr(logr.Discard()),
		sync.WithOperationSettings(false, wanted.Prune, false, !compared.Modified),
		sync.WithManifestValidation(false),
		sync.WithReplace(wanted.Replace),
		sync.WithServerSideApply(wanted.ServerSide),
		sync.WithServerSideApplyManager(manager),
	)
	if err != nil {
		return nil, err
	}
	defer cleanup()
	for {
		one.Sync()
		phase, message, results := one.GetState()
		if phase.Completed() || phase == common.OperationRunning && allApplied(results) {
			for _, each := range results {
				message += "; " + each.Message
			}
			return &answer{Phase: string(phase), Message: message}, nil
		}
		select {
		case <-ctx.Done():
			one.Terminate()
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// allApplied tells a sync that only waits for its objects' health: the tests look at that themselves.
func allApplied(results []common.ResourceSyncResult) bool {
	for _, each := range results {
		if each.Status != common.ResultCodeSynced && each.Status != common.ResultCodePruned {
			return false
		}
	}
	return len(results) > 0
}

// namespaced is what the engine asks about kinds: those of these tests all are.
type namespaced struct{}

func (namespaced) IsNamespaced(schema.GroupKind) (bool, error) { return true, nil }
